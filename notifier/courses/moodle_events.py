"""Events received from a Moodle: a deleted course is deleted here, once; others are ignored."""

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
    """What an event from a Moodle did."""

    APPLIED = "applied"
    DUPLICATE = "duplicate"
    STALE = "stale"
    IGNORED = "ignored"


def _number(value: object) -> object:
    # tool_trigger sends every number as a string, local_webhooks some of them.
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError("expected a whole number, as a number or as text")
    if not _DIGITS.fullmatch(str(value)) or int(value) == 0:
        raise ValueError("expected a whole number above 0")
    return str(int(value))


_Number = Annotated[str, BeforeValidator(_number)]


class _MoodleModel(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")


class _NamedEvent(_MoodleModel):
    event_name: Annotated[str, Field(min_length=1)] = Field(
        validation_alias=AliasChoices("eventname", "event")
    )


class CourseDeletion(_MoodleModel):
    """The event that a course was deleted in a Moodle.

    The administrator of tool_trigger chooses its field names; those of Moodle and some likely
    others are accepted.
    """

    course_id: _Number = Field(validation_alias=AliasChoices(*_COURSE_NAMES))
    time_created: _Number = Field(validation_alias=AliasChoices("timecreated", "at"))
    host: Annotated[str, Field(max_length=255)] = ""
    title: Annotated[str, Field(max_length=10_000)] = Field(
        "", validation_alias=AliasChoices("shortname", AliasPath("other", "shortname"))
    )

    @model_validator(mode="before")
    @classmethod
    def _check_one_course(cls, fields: dict[str, object]) -> dict[str, object]:
        # tool_trigger splits its data at every `&`, even inside a course's name.
        if len({str(fields[name]) for name in _COURSE_NAMES if name in fields}) > 1:
            raise ValueError(f"{', '.join(_COURSE_NAMES)} have different values")
        return fields


def parse_event(document: Mapping[str, object]) -> CourseDeletion | None:
    """Return the deletion in an event, or None for any other event.

    Raises pydantic's ValidationError for a missing or invalid field.
    """
    fields = {name: value for name, value in document.items() if value is not None}
    event_name = _NamedEvent.model_validate(fields).event_name
    if event_name.removeprefix("\\") != COURSE_DELETED.removeprefix("\\"):
        return None
    return CourseDeletion.model_validate(fields)


def accept(session: Session, event: CourseDeletion, *, now: datetime) -> MoodleEventOutcome:
    """Delete the course of an event, once; a course that is not known yet is added first.

    The outcome is `stale` if the course is already deleted, `duplicate` for the same event again.
    """
    key = {
        "host": event.host or session.info[SOURCE],
        "event_name": COURSE_DELETED,
        "object_id": event.course_id,
        "time_created": event.time_created,
    }
    receipt = session.execute(
        db.insert(session, MoodleEventReceipt)
        .values(**key, outcome=MoodleEventOutcome.APPLIED, received_at=now)
        .on_conflict_do_nothing()
        .returning(MoodleEventReceipt.host)
    )
    if receipt.first() is None:
        return MoodleEventOutcome.DUPLICATE
    courses.ensure_course(session, event.course_id, event.title or event.course_id, now=now)
    try:
        courses.delete_course(session, event.course_id, now=now)
    except CourseDeletedError:
        session.execute(
            update(MoodleEventReceipt).filter_by(**key).values(outcome=MoodleEventOutcome.STALE)
        )
        return MoodleEventOutcome.STALE
    return MoodleEventOutcome.APPLIED


def delete_receipts(session: Session, before: datetime) -> int:
    """Delete the receipts of events received before a time; return how many there were.

    The same event is then no longer a duplicate but stale, because its course is deleted.
    """
    result: Any = session.execute(
        delete(MoodleEventReceipt).where(MoodleEventReceipt.received_at < before)
    )
    return int(result.rowcount)
