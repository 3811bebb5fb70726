"""The signals: what happened to a course, sent inside the transaction that made it happen."""

from dataclasses import dataclass
from datetime import datetime

from blinker import NamedSignal, Namespace
from sqlalchemy.orm import Session

from foundation import database as db
from foundation import logs
from foundation.errors import Refusal
from notifier.errors import EventNotWrittenError

_log = logs.get(__name__)
_namespace = Namespace()
course_deleted = _namespace.signal("course-deleted")
token_regenerated = _namespace.signal("token-regenerated")


@dataclass(frozen=True)
class CourseChange:
    """A change of a course: the version that it made, and the token that is now the present one."""

    course_id: str
    course_version: int
    at: datetime
    token_id: str


class UnheardError(EventNotWrittenError):
    """Nobody subscribes to a signal, so the change would never be told."""


def send(signal: NamedSignal, session: Session, change: CourseChange) -> None:
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
            f"the course {change.course_id!r} is as it was, for a subscriber to {signal.name} "
            f"failed: {type(error).__name__}"
        ) from error
    if not heard:
        raise UnheardError(
            f"nobody subscribes to {signal.name}: `outbox.subscribe()` was not called"
        )
