"""What the commands of ELMS print with `--json`: one model for each noun."""

from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Any, Self

from foundation.errors import fields_of
from foundation.responses import Response, Timestamp
from receiver.course_advice import CourseStatusDetails
from receiver.course_state import CourseStatus
from receiver.models import Entry, HistoryEntry, Run, RunCourse, Source
from receiver.registry.entries import state_of
from receiver.runs.groups import ResultGroup, group_results, needs_attention
from receiver.runs.store import CourseOutcome, CourseResult, RunResult, RunStatus
from receiver.sources.store import Reception
from receiver.sync.planner import Plan
from receiver.sync.token_check import EnteredToken, RefusedToken

if TYPE_CHECKING:
    from receiver.webhooks.saved_request import SignatureCheck


class VerifiedResponse(Response):
    """Whether a saved request is signed, and whether a receiver would accept its timestamp now."""

    ok: bool
    reason: str | None
    detail: str
    next_step: str | None
    action: str | None
    signed_at: Timestamp | None
    is_current: bool

    @classmethod
    def of_check(cls, check: "SignatureCheck", *, now: datetime) -> Self:
        """Return the response for the check of a request."""
        return cls(
            ok=check.reason is None,
            reason=check.reason,
            detail=check.detail,
            **fields_of(check.advice),
            signed_at=check.signed_at,
            is_current=check.is_current(now),
        )


class SecretResponse(Response):
    """The id of a webhook secret, never the secret."""

    secret_id: int
    created_at: Timestamp


class SourceResponse(Response):
    """A source and the ids of its secrets."""

    source: str
    url: str
    kind: str
    site_token_set: bool
    webhook_path: str
    created_at: Timestamp
    secrets: list[SecretResponse]

    @classmethod
    def of_source(cls, source: Source, webhook_path: str) -> Self:
        """Return the response for a source and the path of its webhook URL."""
        return cls.of(
            source,
            source=source.name,
            site_token_set=source.encrypted_site_token is not None,
            webhook_path=webhook_path,
            secrets=[SecretResponse.of(secret, secret_id=secret.id) for secret in source.secrets],
        )


class ListedSource(SourceResponse):
    """A source with when its last webhook was received, and whether it is silent."""

    last_webhook_at: Timestamp | None
    heartbeat_seconds: int | None
    silent: bool

    @classmethod
    def of_listed(
        cls, source: Source, webhook_path: str, reception: Reception, *, now: datetime
    ) -> Self:
        """Return the response for a source and what is known of its last webhook."""
        return cls(
            **dict(SourceResponse.of_source(source, webhook_path)),
            last_webhook_at=reception.last_at,
            heartbeat_seconds=source.heartbeat_seconds,
            silent=reception.is_silent(now),
        )


class Sources(Response):
    """All sources."""

    sources: list[ListedSource]
    next: str | None = None


class EntryResponse(Response):
    """A course of the registry, its status, and why it has that."""

    course_id: str
    source: str
    status: CourseStatus
    detail: str | None
    since: Timestamp | None
    failing: bool
    next_step: str | None
    action: str | None
    stored_token_id: str | None
    token_valid_until: Timestamp | None
    added_at: Timestamp | None
    synced_at: Timestamp | None
    gradebook_course: str | None
    gradebook_activity: str | None

    @classmethod
    def of_entry(cls, entry: Entry, status_details: CourseStatusDetails, **more: Any) -> Self:
        """Return the response for an entry; `more` are the fields of a subclass."""
        return cls.of(
            entry,
            source=entry.source.name,
            status=status_details.status,
            detail=status_details.reason,
            since=status_details.since,
            failing=status_details.failing,
            token_valid_until=status_details.valid_until,
            **fields_of(status_details.advice),
            **more,
        )


class Entries(Response):
    """Courses of the registry."""

    courses: list[EntryResponse]
    next: str | None = None


class HistoryLine(Response):
    """A fact or a change of a course, and the status that followed."""

    recorded_at: Timestamp
    actor: str
    actor_name: str
    event: str
    detail: str | None
    status: str


class EntryDetails(EntryResponse):
    """A course with its stored facts and its history, newest first."""

    course_version: int | None
    deleted_at: Timestamp | None
    announced_token_id: str | None
    announced_at: Timestamp | None
    rejected_token_id: str | None
    rejected_reason: str | None
    rejected_at: Timestamp | None
    history: list[HistoryLine]

    @classmethod
    def of_history(
        cls, entry: Entry, status_details: CourseStatusDetails, history: Iterable[HistoryEntry]
    ) -> Self:
        """Return the response for an entry and its history."""
        return cls.of_entry(
            entry,
            status_details,
            course_version=state_of(entry).course_version,
            history=[HistoryLine.of(line, recorded_at=line.at) for line in history],
        )


class WebhookResponse(Response):
    """An accepted webhook and what it did."""

    received_at: Timestamp
    source: str
    webhook_id: str
    event_type: str
    course_id: str | None
    course_version: int | None
    outcome: str


class Webhooks(Response):
    """A page of accepted webhooks."""

    webhooks: list[WebhookResponse]
    next: str | None = None


class CourseProblem(Response):
    """A course of a file whose token was not accepted, or that cannot be synced with it."""

    course_id: str
    source: str
    detail: str
    next_step: str | None
    action: str | None

    @classmethod
    def of_entered(cls, token: EnteredToken) -> Self:
        """Return the problem of a token that was stored."""
        return cls(
            course_id=token.entry.course_id,
            source=token.entry.source.name,
            detail=token.reason or "",
            **fields_of(token.checked.advice),
        )

    @classmethod
    def of_refused(cls, token: RefusedToken) -> Self:
        """Return the problem of a token that was not stored."""
        return cls(
            course_id=token.row.course_id,
            source=token.row.source.name,
            detail=str(token.error),
            **fields_of(token.error.advice),
        )


class EntriesImported(Response):
    """How many courses of a file were new, changed or unchanged, and whose tokens were refused."""

    added: int
    changed: int
    unchanged: int
    problems: list[CourseProblem]


class TokensEntered(Response):
    """How many courses of a file are active with their tokens, and which are not."""

    active: int
    problems: list[CourseProblem]


class EntriesRemoved(Response):
    """How many courses were removed from the registry; `unknown` of a file were not in it."""

    removed: int
    unknown: int


class CourseResultResponse(Response):
    """The result of one course in a run, or in a dry run."""

    source: str
    course_id: str
    outcome: str
    reason: str | None
    detail: str | None
    since: Timestamp | None
    next_step: str | None
    action: str | None

    @classmethod
    def all_of(cls, courses: Iterable[CourseResult | RunCourse]) -> list[Self]:
        """Return the responses for results, recorded or not."""
        return [cls.of(course, **fields_of(course.advice)) for course in courses]


class ResultGroupResponse(Response):
    """Courses of a source with the same reason in a run, and the first few of them."""

    source: str
    reason: str
    needs_attention: bool
    course_count: int
    course_ids: list[str]
    detail: str | None
    next_step: str | None
    action: str | None
    list_command: str

    @classmethod
    def all_of(cls, groups: Iterable[ResultGroup], run_id: int) -> list[Self]:
        """Return the responses for groups of a run."""
        return [
            cls.of(
                group,
                course_count=group.courses,
                course_ids=[course.course_id for course in group.first],
                detail=group.example,
                list_command=group.list_command(run_id),
                **fields_of(group.advice),
            )
            for group in groups
        ]


class RunResponse(Response):
    """A recorded run; `deleted` of the skipped courses were deleted."""

    run_id: int
    started_at: Timestamp
    ended_at: Timestamp | None
    by: str
    partial: bool
    unattended: bool
    synced: int
    unchanged: int
    skipped: int
    deleted: int
    failed: int
    requests: int
    database_queries: int
    seconds: float | None
    status: RunStatus
    detail: str | None
    exit_code: int | None

    @classmethod
    def of_run(cls, run: Run, status: RunStatus, **more: Any) -> Self:
        """Return the response for a run; `more` are the fields of a subclass."""
        return cls.of(
            run,
            run_id=run.id,
            by=run.holder,
            database_queries=run.statements,
            status=status,
            detail=run.stopped,
            **more,
        )


class Runs(Response):
    """A page of runs."""

    runs: list[RunResponse]
    next: str | None = None


class PauseResponse(Response):
    """Whether the grade sync is paused, since when and by whom."""

    paused: bool
    paused_at: Timestamp | None = None
    paused_by: str | None = None


class PersonResponse(Response):
    """A person of a course whose score was not imported by a run; `kept`: ELMS keeps its grade."""

    source: str
    course_id: str
    user_id: str | None
    kept: bool
    detail: str


class People(Response):
    """The people of a run whose scores were not imported."""

    people: list[PersonResponse]
    next: str | None = None


class RunDetails(RunResponse):
    """A recorded run with its results by reason, and the courses that were asked for."""

    groups: list[ResultGroupResponse]
    courses: list[CourseResultResponse]


class SyncResponse(Response):
    """A run that has just ended; `courses` are those that need attention."""

    run_id: int
    exit_code: int
    detail: str | None
    next_step: str | None
    action: str | None
    synced: int
    unchanged: int
    skipped: int
    deleted: int
    failed: int
    scores: dict[str, int]
    requests: int
    gradebook_requests: int
    database_queries: int
    seconds: float
    groups: list[ResultGroupResponse]
    courses: list[CourseResultResponse]

    @classmethod
    def of_result(cls, result: RunResult) -> Self:
        """Return the response for the result of a run."""
        return cls.of(
            result,
            **fields_of(result.advice),
            detail=result.stopped,
            **{outcome.value: result.count(outcome) for outcome in CourseOutcome},
            scores=vars(result.scores),
            database_queries=result.statements,
            groups=ResultGroupResponse.all_of(group_results(result.courses), result.run_id),
            courses=CourseResultResponse.all_of(
                course for course in result.courses if needs_attention(course.reason)
            ),
        )


class PlannedCourse(Response):
    """A course that would be fetched."""

    source: str
    course_id: str


class DryRunResponse(Response):
    """What a run would fetch, skip, and fail without a request; deleted courses are counted."""

    dry_run: bool
    deleted: int
    would_fetch: list[PlannedCourse]
    would_skip: list[CourseResultResponse]
    would_fail: list[CourseResultResponse]

    @classmethod
    def of_plan(cls, plan: Plan) -> Self:
        """Return the response for a plan."""
        return cls(
            dry_run=True,
            deleted=len(plan.deleted),
            would_fetch=[
                PlannedCourse.of(entry, source=entry.source.name) for entry in plan.to_fetch
            ],
            would_skip=CourseResultResponse.all_of(plan.skipped),
            would_fail=CourseResultResponse.all_of(plan.without_activity),
        )
