"""The stage that reports a run: it collects the results of its courses and logs each once."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from foundation.errors import fields_of
from receiver.course_state import CourseStatus
from receiver.gradebook.base import Outage
from receiver.runs.store import CourseOutcome, CourseResult, ResultReason
from receiver.sources.base import SiteOutage

_QUIET = {CourseOutcome.SYNCED, CourseOutcome.UNCHANGED}
_NEEDS_ATTENTION = {
    CourseStatus.TOKEN_INVALID,
    ResultReason.MISCONFIGURED,
    ResultReason.TOKEN_UNREADABLE,
    ResultReason.UNFORESEEN,
}
_LOGGED_ONCE = {ResultReason.SITE_TROUBLE, ResultReason.GRADEBOOK_TROUBLE}
_NOT_COURSE_SPECIFIC = {
    ResultReason.TRANSIENT,
    ResultReason.STOPPED,
    ResultReason.DEADLINE,
    ResultReason.LEASE_LOST,
    ResultReason.DATABASE_UNAVAILABLE,
}

# How many courses that failed for the same reason, not their own, have a log line each. A site
# that is down fails all of its courses, run after run; the run's record has each of them.
_MAX_ALIKE = 5


class Reporter:
    """Collects the results of a run's courses, and logs what went wrong."""

    def __init__(self, log: Any) -> None:
        self._log = log
        self.courses: list[CourseResult] = []
        self._alike: Counter[tuple[str, str | None]] = Counter()

    def add(self, courses: Sequence[CourseResult]) -> None:
        """Add results, and log those that went wrong."""
        self.courses += courses
        for course in courses:
            quiet = course.outcome in _QUIET and course.reason is None
            if quiet or course.reason in _LOGGED_ONCE or self._is_one_of_many(course):
                continue
            fields = {**vars(course), **fields_of(course.advice), "advice": None, "people": None}
            urgent = course.reason in _NEEDS_ATTENTION and course.outcome is CourseOutcome.FAILED
            self._log.log(
                logging.ERROR if urgent else logging.WARNING,
                f"course {course.outcome.value}",
                **{name: value for name, value in fields.items() if value is not None},
            )

    def log_outages(self, sites: Mapping[str, SiteOutage], gradebook: Outage | None) -> None:
        """Log at the end of a run what is logged once, and not for each of its courses."""
        for (source, detail), courses in self._alike.items():
            if courses > _MAX_ALIKE:
                self._log.warning(
                    "more courses failed for the same reason",
                    source=source,
                    detail=detail,
                    courses=courses - _MAX_ALIKE,
                )
        for name, outage in sites.items():
            self._log.error(
                "site cannot be used",
                source=name,
                detail=outage.detail,
                **fields_of(outage.advice),
                courses=sum(
                    course.reason == ResultReason.SITE_TROUBLE and course.source == name
                    for course in self.courses
                ),
            )
        if gradebook is not None:
            self._log.log(
                logging.ERROR if isinstance(gradebook, SiteOutage) else logging.WARNING,
                "gradebook cannot be used",
                detail=gradebook.detail,
                **fields_of(gradebook.advice),
                courses=sum(
                    course.reason == ResultReason.GRADEBOOK_TROUBLE for course in self.courses
                ),
            )

    def _is_one_of_many(self, course: CourseResult) -> bool:
        if course.reason not in _NOT_COURSE_SPECIFIC:
            return False
        alike = course.source, course.detail
        self._alike[alike] += 1
        return self._alike[alike] > _MAX_ALIKE
