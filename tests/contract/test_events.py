"""The webhook events: their exact bytes, and what is refused."""

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from contract import events
from contract.events import (
    CourseDeleted,
    CourseDeletedData,
    CourseRestored,
    CourseRestoredData,
    EventError,
    InvalidEventError,
    MalformedEventError,
    Ping,
    PingData,
    TokenRegenerated,
    TokenRegeneratedData,
    UnknownEvent,
)

VERSION, TIME, COURSE = "/data/course_version", "/timestamp", "/data/course_id"
SOURCE, TOKEN = "/data/source", "/data/token_id"
NINE = datetime(2026, 11, 22, 9, 0, 0, 123456, tzinfo=UTC)

DELETED = (
    b'{"type":"course.deleted","timestamp":"2026-11-22T09:00:00.123456Z","data":'
    b'{"source":"eassessment.example.ac.uk","course_id":"CS101-2026","course_version":4}}'
)
RESTORED = (
    b'{"type":"course.restored","timestamp":"2026-11-22T09:00:00.123456Z","data":'
    b'{"source":"eassessment.example.ac.uk","course_id":"CS101-2026","course_version":5}}'
)
REGENERATED = (
    b'{"type":"token.regenerated","timestamp":"2026-11-22T09:00:00.123456Z","data":'
    b'{"source":"eassessment.example.ac.uk","course_id":"CS101-2026","course_version":5,'
    b'"token_id":"k7Qx2mPa"}}'
)


def make_deleted(course_id: str = "CS101-2026") -> CourseDeleted:
    """Return the event of `DELETED`, for another course if given."""
    data = CourseDeletedData(
        source="eassessment.example.ac.uk", course_id=course_id, course_version=4
    )
    return CourseDeleted(timestamp=NINE, data=data)


EVENTS = {
    DELETED: make_deleted(),
    RESTORED: CourseRestored(
        timestamp=NINE,
        data=CourseRestoredData(
            source="eassessment.example.ac.uk", course_id="CS101-2026", course_version=5
        ),
    ),
    REGENERATED: TokenRegenerated(
        timestamp=NINE,
        data=TokenRegeneratedData(
            source="eassessment.example.ac.uk",
            course_id="CS101-2026",
            course_version=5,
            token_id="k7Qx2mPa",
        ),
    ),
}


def body(changes: dict[str, Any], of: bytes = REGENERATED) -> bytes:
    """Return the body of an event with members changed by JSON Pointer; None removes one."""
    document = json.loads(of)
    for pointer, value in changes.items():
        *parents, last = pointer.strip("/").split("/")
        target = document
        for name in parents:
            target = target[name]
        if value is None:
            del target[last]
        else:
            target[last] = value
    return json.dumps(document).encode()


@pytest.mark.parametrize(
    ("raw", "event"), EVENTS.items(), ids=["deleted", "restored", "regenerated"]
)
def test_event_has_the_agreed_bytes(raw: bytes, event: events.Event) -> None:
    assert events.dump(event).encode() == raw
    assert events.load(raw) == event
    assert event.type in events.EVENT_TYPES


def test_unknown_fields_are_ignored() -> None:  # B8
    raw = body({"/hint": [1, {"a": 2}], "/data/reason": "end of term"})

    assert events.load(raw) == EVENTS[REGENERATED]


def test_unknown_type_is_an_unknown_event() -> None:  # B8
    raw = b'{"type":"course.archived","timestamp":0,"data":null}'

    assert events.load(raw) == UnknownEvent(type="course.archived")


def test_non_ascii_characters_are_not_escaped() -> None:  # B7
    event = make_deleted("Übung/😀 'x'; <b>")

    raw = events.dump(event).encode()

    assert '"course_id":"Übung/😀 \'x\'; <b>"'.encode() in raw
    assert events.load(raw) == event


def test_ping_names_its_source() -> None:
    ping = events.dump_ping("eassessment.example.ac.uk", NINE)

    assert ping == (
        '{"type":"endpoint.ping","test":true,"timestamp":"2026-11-22T09:00:00.123456Z",'
        '"data":{"source":"eassessment.example.ac.uk"}}'
    )
    assert events.load(ping.encode()) == Ping(
        type="endpoint.ping", test=True, data=PingData(source="eassessment.example.ac.uk")
    )


@pytest.mark.parametrize("event_type", [*events.EVENT_TYPES, *events.OPERATIONAL_TYPES])
def test_sample_is_a_test_that_changes_nothing(event_type: str) -> None:
    sample = events.dump_sample(event_type, "one", "CS101", NINE)

    assert sample.startswith(f'{{"type":"{event_type}","test":true,"timestamp":"2026-11-22T09:')
    assert events.load(sample.encode()) == Ping(
        type=event_type, test=True, data=PingData(source="one")
    )


@pytest.mark.parametrize("event_type", events.EVENT_TYPES)
def test_sample_is_refused_by_a_receiver_that_does_not_know_the_mark(event_type: str) -> None:
    sample = events.dump_sample(event_type, "one", "CS101", NINE)

    with pytest.raises(InvalidEventError) as refused:
        events.load(sample.replace('"test":true,', "").encode())

    assert refused.value.pointer == "/data/course_version"


@pytest.mark.parametrize("mark", ["false", "1", '"true"', "null", "{}"])
def test_other_marks_are_none(mark: str) -> None:
    event = make_deleted("CS101")

    raw = events.dump(event).replace('{"type"', f'{{"test":{mark},"type"').encode()

    assert events.load(raw) == event


@pytest.mark.parametrize("is_heartbeat", [True, False], ids=["heartbeat", "test"])
def test_ping_states_the_interval_of_heartbeats(is_heartbeat: bool) -> None:
    raw = events.dump_ping("one", NINE, heartbeat_seconds=3600, is_heartbeat=is_heartbeat)

    ping = events.load(raw.encode())

    assert isinstance(ping, Ping)
    assert ping.data == PingData(source="one", heartbeat_seconds=3600)
    assert ping.is_heartbeat is is_heartbeat


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"[" + DELETED + b"]", id="array"),
        pytest.param(DELETED.decode().encode("utf-16"), id="UTF-16"),
        pytest.param(DELETED.replace(b":4", b':4,"x":9223372036854775808'), id="2^63"),
        pytest.param(DELETED.replace(b":4", b':4,"course_version":5'), id="duplicate key"),
    ],
)
def test_body_must_be_a_strict_json_object(raw: bytes) -> None:  # B4, B6
    with pytest.raises(MalformedEventError):
        events.load(raw)


@pytest.mark.parametrize(
    "pointer",
    ["/type", "/timestamp", "/data", SOURCE, COURSE, VERSION, TOKEN],
)
def test_missing_field_is_located(pointer: str) -> None:  # B9
    with pytest.raises(InvalidEventError, match="is missing") as caught:
        events.load(body({pointer: None}))

    assert caught.value.pointer == pointer


@pytest.mark.parametrize(
    ("pointer", "value"),
    [
        pytest.param(VERSION, True, id="version true"),
        pytest.param(VERSION, "5", id="version string"),
        pytest.param(VERSION, 0, id="version 0"),
        pytest.param(VERSION, 2**53, id="version 2^53"),
        pytest.param(TIME, 1700000000, id="time number"),
        pytest.param(TIME, "2026-11-22T09:00:00", id="time without zone"),
        pytest.param(TIME, "2026-11-22T09:00:00Z\n", id="time line break"),
        pytest.param(TIME, "2026-02-29T09:00:00Z", id="time of no day"),
        pytest.param(TIME, "2026-11-22T24:00:00Z", id="time hour 24"),
        pytest.param(TIME, "\u0968\u0966\u0968\u096c-11-22T09:00:00Z", id="time digits"),
        pytest.param(TIME, "9999-12-31T23:59:59-01:00", id="time after year 9999"),
        pytest.param(TIME, "0001-01-01T00:00:00+01:00", id="time before year 1"),
        pytest.param(COURSE, "", id="course empty"),
        pytest.param(COURSE, "c" * 256, id="course long"),
        pytest.param(COURSE, 101, id="course number"),
        pytest.param(COURSE, "CS\n101", id="course line break"),
        pytest.param(COURSE, "CS\u202e101", id="course right-to-left override"),
        pytest.param(COURSE, " CS101", id="course leading space"),
        pytest.param(COURSE, "..", id="course two dots"),
        pytest.param(COURSE, "/CS101", id="course leading slash"),
        pytest.param(SOURCE, "a/b", id="source path"),
        pytest.param(SOURCE, "ä.example", id="source not ASCII"),
        pytest.param(TOKEN, "k7Qx_2mP", id="token id underscore"),
        pytest.param(TOKEN, "k" * 65, id="token id long"),
        pytest.param(TOKEN, "\u0661\u0662\u0663", id="token id digits"),
        pytest.param("/data", [], id="data array"),
        pytest.param("/type", "", id="type empty"),
        pytest.param("/type", "t" * 256, id="type long"),
    ],
)
def test_invalid_field_is_located(pointer: str, value: object) -> None:  # B9
    with pytest.raises(InvalidEventError) as caught:
        events.load(body({pointer: value}))

    assert caught.value.pointer == pointer
    assert str(caught.value).startswith(f"{pointer}: ")


@pytest.mark.parametrize(
    ("written", "at"),
    [
        pytest.param("2026-11-22T09:00:00Z", NINE.replace(microsecond=0), id="whole seconds"),
        pytest.param("2026-11-22T14:30:00.123456+05:30", NINE, id="other offset"),
        pytest.param("2026-11-22T09:00:00.123456789Z", NINE, id="nanoseconds are cut"),
        pytest.param("2026-11-22T09:00:00.1Z", NINE.replace(microsecond=100_000), id="a tenth"),
    ],
)
def test_time_is_converted_to_utc(written: str, at: datetime) -> None:
    event = events.load(body({"/timestamp": written}))

    assert isinstance(event, TokenRegenerated)
    assert event.timestamp == at
    assert event.timestamp.utcoffset() == timedelta(0)


@pytest.mark.parametrize(
    ("at", "text"),
    [
        pytest.param(NINE.replace(microsecond=0), "2026-11-22T09:00:00.000000Z", id="no fraction"),
        pytest.param(
            NINE.astimezone(timezone(timedelta(hours=-8))), "2026-11-22T09:00:00.123456Z", id="zone"
        ),
        pytest.param(datetime(33, 4, 3, tzinfo=UTC), "0033-04-03T00:00:00.000000Z", id="year 33"),
    ],
)
def test_wire_time_is_utc_with_microseconds(at: datetime, text: str) -> None:
    assert events.wire_time(at) == text


@pytest.mark.parametrize(
    "course_id",
    [
        pytest.param("ü" * 255, id="255 characters"),
        pytest.param("a/b", id="slash"),
        pytest.param("...", id="three dots"),
        pytest.param("'; DROP TABLE courses; --", id="SQL"),
        pytest.param("=cmd()", id="formula"),
        pytest.param("e\u0301", id="decomposed"),
        pytest.param("é", id="composed"),
    ],
)
def test_course_ids_are_opaque(course_id: str) -> None:  # B7
    assert TypeAdapter(events.CourseId).validate_python(course_id) == course_id


@given(st.binary() | st.text().map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_load_raises_nothing_but_event_errors(raw: bytes) -> None:
    try:
        event = events.load(raw)
    except EventError:
        return

    assert isinstance(event, CourseDeleted | CourseRestored | TokenRegenerated | UnknownEvent)
