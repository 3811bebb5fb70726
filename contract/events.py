"""The webhook events and their JSON bodies."""

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
)

from contract import strict_json
from contract.validation import validation_message

# The largest integer that every JSON reader holds exactly.
MAX_VERSION = 2**53 - 1
PING_TYPE = "endpoint.ping"
_RFC_3339 = re.compile(
    r"\d{4}-\d\d-\d\dT([01]\d|2[0-3]):\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)", re.ASCII
)


class EventError(ValueError):
    """The body is not a valid event."""


class MalformedEventError(EventError):
    """The body is not a JSON object."""


class InvalidEventError(EventError):
    """The body is a JSON object with a missing or invalid field.

    `pointer` is the JSON Pointer (RFC 6901) of the first such field.
    """

    def __init__(self, detail: str, pointer: str) -> None:
        super().__init__(detail)
        self.pointer = pointer


def wire_time(at: datetime) -> str:
    """Return a time in the form of the wire: RFC 3339, UTC, microseconds."""
    return at.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def _course_id(value: str) -> str:
    if not strict_json.is_storable(value) or not value.isprintable():
        raise ValueError("a course id must have printable characters only")
    if value != value.strip() or value in {".", ".."} or value.startswith("/"):
        raise ValueError(
            "a course id must not begin or end with a space, begin with '/', or be '.' or '..'"
        )
    return value


# Opaque, 1 to 255 printable characters.
CourseId = Annotated[str, Field(min_length=1, max_length=255), AfterValidator(_course_id)]

# The name of an eAssessment site; safe in a path segment and in a log line.
SourceName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]

# The public part of a course token.
TokenId = Annotated[str, Field(pattern=r"^[0-9A-Za-z]{1,64}$")]

# Seconds between two heartbeats; 0 if none are sent.
MAX_HEARTBEAT_SECONDS = 7 * 24 * 3600
HeartbeatSeconds = Annotated[int, Field(ge=0, le=MAX_HEARTBEAT_SECONDS)]

# The version of a course, which grows with every change.
Version = Annotated[int, Field(ge=1, le=MAX_VERSION)]


def _to_utc(value: object) -> object:
    # Not left to pydantic, which accepts numbers as times and, in strict mode after a validator,
    # no text at all.
    if isinstance(value, str):
        value = _parse_time(value)
    if isinstance(value, datetime) and value.tzinfo is not None:
        try:
            return value.astimezone(UTC)
        except OverflowError:
            raise ValueError("the time in UTC must be in the years 1 to 9999") from None
    return value


def _parse_time(text: str) -> datetime:
    expected = "expected a time such as 2026-11-22T09:00:00.123456Z"
    if not _RFC_3339.fullmatch(text):
        raise ValueError(expected)
    try:
        return datetime.fromisoformat(text)
    except ValueError as error:
        raise ValueError(f"{expected}; {error}") from None


# A time on the wire: RFC 3339 with an offset, converted to UTC when it is parsed.
WireTime = Annotated[
    AwareDatetime, BeforeValidator(_to_utc), PlainSerializer(wire_time, when_used="json")
]


class StrictModel(BaseModel):
    """A part of the wire format; fields that are not known are ignored."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")


class CourseDeletedData(StrictModel):
    """The deleted course and its version after the deletion."""

    source: SourceName
    course_id: CourseId
    course_version: Version


class CourseRestoredData(StrictModel):
    """The restored course and its version after the restoration."""

    source: SourceName
    course_id: CourseId
    course_version: Version


class TokenRegeneratedData(StrictModel):
    """The course, its version after the change, and the id of its current token.

    `valid_until` is when the tokens before it end, if they did not end at once.
    """

    source: SourceName
    course_id: CourseId
    course_version: Version
    token_id: TokenId
    valid_until: WireTime | None = None


class CourseDeleted(StrictModel):
    """A course was deleted in eAssessment at `timestamp`."""

    type: Literal["course.deleted"] = "course.deleted"
    timestamp: WireTime
    data: CourseDeletedData


class CourseRestored(StrictModel):
    """The deletion of a course was undone in eAssessment at `timestamp`."""

    type: Literal["course.restored"] = "course.restored"
    timestamp: WireTime
    data: CourseRestoredData


class TokenRegenerated(StrictModel):
    """The token of a course was regenerated in eAssessment at `timestamp`."""

    type: Literal["token.regenerated"] = "token.regenerated"
    timestamp: WireTime
    data: TokenRegeneratedData


class EndpointDisabledData(StrictModel):
    """The disabled endpoint and the reason; its deliveries are held."""

    source: SourceName
    endpoint_id: int
    url: str
    reason: str


class DeliveryDeadData(StrictModel):
    """The dead delivery, its event and endpoint, and the reason."""

    source: SourceName
    delivery_id: int
    endpoint_id: int
    webhook_id: str
    event_type: str
    course_id: CourseId
    reason: str


class EndpointDisabled(StrictModel):
    """An endpoint was disabled at `timestamp`; an event for operations."""

    type: Literal["endpoint.disabled"] = "endpoint.disabled"
    timestamp: WireTime
    data: EndpointDisabledData


class DeliveryDead(StrictModel):
    """A delivery became dead at `timestamp`; an event for operations."""

    type: Literal["delivery.dead"] = "delivery.dead"
    timestamp: WireTime
    data: DeliveryDeadData


class UnknownEvent(StrictModel):
    """An event of a type that this release does not know; it is ignored."""

    type: Annotated[str, Field(min_length=1, max_length=255)]


class PingData(StrictModel):
    """The name of the site, and the interval of its heartbeats; an older site may state neither."""

    source: SourceName | None = None
    heartbeat_seconds: HeartbeatSeconds | None = None


class PingEvent(StrictModel):
    """A test of an endpoint, which is marked as one, or a heartbeat, as they are sent."""

    type: Literal["endpoint.ping"] = "endpoint.ping"
    test: Literal[True] | None = None
    timestamp: WireTime
    data: PingData


class Ping(UnknownEvent):
    """A test event or a heartbeat, which changes no course; its source is checked as any other.

    A test event is one of any type with the mark `"test": true`; a heartbeat has no mark.
    """

    test: Annotated[bool, BeforeValidator(lambda value: value is True)] = False
    data: PingData = PingData()

    @property
    def is_heartbeat(self) -> bool:
        """Whether it is a heartbeat, and no test event."""
        return bool(self.data.heartbeat_seconds) and not self.test


Event = CourseDeleted | CourseRestored | TokenRegenerated
OperationalEvent = EndpointDisabled | DeliveryDead

_MODELS: dict[str, type[Event]] = {
    "course.deleted": CourseDeleted,
    "course.restored": CourseRestored,
    "token.regenerated": TokenRegenerated,
}
EVENT_TYPES: tuple[str, ...] = tuple(_MODELS)
# Events about deliveries; sent to endpoints that subscribe to them by name, never to ELMS.
OPERATIONAL_TYPES: tuple[str, ...] = ("endpoint.disabled", "delivery.dead")
_SAMPLES: dict[str, Any] = {
    **_MODELS,
    "endpoint.disabled": EndpointDisabled,
    "delivery.dead": DeliveryDead,
}


def dump(event: Event | OperationalEvent) -> str:
    """Return the JSON body of an event; it is made once, then stored, signed and sent unchanged."""
    return strict_json.dump(event.model_dump(mode="json", exclude_none=True))


def dump_ping(
    source: str, at: datetime, *, heartbeat_seconds: int | None = None, is_heartbeat: bool = False
) -> str:
    """Return the JSON body of a test event or a heartbeat, with the interval of the heartbeats."""
    data = PingData(source=source, heartbeat_seconds=heartbeat_seconds)
    ping = PingEvent(timestamp=at, test=None if is_heartbeat else True, data=data)
    return strict_json.dump(ping.model_dump(mode="json", exclude_none=True))


def dump_sample(event_type: str, source: str, course_id: str, at: datetime) -> str:
    """Return the JSON body of a sample of an event, which has the mark of a test.

    Its version is 0, which no course has: a receiver that does not know the mark refuses the event,
    or finds it older than what it knows.
    """
    values: dict[str, object] = {
        "source": source,
        "course_id": course_id,
        "course_version": 0,
        "token_id": "sample",
        "endpoint_id": 0,
        "url": "https://sample.invalid/",
        "reason": "a sample: nothing has happened",
        "delivery_id": 0,
        "webhook_id": "msg_sample",
        "event_type": "course.deleted",
    }
    fields = _SAMPLES[event_type].model_fields["data"].annotation.model_fields
    data = {name: values[name] for name, field in fields.items() if field.is_required()}
    return strict_json.dump(
        {"type": event_type, "test": True, "timestamp": wire_time(at), "data": data}
    )


def load(raw: bytes) -> Event | UnknownEvent:
    """Return the event in a verified body, or raise an EventError.

    Unknown fields are ignored, and an unknown type is an `UnknownEvent`, so that an older receiver
    works with a newer sender.
    """
    try:
        document = strict_json.load(raw)
    except strict_json.StrictJsonError as error:
        raise MalformedEventError(str(error)) from None
    if not isinstance(document, dict):
        raise MalformedEventError("the body is JSON, but not an object")
    named = document.get("type")
    model: type[Event | UnknownEvent] = UnknownEvent
    if isinstance(named, str):
        is_test = named == PING_TYPE or document.get("test") is True
        model = Ping if is_test else _MODELS.get(named, UnknownEvent)
    try:
        return model.model_validate_json(raw)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        pointer = "".join(f"/{part}" for part in first["loc"])
        raise InvalidEventError(f"{pointer}: {validation_message(first)}", pointer) from None
