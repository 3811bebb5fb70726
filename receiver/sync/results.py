"""The result of a course at each stage of a run, and the course's line in the run's report."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import reduce

from foundation import logging
from foundation.errors import Advice, DecryptionError
from receiver import course_state
from receiver.course_advice import CourseStatusDetails
from receiver.course_state import (
    REGENERATED,
    CourseState,
    CourseStatus,
    Deleted,
    Fact,
    Restored,
    TokenAccepted,
    TokenAnnounced,
    TokenRejected,
    is_token_confirmed,
    status_of,
)
from receiver.gradebook.base import WriteFailure, WriteResult, missing_activity
from receiver.models import Entry
from receiver.registry import entries as registry
from receiver.runs.store import CourseOutcome, CourseResult, ResultReason
from receiver.sources.base import (
    DeletedOutcome,
    FetchOutcome,
    GradeQuery,
    Grades,
    Misconfigured,
    PersonProblem,
    RegeneratedOutcome,
    RejectedOutcome,
    SiteOutage,
    TokenReplaced,
    Transient,
    Unchanged,
)

_WRITE_REASONS: dict[type[WriteFailure], ResultReason] = {
    Misconfigured: ResultReason.MISCONFIGURED,
    SiteOutage: ResultReason.GRADEBOOK_TROUBLE,
    Transient: ResultReason.TRANSIENT,
}
WAIT_FOR_NEXT_RUN = Advice("No action needed yet: the next run tries again.")
_UNLOCK_GRADE = Advice(
    "No action needed. If a grade of the source should count instead, unlock the grade in ELMS's "
    "Moodle or remove its override; it is written when the course next changes at the source."
)
_SHOW_PEOPLE = "runs show", ("--people",)
_MAX_NAMED = 5
_MAX_ID_LETTERS = 100
_log = logging.get_logger(__name__)


@dataclass(frozen=True)
class InternalFailure:
    """A failure inside ELMS that concerns one course; its site is not the reason."""

    reason: ResultReason
    detail: str
    advice: Advice


@dataclass(frozen=True)
class FetchResult:
    """The result of fetching an entry's grades; `url` and `query` are None if nothing was sent.

    `written` is the gradebook's result, once the grades were given to it.
    """

    entry: Entry
    outcome: FetchOutcome | InternalFailure
    url: str | None = None
    query: GradeQuery | None = None
    written: WriteResult | None = None

    @property
    def is_synced(self) -> bool:
        """Whether ELMS now has everyone's current grade, except where it keeps its own."""
        if isinstance(self.outcome, Grades):
            written = self.written
            return (
                not self.outcome.is_mostly_left_out
                and written is not None
                and not (written.failure or any(not problem.kept for problem in written.problems))
            )
        return isinstance(self.outcome, Unchanged)

    @property
    def etag(self) -> str | None:
        """The ETag of the grades if ELMS now has all of them, or None to fetch them again."""
        return self.outcome.etag if isinstance(self.outcome, Grades) and self.is_synced else None


@dataclass(frozen=True)
class StopReason:
    """Why a run stopped early."""

    exit_code: int
    reason: ResultReason
    detail: str
    advice: Advice = WAIT_FOR_NEXT_RUN


def to_internal_failure(error: Exception) -> InternalFailure:
    """Return why a course failed in ELMS itself, from the exception."""
    _log.debug("internal failure", exc_info=error)
    if isinstance(error, DecryptionError):
        return InternalFailure(ResultReason.TOKEN_UNREADABLE, str(error), error.advice)
    return InternalFailure(
        ResultReason.UNFORESEEN,
        f"unexpected error: {type(error).__name__}",
        Advice(
            "Report this to the operators of ELMS; RECEIVER_LOG_LEVEL=DEBUG logs where it failed."
        ),
    )


def facts_of(result: FetchResult, *, now: datetime) -> tuple[Fact, ...]:
    """Return the new facts that a result states about its course.

    A failure, transient or internal, states none, so that it never changes the registry.
    """
    state, token_id = registry.state_of(result.entry), str(result.entry.stored_token_id)
    match result.outcome:
        case Grades(course_version=int(version), replaced_by=TokenReplaced() as newer):
            named = TokenAnnounced(version, newer.token_id, newer.regenerated_at, newer.valid_until)
            announced = (*_unless_known(state, named), *_acceptance(state, token_id, now=now))
            return (*_restoration(state, version, now=now), *announced)
        case Grades(course_version=int(version), token_id=str(present)):
            named = TokenAnnounced(version, present, now)
            is_active = status_of(state, now=now) is CourseStatus.ACTIVE
            announced = _unless_known(state, named) if is_active else (named,)
            return (*_restoration(state, version, now=now), *announced)
        case Grades() | Unchanged():
            return _acceptance(state, token_id, now=now)
        case DeletedOutcome(course_version=version, deleted_at=at):
            # A site without versions reports what is so now: after the last known restoration.
            restored = state.restored.course_version if state.restored else 0
            return (Deleted(version or restored, at),)
        case RegeneratedOutcome(course_version=version, token_id=present, regenerated_at=at):
            return (
                TokenAnnounced(version, present, at),
                TokenRejected(token_id, REGENERATED, now),
            )
        case RejectedOutcome(problem=problem, detail=detail):
            return (TokenRejected(token_id, f"{problem}: {detail}", now),)
        case _:
            return ()


def _restoration(state: CourseState, version: int, *, now: datetime) -> tuple[Restored, ...]:
    """Return that a course was restored, if a response has a higher version than its deletion."""
    is_restored = state.deleted is not None and state.deleted.course_version < version
    return (Restored(version, now),) if is_restored else ()


def _unless_known(state: CourseState, named: TokenAnnounced) -> tuple[Fact, ...]:
    """Return an announcement unless the state has it, at whatever time."""
    known = state.announced
    if known is None or (named.valid_until and not known.valid_until):
        return (named,)
    is_known = known == replace(named, at=known.at, valid_until=known.valid_until)
    return () if is_known else (named,)


def _acceptance(state: CourseState, token_id: str, *, now: datetime) -> tuple[Fact, ...]:
    """Return that a token was accepted, once: then it needs a check before it is replaced."""
    return () if is_token_confirmed(state, now=now) else (TokenAccepted(token_id, now),)


def to_course_result(result: FetchResult, facts: Sequence[Fact], *, now: datetime) -> CourseResult:
    """Return the report line of a fetched course, given the facts that its result states."""
    entry, url = result.entry, result.url
    match result.outcome:
        case Grades() as grades:
            return _written(result, grades)
        case Unchanged():
            return _result(entry, CourseOutcome.UNCHANGED, url=url)
        case Misconfigured() as failure:
            return _failed(entry, ResultReason.MISCONFIGURED, failure, url)
        case SiteOutage(detail=detail, advice=advice):
            outcome = CourseOutcome.FAILED if url else CourseOutcome.SKIPPED
            return _result(entry, outcome, ResultReason.SITE_TROUBLE, detail, advice, url=url)
        case Transient() as failure:
            return _failed(entry, ResultReason.TRANSIENT, failure, url)
        case InternalFailure() as failure:
            return _failed(entry, failure.reason, failure, url)
        case _:
            state = reduce(course_state.apply, facts, registry.state_of(entry))
            status = registry.explain_status(entry, state=state, needs_activity=False, now=now)
            is_deleted = status.status is CourseStatus.COURSE_DELETED
            outcome = CourseOutcome.SKIPPED if is_deleted else CourseOutcome.FAILED
            return _not_active(entry, outcome, status, url)


def skipped_result(entry: Entry, status: CourseStatusDetails) -> CourseResult:
    """Return the report line of a course that is not fetched because of its status."""
    return _not_active(entry, CourseOutcome.SKIPPED, status, None)


def missing_activity_result(entry: Entry) -> CourseResult:
    """Return the report line of a course that is not fetched because it has no target activity."""
    return _failed(entry, ResultReason.MISCONFIGURED, missing_activity(entry.course_id))


def not_reached_result(entry: Entry, stop: StopReason) -> CourseResult:
    """Return the report line of a course that was not stored before the run stopped."""
    detail = f"the run ended before this course was stored: {stop.detail}"
    return _failed(entry, stop.reason, replace(stop, detail=detail))


def _written(result: FetchResult, grades: Grades) -> CourseResult:
    written, left_out = result.written, grades.left_out
    people = (*left_out, *(written.problems if written else ()))
    missing = [person for person in people if not person.kept]
    kept = [person for person in people if person.kept]
    named = [*_named("left out", missing), *_named("kept in ELMS", kept)]
    failure = written.failure if written else None
    if failure is None and grades.is_mostly_left_out:
        detail = f"the grades of none of {len(left_out)} people can be used"
        failure = Misconfigured(detail, Advice("Fix this at the source.", *_SHOW_PEOPLE))
    if failure is not None:
        failure = replace(failure, detail="; ".join([failure.detail, *named]))
        failed = _failed(result.entry, _WRITE_REASONS[type(failure)], failure, result.url)
        return replace(failed, people=people)
    reason: ResultReason | None = None
    advice: Advice | None = None
    if missing:
        where = ["at the source"] * bool(left_out) + ["in ELMS"] * (len(missing) > len(left_out))
        reason = ResultReason.PEOPLE_LEFT_OUT
        advice = Advice(
            f"Fix each problem {' and '.join(where)}; the next run imports these grades.",
            *_SHOW_PEOPLE,
        )
    elif kept:
        reason, advice = ResultReason.PEOPLE_KEPT, _UNLOCK_GRADE
    synced = _result(
        result.entry,
        CourseOutcome.SYNCED,
        reason,
        "; ".join(named) or None,
        advice,
        url=result.url,
    )
    return replace(synced, people=people)


def _named(what: str, people: Sequence[PersonProblem]) -> list[str]:
    """Return how many people, and the first of them by name with the reason; nothing for none."""
    if not people:
        return []
    named = "; ".join(f"{_id_of(person)}: {person.detail}" for person in people[:_MAX_NAMED])
    more = len(people) - _MAX_NAMED
    return [f"{what} {len(people)}: {named}" + (f"; and {more} more" if more > 0 else "")]


def _id_of(problem: PersonProblem) -> str:
    """Return a person's ID, cut off: what a site sends as one can be megabytes long."""
    if problem.user_id is None:
        return "without ID number"
    cut = len(problem.user_id) > _MAX_ID_LETTERS
    return f"{problem.user_id[:_MAX_ID_LETTERS]}…" if cut else problem.user_id


def _failed(
    entry: Entry,
    reason: ResultReason,
    failure: WriteFailure | InternalFailure | StopReason,
    url: str | None = None,
) -> CourseResult:
    outcome = CourseOutcome.FAILED
    return _result(entry, outcome, reason, failure.detail, failure.advice, url=url)


def _not_active(
    entry: Entry, outcome: CourseOutcome, status: CourseStatusDetails, url: str | None
) -> CourseResult:
    reason, since = status.status, status.since
    return _result(entry, outcome, reason, status.reason, status.advice, since=since, url=url)


def _result(
    entry: Entry,
    outcome: CourseOutcome,
    reason: ResultReason | CourseStatus | None = None,
    detail: str | None = None,
    advice: Advice | None = None,
    *,
    since: datetime | None = None,
    url: str | None = None,
) -> CourseResult:
    source = entry.source.name
    advice = advice and advice.fill("COURSE_ID", entry.course_id).fill("SOURCE", source)
    return CourseResult(source, entry.course_id, outcome, reason, detail, since, advice, url)
