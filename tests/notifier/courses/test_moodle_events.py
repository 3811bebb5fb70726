"""Events from a Moodle: several field names, each event applied once."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from sqlalchemy import select

from foundation.db.session import Database
from notifier.courses import moodle_events
from notifier.courses import service as courses
from notifier.courses.moodle_events import COURSE_DELETED, CourseDeletion, MoodleEventOutcome
from notifier.models import Course, Event, MoodleEventReceipt
from tests.notifier.conftest import NINE, SITE, MakeCourse, MakeEndpoint

TEN = NINE + timedelta(hours=1)
SENT = json.loads((Path(__file__).parents[1] / "moodle_events.json").read_text(encoding="utf-8"))


def parsed(**fields: Any) -> CourseDeletion | None:
    """Return the parsed deletion with these fields."""
    return moodle_events.parse_event({"eventname": COURSE_DELETED, **fields})


def make_deletion(**overrides: Any) -> CourseDeletion:
    """Return the deletion of course 7, with overrides."""
    event = parsed(**{"objectid": "7", "timecreated": "1795336477", **overrides})
    assert event is not None
    return event


def accepted(database: Database, event: CourseDeletion) -> MoodleEventOutcome:
    """Accept a deletion at ten and return the outcome."""
    with database.writing() as session:
        return moodle_events.accept(session, event, now=TEN)


@pytest.mark.parametrize(
    ("sender", "host"),
    [
        pytest.param("tool_trigger", "", id="tool_trigger"),
        pytest.param("local_webhooks", "moodle.example", id="local_webhooks"),
    ],
)
def test_deletion_is_parsed_as_sent(sender: str, host: str) -> None:
    event = moodle_events.parse_event(json.loads(SENT[sender]["body"]))

    assert event is not None
    assert (event.course_id, event.title, event.time_created, event.host) == (
        "7",
        "HOOK-1795336476",
        "1795336477",
        host,
    )


@pytest.mark.parametrize(
    "document",
    [
        pytest.param(json.loads(SENT["local_webhooks_unrelated"]["body"]), id="another event"),
        pytest.param({"event": r"\core\event\course_created", "objectid": []}, id="a creation"),
        pytest.param({"event": "x" * 10_000}, id="a long name"),
    ],
)
def test_other_events_are_ignored(document: dict[str, Any]) -> None:
    assert moodle_events.parse_event(document) is None


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"objectid": "7", "timecreated": "1795336477"}, id="text"),
        pytest.param({"objectid": 7, "timecreated": 1795336477}, id="numbers"),
        pytest.param({"course_id": "7", "at": "1795336477"}, id="names of an administrator"),
        pytest.param(
            {"objectid": None, "courseid": 7, "timecreated": "01795336477"}, id="null and a nought"
        ),
        pytest.param(
            {"objectid": 7, "course_id": "7", "courseid": "7", "at": 1795336477}, id="all"
        ),
    ],
)
def test_fields_have_several_names(fields: dict[str, Any]) -> None:
    event = parsed(**fields)

    assert event == make_deletion()


def test_event_name_needs_no_leading_backslash() -> None:
    assert (
        moodle_events.parse_event(
            {"event": r"core\event\course_deleted", "objectid": 7, "at": 1795336477}
        )
        == make_deletion()
    )


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        pytest.param({"objectid": None}, ("objectid",), id="no id"),
        pytest.param({"objectid": ""}, ("objectid",), id="an empty id"),
        pytest.param({"objectid": True}, ("objectid",), id="true for an id"),
        pytest.param({"objectid": 7.0}, ("objectid",), id="a fraction for an id"),
        pytest.param({"objectid": 0}, ("objectid",), id="id 0"),
        pytest.param({"objectid": -1}, ("objectid",), id="a negative id"),
        pytest.param({"objectid": "{objectid}"}, ("objectid",), id="a placeholder left as it is"),
        pytest.param({"objectid": "\u0667"}, ("objectid",), id="other digits"),
        pytest.param({"objectid": "9" * 20}, ("objectid",), id="20 digits"),
        pytest.param({"objectid": ["7"]}, ("objectid",), id="a list"),
        pytest.param({"course_id": "8"}, (), id="two different courses"),
        pytest.param({"timecreated": None}, ("timecreated",), id="no moment"),
        pytest.param({"timecreated": "today"}, ("timecreated",), id="a word for a moment"),
        pytest.param({"host": 7}, ("host",), id="a number for a host"),
        pytest.param({"host": "x" * 256}, ("host",), id="a long host"),
        pytest.param({"shortname": 7}, ("shortname",), id="a number for a title"),
    ],
)
def test_invalid_field_is_reported(fields: dict[str, Any], place: tuple[str, ...]) -> None:
    with pytest.raises(ValidationError) as refused:
        parsed(**{"objectid": "7", "timecreated": "1795336477", **fields})

    assert [fault["loc"] for fault in refused.value.errors()] == [place]


def test_deletion_of_an_unknown_course_is_signalled(
    database: Database, make_endpoint: MakeEndpoint
) -> None:
    make_endpoint()

    outcome = accepted(database, make_deletion(other={"shortname": "HOOK"}))

    assert outcome == MoodleEventOutcome.APPLIED
    with database.reading() as session:
        course = session.scalars(select(Course)).one()
        event = session.scalars(select(Event)).one()
        row = session.scalars(select(MoodleEventReceipt)).one()
    assert (course.course_id, course.title, course.deleted_at) == ("7", "HOOK", TEN)
    assert json.loads(event.body)["data"] == {
        "source": SITE,
        "course_id": "7",
        "course_version": 2,
    }
    assert (row.host, row.event_name, row.object_id, row.time_created) == (
        SITE,
        COURSE_DELETED,
        "7",
        "1795336477",
    )
    assert (row.outcome, row.received_at) == (MoodleEventOutcome.APPLIED, TEN)


def test_same_event_is_a_duplicate(database: Database) -> None:
    first = accepted(database, make_deletion())
    again = accepted(database, make_deletion(objectid=7))

    assert (first, again) == (MoodleEventOutcome.APPLIED, MoodleEventOutcome.DUPLICATE)


@pytest.mark.parametrize(
    "other",
    [
        pytest.param({"host": "moodle.example"}, id="another host"),
        pytest.param({"timecreated": 1795336478}, id="another moment"),
    ],
)
def test_deletion_of_a_deleted_course_is_stale(database: Database, other: dict[str, Any]) -> None:
    accepted(database, make_deletion())

    outcome = accepted(database, make_deletion(**other))

    assert outcome == MoodleEventOutcome.STALE
    with database.reading() as session:
        outcomes = sorted(session.scalars(select(MoodleEventReceipt.outcome)))
        assert session.query(Event).count() == 1
        assert courses.get_course(session, "7").version == 2
    assert outcomes == ["applied", "stale"]


def test_known_course_keeps_its_title(database: Database, make_course: MakeCourse) -> None:
    make_course("7", title="Algorithms")

    accepted(database, make_deletion(shortname="HOOK"))

    with database.reading() as session:
        course = courses.get_course(session, "7")
    assert (course.title, course.version, course.deleted_at) == ("Algorithms", 2, TEN)


def test_course_without_title_gets_its_id(database: Database) -> None:
    accepted(database, make_deletion())

    with database.reading() as session:
        assert courses.get_course(session, "7").title == "7"


def test_event_is_stale_after_its_receipt_is_deleted(database: Database) -> None:
    accepted(database, make_deletion())

    outcomes = []
    for bound in (TEN, TEN + timedelta(seconds=1)):
        with database.writing() as session:
            gone = moodle_events.delete_receipts(session, bound)
        outcomes.append((gone, accepted(database, make_deletion())))

    assert outcomes == [(0, MoodleEventOutcome.DUPLICATE), (1, MoodleEventOutcome.STALE)]
