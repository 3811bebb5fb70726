"""What became of the courses of a run: kept for its report, and logged once, here alone."""

import logging
from collections import Counter
from collections.abc import Sequence
from typing import Any

from receiver.gradebook.base import Outage
from receiver.runs.store import CourseOutcome, CourseResult
from receiver.sources.base import SiteOutage
from receiver.sync.results import GRADEBOOK_TROUBLE, SITE_TROUBLE

_QUIET = {CourseOutcome.SYNCED, CourseOutcome.UNCHANGED}
_FOR_A_PERSON = {"token_invalid", "misconfigured", "token_unreadable", "unforeseen"}
_TOLD_ONCE = {SITE_TROUBLE, GRADEBOOK_TROUBLE}
_OF_NO_COURSE = {"transient", "stopped", "deadline", "database_unavailable", "lease_lost"}
_MOST_ALIKE = 5
"""Of how many courses that failed alike for no fault of theirs each has a line of the log.

A site that is down fails them all, run after run; the record names each.
"""


class Telling:
    """Tells a run's story to a log, and keeps the reports of its courses."""

    def __init__(self, log: Any) -> None:
        self._log = log
        self.reports: list[CourseResult] = []
        self._alike: Counter[tuple[str, str | None]] = Counter()

    def tell(self, reports: Sequence[CourseResult]) -> None:
        """Keep what became of courses, and log what went wrong with each."""
        self.reports += reports
        for report in reports:
            quiet = report.outcome in _QUIET and report.reason is None
            if quiet or report.reason in _TOLD_ONCE or self._is_one_of_many(report):
                continue
            urgent = report.reason in _FOR_A_PERSON and report.outcome is CourseOutcome.FAILED
            self._log.log(
                logging.ERROR if urgent else logging.WARNING,
                f"course {report.outcome.value}",
                **{name: value for name, value in vars(report).items() if value is not None},
            )

    def tell_of_the_rest(self) -> None:
        """Log how many more courses failed as those that have a line."""
        for (source, detail), courses in self._alike.items():
            if courses > _MOST_ALIKE:
                self._log.warning(
                    "courses failed alike",
                    source=source,
                    detail=detail,
                    courses=courses - _MOST_ALIKE,
                )

    def tell_of_site(self, name: str, trouble: SiteOutage) -> None:
        """Log of a site that is out of order once, not for each of its courses."""
        kept = [one for one in self.reports if (one.source, one.reason) == (name, SITE_TROUBLE)]
        self._log.error(
            "site out of order",
            source=name,
            detail=trouble.detail,
            next_step=trouble.next_step,
            courses=len(kept),
        )

    def tell_of_gradebook(self, trouble: Outage) -> None:
        """Log of a gradebook that is out of order once, not for each course that waits for it."""
        waiting = sum(one.reason == GRADEBOOK_TROUBLE for one in self.reports)
        self._log.log(
            logging.ERROR if isinstance(trouble, SiteOutage) else logging.WARNING,
            "gradebook out of order",
            detail=trouble.detail,
            next_step=trouble.next_step,
            courses=waiting,
        )

    def _is_one_of_many(self, report: CourseResult) -> bool:
        if report.reason not in _OF_NO_COURSE:
            return False
        alike = report.source, report.detail
        self._alike[alike] += 1
        return self._alike[alike] > _MOST_ALIKE
