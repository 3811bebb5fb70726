"""What came of the courses, given to the gradebook before any of it is recorded."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from foundation.db import session as db
from receiver.errors import LeaseLostError
from receiver.gradebook.base import CourseScores, Gradebook, Outage
from receiver.gradebook.database import ScoreCounts
from receiver.models import Entry
from receiver.sources.base import Grades, SiteOutage, Transient
from receiver.sync.results import Broken, Heard


@dataclass(frozen=True)
class Keeper:
    """Gives grades to a gradebook; `beat` keeps the lease meanwhile. No session may be open."""

    gradebook: Gradebook
    beat: Callable[[], None]
    unforeseen: Callable[[Exception], Broken]

    def pieces(self, heard: Sequence[Heard]) -> Iterator[list[Heard]]:
        """Yield what was heard in pieces that the gradebook takes, one at the least."""
        piece: list[Heard] = []
        grades = 0
        for one in heard:
            if isinstance(one.outcome, Grades):
                if grades == self.gradebook.batch:
                    yield piece
                    piece, grades = [], 0
                grades += 1
            piece.append(one)
        yield piece

    def keep(self, piece: Sequence[Heard]) -> list[Heard]:
        """Return what was heard with what the gradebook made of it.

        If a course cannot be given to it together with the others, each is given on its own.
        """
        told = [
            _scores_of(one.entry, one.outcome) for one in piece if isinstance(one.outcome, Grades)
        ]
        if not told:
            return list(piece)
        try:
            kept = self.gradebook.write(told, beat=self.beat)
        except (*db.UNUSABLE, LeaseLostError):
            raise
        except Exception as error:  # noqa: BLE001 - one course never stops the run
            if len(piece) == 1:
                return [replace(piece[0], outcome=self.unforeseen(error))]
            return [done for one in piece for done in self.keep([one])]
        by_entry = {one.entry_id: one for one in kept}
        return [replace(one, kept=by_entry.get(one.entry.id)) for one in piece]

    def trouble(self, kept: Sequence[Heard]) -> Outage | None:
        """Return what keeps every other course from being written too.

        A failure for now may be one course's own, so that the gradebook is looked at after it.
        """
        failures = [one.kept.failure for one in kept if one.kept]
        for failure in failures:
            if isinstance(failure, SiteOutage):
                return failure
        if any(isinstance(failure, Transient) for failure in failures):
            self.beat()
            return self.gradebook.check()
        return None


def written(kept: Sequence[Heard]) -> ScoreCounts:
    """Return how many scores were new, changed, and as they stood."""
    return sum((one.kept.written for one in kept if one.kept), ScoreCounts())


def _scores_of(entry: Entry, grades: Grades) -> CourseScores:
    return CourseScores(entry.id, entry.gradebook_course, entry.gradebook_activity, grades.scores)
