"""Courses: unique ids, growing versions, all generations of a token."""

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial

import pytest
from sqlalchemy import select

from contract.tokens import MOODLE_TOKEN_ID
from notifier import signals
from notifier.courses import moodle_events
from notifier.courses import service as courses
from notifier.courses.moodle_events import CourseDeletion
from notifier.errors import (
    CourseChangedError,
    CourseDeletedError,
    CourseExistsError,
    CourseNotDeletedError,
    CourseUnknownError,
    DeletionFinalError,
    EventNotWrittenError,
    TokenIssuerError,
)
from notifier.models import Course, Delivery, Event, IssuedToken
from notifier.signals import CourseChange, NoSubscriberError
from tests.notifier.conftest import NINE, Store

HOUR = timedelta(hours=1)
TEN = NINE + HOUR
TICK = timedelta(microseconds=1)
GRACE = 30 * 24 * HOUR

Change = Callable[..., object]


def facts(store: Store) -> list[tuple[str, str, int, str]]:
    """Return type, course, version and token id of every event, in the order of versions."""
    rows = sorted(store.all(Event), key=lambda row: row.course_version)
    data = [(row.type, json.loads(row.body)["data"]) for row in rows]
    return [
        (kind, one["course_id"], one["course_version"], one.get("token_id", ""))
        for kind, one in data
    ]


def test_new_course_starts_at_version_1_with_a_hashed_token(store: Store) -> None:
    token = store.add_course("CS101", title="Programmieren für Anfänger")

    course, (issued,) = store.course("CS101"), store.all(IssuedToken)
    assert (course.version, course.grades_version, course.deleted_at) == (1, 0, None)
    assert (course.title, course.created_at) == ("Programmieren für Anfänger", NINE)
    assert (issued.token_id, issued.secret_sha256) == (token.token_id, token.secret_sha256())
    assert token.secret not in str(vars(issued))


def test_course_id_is_never_used_again(store: Store) -> None:
    store.add_course("CS101", title="The first")
    store.write(courses.delete_course, "CS101", now=TEN)

    with pytest.raises(CourseExistsError) as refused:
        store.add_course("CS101", title="The second")

    assert str(refused.value) == "the course id 'CS101' is taken"
    assert store.course("CS101").title == "The first"
    assert len(store.all(IssuedToken)) == 1


def test_course_ids_differ_by_case(store: Store) -> None:
    store.add_course("CS101", title="Upper")
    store.add_course("cs101", title="lower")

    assert [store.course(one).title for one in ("CS101", "cs101")] == ["Upper", "lower"]


@pytest.mark.parametrize(
    "act",
    [
        pytest.param(lambda session: courses.get_course(session, "CS999"), id="read"),
        pytest.param(lambda session: courses.delete_course(session, "CS999", now=TEN), id="change"),
    ],
)
def test_unknown_course_is_refused(store: Store, act: Change) -> None:
    with pytest.raises(CourseUnknownError) as refused:
        store.write(act)

    assert str(refused.value) == "there is no course 'CS999'"
    assert refused.value.facts == {"course_id": "CS999"}


@pytest.mark.parametrize("change", [courses.delete_course, courses.regenerate_token])
def test_deleted_course_cannot_be_changed(store: Store, change: Change) -> None:
    store.add_course("CS101")
    store.write(courses.delete_course, "CS101", now=TEN)

    with pytest.raises(CourseDeletedError) as refused:
        store.write(change, "CS101", now=TEN + HOUR)

    course = store.course("CS101")
    assert str(refused.value) == "the course 'CS101' was deleted at 2026-11-22 10:00:00 UTC"
    assert refused.value.facts == {"course_id": "CS101", "course_version": 2, "deleted_at": TEN}
    assert (course.version, course.deleted_at, len(store.all(Event))) == (2, TEN, 1)


@pytest.mark.parametrize(
    "after", [pytest.param(HOUR, id="soon"), pytest.param(GRACE - TICK, id="just in time")]
)
def test_restored_course_has_its_token_again(store: Store, after: timedelta) -> None:
    store.add_endpoint()
    token = store.add_course("CS101")
    store.write(courses.delete_course, "CS101", now=TEN)

    store.write(courses.restore_course, "CS101", grace=GRACE, now=TEN + after)

    course, (issued,) = store.course("CS101"), store.all(IssuedToken)
    assert (course.version, course.deleted_at, course.changed_at) == (3, None, TEN + after)
    assert (issued.token_id, issued.superseded_at) == (token.token_id, None)
    assert [fact[:3] for fact in facts(store)] == [
        ("course.deleted", "CS101", 2),
        ("course.restored", "CS101", 3),
    ]
    assert len(store.all(Delivery)) == 2


def test_restored_course_can_be_changed_and_deleted_again(store: Store) -> None:
    store.add_course("CS101")
    store.write(courses.delete_course, "CS101", now=TEN)
    store.write(courses.restore_course, "CS101", grace=GRACE, now=TEN + HOUR)

    store.write(courses.regenerate_token, "CS101", now=TEN + HOUR)
    store.write(courses.delete_course, "CS101", now=TEN + 2 * HOUR)

    course = store.course("CS101")
    assert (course.version, course.deleted_at) == (5, TEN + 2 * HOUR)
    with pytest.raises(CourseExistsError):
        store.add_course("CS101")


@pytest.mark.parametrize(
    ("grace", "detail"),
    [
        pytest.param(HOUR, "is final: it could be restored until 2026-11-22 11:00:00 UTC", id="1h"),
        pytest.param(timedelta(0), "is final", id="none"),
    ],
)
def test_deletion_is_final_after_the_grace_period(
    store: Store, grace: timedelta, detail: str
) -> None:
    store.add_course("CS101")
    store.write(courses.delete_course, "CS101", now=TEN)
    before = store.rows()

    with pytest.raises(DeletionFinalError) as refused:
        store.write(courses.restore_course, "CS101", grace=grace, now=TEN + grace)

    assert str(refused.value) == (
        f"the deletion of the course 'CS101' at 2026-11-22 10:00:00 UTC {detail}"
    )
    assert store.rows() == before


def test_course_that_its_moodle_deleted_cannot_be_restored(store: Store) -> None:
    deletion = CourseDeletion(objectid="7", timecreated="1795336477")
    store.write(moodle_events.accept, deletion, now=TEN)
    store.write(courses.ensure_course, "8", "Deleted here by mistake", now=NINE)
    store.write(courses.delete_course, "8", now=TEN)

    results = store.write(courses.restore_courses, ["7", "8"], grace=GRACE, now=TEN)

    assert str(results["7"]) == "the course '7' was deleted in its Moodle"
    assert isinstance(results["7"], DeletionFinalError)
    assert store.course("8").deleted_at is None


def test_several_courses_are_restored_together(store: Store) -> None:
    store.add_courses(["CS1", "CS2", "CS3"])
    store.write(courses.delete_courses, ["CS1", "CS3"], now=TEN)

    results = store.write(
        courses.restore_courses, ["CS3", "CS2", "CS9", "CS1", "CS3"], grace=GRACE, now=TEN + HOUR
    )

    assert isinstance(results["CS2"], CourseNotDeletedError)
    assert isinstance(results["CS9"], CourseUnknownError)
    assert [store.course(one).deleted_at for one in ("CS1", "CS2", "CS3")] == [None] * 3
    assert {fact[:3] for fact in facts(store)[2:]} == {
        ("course.restored", "CS1", 3),
        ("course.restored", "CS3", 3),
    }


def test_every_generation_of_a_token_is_kept(store: Store) -> None:
    first = store.add_course("CS101")
    second, third = (
        store.write(courses.regenerate_token, "CS101", now=NINE + hours * HOUR) for hours in (1, 2)
    )

    assert [(one.token_id, one.superseded_at) for one in store.all(IssuedToken)] == [
        (first.token_id, NINE + HOUR),
        (second.token_id, NINE + 2 * HOUR),
        (third.token_id, None),
    ]
    assert len({one.secret for one in (first, second, third)}) == 3


def valid_until(store: Store) -> list[datetime | None]:
    """Return until when each replaced token is good, if it did not end at once."""
    return [one.valid_until for one in store.all(IssuedToken)]


def test_overlap_keeps_the_old_token_and_is_announced(store: Store) -> None:
    store.add_course("CS101")

    store.write(courses.regenerate_token, "CS101", overlap=HOUR, now=TEN)

    (event,) = store.all(Event)
    assert valid_until(store) == [TEN + HOUR, None]
    assert '"valid_until":"2026-11-22T11:00:00.123456Z"' in event.body


@pytest.mark.parametrize(
    ("overlap", "expected"),
    [
        pytest.param(2 * HOUR, [TEN + 2 * HOUR, TEN + 2 * HOUR, None], id="shorter"),
        pytest.param(9 * HOUR, [NINE + 4 * HOUR, TEN + 9 * HOUR, None], id="longer"),
        pytest.param(0 * HOUR, [TEN, None, None], id="at once"),
    ],
)
def test_second_regeneration_within_an_overlap(
    store: Store, overlap: timedelta, expected: list[datetime | None]
) -> None:
    store.add_course("CS101")
    store.write(courses.regenerate_token, "CS101", overlap=4 * HOUR, now=NINE)

    store.write(courses.regenerate_token, "CS101", overlap=overlap, now=TEN)

    assert valid_until(store) == expected


@pytest.mark.parametrize("database_kind", ["postgresql"])
def test_version_follows_a_concurrent_change(store: Store) -> None:
    """A session that read the course before another changed it takes the next version.

    On SQLite this cannot happen: a writer waits before it reads.
    """
    store.add_course("CS101")

    with store.database.writing() as session:
        seen = courses.get_course(session, "CS101")
        store.write(courses.regenerate_token, "CS101", now=TEN)
        courses.delete_course(session, "CS101", now=TEN)
        version = seen.version

    assert version == 3
    assert [fact[2] for fact in facts(store)] == [2, 3]


def test_change_without_subscriber_is_refused(store: Store, no_subscriber: None) -> None:
    store.add_course("CS101")

    with pytest.raises(NoSubscriberError) as refused:
        store.write(courses.delete_course, "CS101", now=TEN)

    course = store.course("CS101")
    assert str(refused.value) == (
        "course-deleted has no subscriber: `outbox.subscribe()` was not called"
    )
    assert (course.version, course.deleted_at) == (1, None)


def test_statements_of_a_change_do_not_grow(store: Store) -> None:
    def statements(prefix: str, courses_added: int, endpoints_added: int) -> list[int]:
        for _ in range(endpoints_added):
            store.add_endpoint(may_claim_tokens=True)
        course_ids = [f"{prefix}{number}" for number in range(courses_added)]
        store.add_courses(course_ids)
        changes: list[Change] = [
            partial(courses.regenerate_tokens, overlap=HOUR, vault=store.vault),
            courses.delete_courses,
            partial(courses.restore_courses, grace=GRACE),
        ]
        return [
            store.count_statements(lambda change=change: store.write(change, course_ids, now=TEN))
            for change in changes
        ]

    # The last one wakes the workers.
    expected = [10, 6, 7] if store.database.is_sqlite else [11, 7, 8]
    assert [statements("A", 1, 1), statements("B", 30, 0), statements("C", 1, 19)] == [expected] * 3


def test_more_courses_than_a_statement_has_parameters(store: Store) -> None:
    store.add_courses(["7", "69999"])

    results = store.write(courses.delete_courses, [*map(str, range(70_000))], now=TEN)

    deleted = [one for one, result in results.items() if isinstance(result, Course)]
    assert (len(results), deleted) == (70_000, ["7", "69999"])


def test_ensure_course_adds_a_course_without_a_token_once(store: Store) -> None:
    added = [
        store.write(courses.ensure_course, "7", title, now=NINE)
        for title in ("The first", "The second")
    ]

    course = store.course("7")
    assert added == [True, False]
    assert (course.title, course.version, course.created_at) == ("The first", 1, NINE)
    assert (store.all(IssuedToken), store.all(Event)) == ([], [])


@pytest.mark.parametrize(
    "token_id", [pytest.param("m0123456789abcdef", id="known"), pytest.param(None, id="unknown")]
)
def test_announced_token_is_signalled(store: Store, token_id: str | None) -> None:
    first, second = (store.write(courses.announce_token, "7", token_id, now=TEN) for _ in range(2))

    assert facts(store) == [
        ("token.regenerated", "7", 2, first.token_id),
        ("token.regenerated", "7", 3, second.token_id),
    ]
    assert len({token_id, first.token_id, second.token_id}) == (1 if token_id else 3)
    assert MOODLE_TOKEN_ID.fullmatch(first.token_id)
    assert store.all(IssuedToken) == []


def test_tokens_are_issued_here_or_by_a_moodle(store: Store) -> None:
    store.add_course("CS101")
    store.write(courses.ensure_course, "7", "Algorithms", now=NINE)

    with pytest.raises(TokenIssuerError) as announced:
        store.write(courses.announce_token, "CS101", "m0123456789abcdef", now=TEN)
    with pytest.raises(TokenIssuerError) as regenerated:
        store.write(courses.regenerate_token, "7", now=TEN)

    assert str(announced.value) == (
        "the tokens of the course 'CS101' are issued here, not by a Moodle"
    )
    assert announced.value.advice.command == "courses regenerate-token CS101"
    assert str(regenerated.value) == "the tokens of the course '7' are issued by its Moodle"
    assert regenerated.value.advice.action == "courses announce-token"
    assert ([store.course(one).version for one in ("CS101", "7")], store.all(Event)) == ([1, 1], [])


def test_several_courses_are_deleted_together(store: Store) -> None:
    endpoint_ids = [store.add_endpoint().id, store.add_endpoint().id]
    store.add_courses(["CS1", "CS2", "CS3"])
    store.write(courses.regenerate_token, "CS3", now=NINE)
    store.write(courses.delete_course, "CS2", now=NINE)

    results = store.write(courses.delete_courses, ["CS3", "CS1", "CS2", "CS9", "CS1"], now=TEN)

    assert {one: str(result) for one, result in results.items() if one in {"CS2", "CS9"}} == {
        "CS2": "the course 'CS2' was deleted at 2026-11-22 09:00:00 UTC",
        "CS9": "there is no course 'CS9'",
    }
    assert [store.course(one).deleted_at for one in ("CS1", "CS3")] == [TEN, TEN]
    written = {row.course_id: row for row in store.all(Event) if row.occurred_at == TEN}
    assert {one: row.course_version for one, row in written.items()} == {"CS1": 2, "CS3": 3}
    for row in written.values():
        receivers = store.all(select(Delivery.endpoint_id).where(Delivery.event_id == row.id))
        assert sorted(receivers) == endpoint_ids


def test_courses_deleted_together_are_all_kept_if_a_subscriber_fails(store: Store) -> None:
    def fail(session: object, change: CourseChange) -> None:
        if change.course_id == "CS2":
            raise RuntimeError("the outbox cannot write")

    store.add_courses(["CS1", "CS2"])

    with (
        signals.course_deleted.connected_to(fail),
        pytest.raises(EventNotWrittenError, match="2 courses were not changed: a subscriber"),
    ):
        store.write(courses.delete_courses, ["CS1", "CS2"], now=TEN)

    assert [store.course(one).deleted_at for one in ("CS1", "CS2")] == [None, None]
    assert store.all(Event) == []


def test_change_of_an_old_version_is_refused(store: Store) -> None:
    store.add_course("CS1")
    store.write(courses.regenerate_token, "CS1", version=1, now=NINE)
    store.write(courses.announce_token, "7731", None, version=1, now=NINE)

    with pytest.raises(CourseChangedError, match="'CS1' is at version 2, no longer at 1"):
        store.write(courses.regenerate_token, "CS1", version=1, now=TEN)
    with pytest.raises(CourseChangedError, match="'7731' is at version 2, no longer at 1"):
        store.write(courses.announce_token, "7731", None, version=1, now=TEN)


def test_current_tokens_of_many_courses(store: Store) -> None:
    store.add_course("CS1")
    store.write(courses.ensure_course, "7731", "In a Moodle", now=NINE)
    token = store.write(courses.regenerate_token, "CS1", now=NINE)

    rows = store.read(courses.find_courses, ["7731", "CS1", "CS9"])
    found = store.read(courses.current_tokens, [row.id for row in rows])

    assert [row.course_id for row in rows] == ["7731", "CS1"]
    assert list(found.values()) == [token.token_id]
