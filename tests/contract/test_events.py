"""The events: to their exact bytes, and back or an EventError."""

import json
import re
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from contract import events
from contract.events import (
    CourseDeleted,
    CourseDeletedData,
    EventError,
    InvalidEventError,
    MalformedEventError,
    Ping,
    PingData,
    TokenRegenerated,
    TokenRegeneratedData,
    UnknownEvent,
)

NINE = datetime(2026, 11, 22, 9, 0, 0, 123456, tzinfo=UTC)

DELETED = (
    b'{"type":"course.deleted","timestamp":"2026-11-22T09:00:00.123456Z","data":'
    b'{"source":"eassessment.example.ac.uk","course_id":"CS101-2026","course_version":4}}'
)
REGENERATED = (
    b'{"type":"token.regenerated","timestamp":"2026-11-22T09:00:00.123456Z","data":'
    b'{"source":"eassessment.example.ac.uk","course_id":"CS101-2026","course_version":5,'
    b'"token_id":"k7Qx2mPa"}}'
)


def make_deleted(**overrides: Any) -> CourseDeleted:
    """Return the deletion of CS101-2026 that `DELETED` spells, but for the overrides."""
    data = {
        "source": "eassessment.example.ac.uk",
        "course_id": "CS101-2026",
        "course_version": 4,
        **overrides,
    }
    return CourseDeleted(timestamp=NINE, data=CourseDeletedData(**data))


def make_regenerated(**overrides: Any) -> TokenRegenerated:
    """Return the new token of CS101-2026 that `REGENERATED` spells, but for the overrides."""
    data = {
        "source": "eassessment.example.ac.uk",
        "course_id": "CS101-2026",
        "course_version": 5,
        "token_id": "k7Qx2mPa",
        **overrides,
    }
    return TokenRegenerated(timestamp=NINE, data=TokenRegeneratedData(**data))


def body(changes: dict[str, Any], of: bytes = REGENERATED) -> bytes:
    """Return an event's body with members changed, by JSON Pointer; None takes one away."""
    document = json.loads(of)
    for pointer, value in changes.items():
        *way, last = pointer.strip("/").split("/")
        place = document
        for step in way:
            place = place[step]
        if value is None:
            del place[last]
        else:
            place[last] = value
    return json.dumps(document).encode()


@pytest.mark.parametrize(
    ("event", "raw"),
    [
        pytest.param(make_deleted(), DELETED, id="course.deleted"),
        pytest.param(make_regenerated(), REGENERATED, id="token.regenerated"),
    ],
)
class TestBytes:
    """Both events, to bytes and back."""

    def test_dump_makes_the_bytes_of_the_design(self, event: events.Event, raw: bytes) -> None:
        assert events.dump(event).encode() == raw

    def test_load_reads_the_event_that_was_dumped(self, event: events.Event, raw: bytes) -> None:
        assert events.load(raw) == event

    def test_unknown_fields_are_passed_over(self, event: events.Event, raw: bytes) -> None:
        more = body({"/hint": [1, {"a": 2}], "/data/reason": "end of term"}, of=raw)

        assert events.load(more) == event

    def test_the_type_is_one_of_those_an_endpoint_can_ask_for(
        self, event: events.Event, raw: bytes
    ) -> None:
        assert event.type in events.EVENT_TYPES
        assert json.loads(raw)["type"] == event.type


def test_characters_beyond_ascii_travel_as_they_are() -> None:
    event = make_deleted(course_id="Übung/😀 'x'; <b>")

    raw = events.dump(event).encode()

    assert '"course_id":"Übung/😀 \'x\'; <b>"'.encode() in raw
    assert events.load(raw) == event


def test_an_event_cannot_be_changed() -> None:
    event = make_deleted()

    with pytest.raises(ValidationError, match="Instance is frozen"):
        event.timestamp = NINE


def test_the_ping_is_of_a_type_that_no_receiver_acts_upon() -> None:
    ping = events.dump_ping("eassessment.example.ac.uk", NINE)

    assert ping == (
        '{"type":"endpoint.ping","timestamp":"2026-11-22T09:00:00.123456Z",'
        '"data":{"source":"eassessment.example.ac.uk"}}'
    )
    assert events.load(ping.encode()) == Ping(
        type="endpoint.ping", data=PingData(source="eassessment.example.ac.uk")
    )


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b'{"type":"course.archived"}', id="nothing else"),
        pytest.param(b'{"type":"course.archived","timestamp":0,"data":null}', id="odd members"),
        pytest.param(b'{"type":"course.archived","data":[[[1.5]]]}', id="other data"),
    ],
)
def test_an_unknown_type_is_an_unknown_event(raw: bytes) -> None:
    assert events.load(raw) == UnknownEvent(type="course.archived")


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        pytest.param(b"", "the body is not JSON: Expecting value", id="empty"),
        pytest.param(b"<x/>", "the body is not JSON: Expecting value", id="no JSON"),
        pytest.param(b"7", "the body is JSON, but not an object", id="a number"),
        pytest.param(b'"course.deleted"', "the body is JSON, but not an object", id="a string"),
        pytest.param(b"null", "the body is JSON, but not an object", id="null"),
        pytest.param(b"[" + DELETED + b"]", "the body is JSON, but not an object", id="an array"),
        pytest.param(DELETED + b"x", "the body is not JSON: Extra data", id="trailing junk"),
        pytest.param(DELETED + DELETED, "the body is not JSON: Extra data", id="twice"),
        pytest.param(b"\xef\xbb\xbf" + DELETED, "Unexpected UTF-8 BOM", id="BOM"),
        pytest.param(DELETED.decode().encode("utf-16"), "is not UTF-8", id="UTF-16"),
        pytest.param(DELETED.replace(b"CS", b"\xc3\x28"), "is not UTF-8", id="not UTF-8"),
        pytest.param(
            DELETED.replace(b'"data"', b'"x":' + b"[" * 1000 + b"]" * 1000 + b',"data"'),
            "nested deeper than 32 levels",
            id="1,000 levels deep",
        ),
        pytest.param(DELETED.replace(b":4", b":NaN"), "NaN is not a JSON number", id="NaN"),
        pytest.param(DELETED.replace(b":4", b":1e999"), "too large", id="an infinite number"),
        pytest.param(DELETED.replace(b":4", b":" + b"4" * 5000), "64 bits", id="5,000 digits"),
        pytest.param(DELETED.replace(b":4", b":9223372036854775808"), "64 bits", id="2^63"),
        pytest.param(
            DELETED.replace(b":4", b':4,"x":9223372036854775808'), "64 bits", id="2^63 aside"
        ),
        pytest.param(
            DELETED.replace(b":4", b':4,"course_version":5'), "a key stands twice", id="same key"
        ),
        pytest.param(DELETED.replace(b"CS101", b"CS\\ud800"), "lone surrogate", id="surrogate"),
        pytest.param(DELETED.replace(b"CS101", b"CS\\u0000"), "NUL", id="NUL"),
    ],
)
def test_a_body_that_is_no_json_object_is_malformed(raw: bytes, message: str) -> None:
    with pytest.raises(MalformedEventError, match=re.escape(message)):
        events.load(raw)


@pytest.mark.parametrize(
    "pointer",
    [
        "/timestamp",
        "/data",
        *(f"/data/{name}" for name in ("source", "course_id", "course_version", "token_id")),
    ],
)
def test_a_missing_field_is_pointed_to(pointer: str) -> None:
    with pytest.raises(InvalidEventError, match=f"^{pointer}: Field required$") as caught:
        events.load(body({pointer: None}))

    assert caught.value.pointer == pointer


VERSION, TIME, COURSE = "/data/course_version", "/timestamp", "/data/course_id"
SOURCE, TOKEN = "/data/source", "/data/token_id"
AS_ON_THE_WIRE = "a moment looks like 2026-11-22T09:00:00.123456Z"


@pytest.mark.parametrize(
    ("pointer", "value", "message"),
    [
        pytest.param(VERSION, True, "should be a valid integer", id="true for a number"),
        pytest.param(VERSION, "5", "should be a valid integer", id="a number in quotes"),
        pytest.param(VERSION, 5.0, "should be a valid integer", id="a float"),
        pytest.param(VERSION, [5], "should be a valid integer", id="an array"),
        pytest.param(VERSION, 0, "greater than or equal to 1", id="version 0"),
        pytest.param(VERSION, -1, "greater than or equal to 1", id="version -1"),
        pytest.param(VERSION, 2**53, "less than or equal to 9007199254740991", id="2^53"),
        pytest.param(TIME, 1700000000, "should be a valid datetime", id="seconds"),
        pytest.param(TIME, "1700000000", AS_ON_THE_WIRE, id="seconds in quotes"),
        pytest.param(TIME, "2026-11-22", AS_ON_THE_WIRE, id="a day"),
        pytest.param(TIME, "2026-11-22T09:00:00", AS_ON_THE_WIRE, id="no zone"),
        pytest.param(TIME, "2026-11-22 09:00:00Z", AS_ON_THE_WIRE, id="no T"),
        pytest.param(TIME, " 2026-11-22T09:00:00Z", AS_ON_THE_WIRE, id="a space before"),
        pytest.param(TIME, "2026-11-22T09:00:00Z\n", AS_ON_THE_WIRE, id="a line break behind"),
        pytest.param(TIME, "2026-02-29T09:00:00Z", AS_ON_THE_WIRE, id="a day that never was"),
        pytest.param(TIME, "2026-11-22T24:00:00Z", AS_ON_THE_WIRE, id="the 24th hour"),
        pytest.param(TIME, "2026-11-22T09:00:00+24:00", AS_ON_THE_WIRE, id="an offset of a day"),
        pytest.param(
            TIME, "\u0968\u0966\u0968\u096c-11-22T09:00:00Z", AS_ON_THE_WIRE, id="other digits"
        ),
        pytest.param(TIME, "9999-12-31T23:59:59-01:00", "years 1 to 9999", id="after the end"),
        pytest.param(TIME, "0001-01-01T00:00:00+01:00", "years 1 to 9999", id="before the start"),
        pytest.param(COURSE, "", "at least 1 character", id="an empty course id"),
        pytest.param(COURSE, "c" * 256, "at most 255 characters", id="a long course id"),
        pytest.param(COURSE, 101, "should be a valid string", id="a number for a course id"),
        pytest.param(COURSE, "CS\n101", "printable characters only", id="a line break in it"),
        pytest.param(COURSE, "CS\u202e101", "printable characters only", id="right-to-left"),
        pytest.param(COURSE, "CS\x7f", "printable characters only", id="a control character"),
        pytest.param(COURSE, " CS101", "no space around it", id="a space before it"),
        pytest.param(COURSE, "..", "is not a dot", id="two dots"),
        pytest.param(COURSE, "/CS101", "no leading '/'", id="a leading slash"),
        pytest.param(SOURCE, "", "should match pattern", id="an empty source"),
        pytest.param(SOURCE, "a/b", "should match pattern", id="a path for a source"),
        pytest.param(SOURCE, "a\n", "should match pattern", id="a source and a line break"),
        pytest.param(SOURCE, "ä.example", "should match pattern", id="a source beyond ASCII"),
        pytest.param(SOURCE, "a" * 101, "should match pattern", id="a long source"),
        pytest.param(TOKEN, "", "should match pattern", id="an empty token id"),
        pytest.param(TOKEN, "k7Qx_2mP", "should match pattern", id="an underscore in it"),
        pytest.param(TOKEN, "k" * 65, "should match pattern", id="a long token id"),
        pytest.param(
            TOKEN, "\u0661\u0662\u0663", "should match pattern", id="digits of another script"
        ),
        pytest.param("/data", [], "should be an object", id="an array for the data"),
        pytest.param("/type", 5, "should be a valid string", id="a number for the type"),
        pytest.param("/type", "", "at least 1 character", id="an empty type"),
        pytest.param("/type", "t" * 256, "at most 255 characters", id="a long type"),
    ],
)
def test_a_wrong_field_is_pointed_to(pointer: str, value: object, message: str) -> None:
    with pytest.raises(InvalidEventError, match=re.escape(message)) as caught:
        events.load(body({pointer: value}))

    assert caught.value.pointer == pointer
    assert str(caught.value).startswith(f"{pointer}: ")


def test_an_object_without_a_type_is_invalid() -> None:
    with pytest.raises(InvalidEventError, match=r"^/type: Field required$") as caught:
        events.load(b"{}")

    assert caught.value.pointer == "/type"


@pytest.mark.parametrize(
    ("written", "moment"),
    [
        pytest.param("2026-11-22T09:00:00Z", NINE.replace(microsecond=0), id="whole seconds"),
        pytest.param("2026-11-22T14:30:00.123456+05:30", NINE, id="another offset"),
        pytest.param("2026-11-22T09:00:00.123456789Z", NINE, id="nanoseconds are cut"),
        pytest.param("2026-11-22T09:00:00.1Z", NINE.replace(microsecond=100_000), id="a tenth"),
    ],
)
def test_every_usual_spelling_of_a_moment_is_read_in_utc(written: str, moment: datetime) -> None:
    event = events.load(body({"/timestamp": written}))

    assert isinstance(event, TokenRegenerated)
    assert event.timestamp == moment
    assert event.timestamp.utcoffset() == timedelta(0)


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        pytest.param(NINE.replace(microsecond=0), "2026-11-22T09:00:00.000000Z", id="no fraction"),
        pytest.param(
            NINE.astimezone(timezone(timedelta(hours=-8))), "2026-11-22T09:00:00.123456Z", id="zone"
        ),
        pytest.param(datetime(33, 4, 3, tzinfo=UTC), "0033-04-03T00:00:00.000000Z", id="long ago"),
    ],
)
def test_wire_time_is_utc_with_microseconds(moment: datetime, text: str) -> None:
    assert events.wire_time(moment) == text


@pytest.mark.parametrize("version", [1, events.MAX_VERSION])
def test_versions_reach_from_one_to_what_every_json_reader_holds(version: int) -> None:
    event = make_deleted(course_version=version)

    assert events.load(events.dump(event).encode()) == event


@pytest.mark.parametrize(
    "course_id",
    [
        pytest.param("c", id="one character"),
        pytest.param("ü" * 255, id="255 characters of two bytes"),
        pytest.param("a/b", id="a slash within"),
        pytest.param("...", id="three dots"),
        pytest.param("'; DROP TABLE courses; --", id="what looks like SQL"),
        pytest.param("=cmd()", id="what looks like a formula"),
        pytest.param("e\u0301", id="decomposed"),
        pytest.param("é", id="composed"),
    ],
)
def test_course_ids_are_opaque(course_id: str) -> None:
    assert TypeAdapter(events.CourseId).validate_python(course_id) == course_id


@given(st.binary() | st.text().map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_bytes_are_an_event_or_an_event_error(raw: bytes) -> None:
    try:
        event = events.load(raw)
    except EventError:
        return

    assert isinstance(event, CourseDeleted | TokenRegenerated | UnknownEvent)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(), inner, max_size=2),
    max_leaves=4,
)


@given(
    st.sampled_from(["/type", TIME, "/data", SOURCE, COURSE, VERSION, TOKEN]),
    json_values.filter(lambda value: value is not None),
)
def test_an_event_with_anything_in_one_place_is_an_event_or_an_event_error(
    pointer: str, value: object
) -> None:
    try:
        event = events.load(body({pointer: value}))
    except EventError:
        return

    if not isinstance(event, UnknownEvent):
        assert events.load(events.dump(event).encode()) == event


@given(
    st.datetimes(timezones=st.just(UTC)),
    st.text(st.characters(categories=["L", "N", "P", "S"]), min_size=1, max_size=255),
    st.integers(1, events.MAX_VERSION),
)
def test_every_event_survives_the_wire(moment: datetime, course_id: str, version: int) -> None:
    try:
        data = CourseDeletedData(source="s", course_id=course_id, course_version=version)
    except ValidationError:
        return
    event = CourseDeleted(timestamp=moment, data=data)

    assert events.load(events.dump(event).encode()) == event
