"""Paged lists of the registry: order, filters, counts and causes."""

from datetime import timedelta

import pytest

from contract.tokens import CourseToken
from foundation.db.pagination import PageRequest
from receiver.course_state import Deleted, Status, TokenAnnounced, TokenRejected
from receiver.registry import listing
from receiver.registry.history import Actor, ActorKind
from receiver.registry.listing import EntryFilter, ListedEntry
from tests.receiver.conftest import NINE
from tests.receiver.registry.conftest import RUN, Lab

DELETED, REGENERATED = Deleted(3, NINE), TokenAnnounced(2, "new", NINE)


def read(
    lab: Lab, entry_filter: EntryFilter | None = None, limit: int = 50
) -> tuple[ListedEntry, ...]:
    """Return the first page of the list."""
    with lab.database.reading() as session:
        page = listing.page(session, entry_filter or EntryFilter(), PageRequest(), limit=limit)
    return page.rows


def test_courses_are_sorted_by_id(lab: Lab) -> None:
    one, two = lab.make_source("one"), lab.make_source("two")
    for source, course_id in ((two, "a"), (one, "é"), (one, "a"), (one, "B"), (one, "Z")):
        lab.make_entry(source, course_id)

    rows = read(lab)

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
        pytest.param(EntryFilter(Status.ACTIVE), ["CS1", "cs1"], id="active"),
        pytest.param(EntryFilter(Status.TOKEN_INVALID), ["CS2"], id="token invalid"),
        pytest.param(EntryFilter(Status.COURSE_DELETED), ["CS3"], id="course deleted"),
        pytest.param(EntryFilter(prefix="CS"), ["CS1", "CS2", "CS3"], id="prefix"),
        pytest.param(EntryFilter(prefix="S"), [], id="not from the middle"),
        pytest.param(EntryFilter(prefix="C_"), [], id="no wildcard"),
        pytest.param(EntryFilter(source_id=2), [], id="source without courses"),
        pytest.param(EntryFilter(Status.ACTIVE, 1, "CS"), ["CS1"], id="all filters"),
    ],
)
def test_filter_selects_courses(lab: Lab, entry_filter: EntryFilter, expected: list[str]) -> None:
    lab.make_source("two")
    lab.add("CS1")
    lab.add("CS2", facts=(REGENERATED,))
    lab.add("CS3", facts=(DELETED,))
    lab.add("cs1")

    rows = read(lab, entry_filter)

    assert [row.entry.course_id for row in rows] == expected


def test_courses_in_grade_sync_are_counted_by_status(lab: Lab) -> None:
    for number in range(6):
        lab.add(f"CS{number}", facts=(DELETED,) if number < 3 else ())
    lab.add("CS9", facts=(REGENERATED,))
    lab.apply(DELETED, course_id="not added")

    with lab.database.reading() as session:
        counts = listing.counts(session)

    assert counts == {Status.ACTIVE: 3, Status.TOKEN_INVALID: 1, Status.COURSE_DELETED: 3}
    assert len(read(lab)) == 7


def test_each_course_has_the_cause_of_its_status(lab: Lab) -> None:
    token = CourseToken.generate()
    announced = TokenAnnounced(2, token.token_id, NINE - timedelta(hours=1))
    for number in range(1, 5):
        lab.add(f"CS{number}", token=token)
    webhooks = (
        ("CS1", TokenAnnounced(2, "second", NINE), "msg_1"),
        ("CS1", TokenAnnounced(3, "third", NINE), "msg_2"),
        ("CS1", TokenAnnounced(2, "second", NINE), "msg_3"),
        ("CS2", REGENERATED, "msg_4"),
        ("CS2", DELETED, "msg_5"),
        ("CS4", announced, "msg_6"),
    )
    for course_id, fact, webhook_id in webhooks:
        lab.apply(fact, course_id=course_id, actor=Actor(ActorKind.WEBHOOK, webhook_id))
    lab.apply(TokenRejected(token.token_id, "unknown", NINE), course_id="CS3", actor=RUN)

    rows = read(lab)

    assert [row.cause and row.cause.actor_name for row in rows] == ["msg_2", "msg_5", "run 7", None]


def test_page_takes_two_statements(lab: Lab) -> None:
    for number in range(5):
        lab.add(f"CS{number}", facts=(REGENERATED,))
    before = lab.database.statements

    rows = read(lab, limit=4)

    assert (len(rows), lab.database.statements - before) == (4, 2)
