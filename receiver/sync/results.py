"""What an answer, or the want of one, means for a course's part of the report."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import reduce

from foundation.errors import DecryptionError
from receiver import course_state
from receiver.course_state import CourseStatus, Fact, explain
from receiver.gradebook import base as gradebooks
from receiver.gradebook.base import Failure, WriteResult
from receiver.models import Entry
from receiver.registry import entries as registry
from receiver.runs.store import CourseOutcome, CourseResult
from receiver.sources.base import (
    FetchOutcome,
    GradeQuery,
    Grades,
    Misconfigured,
    PersonProblem,
    SeemsGone,
    SiteOutage,
    Transient,
    Unchanged,
)
from receiver.sync import facts as answers


@dataclass(frozen=True)
class Broken:
    """The course failed on our side, before or after its answer."""

    reason: str
    detail: str
    next_step: str


@dataclass(frozen=True)
class Heard:
    """What came of asking about an entry; `url` and `question` are None if nothing was asked.

    `kept` is what the gradebook made of its grades, once they were given to it.
    """

    entry: Entry
    outcome: FetchOutcome | Broken
    url: str | None = None
    question: GradeQuery | None = None
    kept: WriteResult | None = None

    @property
    def well(self) -> bool:
        """Whether ELMS now has the course's present grades, of everybody whom the source names."""
        if isinstance(self.outcome, Grades):
            return self.kept is not None and not (self.kept.failure or self.kept.problems)
        return isinstance(self.outcome, Unchanged)

    @property
    def etag(self) -> str | None:
        """The name of the grades that came, if ELMS has them: else they are asked for again."""
        return self.outcome.etag if isinstance(self.outcome, Grades) and self.well else None


@dataclass(frozen=True)
class Stop:
    """Why a run ended before its time; `reason` is a stable word."""

    exit_code: int
    reason: str
    detail: str
    next_step: str = "Nothing yet: the next run asks again."


SITE_TROUBLE = "site_trouble"
"""The reason of every course that its site's being out of order kept from being synced."""

GRADEBOOK_TROUBLE = "gradebook_trouble"
"""The reason of every course that was not synced because nothing could be written in ELMS."""

PEOPLE_LEFT_OUT = "people_left_out"
"""The reason beside a course that was synced, but not for everybody in it."""

_MOST_NAMED = 5
_MOST_LETTERS = 100


def broken(error: Exception) -> Broken:
    """Return why a course failed on our side, by what was raised."""
    if isinstance(error, DecryptionError):
        return Broken("token_unreadable", str(error), error.advice)
    return Broken(
        "unforeseen",
        f"failed unforeseen: {type(error).__name__}",
        "Tell the operators of ELMS; RECEIVER_LOG_LEVEL=DEBUG shows where it failed.",
    )


def confirmed(heard: Heard, gone: bool | None) -> Heard:
    """Return what holds of a course that seemed gone, now that its site was asked whether it is.

    `gone` is None where that could not be told.
    """
    if not isinstance(heard.outcome, SeemsGone) or gone or (gone is None and heard.outcome.certain):
        return heard
    said = heard.outcome.detail
    if gone is None:
        return replace(heard, outcome=Transient(f"{said}; whether it was deleted is not certain"))
    step = "Check the token's rights and the course id with the eAssessment administrator."
    return replace(heard, outcome=Misconfigured(f"{said}, and yet the course is there", step))


def facts_of(heard: Heard, *, now: datetime) -> tuple[Fact, ...]:
    """Return what the registry learns from what was heard."""
    if isinstance(heard.outcome, Broken):
        return ()
    memory = registry.state_of(heard.entry)
    return answers.facts_of(memory, heard.outcome, str(heard.entry.stored_token_id), now=now)


def judged(heard: Heard, facts: Sequence[Fact]) -> CourseResult:
    """Return the report of a course that was asked; an invalid one failed in this run."""
    match heard.outcome:
        case Grades(left_out=left_out):
            return _taken(heard, left_out)
        case Unchanged():
            return _report(heard, CourseOutcome.UNCHANGED)
        case Misconfigured(detail=detail, next_step=step):
            return _failed(heard, "misconfigured", detail, step)
        case SiteOutage(detail=detail, next_step=step):
            return _kept_from(heard, detail, step)
        case Transient(detail=detail, next_step=step):
            return _failed(heard, "transient", detail, step)
        case Broken(reason=reason, detail=detail, next_step=step):
            return _failed(heard, reason, detail, step)
        case _:
            memory = reduce(course_state.apply, facts, registry.state_of(heard.entry))
            course_status = explain(memory, heard.entry.course_id)
            return _because(heard.entry, CourseOutcome.FAILED, course_status, heard.url)


def skipped(entry: Entry, course_status: CourseStatus) -> CourseResult:
    """Return the report of a course that is not asked."""
    return _because(entry, CourseOutcome.SKIPPED, course_status, None)


def unplaced(entry: Entry) -> CourseResult:
    """Return the report of a course that is not asked, for its grades could go nowhere."""
    why = gradebooks.unplaced(entry.course_id)
    return _failure(entry, "misconfigured", why.detail, why.next_step)


def unstored(entry: Entry, stop: Stop) -> CourseResult:
    """Return the report of a course whose turn never came, or whose answer was not stored."""
    detail = f"the run ended before it was stored: {stop.detail}"
    return _failure(entry, stop.reason, detail, stop.next_step)


def _taken(heard: Heard, left_out: Sequence[PersonProblem]) -> CourseResult:
    """Return the report of a course whose grades came; who was left out is told, the others count.

    The first few are named: of a hundred who miss the same, five tell what.
    """
    problems = heard.kept.problems if heard.kept else ()
    failure = heard.kept.failure if heard.kept else None
    people = [_named((*left_out, *problems))] if left_out or problems else []
    if failure is not None:
        detail = "; ".join([failure.detail, *people])
        return _failed(heard, _REASONS[type(failure)], detail, failure.next_step)
    report = _report(heard, CourseOutcome.SYNCED)
    if not people:
        return report
    where = ["at the source"] * bool(left_out) + ["in ELMS"] * bool(problems)
    step = f"Mend what is said of each {' and '.join(where)}; the next run takes them over."
    return replace(report, reason=PEOPLE_LEFT_OUT, detail=people[0], next_step=step)


_REASONS: dict[type[Failure], str] = {
    Misconfigured: "misconfigured",
    SiteOutage: GRADEBOOK_TROUBLE,
    Transient: "transient",
}
"""The reason of a course whose grades came and could not all be written."""


def _named(people: Sequence[PersonProblem]) -> str:
    named = "; ".join(f"{_who(one.user_id)}: {one.detail}" for one in people[:_MOST_NAMED])
    more = len(people) - _MOST_NAMED
    return f"left out {len(people)}: {named}" + (f"; and {more} more" if more > 0 else "")


def _who(user_id: str | None) -> str:
    """Return how somebody is named: what is no ID number can be as long as an answer."""
    if user_id is None:
        return "without ID number"
    return user_id if len(user_id) <= _MOST_LETTERS else f"{user_id[:_MOST_LETTERS]}…"


def _report(heard: Heard, outcome: CourseOutcome) -> CourseResult:
    return CourseResult(heard.entry.source.name, heard.entry.course_id, outcome, url=heard.url)


def _failed(heard: Heard, reason: str, detail: str, step: str) -> CourseResult:
    return _failure(heard.entry, reason, detail, step, heard.url)


def _failure(
    entry: Entry, reason: str, detail: str, step: str, url: str | None = None
) -> CourseResult:
    return CourseResult(
        entry.source.name,
        entry.course_id,
        CourseOutcome.FAILED,
        reason,
        detail,
        next_step=step,
        url=url,
    )


def _kept_from(heard: Heard, detail: str, step: str) -> CourseResult:
    """Return the report of a course whose site is out of order; it failed if it was asked for."""
    outcome = CourseOutcome.FAILED if heard.url else CourseOutcome.SKIPPED
    return replace(_failed(heard, SITE_TROUBLE, detail, step), outcome=outcome)


def _because(
    entry: Entry, outcome: CourseOutcome, course_status: CourseStatus, url: str | None
) -> CourseResult:
    return CourseResult(
        entry.source.name,
        entry.course_id,
        outcome,
        course_status.status.value,
        course_status.reason,
        course_status.since,
        course_status.next_step,
        url,
    )
