"""Paged lists of the registry: order, filters, counts and causes."""

from datetime import datetime, timedelta

import pytest

from contract.tokens import CourseToken
from foundation.db.pagination import Page, PageRequest, Sort
from receiver.course_state import CourseStatus, Deleted, TokenAnnounced, TokenRejected
from receiver.registry import listing
from receiver.registry.history import Actor, ActorKind
from receiver.registry.listing import EntryFilter, ListedEntry
from receiver.runs.store import CourseOutcome, CourseResult
from tests.receiver.conftest import NINE, Store

TEN = NINE + timedelta(hours=1)
DELETED, REGENERATED = Deleted(3, NINE), TokenAnnounced(2, "new", NINE)


def read(
    store: Store, entry_filter: EntryFilter | None = None, limit: int = 50, *, now: datetime = TEN
) -> tuple[ListedEntry, ...]:
    """Return the first page of the list."""
    with store.database.reading() as session:
        page = listing.page(
            session,
            entry_filter or EntryFilter(),
            PageRequest(),
            needs_activity=False,
            limit=limit,
            now=now,
        )
    return page.rows


def test_courses_are_sorted_by_id(store: Store) -> None:
    for source in ("one", "two"):
        store.add_source(source)
    for source, course_id in (("two", "a"), ("one", "é"), ("one", "a"), ("one", "B"), ("one", "Z")):
        store.add_course(course_id, source=source)

    rows = read(store)

    assert [(row.entry.course_id, row.entry.source.name) for row in rows] == [
        ("B", "one"),
        ("Z", "one"),
        ("a", "one"),
        ("a", "two"),
        ("é", "one"),
    ]


@pytest.mark.parametrize(
    ("entry_filter", "expected"),
    [
        pytest.param(EntryFilter(), ["CS1", "CS2", "CS3", "cs1"], id="all"),
        pytest.param(EntryFilter(CourseStatus.ACTIVE), ["CS1", "cs1"], id="active"),
        pytest.param(EntryFilter(CourseStatus.TOKEN_INVALID), ["CS2"], id="token invalid"),
        pytest.param(EntryFilter(CourseStatus.COURSE_DELETED), ["CS3"], id="course deleted"),
        pytest.param(EntryFilter(matching="s1"), ["CS1", "cs1"], id="part of the id"),
        pytest.param(EntryFilter(matching="C_"), [], id="no wildcard"),
        pytest.param(EntryFilter(source_id=2), [], id="source without courses"),
        pytest.param(EntryFilter(since=NINE), ["CS2", "CS3"], id="status since"),
        pytest.param(EntryFilter(since=NINE + timedelta(seconds=1)), [], id="status before"),
        pytest.param(
            EntryFilter(CourseStatus.TOKEN_INVALID, 1, "cs", NINE), ["CS2"], id="all filters"
        ),
    ],
)
def test_filter_selects_courses(
    store: Store, entry_filter: EntryFilter, expected: list[str]
) -> None:
    store.add_course("CS1")
    store.add_course("CS2", REGENERATED)
    store.add_course("CS3", DELETED)
    store.add_course("cs1")
    store.add_source("two")

    rows = read(store, entry_filter)

    assert [row.entry.course_id for row in rows] == expected


@pytest.mark.parametrize(
    ("sort", "expected"),
    [
        pytest.param("-course", ["CS4", "CS3", "CS2", "CS1"], id="course, descending"),
        pytest.param("synced", ["CS1", "CS2", "CS4", "CS3"], id="last synced"),
        pytest.param("-since", ["CS1", "CS4", "CS3", "CS2"], id="status since, descending"),
    ],
)
def test_courses_are_sorted_over_pages(store: Store, sort: str, expected: list[str]) -> None:
    store.add_course("CS1", Deleted(3, NINE + timedelta(hours=1)))
    store.add_course("CS2")
    store.update(store.add_course("CS3"), synced_at=NINE + timedelta(hours=1))
    store.update(store.add_course("CS4", REGENERATED), synced_at=NINE)
    order = Sort.parse(sort, listing.SORTS)

    def page(page_request: PageRequest) -> Page[ListedEntry]:
        with store.database.reading() as session:
            return listing.page(
                session,
                EntryFilter(),
                page_request,
                sort=order,
                needs_activity=False,
                limit=3,
                now=TEN,
            )

    first = page(PageRequest())
    second = page(PageRequest(after=first.after))
    back = page(PageRequest(before=second.before))
    with store.database.reading() as session:
        cursor = listing.cursor_of(session, first.rows[-1].entry.id, order)

    assert [row.entry.course_id for row in (*first.rows, *second.rows)] == expected
    assert [row.entry.id for row in back.rows] == [row.entry.id for row in first.rows]
    assert cursor == first.after


def test_courses_in_grade_sync_are_counted_by_status(store: Store) -> None:
    for number in range(6):
        store.add_course(f"CS{number}", *([DELETED] if number < 3 else []))
    store.add_course("CS9", REGENERATED)
    store.apply("not added", DELETED)

    with store.database.reading() as session:
        counts = listing.counts(session, now=TEN)

    assert counts == {
        CourseStatus.ACTIVE: 3,
        CourseStatus.TOKEN_INVALID: 1,
        CourseStatus.COURSE_DELETED: 3,
    }
    assert len(read(store)) == 7


def test_each_course_has_the_cause_of_its_status(store: Store) -> None:
    token = CourseToken.generate()
    announced = TokenAnnounced(2, token.token_id, NINE - timedelta(hours=1))
    for number in range(1, 5):
        store.add_course(f"CS{number}", token=token)
    webhooks = (
        ("CS1", TokenAnnounced(2, "second", NINE), "msg_1"),
        ("CS1", TokenAnnounced(3, "third", NINE), "msg_2"),
        ("CS1", TokenAnnounced(2, "second", NINE), "msg_3"),
        ("CS2", REGENERATED, "msg_4"),
        ("CS2", DELETED, "msg_5"),
        ("CS4", announced, "msg_6"),
    )
    for course_id, fact, webhook_id in webhooks:
        store.apply(course_id, fact, actor=Actor(ActorKind.WEBHOOK, webhook_id))
    run = Actor(ActorKind.SYNC, "run 7")
    store.apply("CS3", TokenRejected(token.token_id, "unknown", NINE), actor=run)

    rows = read(store)

    assert [row.cause and row.cause.actor_name for row in rows] == ["msg_2", "msg_5", "run 7", None]


def test_active_course_that_the_last_runs_could_not_sync_is_failing(store: Store) -> None:
    for course_id, facts in (("CS1", ()), ("CS2", (DELETED,)), ("CS3", ())):
        store.add_course(course_id, *facts)
    failed = CourseOutcome.FAILED
    results = [CourseResult("one", name, failed, "transient", "503") for name in ("CS1", "CS2")]
    for minutes in (0, 5):
        store.add_run(*results, at=NINE + timedelta(minutes=minutes))

    rows = read(store)

    assert [row.status_details.label for row in rows] == ["failing", "course_deleted", "active"]
    assert rows[0].status_details.reason == "the grade sync fails: 503"
    assert rows[0].status_details.since == NINE


def test_page_takes_three_statements(store: Store) -> None:
    for number in range(5):
        store.add_course(f"CS{number}", REGENERATED)
    before = store.database.statements

    rows = read(store, limit=4)

    assert (len(rows), store.database.statements - before) == (4, 3)
