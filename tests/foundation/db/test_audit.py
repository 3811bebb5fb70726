"""The audit table: what is recorded, and how it is found."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import event, text
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


def test_many_objects_are_one_entry_of_the_list(make_database: Callable[..., Database]) -> None:
    database = make_database(SCHEMA)
    with database.writing() as session:
        before = database.statements
        ids, later = [f"CS{number}" for number in range(500)], NINE + timedelta(hours=1)
        audit.record_all(session, ADA, "course.add", ids, "imported", now=NINE)
        statements = database.statements - before
        audit.record_all(session, ROOT, "course.delete", ids[:20], now=later)

        *few, many = audit.find(session, AuditFilter()).rows
        parts = audit.find(session, AuditFilter(part_of=many.id), limit=1000).rows
        about = audit.about(session, "course", "CS7")
        counts = [
            audit.count(session, AuditFilter.model_validate(conditions))
            for conditions in ({}, {"actor": "Ada"}, {"object_id": "CS499"}, {"part_of": many.id})
        ]

    assert statements == 2
    assert [entry.objects for entry in few] == ids[:20][::-1]
    assert (many.objects, many.object_id) == ("500 courses", "")
    assert many.detail == "imported: CS0, CS1, CS2, …"
    assert [entry.objects for entry in parts] == ids[::-1]
    assert {entry.detail for entry in parts} == {"imported"}
    assert [(one.action, one.actor) for one in about] == [
        ("course.delete", "root@host"),
        ("course.add", "Ada"),
    ]
    assert counts == [21, 1, 1, 500]


@pytest.mark.parametrize(
    ("conditions", "index"),
    [
        pytest.param({}, "ix_audit_listed", id="all"),
        pytest.param({"since": NINE}, "ix_audit_listed", id="since"),
        pytest.param({"actor": "Ada"}, "ix_audit_by_actor", id="actor"),
        pytest.param({"object_id": "CS1"}, "ix_audit_object_id_recorded_at_id", id="object"),
        pytest.param({"part_of": 1}, "ix_audit_parts", id="parts"),
    ],
)
def test_page_is_read_through_an_index_in_order(
    make_database: Callable[..., Database], conditions: dict[str, object], index: str
) -> None:
    database = make_database(SCHEMA)
    with database.writing() as session:
        plans: list[str] = []
        for number in range(20):
            ids = [f"{number}-{one}" for one in range(100)]
            audit.record_all(session, ADA, "course.add", ids, now=NINE + timedelta(hours=number))
        audit.record(session, ADA, "course.delete", "CS1", now=NINE)
        if not database.is_sqlite:  # which would sort so few rows
            for method in ("seqscan", "bitmapscan", "sort"):
                session.execute(text(f"SET LOCAL enable_{method} = off"))

        @event.listens_for(database.engine, "before_cursor_execute")
        def explain(_: object, cursor: Any, statement: str, given: Any, *rest: object) -> None:
            raw = cursor.connection.cursor()
            explained = "EXPLAIN QUERY PLAN" if database.is_sqlite else "EXPLAIN"
            plans.extend(str(row[-1]) for row in raw.execute(f"{explained} {statement}", given))

        audit.find(session, AuditFilter.model_validate(conditions), limit=50)

    assert any((index if database.is_sqlite else "ix_audit") in plan for plan in plans), plans
    assert not any("TEMP B-TREE" in plan or "Sort" in plan for plan in plans), plans
