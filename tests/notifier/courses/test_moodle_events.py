"""Events from a Moodle: several field names, each event applied once."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from notifier.courses import moodle_events
from notifier.courses.moodle_events import COURSE_DELETED, CourseDeletion, MoodleEventOutcome
from notifier.models import Event, MoodleEventReceipt
from tests.notifier.conftest import NINE, SITE, Store

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


def accept(store: Store, **overrides: Any) -> MoodleEventOutcome:
    """Accept a deletion at ten and return the outcome."""
    return store.write(moodle_events.accept, make_deletion(**overrides), now=TEN)


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
            {"objectid": None, "courseid": 7, "timecreated": "01795336477"},
            id="null and a leading zero",
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
    document = {"event": r"core\event\course_deleted", "objectid": 7, "at": 1795336477}

    assert moodle_events.parse_event(document) == make_deletion()


@pytest.mark.parametrize(
    ("fields", "location"),
    [
        pytest.param({"objectid": True}, ("objectid",), id="true for an id"),
        pytest.param({"objectid": "{objectid}"}, ("objectid",), id="a placeholder left as it is"),
        pytest.param({"objectid": 0}, ("objectid",), id="id 0"),
        pytest.param({"objectid": "\u0667"}, ("objectid",), id="other digits"),
        pytest.param({"course_id": "8"}, (), id="two different courses"),
        pytest.param({"timecreated": None}, ("timecreated",), id="no time"),
        pytest.param({"timecreated": "today"}, ("timecreated",), id="a word for a time"),
        pytest.param({"host": "x" * 256}, ("host",), id="a long host"),
        pytest.param({"shortname": 7}, ("shortname",), id="a number for a title"),
    ],
)
def test_invalid_field_is_reported(fields: dict[str, Any], location: tuple[str, ...]) -> None:
    with pytest.raises(ValidationError) as refused:
        parsed(**{"objectid": "7", "timecreated": "1795336477", **fields})

    assert [fault["loc"] for fault in refused.value.errors()] == [location]


def test_deletion_of_an_unknown_course_is_signalled(store: Store) -> None:
    outcome = accept(store, other={"shortname": "HOOK"})

    course, (event,), (row,) = store.course("7"), store.all(Event), store.all(MoodleEventReceipt)
    assert outcome == MoodleEventOutcome.APPLIED
    assert (course.title, course.deleted_at) == ("HOOK", TEN)
    assert json.loads(event.body)["data"] == {
        "source": SITE,
        "course_id": "7",
        "course_version": 2,
    }
    assert (row.host, row.event_name, row.object_id) == (SITE, COURSE_DELETED, "7")
    assert (row.time_created, row.received_at) == ("1795336477", TEN)
    assert row.outcome == MoodleEventOutcome.APPLIED


def test_same_event_is_a_duplicate(store: Store) -> None:
    outcomes = [accept(store), accept(store, objectid=7)]

    assert outcomes == [MoodleEventOutcome.APPLIED, MoodleEventOutcome.DUPLICATE]


@pytest.mark.parametrize(
    "other",
    [
        pytest.param({"host": "moodle.example"}, id="another host"),
        pytest.param({"timecreated": 1795336478}, id="another time"),
    ],
)
def test_deletion_of_a_deleted_course_is_stale(store: Store, other: dict[str, Any]) -> None:
    accept(store)

    outcome = accept(store, **other)

    assert outcome == MoodleEventOutcome.STALE
    assert {row.outcome for row in store.all(MoodleEventReceipt)} == {"applied", "stale"}
    assert (store.course("7").version, len(store.all(Event))) == (2, 1)


def test_known_course_keeps_its_title(store: Store) -> None:
    store.add_course("7", title="Algorithms")

    accept(store, shortname="HOOK")

    course = store.course("7")
    assert (course.title, course.version, course.deleted_at) == ("Algorithms", 2, TEN)


def test_course_without_title_gets_its_id(store: Store) -> None:
    accept(store)

    assert store.course("7").title == "7"


def test_event_is_stale_after_its_receipt_is_deleted(store: Store) -> None:
    accept(store)

    outcomes = [
        (store.write(moodle_events.delete_receipts, bound), accept(store))
        for bound in (TEN, TEN + timedelta(seconds=1))
    ]

    assert outcomes == [(0, MoodleEventOutcome.DUPLICATE), (1, MoodleEventOutcome.STALE)]
