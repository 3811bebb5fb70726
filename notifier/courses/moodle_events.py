"""What a Moodle tells of itself: a course's deletion is told on, once; all else is ignored."""

import re
from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

from pydantic import (
    AliasChoices,
    AliasPath,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    model_validator,
)
from sqlalchemy import delete, update
from sqlalchemy.orm import Session

from foundation.db import session as db
from notifier.courses import service as courses
from notifier.errors import CourseDeletedError
from notifier.models import SOURCE, MoodleEventReceipt

COURSE_DELETED = r"\core\event\course_deleted"

_COURSE_NAMES = ("objectid", "course_id", "courseid")
_DIGITS = re.compile(r"[0-9]{1,19}", re.ASCII)


class MoodleEventOutcome(StrEnum):
    """What came of something that a Moodle told."""

    APPLIED = "applied"
    DUPLICATE = "duplicate"
    STALE = "stale"
    IGNORED = "ignored"


def _number(value: object) -> object:
    # tool_trigger sends every number as a string, local_webhooks some of them.
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError("a whole number is expected, as 7 or as text")
    if not _DIGITS.fullmatch(str(value)) or int(value) == 0:
        raise ValueError("a whole number above 0 is expected")
    return str(int(value))


_Number = Annotated[str, BeforeValidator(_number)]


class _Told(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")


class _Named(_Told):
    event_name: Annotated[str, Field(min_length=1)] = Field(
        validation_alias=AliasChoices("eventname", "event")
    )


class CourseDeletion(_Told):
    """A course that a Moodle says it has deleted: where, which, and when.

    tool_trigger's administrators choose the names of its fields; those of Moodle itself and the
    likely others are taken.
    """

    course_id: _Number = Field(validation_alias=AliasChoices(*_COURSE_NAMES))
    time_created: _Number = Field(validation_alias=AliasChoices("timecreated", "at"))
    host: Annotated[str, Field(max_length=255)] = ""
    title: Annotated[str, Field(max_length=10_000)] = Field(
        "", validation_alias=AliasChoices("shortname", AliasPath("other", "shortname"))
    )

    @model_validator(mode="before")
    @classmethod
    def _names_one_course(cls, told: dict[str, object]) -> dict[str, object]:
        # tool_trigger splits what it sends at each `&`, one in a course's name included.
        if len({str(told[name]) for name in _COURSE_NAMES if name in told}) > 1:
            raise ValueError(f"{', '.join(_COURSE_NAMES)} name different courses")
        return told


def parse_event(document: Mapping[str, object]) -> CourseDeletion | None:
    """Return the deletion that a Moodle tells, or None for what is none of our business.

    Raises pydantic's ValidationError for a field that is missing or wrong.
    """
    told = {name: value for name, value in document.items() if value is not None}
    named = _Named.model_validate(told)
    if named.event_name.removeprefix("\\") != COURSE_DELETED.removeprefix("\\"):
        return None
    return CourseDeletion.model_validate(told)


def accept(session: Session, told: CourseDeletion, *, now: datetime) -> MoodleEventOutcome:
    """Delete the course that a Moodle has deleted, once; one that was not known is taken in.

    A course that is deleted already is stale, the same telling again a duplicate.
    """
    key = {
        "host": told.host or session.info[SOURCE],
        "event_name": COURSE_DELETED,
        "object_id": told.course_id,
        "time_created": told.time_created,
    }
    taken = session.execute(
        db.insert(session, MoodleEventReceipt)
        .values(**key, outcome=MoodleEventOutcome.APPLIED, received_at=now)
        .on_conflict_do_nothing()
        .returning(MoodleEventReceipt.host)
    )
    if taken.first() is None:
        return MoodleEventOutcome.DUPLICATE
    courses.ensure_course(session, told.course_id, told.title or told.course_id, now=now)
    try:
        courses.delete_course(session, told.course_id, now=now)
    except CourseDeletedError:
        session.execute(
            update(MoodleEventReceipt).filter_by(**key).values(outcome=MoodleEventOutcome.STALE)
        )
        return MoodleEventOutcome.STALE
    return MoodleEventOutcome.APPLIED


def forget(session: Session, before: datetime) -> int:
    """Forget what was taken in before then; return how much that was.

    What comes again afterwards is no duplicate any more, but stale: its course is deleted.
    """
    gone: Any = session.execute(
        delete(MoodleEventReceipt).where(MoodleEventReceipt.received_at < before)
    )
    return int(gone.rowcount)
