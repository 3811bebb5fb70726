"""Signals: changes, sent inside the transaction that makes them."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Self

from blinker import NamedSignal, Namespace
from sqlalchemy.orm import Session

from foundation import logging
from foundation.db import session as db
from foundation.errors import Refusal
from notifier.errors import EventNotWrittenError

_log = logging.get_logger(__name__)
_namespace = Namespace()
course_deleted = _namespace.signal("course-deleted")
course_restored = _namespace.signal("course-restored")
token_regenerated = _namespace.signal("token-regenerated")
endpoint_disabled = _namespace.signal("endpoint-disabled")
deliveries_dead = _namespace.signal("deliveries-dead")
# Sent after the others, once for the changes that are made together, so that what they cause is
# written with few statements.
changes_complete = _namespace.signal("changes-complete")


@dataclass(frozen=True)
class CourseChange:
    """A change of a course: its new version, and the id of its current token.

    `token_id` is empty for a deleted course of a Moodle, whose token is not known here. A replaced
    token is good until `valid_until`, or ended at once.
    """

    course_id: str
    course_version: int
    at: datetime
    token_id: str
    valid_until: datetime | None = None


@dataclass(frozen=True)
class EndpointChange:
    """An endpoint that was disabled, and why."""

    endpoint_id: int
    url: str
    reason: str
    at: datetime


@dataclass(frozen=True)
class DeliveryIdentity:
    """A delivery's id, its endpoint and its event."""

    delivery_id: int
    endpoint_id: int
    webhook_id: str
    event_type: str
    course_id: str


@dataclass(frozen=True)
class DeadDelivery(DeliveryIdentity):
    """A delivery that became dead, and why."""

    reason: str
    at: datetime

    @classmethod
    def of(cls, delivery: DeliveryIdentity, reason: str, at: datetime) -> Self:
        """Return a delivery that became dead for a reason at a time."""
        facts = {field.name: getattr(delivery, field.name) for field in fields(DeliveryIdentity)}
        return cls(**facts, reason=reason, at=at)


Change = CourseChange | EndpointChange | Sequence[DeadDelivery]


class NoSubscriberError(EventNotWrittenError):
    """A signal has no subscriber, so no endpoint would be notified."""


def send(signal: NamedSignal, session: Session, *changes: Change) -> None:
    """Send each change to the signal's subscribers, then `changes_complete`.

    If a subscriber raises, all of the changes are refused. Refusals and database errors pass
    through. Raises EventNotWrittenError for any other error of a subscriber, and NoSubscriberError.
    """
    try:
        called = [signal.send(session, change=change) for change in changes]
        called.append(changes_complete.send(session))
    except (Refusal, *db.UNUSABLE):
        raise
    except Exception as error:
        _log.debug("subscriber failed unexpectedly", signal=signal.name, exc_info=error)
        raise EventNotWrittenError(
            f"{_unchanged(changes)}: a subscriber to {signal.name} failed: {type(error).__name__}"
        ) from error
    if not all(called):
        raise NoSubscriberError(
            f"{signal.name} has no subscriber: `outbox.subscribe()` was not called"
        )


def _unchanged(changes: Sequence[Change]) -> str:
    match changes:
        case [CourseChange(course_id=course_id)]:
            return f"the course {course_id!r} was not changed"
        case [EndpointChange(endpoint_id=endpoint_id)]:
            return f"the endpoint {endpoint_id} was not changed"
        case [CourseChange(), *_]:
            return f"{len(changes):,} courses were not changed"
        case _:
            return "the deliveries were not changed"
