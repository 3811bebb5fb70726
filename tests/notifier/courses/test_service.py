"""Courses: unique ids, growing versions, all generations of a token."""

import json
from datetime import timedelta

import pytest
from sqlalchemy import func, select

from contract.tokens import MOODLE_TOKEN_ID
from foundation.db.session import Database
from notifier import signals
from notifier.courses import service as courses
from notifier.errors import (
    CourseChangedError,
    CourseDeletedError,
    CourseExistsError,
    CourseUnknownError,
    TokenIssuerError,
)
from notifier.models import Course, Delivery, Event, IssuedToken
from notifier.signals import CourseChange, NoSubscriberError
from tests.notifier.conftest import NINE, MakeCourse, MakeEndpoint

TEN = NINE + timedelta(hours=1)


def tokens_of(database: Database, course_id: str) -> list[IssuedToken]:
    """Return every generation of a course's token, oldest first."""
    with database.reading() as session:
        return list(courses.get_course(session, course_id).tokens)


def stored(database: Database, course_id: str) -> Course:
    """Return a course from the database."""
    with database.reading() as session:
        return courses.get_course(session, course_id)


def count_events(database: Database) -> int:
    """Return the number of events."""
    with database.reading() as session:
        return session.scalar(select(func.count()).select_from(Event)) or 0


def test_new_course_starts_at_version_1(database: Database, make_course: MakeCourse) -> None:
    make_course("CS101", title="Programmieren für Anfänger")

    course = stored(database, "CS101")
    assert (course.version, course.grades_version, course.deleted_at) == (1, 0, None)
    assert (course.title, course.created_at) == ("Programmieren für Anfänger", NINE)


def test_token_secret_is_stored_as_a_hash(database: Database, make_course: MakeCourse) -> None:
    token = make_course()

    (issued,) = tokens_of(database, "CS101-2026")
    assert (issued.token_id, issued.secret_sha256) == (token.token_id, token.secret_sha256())
    assert token.secret not in str(vars(issued))


def test_course_id_is_unique(database: Database, make_course: MakeCourse) -> None:
    make_course("CS101", title="The first")

    with pytest.raises(CourseExistsError) as refused:
        make_course("CS101", title="The second")

    assert str(refused.value) == "the course id 'CS101' is taken"
    assert stored(database, "CS101").title == "The first"
    assert len(tokens_of(database, "CS101")) == 1


def test_deleted_course_keeps_its_id(database: Database, make_course: MakeCourse) -> None:
    make_course("CS101")
    with database.writing() as session:
        courses.delete_course(session, "CS101", now=TEN)

    with pytest.raises(CourseExistsError, match="the course id 'CS101' is taken"):
        make_course("CS101")


def test_course_ids_differ_by_case(database: Database, make_course: MakeCourse) -> None:
    make_course("CS101", title="Upper")
    make_course("cs101", title="lower")

    assert stored(database, "CS101").title == "Upper"
    assert stored(database, "cs101").title == "lower"


@pytest.mark.parametrize("change", [courses.delete_course, courses.regenerate_token])
def test_unknown_course_is_refused(database: Database, change: object) -> None:
    with database.writing() as session, pytest.raises(CourseUnknownError) as refused:
        change(session, "CS999", now=TEN)  # type: ignore[operator]

    assert str(refused.value) == "there is no course 'CS999'"
    assert refused.value.facts == {"course_id": "CS999"}


def test_deletion_is_stored(database: Database, make_course: MakeCourse) -> None:
    make_course("CS101")

    with database.writing() as session:
        courses.delete_course(session, "CS101", now=TEN)

    course = stored(database, "CS101")
    assert (course.version, course.deleted_at) == (2, TEN)


@pytest.mark.parametrize("change", [courses.delete_course, courses.regenerate_token])
def test_deletion_is_final(database: Database, make_course: MakeCourse, change: object) -> None:
    make_course("CS101")
    with database.writing() as session:
        courses.delete_course(session, "CS101", now=TEN)

    with database.writing() as session, pytest.raises(CourseDeletedError) as refused:
        change(session, "CS101", now=TEN)  # type: ignore[operator]

    assert str(refused.value) == "the course 'CS101' was deleted at 2026-11-22 10:00:00 UTC"
    assert refused.value.facts == {
        "course_id": "CS101",
        "course_version": 2,
        "deleted_at": TEN,
    }
    assert (stored(database, "CS101").version, count_events(database)) == (2, 1)


def test_every_generation_of_a_token_is_kept(database: Database, make_course: MakeCourse) -> None:
    first = make_course("CS101")
    made = []
    for hours in (1, 2):
        with database.writing() as session:
            at = NINE + timedelta(hours=hours)
            made.append(courses.regenerate_token(session, "CS101", now=at))

    assert [(one.token_id, one.superseded_at) for one in tokens_of(database, "CS101")] == [
        (first.token_id, NINE + timedelta(hours=1)),
        (made[0].token_id, NINE + timedelta(hours=2)),
        (made[1].token_id, None),
    ]
    assert len({first.secret, *(one.secret for one in made)}) == 3


@pytest.mark.parametrize("database_kind", ["postgresql"])
def test_version_follows_a_concurrent_change(database: Database, make_course: MakeCourse) -> None:
    """A session that read the course before another changed it takes the next version.

    On SQLite this cannot happen: a writer waits before it reads.
    """
    make_course("CS101")

    with database.writing() as session:
        seen = courses.get_course(session, "CS101")
        with database.writing() as other:
            courses.regenerate_token(other, "CS101", now=TEN)
        courses.delete_course(session, "CS101", now=TEN)
        version = seen.version

    assert version == 3
    with database.reading() as session:
        event_facts = session.scalars(select(Event.course_version).order_by(Event.course_version))
        assert list(event_facts) == [2, 3]


def test_change_reaches_the_subscribers(database: Database, make_course: MakeCourse) -> None:
    received: list[CourseChange] = []

    def receive(session: object, change: CourseChange) -> None:
        received.append(change)

    make_course("CS101")
    with (
        signals.token_regenerated.connected_to(receive),
        signals.course_deleted.connected_to(receive),
    ):
        with database.writing() as session:
            token = courses.regenerate_token(session, "CS101", now=TEN)
        with database.writing() as session:
            courses.delete_course(session, "CS101", now=TEN)

    assert received == [
        CourseChange("CS101", 2, TEN, token.token_id),
        CourseChange("CS101", 3, TEN, token.token_id),
    ]


@pytest.mark.parametrize(
    ("change", "signal"),
    [
        pytest.param(courses.delete_course, "course-deleted", id="deletion"),
        pytest.param(courses.regenerate_token, "token-regenerated", id="regeneration"),
    ],
)
def test_change_without_subscriber_is_refused(
    database: Database,
    make_course: MakeCourse,
    no_subscriber: None,
    change: object,
    signal: str,
) -> None:
    make_course("CS101")

    with pytest.raises(NoSubscriberError) as refused, database.writing() as session:
        change(session, "CS101", now=TEN)  # type: ignore[operator]

    assert str(refused.value) == (
        f"{signal} has no subscriber: `outbox.subscribe()` was not called"
    )
    course = stored(database, "CS101")
    assert (course.version, course.deleted_at) == (1, None)
    assert [one.superseded_at for one in tokens_of(database, "CS101")] == [None]


def test_statements_of_a_change_do_not_grow(
    database: Database, make_course: MakeCourse, make_endpoint: MakeEndpoint
) -> None:
    counts = []
    for number, more in enumerate((1, 19)):
        for _ in range(more):
            make_endpoint()
        make_course(f"CS{number}")
        before = database.statements
        with database.writing() as session:
            courses.delete_course(session, f"CS{number}", now=TEN)
        counts.append(database.statements - before)

    assert counts[0] == counts[1]
    with database.reading() as session:
        assert session.scalar(select(func.count()).select_from(Delivery)) == 21


def test_courses_are_listed_by_id(database: Database, make_course: MakeCourse) -> None:
    for course_id in ("CS3", "CS1", "CS2"):
        make_course(course_id)

    with database.reading() as session:
        first = courses.list_courses(session, limit=2)
        then = courses.list_courses(session, after=first[-1].course_id, limit=2)

    assert [one.course_id for one in (*first, *then)] == ["CS1", "CS2", "CS3"]


@pytest.mark.parametrize(
    ("deleted", "listed"),
    [
        pytest.param(None, ["CS1", "CS2"], id="all"),
        pytest.param(True, ["CS1"], id="deleted"),
        pytest.param(False, ["CS2"], id="present"),
    ],
)
def test_list_selects_by_state(
    database: Database, make_course: MakeCourse, deleted: bool | None, listed: list[str]
) -> None:
    for course_id in ("CS1", "CS2"):
        make_course(course_id)
    with database.writing() as session:
        courses.delete_course(session, "CS1", now=TEN)

    with database.reading() as session:
        found = courses.list_courses(session, deleted=deleted)

    assert [one.course_id for one in found] == listed


def announce(database: Database, course_id: str, token_id: str | None = None) -> CourseChange:
    """Announce at ten that a Moodle regenerated a course's token."""
    with database.writing() as session:
        return courses.announce_token(session, course_id, token_id, now=TEN)


def event_facts(database: Database) -> list[tuple[str, str, int, str]]:
    """Return type, course, version and token id of every event, in the order of versions."""
    with database.reading() as session:
        rows = session.scalars(select(Event).order_by(Event.course_version))
        data = [(row.type, json.loads(row.body)["data"]) for row in rows]
    return [
        (kind, one["course_id"], one["course_version"], one.get("token_id", ""))
        for kind, one in data
    ]


def test_course_of_a_moodle_has_no_token(database: Database) -> None:
    with database.writing() as session:
        new = courses.ensure_course(session, "7", "Algorithms", now=NINE)

    course = stored(database, "7")
    assert new
    assert (course.title, course.version, course.created_at) == ("Algorithms", 1, NINE)
    assert (tokens_of(database, "7"), count_events(database)) == ([], 0)


def test_ensure_course_does_not_change_a_known_course(
    database: Database, make_course: MakeCourse
) -> None:
    make_course("7", title="The first")
    with database.writing() as session:
        courses.delete_course(session, "7", now=NINE)

    with database.writing() as session:
        new = courses.ensure_course(session, "7", "The second", now=TEN)

    course = stored(database, "7")
    assert not new
    assert (course.title, course.version, course.deleted_at) == ("The first", 2, NINE)


def test_announced_token_is_signalled(database: Database) -> None:
    announce(database, "7", "m0123456789abcdef")
    change = announce(database, "7", "mfedcba9876543210")

    assert change == CourseChange("7", 3, TEN, "mfedcba9876543210")
    assert event_facts(database) == [
        ("token.regenerated", "7", 2, "m0123456789abcdef"),
        ("token.regenerated", "7", 3, "mfedcba9876543210"),
    ]
    assert tokens_of(database, "7") == []


def test_unknown_token_is_announced_under_a_new_id(database: Database) -> None:
    changes = [announce(database, "7") for _ in range(2)]

    ids = [change.token_id for change in changes]
    assert [one[3] for one in event_facts(database)] == ids
    assert all(MOODLE_TOKEN_ID.fullmatch(one) for one in ids)
    assert len(set(ids)) == 2


def test_announce_refuses_a_course_with_its_own_token(
    database: Database, make_course: MakeCourse
) -> None:
    make_course("CS101")

    with pytest.raises(TokenIssuerError) as refused:
        announce(database, "CS101", "m0123456789abcdef")

    assert str(refused.value) == (
        "the tokens of the course 'CS101' are issued here, not by a Moodle"
    )
    assert refused.value.advice.command == "courses regenerate-token CS101"
    assert (stored(database, "CS101").version, count_events(database)) == (1, 0)


def test_regenerate_refuses_a_course_of_a_moodle(database: Database) -> None:
    with database.writing() as session:
        courses.ensure_course(session, "7", "Algorithms", now=NINE)

    with database.writing() as session, pytest.raises(TokenIssuerError) as refused:
        courses.regenerate_token(session, "7", now=TEN)

    assert str(refused.value) == "the tokens of the course '7' are issued by its Moodle"
    assert refused.value.advice.action == "courses announce-token"
    assert (tokens_of(database, "7"), count_events(database)) == ([], 0)


def test_deletion_of_a_course_of_a_moodle_is_signalled(database: Database) -> None:
    with database.writing() as session:
        courses.ensure_course(session, "7", "Algorithms", now=NINE)
        courses.delete_course(session, "7", now=TEN)

    assert event_facts(database) == [("course.deleted", "7", 2, "")]
    with pytest.raises(CourseDeletedError, match="the course '7' was deleted at"):
        announce(database, "7", "m0123456789abcdef")


def test_several_courses_are_deleted_together(
    database: Database, make_course: MakeCourse, make_endpoint: MakeEndpoint
) -> None:
    make_endpoint()
    for course_id in ("CS1", "CS2", "CS3"):
        make_course(course_id)
    with database.writing() as session:
        courses.delete_course(session, "CS2", now=NINE)

    with database.writing() as session:
        results = courses.delete_courses(session, ["CS3", "CS1", "CS2", "CS9", "CS1"], now=TEN)

    refusals = {
        one: str(refused) for one, refused in results.items() if isinstance(refused, Exception)
    }
    assert refusals == {
        "CS2": "the course 'CS2' was deleted at 2026-11-22 09:00:00 UTC",
        "CS9": "there is no course 'CS9'",
    }
    assert [stored(database, one).deleted_at for one in ("CS1", "CS3")] == [TEN, TEN]
    assert count_events(database) == 3


def test_change_of_an_old_version_is_refused(database: Database, make_course: MakeCourse) -> None:
    make_course("CS1")
    with database.writing() as session:
        courses.ensure_course(session, "7731", "In a Moodle", now=NINE)
        courses.regenerate_token(session, "CS1", version=1, now=NINE)
        courses.announce_token(session, "7731", None, version=1, now=NINE)

        with pytest.raises(CourseChangedError, match="'CS1' is at version 2, no longer at 1"):
            courses.regenerate_token(session, "CS1", version=1, now=TEN)
        with pytest.raises(CourseChangedError, match="'7731' is at version 2, no longer at 1"):
            courses.announce_token(session, "7731", None, version=1, now=TEN)

    assert (stored(database, "CS1").version, stored(database, "7731").version) == (2, 2)


def test_current_tokens_of_many_courses(database: Database, make_course: MakeCourse) -> None:
    make_course("CS1")
    with database.writing() as session:
        courses.ensure_course(session, "7731", "In a Moodle", now=NINE)
        token = courses.regenerate_token(session, "CS1", now=NINE)
        rows = courses.find_courses(session, ["7731", "CS1", "CS9"])
        found = courses.current_tokens(session, [row.id for row in rows])

    assert [row.course_id for row in rows] == ["7731", "CS1"]
    assert list(found.values()) == [token.token_id]
