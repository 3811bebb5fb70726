"""The protocol of a gradebook in ELMS, and what it is given and returns."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from contract.grades import Score
from foundation.errors import Advice
from receiver.sources.base import Misconfigured, PersonProblem, SiteOutage, Transient

WriteFailure = Misconfigured | SiteOutage | Transient

# Why nothing at all can be written now.
Outage = SiteOutage | Transient


@dataclass(frozen=True)
class ScoreCounts:
    """How many scores were added, changed, and unchanged."""

    added: int = 0
    changed: int = 0
    unchanged: int = 0

    def __add__(self, other: "ScoreCounts") -> "ScoreCounts":
        return ScoreCounts(
            self.added + other.added,
            self.changed + other.changed,
            self.unchanged + other.unchanged,
        )


@dataclass(frozen=True)
class CourseScores:
    """The scores of one course; `course` and `activity` are the target in a Moodle, if known."""

    entry_id: int
    course: str | None
    activity: str | None
    scores: tuple[Score, ...]


@dataclass(frozen=True)
class WriteResult:
    """The result for one course; `failure` says why not all of its scores were handled.

    `outage`: why no other course can be written now either.
    """

    entry_id: int
    scores: ScoreCounts
    problems: tuple[PersonProblem, ...] = ()
    failure: WriteFailure | None = None
    outage: Outage | None = None


SET_ACTIVITY_COMMAND = (
    "registry set-activity",
    ("COURSE_ID", "--course", "N", "--activity", "N"),
)
SET_ACTIVITY = Advice(
    "Set the course and activity of ELMS's Moodle that its grades go to.", *SET_ACTIVITY_COMMAND
)


def missing_activity(course_id: str = "COURSE_ID") -> Misconfigured:
    """Return the failure of a course that has no target activity in ELMS's Moodle."""
    return Misconfigured(
        "no activity in ELMS's Moodle is set for its grades",
        SET_ACTIVITY.fill("COURSE_ID", course_id),
    )


class Gradebook(Protocol):
    """A kind of gradebook; `max_courses` limits how many one `write` accepts.

    `needs_activity`: a course is written only if its entry names a Moodle course and activity.
    """

    max_courses: int
    needs_activity: bool

    @property
    def requests(self) -> int:
        """The number of requests sent."""
        ...

    def check(self) -> Outage | None:
        """Return why nothing can be written now, or None; sends at most one request."""
        ...

    def write(self, courses: Sequence[CourseScores]) -> list[WriteResult]:
        """Write the scores that differ, and return a result for each course, in order."""
        ...

    def cancel(self) -> None:
        """Cancel the requests in progress, from any thread, and write no more."""
        ...
