"""Log lines for a run: one for each reason, and at DEBUG one for each course that has a reason."""

import logging
from collections.abc import Sequence
from typing import Any

from foundation.errors import fields_of
from foundation.logging import get_logger
from receiver.course_state import CourseStatus
from receiver.runs.groups import ResultGroup, group_results
from receiver.runs.store import CourseOutcome, CourseResult, ResultReason, RunResult

_log = get_logger(__name__)

# Someone has to act; anything else may be gone in the next run.
_ERRORS = {
    CourseStatus.TOKEN_INVALID,
    ResultReason.SITE_TROUBLE,
    ResultReason.GRADEBOOK_TROUBLE,
    ResultReason.MISCONFIGURED,
    ResultReason.TOKEN_UNREADABLE,
    ResultReason.UNFORESEEN,
}


def log_courses(run_id: int, courses: Sequence[CourseResult]) -> None:
    """Log each course that has a reason, at DEBUG."""
    for course in courses:
        if course.reason is not None:
            fields = {**vars(course), **fields_of(course.advice), "advice": None, "people": None}
            _log.debug(f"course {course.outcome.value}", run_id=run_id, **_given(fields))


def log_end(result: RunResult, *, with_reasons: bool) -> None:
    """Log the end of a run, after each reason for which courses were not simply synced."""
    log = _log.bind(run_id=result.run_id)
    for group in group_results(result.courses) if with_reasons else ():
        level = logging.ERROR if group.reason in _ERRORS else logging.WARNING
        message = "courses need attention"
        if not group.needs_attention:
            level, message = logging.INFO, "courses need no action"
        log.log(level, message, **_fields_of(group, result.run_id))

    counts = {outcome.value: result.count(outcome) for outcome in CourseOutcome}
    log.info(
        "grade sync ended",
        exit_code=result.exit_code,
        stopped=result.stopped,
        **counts,
        deleted=result.deleted,
    )


def _fields_of(group: ResultGroup, run_id: int) -> dict[str, Any]:
    urls = (course.url for course in group.first if isinstance(course, CourseResult))
    return _given(
        {
            "reason": group.reason,
            "source": group.source,
            "courses": group.courses,
            "course_ids": [course.course_id for course in group.first],
            "detail": group.example,
            "url": next(filter(None, urls), None),
            **fields_of(group.advice),
            "list_command": group.list_command(run_id),
        }
    )


def _given(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}
