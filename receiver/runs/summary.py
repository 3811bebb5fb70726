"""The summary of a run in lines, in the style of Moodle's scheduled tasks."""

from collections.abc import Mapping

from foundation.errors import Advice
from foundation.text import count
from receiver.gradebook.base import ScoreCounts
from receiver.models import Run
from receiver.runs.store import CourseOutcome, RunResult


def of_result(result: RunResult) -> list[str]:
    """Return the summary of a run that has just ended."""
    counts = {outcome: result.count(outcome) for outcome in CourseOutcome}
    return _lines(
        result.run_id, result, counts, result.scores, result.gradebook_requests, result.advice
    )


def of_run(run: Run) -> list[str]:
    """Return the summary of a recorded run that has ended."""
    counts = {outcome: getattr(run, outcome.value) for outcome in CourseOutcome}
    scores = None
    if not (run.scores_added is None or run.scores_changed is None or run.scores_unchanged is None):
        scores = ScoreCounts(run.scores_added, run.scores_changed, run.scores_unchanged)
    return _lines(run.id, run, counts, scores)


def _lines(
    run_id: int,
    run: Run | RunResult,
    counts: Mapping[CourseOutcome, int],
    scores: ScoreCounts | None,
    gradebook_requests: int = 0,
    advice: Advice | None = None,
) -> list[str]:
    courses = {outcome: count(number, "course") for outcome, number in counts.items()}
    fetched = courses[CourseOutcome.SYNCED]
    if scores is not None:
        added = count(scores.added, "score")
        fetched += f", {added} added, {scores.changed:,} changed, {scores.unchanged:,} unchanged"
    lines = [
        f"Grade sync {run_id}: {count(sum(counts.values()), 'course')}",
        f"... fetched grades: {fetched}",
        f"... unchanged since the last fetch: {courses[CourseOutcome.UNCHANGED]}",
    ]
    if run.deleted:
        lines.append(f"... {run.deleted:,} skipped: course deleted; no action needed")
    if skipped := counts[CourseOutcome.SKIPPED] - run.deleted:
        lines.append(f"... {skipped:,} skipped: action needed")
    lines += [
        f"... failed: {courses[CourseOutcome.FAILED]}",
        f"... used {count(run.requests, 'request')} to eAssessment",
    ]
    if gradebook_requests:
        lines.append(f"... used {count(gradebook_requests, 'request')} to ELMS's Moodle")
    lines.append(f"... used {run.statements:,} database queries")
    if run.seconds is not None:
        lines.append(f"... used {run.seconds} seconds")
    if run.stopped:
        lines.append(f"Grade sync stopped early: {run.stopped}")
        lines += [f" next: {advice.text}"] if advice else []
    elif counts[CourseOutcome.FAILED]:
        lines.append("Grade sync complete, with errors.")
    elif run.exit_code:
        lines.append("Grade sync complete; action is needed.")
    else:
        lines.append("Grade sync complete.")
    return lines
