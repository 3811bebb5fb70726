"""The signals: what happened, sent inside the transaction that made it happen."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from blinker import NamedSignal, Namespace
from sqlalchemy.orm import Session

from foundation import logging
from foundation.db import session as db
from foundation.errors import Refusal
from notifier.errors import EventNotWrittenError

_log = logging.get_logger(__name__)
_namespace = Namespace()
course_deleted = _namespace.signal("course-deleted")
token_regenerated = _namespace.signal("token-regenerated")
endpoint_disabled = _namespace.signal("endpoint-disabled")
deliveries_dead = _namespace.signal("deliveries-dead")


@dataclass(frozen=True)
class CourseChange:
    """A change of a course: the version that it made, and the token that is now the present one.

    A Moodle's course that is deleted has an empty `token_id`, for nobody tells here which it was.
    """

    course_id: str
    course_version: int
    at: datetime
    token_id: str


@dataclass(frozen=True)
class EndpointChange:
    """An endpoint that was disabled, and why."""

    endpoint_id: int
    url: str
    reason: str
    at: datetime


@dataclass(frozen=True)
class DeadDelivery:
    """A delivery that was given up, and why."""

    delivery_id: int
    endpoint_id: int
    webhook_id: str
    event_type: str
    course_id: str
    reason: str
    at: datetime


Change = CourseChange | EndpointChange | Sequence[DeadDelivery]


class NoSubscriberError(EventNotWrittenError):
    """Nobody subscribes to a signal, so the change would never be told."""


def send(signal: NamedSignal, session: Session, change: Change) -> None:
    """Send a change to the signal's subscribers; what one of them raises refuses the change.

    Raises UnheardError, EventNotWrittenError for what a subscriber never should have raised, or
    what the database raises.
    """
    try:
        heard = signal.send(session, change=change)
    except (Refusal, *db.UNUSABLE):
        raise
    except Exception as error:
        _log.debug("a subscriber failed unforeseen", signal=signal.name, exc_info=error)
        raise EventNotWrittenError(
            f"{_as_it_was(change)}, for a subscriber to {signal.name} "
            f"failed: {type(error).__name__}"
        ) from error
    if not heard:
        raise NoSubscriberError(
            f"nobody subscribes to {signal.name}: `outbox.subscribe()` was not called"
        )


def _as_it_was(change: Change) -> str:
    match change:
        case CourseChange(course_id=course_id):
            return f"the course {course_id!r} is as it was"
        case EndpointChange(endpoint_id=endpoint_id):
            return f"the endpoint {endpoint_id} is as it was"
        case _:
            return "the deliveries are as they were"
