"""The stage that writes fetched grades into the gradebook."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from foundation.db import session as db
from receiver.errors import LeaseLostError
from receiver.gradebook.base import CourseScores, Gradebook
from receiver.sources.base import Grades
from receiver.sync.results import FetchResult, to_internal_failure


@dataclass(frozen=True)
class ResultWriter:
    """Writes grades into a gradebook. No session may be open."""

    gradebook: Gradebook

    def split(self, results: Sequence[FetchResult]) -> Iterator[list[FetchResult]]:
        """Yield the results in batches that the gradebook accepts, at least one."""
        batch: list[FetchResult] = []
        courses = 0
        for result in results:
            if isinstance(result.outcome, Grades):
                if courses == self.gradebook.max_courses:
                    yield batch
                    batch, courses = [], 0
                courses += 1
            batch.append(result)
        yield batch

    def write(self, batch: Sequence[FetchResult]) -> list[FetchResult]:
        """Return the results with what the gradebook returned for each.

        If the courses cannot be written together, each is written on its own.
        """
        courses = [
            CourseScores(
                result.entry.id,
                result.entry.gradebook_course,
                result.entry.gradebook_activity,
                result.outcome.scores,
            )
            for result in batch
            if isinstance(result.outcome, Grades)
        ]
        if not courses:
            return list(batch)
        try:
            written = {result.entry_id: result for result in self.gradebook.write(courses)}
        except (*db.UNUSABLE, LeaseLostError):
            raise
        except Exception as error:  # noqa: BLE001 - one course never stops the run
            if len(batch) == 1:
                return [replace(batch[0], outcome=to_internal_failure(error))]
            return [done for result in batch for done in self.write([result])]
        return [replace(result, written=written.get(result.entry.id)) for result in batch]
