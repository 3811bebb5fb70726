"""Paged lists of the registry: filters, counts, causes, and the index of each query."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import event

from contract.tokens import CourseToken
from foundation.db.pagination import Page, PageRequest
from foundation.db.session import Database
from receiver.course_state import Deleted, Fact, Status, TokenAnnounced, TokenRejected
from receiver.models import Entry, Source
from receiver.registry import entries as registry
from receiver.registry import listing
from receiver.registry.history import Actor
from receiver.registry.listing import EntryFilter, ListedEntry

Read = Callable[..., Page[ListedEntry]]
# The index of all entries in the order of lists.
EVERY = "ix_entries_course_id_source_id_added_at"


@pytest.fixture
def read(database: Database) -> Read:
    """Return what reads a page of the list."""

    def page(
        wanted: EntryFilter | None = None, page_request: PageRequest | None = None, limit: int = 50
    ) -> Any:
        with database.reading() as session:
            return listing.page(
                session, wanted or EntryFilter(), page_request or PageRequest(), limit=limit
            )

    return page


@dataclass
class Sent:
    """The statements sent to a database."""

    statements: list[tuple[str, Any]] = field(default_factory=list)


@pytest.fixture
def sent(database: Database) -> Iterator[Sent]:
    """The statements sent to the database of the test."""
    seen = Sent()

    def note(_: Any, __: Any, statement: str, values: Any, *___: Any) -> None:
        if not statement.startswith("BEGIN"):
            seen.statements.append((statement, values))

    event.listen(database.engine, "before_cursor_execute", note)
    yield seen
    event.remove(database.engine, "before_cursor_execute", note)


@pytest.fixture
def planned(database: Database, sent: Sent) -> Callable[[], list[str]]:
    """Return what returns SQLite's query plan of the statement that was sent."""
    if not database.is_sqlite:
        pytest.skip("PostgreSQL plans by what is in the tables, and these are empty")

    def explain() -> list[str]:
        [(statement, values)] = sent.statements
        with database.reading() as session:
            plan = session.connection().exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values)
            return [str(row[-1]) for row in plan]

    return explain


def named(page: Page[ListedEntry]) -> list[str]:
    """Return the course ids of a page."""
    return [row.entry.course_id for row in page.rows]


def test_courses_are_sorted_by_id(
    read: Read, make_source: Callable[..., Source], make_entry: Callable[..., Entry]
) -> None:
    one, two = make_source("one"), make_source("two")
    for source, course_id in ((two, "a"), (one, "é"), (one, "a"), (one, "B"), (one, "Z")):
        make_entry(source, course_id)

    page = read()

    assert [(row.entry.course_id, row.entry.source.name) for row in page.rows] == [
        ("B", "one"),
        ("Z", "one"),
        ("a", "one"),
        ("a", "two"),
        ("é", "one"),
    ]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        pytest.param(EntryFilter(), ["CS1", "CS2", "CS3", "cs1"], id="all"),
        pytest.param(EntryFilter(Status.ACTIVE), ["CS1", "cs1"], id="active"),
        pytest.param(EntryFilter(Status.TOKEN_INVALID), ["CS2"], id="token invalid"),
        pytest.param(EntryFilter(Status.COURSE_DELETED), ["CS3"], id="course deleted"),
        pytest.param(EntryFilter(prefix="CS"), ["CS1", "CS2", "CS3"], id="prefix"),
        pytest.param(EntryFilter(prefix="CS2"), ["CS2"], id="whole id"),
        pytest.param(EntryFilter(prefix="S"), [], id="not from the middle"),
        pytest.param(EntryFilter(prefix="C_"), [], id="no wildcard"),
        pytest.param(EntryFilter(source_id=2), [], id="source without courses"),
        pytest.param(EntryFilter(Status.ACTIVE, 1, "CS"), ["CS1"], id="all filters"),
    ],
)
def test_filter_selects_courses(
    read: Read,
    make_source: Callable[..., Source],
    make_entry: Callable[..., Entry],
    now: datetime,
    wanted: EntryFilter,
    expected: list[str],
) -> None:
    source, _ = make_source("one"), make_source("two")
    make_entry(source, "CS1")
    make_entry(source, "CS2", facts=(TokenAnnounced(2, "new", now),))
    make_entry(source, "CS3", facts=(Deleted(3, now),))
    make_entry(source, "cs1")

    assert expected == named(read(wanted))


def test_course_that_is_not_added_is_not_listed(
    read: Read, database: Database, make_source: Callable[..., Source], now: datetime
) -> None:
    source = make_source("one")
    with database.writing() as session:
        registry.apply(
            session, source.id, "CS1", Deleted(3, now), actor=Actor("webhook", "msg_1"), now=now
        )

    assert named(read()) == []
    with database.reading() as session:
        assert dict.fromkeys(Status, 0) == listing.counts(session)


def test_courses_are_counted_by_status(
    database: Database,
    make_source: Callable[..., Source],
    make_entry: Callable[..., Entry],
    now: datetime,
) -> None:
    source = make_source("one")
    for number in range(6):
        facts: tuple[Fact, ...] = (Deleted(3, now),) if number < 3 else ()
        make_entry(source, f"CS{number}", facts=facts)
    make_entry(source, "CS9", facts=(TokenAnnounced(2, "new", now),))

    with database.reading() as session:
        counts = listing.counts(session)

    assert counts == {Status.ACTIVE: 3, Status.TOKEN_INVALID: 1, Status.COURSE_DELETED: 3}


def test_each_course_has_the_cause_of_its_status(
    read: Read,
    database: Database,
    make_source: Callable[..., Source],
    make_entry: Callable[..., Entry],
    now: datetime,
) -> None:
    source, token = make_source("one"), CourseToken.generate()
    told: tuple[tuple[str, Fact, str], ...] = (
        ("CS1", TokenAnnounced(2, "second", now), "msg_1"),
        ("CS1", TokenAnnounced(3, "third", now), "msg_2"),
        ("CS1", TokenAnnounced(2, "second", now), "msg_3"),
        ("CS2", TokenAnnounced(2, "new", now), "msg_4"),
        ("CS2", Deleted(3, now), "msg_5"),
        ("CS3", TokenRejected(token.token_id, "unknown", now), "run 7"),
        ("CS4", TokenAnnounced(2, token.token_id, now - timedelta(hours=1)), "msg_6"),
    )
    for number in range(1, 5):
        make_entry(source, f"CS{number}", token=token)
    for course_id, fact, who in told:
        with database.writing() as session:
            actor = Actor("sync" if who.startswith("run") else "webhook", who)
            registry.apply(session, source.id, course_id, fact, actor=actor, now=now)

    rows = read().rows

    assert [row.cause and row.cause.actor_name for row in rows] == ["msg_2", "msg_5", "run 7", None]


@pytest.mark.parametrize(
    "page_request",
    [PageRequest(), PageRequest(after=("CS1", 1)), PageRequest(before=("CS1", 1))],
    ids=["first", "on", "back"],
)
@pytest.mark.parametrize(
    ("wanted", "index"),
    [
        pytest.param(EntryFilter(), EVERY, id="all"),
        pytest.param(EntryFilter(Status.ACTIVE), "ix_entries_active", id="active"),
        pytest.param(EntryFilter(Status.TOKEN_INVALID), "ix_entries_token_invalid", id="invalid"),
        pytest.param(EntryFilter(Status.COURSE_DELETED), "ix_entries_course_deleted", id="deleted"),
        pytest.param(EntryFilter(prefix="CS"), EVERY, id="prefix"),
        pytest.param(
            EntryFilter(Status.TOKEN_INVALID, prefix="CS"), "ix_entries_token_invalid", id="both"
        ),
    ],
)
def test_each_list_uses_an_index(
    read: Read,
    planned: Callable[[], list[str]],
    wanted: EntryFilter,
    index: str,
    page_request: PageRequest,
) -> None:
    read(wanted, page_request)

    plan = planned()

    assert any(index in step for step in plan)
    assert not any("TEMP B-TREE" in step or step == "SCAN entries" for step in plan)


def test_each_count_uses_an_index(database: Database, planned: Callable[[], list[str]]) -> None:
    with database.reading() as session:
        listing.counts(session)

    plan = planned()

    assert [step for step in plan if step.startswith("SCAN entries")] == [
        f"SCAN entries USING COVERING INDEX {EVERY}",
        "SCAN entries USING INDEX ix_entries_token_invalid",
        "SCAN entries USING INDEX ix_entries_course_deleted",
    ]


def test_page_takes_two_statements(
    read: Read,
    sent: Sent,
    make_source: Callable[..., Source],
    make_entry: Callable[..., Entry],
    now: datetime,
) -> None:
    source = make_source("one")
    for number in range(12):
        make_entry(source, f"CS{number:02}", facts=(TokenAnnounced(2, "new", now),))
    sent.statements.clear()

    page = read(limit=10)

    assert (len(page.rows), len(sent.statements)) == (10, 2)
