"""The summary of a run in lines, in the style of Moodle's scheduled tasks."""

from collections.abc import Mapping
from dataclasses import dataclass

from foundation.errors import Advice
from foundation.text import count
from receiver.gradebook.base import ScoreCounts
from receiver.models import Run
from receiver.runs.store import CourseOutcome, RunResult


@dataclass(frozen=True)
class RunSummary:
    """The numbers of a run; `scores` is None if they were not recorded."""

    run_id: int
    counts: Mapping[CourseOutcome, int]
    scores: ScoreCounts | None
    requests: int
    gradebook_requests: int
    statements: int
    seconds: float | None
    stopped: str | None
    advice: Advice | None

    def lines(self) -> list[str]:
        """Return the lines to show."""
        counts, elms = self.counts, self.gradebook_requests
        skipped = counts[CourseOutcome.SKIPPED]
        return [
            f"Grade sync {self.run_id}: {_courses(sum(counts.values()))}, "
            f"{skipped} of them skipped before any request.",
            f"... fetched grades: {_courses(counts[CourseOutcome.SYNCED])}{_scores(self.scores)}",
            f"... unchanged since the last fetch: {_courses(counts[CourseOutcome.UNCHANGED])}",
            f"... failed: {_courses(counts[CourseOutcome.FAILED])}",
            f"... used {count(self.requests, 'request')} to eAssessment",
            *([f"... used {count(elms, 'request')} to ELMS's Moodle"] if elms else []),
            f"... used {self.statements} database queries",
            *([] if self.seconds is None else [f"... used {self.seconds} seconds"]),
            *self._end(),
        ]

    def _end(self) -> list[str]:
        if self.stopped:
            step = [f" next: {self.advice.text}"] if self.advice else []
            return [f"Grade sync stopped early: {self.stopped}", *step]
        if self.counts[CourseOutcome.FAILED]:
            return ["Grade sync complete, with errors; see each failed course."]
        return ["Grade sync complete."]


def of_result(result: RunResult) -> list[str]:
    """Return the summary of a run that has just ended."""
    return RunSummary(
        result.run_id,
        {outcome: result.count(outcome) for outcome in CourseOutcome},
        result.scores,
        result.requests,
        result.gradebook_requests,
        result.statements,
        result.seconds,
        result.stopped,
        result.advice,
    ).lines()


def of_run(run: Run) -> list[str]:
    """Return the summary of a recorded run that has ended."""
    return RunSummary(
        run.id,
        {outcome: getattr(run, outcome.value) for outcome in CourseOutcome},
        _recorded_scores(run),
        run.requests,
        0,  # requests to ELMS's Moodle are not recorded
        run.statements,
        run.seconds,
        run.stopped,
        None,
    ).lines()


def _recorded_scores(run: Run) -> ScoreCounts | None:
    if run.scores_added is None or run.scores_changed is None or run.scores_unchanged is None:
        return None
    return ScoreCounts(run.scores_added, run.scores_changed, run.scores_unchanged)


def _scores(scores: ScoreCounts | None) -> str:
    if scores is None:
        return ""
    added = count(scores.added, "score")
    return f", {added} added, {scores.changed} changed, {scores.unchanged} unchanged"


def _courses(number: int) -> str:
    return count(number, "course")
