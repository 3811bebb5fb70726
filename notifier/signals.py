"""The signals: what happened to a course, sent inside the transaction that made it happen."""

from dataclasses import dataclass
from datetime import datetime

from blinker import NamedSignal, Namespace
from sqlalchemy.orm import Session

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


class UnheardError(RuntimeError):
    """Nobody subscribes to a signal, so the change would never be told."""


def send(signal: NamedSignal, session: Session, change: CourseChange) -> None:
    """Send a change to the signal's subscribers; what one of them raises refuses the change."""
    if not signal.send(session, change=change):
        raise UnheardError(
            f"nobody subscribes to {signal.name}: `outbox.subscribe()` was not called"
        )
