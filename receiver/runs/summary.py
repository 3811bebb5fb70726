"""What a run did, told in lines as Moodle's scheduled tasks tell it."""

from collections.abc import Mapping
from dataclasses import dataclass

from foundation.text import count
from receiver.gradebook.base import ScoreCounts
from receiver.models import Run
from receiver.runs.store import CourseOutcome, RunResult


@dataclass(frozen=True)
class RunSummary:
    """What a story is told from; `written` is None if nobody wrote down what was stored."""

    run_id: int
    counts: Mapping[CourseOutcome, int]
    written: ScoreCounts | None
    requests: int
    gradebook_requests: int
    statements: int
    seconds: float | None
    stopped: str | None
    next_step: str | None


def of_report(report: RunResult) -> list[str]:
    """Return the story of a run that just ended."""
    counts = {outcome: report.count(outcome) for outcome in CourseOutcome}
    figures = RunSummary(
        report.run_id,
        counts,
        report.scores,
        report.requests,
        report.gradebook_requests,
        report.statements,
        report.seconds,
        report.stopped,
        report.next_step,
    )
    return _told(figures)


def of_run(run: Run) -> list[str]:
    """Return the story of a run that is on record and has ended."""
    counts = {outcome: getattr(run, outcome.value) for outcome in CourseOutcome}
    figures = RunSummary(
        run.id,
        counts,
        _written(run),
        run.requests,
        0,  # those to ELMS's Moodle are told in the report of the run, and not kept
        run.statements,
        run.seconds,
        run.stopped,
        None,
    )
    return _told(figures)


def _written(run: Run) -> ScoreCounts | None:
    if run.scores_new is None or run.scores_changed is None or run.scores_as_before is None:
        return None
    return ScoreCounts(run.scores_new, run.scores_changed, run.scores_as_before)


def _told(figures: RunSummary) -> list[str]:
    counts = figures.counts
    asked = figures.gradebook_requests
    return [
        f"Grade sync {figures.run_id}: {_courses(sum(counts.values()))}, "
        f"{counts[CourseOutcome.SKIPPED]} of them skipped before any request.",
        f"... fetched grades: {_courses(counts[CourseOutcome.SYNCED])}{_scores(figures.written)}",
        f"... unchanged since they were fetched last: {_courses(counts[CourseOutcome.UNCHANGED])}",
        f"... failed: {_courses(counts[CourseOutcome.FAILED])}",
        f"... used {_requests(figures.requests)} to eAssessment",
        *([f"... used {_requests(asked)} to ELMS's Moodle"] if asked else []),
        f"... used {figures.statements} dbqueries",
        *([] if figures.seconds is None else [f"... used {figures.seconds} seconds"]),
        *_ending(figures),
    ]


def _scores(written: ScoreCounts | None) -> str:
    if written is None:
        return ""
    added = count(written.added, "score")
    return f", {added} new, {written.changed} changed, {written.unchanged} as before"


def _courses(number: int) -> str:
    return count(number, "course")


def _requests(number: int) -> str:
    return count(number, "request")


def _ending(figures: RunSummary) -> list[str]:
    if figures.stopped:
        step = [f" next: {figures.next_step}"] if figures.next_step else []
        return [f"Grade sync ended before its time: {figures.stopped}", *step]
    if figures.counts[CourseOutcome.FAILED]:
        return ["Grade sync complete, but not for every course; the table says what to do."]
    return ["Grade sync complete."]
