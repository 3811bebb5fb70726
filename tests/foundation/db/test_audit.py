"""The audit table: what is recorded, and how it is found."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy.orm import Session

from foundation.db import audit
from foundation.db.audit import Actor, AuditFilter, Channel
from foundation.db.pagination import PageRequest
from foundation.db.session import Database
from notifier.models import SCHEMA

NINE = datetime(2026, 11, 22, 9, tzinfo=UTC)
ADA = Actor("Ada", Channel.PAGE, "192.0.2.7")
ROOT = Actor("root@host", Channel.COMMAND)


@pytest.fixture
def session(make_database: Callable[..., Database]) -> Iterator[Session]:
    with make_database(SCHEMA).writing() as session:
        audit.record(session, ADA, "course.add", "CS101", "Databases", now=NINE)
        # Both at the same time, so that their ids decide.
        later = NINE + timedelta(hours=1)
        audit.record_all(session, ROOT, "course.delete", ["CS101", "CS102"], now=later)
        audit.record(session, ADA, "endpoint.add", 7, now=NINE - timedelta(days=1))
        yield session


def found(session: Session, **conditions: object) -> list[str]:
    page = audit.find(session, AuditFilter.model_validate(conditions))
    return [row.object_id for row in page.rows]


def test_entry_says_who_did_what_from_where(session: Session) -> None:
    [entry] = audit.find(session, AuditFilter(action="course.add")).rows

    assert (entry.recorded_at, entry.actor, entry.channel, entry.address) == (
        NINE,
        "Ada",
        "page",
        "192.0.2.7",
    )
    assert (entry.object_kind, entry.object_id, entry.detail) == ("course", "CS101", "Databases")


@pytest.mark.parametrize(
    ("conditions", "objects"),
    [
        pytest.param({}, ["CS102", "CS101", "CS101", "7"], id="all, newest first"),
        pytest.param({"actor": "Ada"}, ["CS101", "7"], id="actor"),
        pytest.param({"action": "course.delete"}, ["CS102", "CS101"], id="action"),
        pytest.param({"action": "course"}, ["CS102", "CS101", "CS101"], id="kind of object"),
        pytest.param({"object_id": "CS101"}, ["CS101", "CS101"], id="object"),
        pytest.param({"since": NINE}, ["CS102", "CS101", "CS101"], id="since"),
        pytest.param({"actor": "Ada", "object_id": "CS102"}, [], id="several"),
    ],
)
def test_filter_finds_its_entries(
    session: Session, conditions: dict[str, object], objects: list[str]
) -> None:
    assert found(session, **conditions) == objects


def test_pages_hold_every_entry_once(session: Session) -> None:
    request, seen = PageRequest(), []
    while True:
        page = audit.find(session, AuditFilter(), request, limit=1)
        seen += [row.object_id for row in page.rows]
        if page.after is None:
            break
        request = PageRequest(after=page.after)

    assert seen == ["CS102", "CS101", "CS101", "7"]


def test_last_actions_on_an_object(session: Session) -> None:
    audit.record(session, ADA, "delivery.replay", 7, now=NINE)

    actions = [entry.action for entry in audit.about(session, "endpoint", 7)]

    assert actions == ["endpoint.add"]


def test_forged_address_and_long_detail_are_cut(session: Session) -> None:
    forged = Actor("Ada", Channel.PAGE, "\x1b[31m" + 100 * "x")

    audit.record(session, forged, "user.add", "Bob", 600 * "d", now=NINE)

    [entry] = audit.find(session, AuditFilter(object_id="Bob")).rows
    assert entry.address is not None
    assert (len(entry.address), entry.address[:5], len(entry.detail)) == (64, "\\x1b[", 500)


def test_many_objects_take_one_statement(make_database: Callable[..., Database]) -> None:
    database = make_database(SCHEMA)
    with database.writing() as session:
        before = database.statements
        audit.record_all(session, ADA, "course.delete", map(str, range(500)), now=NINE)

        assert database.statements - before == 1
        assert len(audit.find(session, AuditFilter(), limit=1000).rows) == 500
