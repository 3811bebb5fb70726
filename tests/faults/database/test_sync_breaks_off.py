"""A grade sync whose database breaks off while it stores: no name is kept before its grades."""

from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import func, select

from contract.tokens import CourseToken
from foundation.crypto import Vault
from foundation.db.migrations import Schema
from foundation.db.session import Database
from receiver.models import SCHEMA, Entry, StoredScore
from receiver.registry import entries as registry
from receiver.runs.store import RunResult
from receiver.sources import store as sources
from receiver.sources.eassessment import EAssessmentClient
from receiver.sources.http_client import HttpClient
from receiver.sync import run as grade_sync
from receiver.sync.run import SyncOptions
from tests.faults.database.conftest import receiver_settings
from tests.faults.database.every_command import COURSE, SITE
from tests.faults.postgres_proxy import DISK_FULL, SHUTDOWN, Break, PostgresProxy, Says
from tests.receiver.conftest import Clients, FakeSite, fake_site  # noqa: F401 - a fixture

pytestmark = pytest.mark.parametrize("database_kind", ["postgresql"], indirect=True)

SCORE = {
    "userId": "ada",
    "scoreGiven": "7.5",
    "scoreMaximum": "10",
    "timestamp": "2026-11-22T09:00:00.000000Z",
    "activityProgress": "Completed",
    "gradingProgress": "FullyGraded",
}


@pytest.fixture
def url(
    make_database_url: Callable[[Schema], str],
    fake_site: FakeSite,  # noqa: F811 - the fixture that was imported
) -> str:
    """A registry with one course, whose grades the fake site knows."""
    made, now, token = make_database_url(SCHEMA), datetime.now(UTC), CourseToken.generate()
    vault = Vault(receiver_settings(made).encryption_keys)
    database = Database(made)
    with database.writing() as session:
        source = sources.add(session, SITE, fake_site.url, now=now)
        registry.add(
            session,
            source,
            COURSE,
            token,
            vault=vault,
            actor=registry.Actor("administrator", "ada@elms"),
            now=now,
        )
    database.dispose()
    fake_site.grades(COURSE, token, SCORE)
    return made


def sync(url: str) -> RunResult:
    """Run the sync once."""
    database = Database(url, timeout=0.5, statement_timeout=0.5)
    options = SyncOptions(holder="ada@elms", lease=timedelta(minutes=5))
    try:
        with closing(HttpClient(connect_timeout=2, read_timeout=2, total=4)) as http_client:
            clients = Clients(EAssessmentClient(http_client, batch=1), http_client)
            vault = Vault(receiver_settings(url).encryption_keys)
            return grade_sync.run(database, vault, clients, options)
    finally:
        database.dispose()


def stored(url: str) -> tuple[int, bool]:
    """Return how many scores are stored, and whether it is known which ones those are."""
    database = Database(url)
    with database.reading() as session:
        scores = session.scalar(select(func.count()).select_from(StoredScore)) or 0
        known = session.scalars(select(Entry.etag)).one() is not None
    database.dispose()
    return scores, known


@pytest.mark.parametrize(
    ("words", "happens", "left"),
    [
        pytest.param("INSERT INTO scores", Break.BEFORE, (0, False), id="cut at the scores"),
        pytest.param("INSERT INTO scores", DISK_FULL, (0, False), id="disk full"),
        pytest.param("COMMIT", Break.BEFORE, (0, False), id="cut before the scores' COMMIT"),
        pytest.param("COMMIT", Break.SILENCE, (0, False), id="silence at the scores' COMMIT"),
        pytest.param("COMMIT", Break.AFTER, (1, False), id="cut after the scores' COMMIT"),
        pytest.param("UPDATE entries", SHUTDOWN, (1, False), id="shut down at the entries"),
        pytest.param("INSERT INTO run_courses", Break.AFTER, (1, False), id="cut at the record"),
    ],
)
def test_no_name_is_stored_before_its_grades(
    url: str,
    fake_site: FakeSite,  # noqa: F811 - the fixture that was imported
    make_proxy: Callable[[str], PostgresProxy],
    words: str,
    happens: Break | Says,
    left: tuple[int, bool],
) -> None:
    """A run that cannot store says so with exit 4, and the next one has the grades (I3).

    Were the grades' ETag kept without them, nobody would ever ask for them again.
    """
    proxy = make_proxy(url)
    answer = fake_site.answers[COURSE]

    def answer_before_the_fault(handler: Any) -> None:
        proxy.on(words, happens)
        answer(handler)

    fake_site.answers[COURSE] = answer_before_the_fault

    broken = sync(proxy.url)
    after = stored(url)
    fake_site.answers[COURSE] = answer
    mended = sync(url)

    assert (broken.exit_code, broken.count(grade_sync.CourseOutcome.FAILED)) == (4, 1)
    assert broken.courses[0].reason == "database_unavailable"
    assert after == left
    assert mended.exit_code == 0
    assert stored(url) == (1, True)
