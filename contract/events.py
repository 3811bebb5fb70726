"""The events: to their exact bytes, and back or an EventError."""

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, TypeVar

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

_Model = TypeVar("_Model", bound=BaseModel)

MAX_VERSION = 2**53 - 1
PING_TYPE = "endpoint.ping"
_RFC_3339 = re.compile(
    r"\d{4}-\d\d-\d\dT([01]\d|2[0-3]):\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)", re.ASCII
)


class EventError(ValueError):
    """The body is no event that can be acted upon."""


class MalformedEventError(EventError):
    """The body is not a JSON object."""


class InvalidEventError(EventError):
    """The body is a JSON object, but a field of it is missing or wrong.

    `pointer` is the JSON Pointer (RFC 6901) of the first such field.
    """

    def __init__(self, detail: str, pointer: str) -> None:
        super().__init__(detail)
        self.pointer = pointer


def wire_time(moment: datetime) -> str:
    """Return a moment as it stands on the wire: RFC 3339, UTC, microseconds."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def _course_id(value: str) -> str:
    if not strict_json.is_storable(value) or not value.isprintable():
        raise ValueError("a course id holds printable characters only")
    if value != value.strip() or value in {".", ".."} or value.startswith("/"):
        raise ValueError("a course id has no space around it, no leading '/', and is not a dot")
    return value


CourseId = Annotated[str, Field(min_length=1, max_length=255), AfterValidator(_course_id)]
"""A course's name on the wire: opaque, 1 to 255 printable characters."""

SourceName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
"""An eAssessment site's name: what a path segment and a log line can both hold."""

TokenId = Annotated[str, Field(pattern=r"^[0-9A-Za-z]{1,64}$")]
"""The public part of a course token."""

Version = Annotated[int, Field(ge=1, le=MAX_VERSION)]
"""A course's version: whole, growing, small enough for every JSON reader (2^53 - 1)."""


def _moment(value: object) -> object:
    # Read here and not by pydantic, which takes numbers for moments, and after a validator
    # of ours, in strict mode, no text at all.
    if isinstance(value, str):
        value = _read_moment(value)
    if isinstance(value, datetime) and value.tzinfo is not None:
        try:
            return value.astimezone(UTC)
        except OverflowError:
            raise ValueError("a moment in UTC lies in the years 1 to 9999") from None
    return value


def _read_moment(text: str) -> datetime:
    expected = "a moment looks like 2026-11-22T09:00:00.123456Z"
    if not _RFC_3339.fullmatch(text):
        raise ValueError(expected)
    try:
        return datetime.fromisoformat(text)
    except ValueError as error:
        raise ValueError(f"{expected}; {error}") from None


WireTime = Annotated[
    AwareDatetime, BeforeValidator(_moment), PlainSerializer(wire_time, when_used="json")
]
"""A moment on the wire: RFC 3339 with its offset; read, it is in UTC."""


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")


class CourseDeletedData(_Strict):
    """Which course was deleted, and the version that this made."""

    source: SourceName
    course_id: CourseId
    course_version: Version


class TokenRegeneratedData(_Strict):
    """Whose token was regenerated, the version that this made, and the present token's id."""

    source: SourceName
    course_id: CourseId
    course_version: Version
    token_id: TokenId


class CourseDeleted(_Strict):
    """A course was deleted in eAssessment; `timestamp` is when."""

    type: Literal["course.deleted"] = "course.deleted"
    timestamp: WireTime
    data: CourseDeletedData


class TokenRegenerated(_Strict):
    """A course's token was replaced in eAssessment; `timestamp` is when."""

    type: Literal["token.regenerated"] = "token.regenerated"
    timestamp: WireTime
    data: TokenRegeneratedData


class EndpointDisabledData(_Strict):
    """Which endpoint is sent nothing any more, and why; its deliveries are held."""

    source: SourceName
    endpoint_id: int
    url: str
    reason: str


class DeliveryDeadData(_Strict):
    """Which delivery was given up, of which event for which endpoint, and why."""

    source: SourceName
    delivery_id: int
    endpoint_id: int
    webhook_id: str
    event_type: str
    course_id: CourseId
    reason: str


class EndpointDisabled(_Strict):
    """An endpoint was disabled; told to those who look after deliveries, `timestamp` is when."""

    type: Literal["endpoint.disabled"] = "endpoint.disabled"
    timestamp: WireTime
    data: EndpointDisabledData


class DeliveryDead(_Strict):
    """A delivery is dead; for those who look after deliveries, `timestamp` is when."""

    type: Literal["delivery.dead"] = "delivery.dead"
    timestamp: WireTime
    data: DeliveryDeadData


class UnknownEvent(_Strict):
    """An event of a type that this release does not know: heard, and left alone."""

    type: Annotated[str, Field(min_length=1, max_length=255)]


class PingData(_Strict):
    """Which site sent a test, if it says so."""

    source: SourceName | None = None


class Ping(UnknownEvent):
    """A test POST: nothing is acted upon, but it must be at the right door as an event must."""

    data: PingData = PingData()


Event = CourseDeleted | TokenRegenerated
OperationalEvent = EndpointDisabled | DeliveryDead

_MODELS: dict[str, type[CourseDeleted] | type[TokenRegenerated]] = {
    "course.deleted": CourseDeleted,
    "token.regenerated": TokenRegenerated,
}
EVENT_TYPES: tuple[str, ...] = tuple(_MODELS)
OPERATIONAL_TYPES: tuple[str, ...] = ("endpoint.disabled", "delivery.dead")
"""The events about deliveries themselves: for who asks for them by name, never for ELMS."""


def dump(event: Event | OperationalEvent) -> str:
    """Return the body of an event: made once, then stored, signed and sent as it is."""
    return strict_json.dump(event.model_dump(mode="json"))


def dump_ping(source: str, at: datetime) -> str:
    """Return the body of a test POST, which no receiver acts upon."""
    return strict_json.dump(
        {"type": PING_TYPE, "timestamp": wire_time(at), "data": {"source": source}}
    )


def load(raw: bytes) -> Event | UnknownEvent:
    """Return the event that a verified body holds, or raise an EventError.

    Unknown fields are passed over and unknown types answered with an `UnknownEvent`,
    so that an older receiver lives with a newer sender.
    """
    try:
        document = strict_json.load(raw)
    except strict_json.JsonTextError as error:
        raise MalformedEventError(str(error)) from None
    if not isinstance(document, dict):
        raise MalformedEventError("the body is JSON, but not an object")
    return _validate(_model_of(document), raw)


def _model_of(
    document: dict[str, Any],
) -> type[CourseDeleted] | type[TokenRegenerated] | type[UnknownEvent]:
    named = document.get("type")
    if named == PING_TYPE:
        return Ping
    return _MODELS.get(named, UnknownEvent) if isinstance(named, str) else UnknownEvent


def _validate(model: type[_Model], raw: bytes) -> _Model:
    try:
        return model.model_validate_json(raw)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        pointer = "".join(f"/{part}" for part in first["loc"])
        detail = first["msg"].removeprefix("Value error, ")
        raise InvalidEventError(f"{pointer}: {detail}", pointer) from None
