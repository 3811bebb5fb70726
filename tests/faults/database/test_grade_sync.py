"""Grade syncs without a usable database: no request before it is read, no ETag without grades."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import Result
from sqlalchemy import select

from contract.signatures import Secret
from foundation.db.migrations import Schema
from receiver.models import SCHEMA, Entry, StoredScore
from tests.faults.database.commands import COURSE
from tests.faults.database.conftest import (
    GARBAGE,
    MakeProxy,
    RunCommand,
    count,
    file_of,
    fill_receiver,
    held,
    opened,
)
from tests.faults.postgres_proxy import DISK_FULL, LOCKED, SHUTDOWN, Break, ErrorResponse
from tests.receiver.conftest import FakeSite, fake_site  # noqa: F401 - a fixture

on_postgres = pytest.mark.parametrize("database_kind", ["postgresql"], indirect=True)

SCORE = {
    "userId": "ada",
    "scoreGiven": "7.5",
    "scoreMaximum": "10",
    "timestamp": "2026-11-22T09:00:00.000000Z",
}


@pytest.fixture
def url(
    make_database_url: Callable[[Schema], str],
    fake_site: FakeSite,  # noqa: F811
) -> str:
    """The URL of a registry with one course, whose grades the site has."""
    made = make_database_url(SCHEMA)
    token = fill_receiver(made, Secret.generate(), fake_site.url)
    fake_site.grades(COURSE, token, SCORE)
    return made


def assert_refused(result: Result) -> None:
    assert result.exit_code == 4
    assert "error: the database cannot be used: " in result.stderr


def test_held_registry_costs_no_request(
    url: str,
    fake_site: FakeSite,  # noqa: F811
    run_command: RunCommand,
) -> None:
    with held(url, SCHEMA):
        result = run_command("receiver sync-grades", url)

    assert_refused(result)
    assert fake_site.connections == 0


@pytest.mark.parametrize("database_kind", ["sqlite"], indirect=True)
def test_damaged_registry_costs_no_request(
    url: str,
    fake_site: FakeSite,  # noqa: F811
    run_command: RunCommand,
) -> None:
    file_of(url).write_bytes(GARBAGE)

    result = run_command("receiver sync-grades", url)

    assert_refused(result)
    assert fake_site.connections == 0


@on_postgres
@pytest.mark.parametrize(
    ("words", "happens"),
    [
        pytest.param("FROM entries", Break.IN_RESPONSE, id="cut while it is read"),
        pytest.param("FROM entries", LOCKED, id="locked"),
        pytest.param("INSERT INTO runs", DISK_FULL, id="disk full"),
        pytest.param("COMMIT", Break.AFTER, id="cut after COMMIT"),
    ],
)
def test_registry_that_breaks_costs_no_request(
    url: str,
    fake_site: FakeSite,  # noqa: F811
    make_proxy: MakeProxy,
    run_command: RunCommand,
    words: str,
    happens: Break | ErrorResponse,
) -> None:
    proxy = make_proxy(url)
    fault = proxy.on(words, happens)

    result = run_command("receiver sync-grades", proxy.url)

    assert fault.met.is_set()
    assert_refused(result)
    assert fake_site.connections == 0


def stored(url: str) -> tuple[int, bool]:
    """Return how many scores are stored, and whether their ETag is."""
    with opened(url) as database, database.reading() as session:
        has_etag = session.scalars(select(Entry.etag)).one() is not None
        return count(session, StoredScore), has_etag


@on_postgres
@pytest.mark.parametrize(
    ("words", "happens", "left"),
    [
        pytest.param("INSERT INTO scores", DISK_FULL, 0, id="disk full at the scores"),
        pytest.param("COMMIT", Break.BEFORE, 0, id="cut before the scores' COMMIT"),
        pytest.param("COMMIT", Break.AFTER, 1, id="cut after the scores' COMMIT"),
        pytest.param("UPDATE entries", SHUTDOWN, 1, id="shutdown at the entries"),
        pytest.param("INSERT INTO run_courses", Break.AFTER, 1, id="cut at the record"),
    ],
)
def test_etag_is_never_stored_before_its_grades(
    url: str,
    fake_site: FakeSite,  # noqa: F811
    make_proxy: MakeProxy,
    run_command: RunCommand,
    words: str,
    happens: Break | ErrorResponse,
    left: int,
) -> None:
    """Otherwise the grades would never be fetched again."""
    proxy = make_proxy(url)
    respond = fake_site.answers[COURSE]

    def respond_before_the_fault(handler: Any) -> None:
        proxy.on(words, happens)
        respond(handler)

    fake_site.answers[COURSE] = respond_before_the_fault
    failed = run_command("receiver sync-grades", proxy.url, "--json")
    after = stored(url)
    fake_site.answers[COURSE] = respond
    repeated = run_command("receiver sync-grades", url, "--json")

    (course,) = json.loads(failed.stdout)["courses"]
    assert (failed.exit_code, course["reason"]) == (4, "database_unavailable")
    assert after == (left, False)
    assert repeated.exit_code == 0
    assert stored(url) == (1, True)
