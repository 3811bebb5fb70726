"""Where grades are written in ELMS: what a gradebook is given, what comes of it, and our own."""

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from sqlalchemy.orm import Session

from contract.grades import Score
from foundation.db.session import Database
from receiver.gradebook import database as gradebook
from receiver.gradebook.database import ScoreCounts
from receiver.sources.base import Misconfigured, PersonProblem, SiteOutage, Transient

Failure = Misconfigured | SiteOutage | Transient
Outage = SiteOutage | Transient
"""Why nothing at all can be written now."""


@dataclass(frozen=True)
class CourseScores:
    """What is to be written of one course; the course and activity are a Moodle's, if known."""

    entry_id: int
    course: str | None
    activity: str | None
    scores: tuple[Score, ...]


@dataclass(frozen=True)
class WriteResult:
    """What came of a course's scores; `failure` says why not all of them were looked at."""

    entry_id: int
    written: ScoreCounts
    problems: tuple[PersonProblem, ...] = ()
    failure: Failure | None = None


def unplaced(course_id: str = "COURSE_ID") -> Misconfigured:
    """Return why a course whose entry names no place cannot be written, and what names one."""
    return Misconfigured(
        "it is not said where its grades go in ELMS's Moodle",
        "Say it with `receiver registry set-activity "
        f"{shlex.quote(course_id)} --course N --activity N`.",
    )


class Gradebook(Protocol):
    """A kind of gradebook; `batch` is how many courses one `write` takes.

    `places`: a course is written only if its entry names a course and an activity.
    """

    batch: int
    places: bool

    @property
    def requests(self) -> int:
        """How many requests were sent."""
        ...

    def check(self) -> Outage | None:
        """Return why nothing can be written now, or None; at the price of a request at most."""
        ...

    def write(
        self, courses: Sequence[CourseScores], *, beat: Callable[[], None]
    ) -> list[WriteResult]:
        """Write what differs, and return what came of each course, in order.

        `beat` is called again and again meanwhile, so that a lease is kept; what it raises ends
        the writing.
        """
        ...

    def break_off(self) -> None:
        """End what is under way, from whatever thread; from now on nothing can be written."""
        ...


class TableGradebook:
    """The gradebook in ELMS's own database; a `fence` begins each transaction, and may end it."""

    batch = 500
    places = False
    requests = 0

    def __init__(self, database: Database, fence: Callable[[Session], object]) -> None:
        self._database = database
        self._fence = fence

    def check(self) -> Outage | None:
        """Return None: the database was looked at by whoever opened it."""
        return None

    def write(
        self, courses: Sequence[CourseScores], *, beat: Callable[[], None]
    ) -> list[WriteResult]:
        """Write the courses in one transaction."""
        beat()
        with self._database.writing() as session:
            self._fence(session)
            written = gradebook.write(
                session, {course.entry_id: course.scores for course in courses}
            )
        return [WriteResult(course.entry_id, written[course.entry_id]) for course in courses]

    def break_off(self) -> None:
        """Do nothing: the database has a deadline for each statement."""
