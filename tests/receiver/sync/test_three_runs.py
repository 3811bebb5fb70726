"""The three runs made by hand: course deleted, invalid token, normal sync; webhook heard or not."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from flask.testing import FlaskClient

from contract import events, signatures
from contract.events import (
    CourseDeleted,
    CourseDeletedData,
    Event,
    TokenRegenerated,
    TokenRegeneratedData,
)
from contract.signatures import Secret
from contract.tokens import CourseToken
from foundation.crypto import Vault
from foundation.db.session import Database
from receiver.course_state import Status
from receiver.models import Entry, Source, StoredScore
from receiver.registry import entries as registry
from receiver.runs.store import RunResult
from receiver.sync import run as grade_sync
from receiver.sync.run import SyncOptions
from tests.receiver.conftest import Clients

SITE = "eassessment.example.ac.uk"
OLD, NEW = CourseToken("tokenOld", "o" * 24), CourseToken("tokenNew", "n" * 24)


@pytest.fixture
def secret() -> Secret:
    """The secret of the source's webhooks."""
    return Secret.generate()


@pytest.fixture
def source(make_source: Callable[..., Source], far_side: Any, secret: Secret) -> Source:
    """The far side, as ELMS knows it."""
    return make_source(SITE, far_side.url, (secret,))


@pytest.fixture
def hear(client: FlaskClient, secret: Secret) -> Callable[[Event], None]:
    """Return what brings an event to the door."""

    def post(event: Event) -> None:
        body = events.dump(event).encode()
        signed = signatures.sign([secret], "msg_1", body, now=datetime.now(UTC))
        response = client.post(
            f"/webhooks/{SITE}", data=body, headers=signed, content_type="application/json"
        )
        assert response.get_json() == {"outcome": "applied"}

    return post


@pytest.fixture
def sync(
    database: Database, vault: Vault, clients: Clients, make_options: Callable[..., SyncOptions]
) -> Callable[[], RunResult]:
    """Return what runs the sync."""
    return lambda: grade_sync.run(database, vault, clients, make_options())


@pytest.fixture
def linked(source: Source, make_entry: Callable[..., Entry], far_side: Any) -> None:
    """Two courses are linked and healthy: CS101, and MA201 beside it."""
    make_entry(source, "CS101", token=OLD)
    other = CourseToken.generate()
    make_entry(source, "MA201", token=other)
    far_side.grades("CS101", OLD)
    far_side.grades("MA201", other)


def deletion(now: datetime) -> Event:
    """Return the event that CS101 was deleted."""
    data = CourseDeletedData(source=SITE, course_id="CS101", course_version=4)
    return CourseDeleted(timestamp=now, data=data)


def regeneration(now: datetime) -> Event:
    """Return the event that CS101's token was regenerated."""
    data = TokenRegeneratedData(
        source=SITE, course_id="CS101", course_version=5, token_id=NEW.token_id
    )
    return TokenRegenerated(timestamp=now, data=data)


def told(report: RunResult) -> dict[str, tuple[str, str | None]]:
    """Return outcome and reason of each course."""
    return {course.course_id: (course.outcome, course.reason) for course in report.courses}


@pytest.mark.parametrize("heard", [True, False], ids=["webhook received", "webhook missed"])
def test_course_deleted(
    linked: None,
    hear: Callable[[Event], None],
    sync: Callable[[], RunResult],
    far_side: Any,
    now: datetime,
    heard: bool,
) -> None:
    far_side.gone("CS101")
    if heard:
        hear(deletion(now))

    first = sync()
    asked_in_first = [asked.course_id for asked in far_side.asked]
    second = sync()

    came = ("skipped", "course_deleted") if heard else ("failed", "course_deleted")
    assert told(first) == {"CS101": came, "MA201": ("synced", None)}
    assert asked_in_first == (["MA201"] if heard else ["CS101", "MA201"])
    assert told(second) == {"CS101": ("skipped", "course_deleted"), "MA201": ("unchanged", None)}
    assert [asked.course_id for asked in far_side.asked].count("CS101") == (0 if heard else 1)
    assert (first.exit_code, second.exit_code) == (0 if heard else 1, 0)
    assert {course.since for course in (*first.courses, *second.courses)} == {now, None}


@pytest.mark.parametrize("heard", [True, False], ids=["webhook received", "webhook missed"])
def test_invalid_token(
    linked: None,
    database: Database,
    vault: Vault,
    source: Source,
    hear: Callable[[Event], None],
    sync: Callable[[], RunResult],
    far_side: Any,
    entry_of: Callable[[str], Entry],
    now: datetime,
    heard: bool,
) -> None:
    far_side.regenerated("CS101", NEW.token_id)
    if heard:
        hear(regeneration(now))

    first, second = sync(), sync()
    asked_while_invalid = [asked.course_id for asked in far_side.asked].count("CS101")
    with database.writing() as session:
        registry.set_token(
            session,
            registry.get(session, source, "CS101"),
            NEW,
            vault=vault,
            actor=registry.Actor("administrator", "ada@elms"),
            now=now,
        )
    far_side.grades("CS101", NEW)
    third = sync()

    came = ("skipped", "token_invalid") if heard else ("failed", "token_invalid")
    assert told(first) == {"CS101": came, "MA201": ("synced", None)}
    assert told(second)["CS101"] == ("skipped", "token_invalid")
    assert asked_while_invalid == (0 if heard else 1)
    assert told(third)["CS101"] == ("synced", None)
    assert (first.exit_code, second.exit_code, third.exit_code) == (0 if heard else 1, 0, 0)
    assert registry.course_status(entry_of("CS101")).status is Status.ACTIVE


@pytest.mark.parametrize("heard", [True, False], ids=["webhook received", "webhook missed"])
def test_normal_sync(
    linked: None,
    client: FlaskClient,
    hear: Callable[[Event], None],
    sync: Callable[[], RunResult],
    far_side: Any,
    make_score: Callable[..., Any],
    rows: Callable[[type[Any]], list[Any]],
    now: datetime,
    heard: bool,
) -> None:
    far_side.grades("CS101", OLD, make_score("ada"), course_version=5)
    if heard:
        data = TokenRegeneratedData(
            source=SITE, course_id="CS101", course_version=5, token_id=OLD.token_id
        )
        hear(TokenRegenerated(timestamp=now, data=data))

    report = sync()

    assert told(report) == {"CS101": ("synced", None), "MA201": ("synced", None)}
    assert [asked.course_id for asked in far_side.asked] == ["CS101", "MA201"]
    assert (report.exit_code, len(rows(StoredScore))) == (0, 1)
