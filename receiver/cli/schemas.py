"""What the commands of ELMS print with `--json`: one model for each noun."""

from collections.abc import Iterable
from typing import Any, Self

from foundation.errors import fields_of
from foundation.responses import Response, Timestamp
from receiver.course_advice import CourseStatusDetails
from receiver.models import Entry, HistoryEntry, Run, RunCourse, Source
from receiver.registry.entries import state_of
from receiver.runs.groups import ResultGroup, group_results, needs_attention
from receiver.runs.store import CourseOutcome, CourseResult, LastOutcome, RunResult, RunStatus
from receiver.sync.planner import Plan


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


class EntryResponse(Response):
    """A course of the registry and its status."""

    course_id: str
    source: str
    status: str
    reason: str | None
    since: Timestamp | None
    failing: bool
    next_step: str | None
    action: str | None
    stored_token_id: str | None
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
            reason=status_details.reason,
            since=status_details.since,
            failing=status_details.failing,
            **fields_of(status_details.advice),
            **more,
        )


class ListedEntryResponse(EntryResponse):
    """A course with its outcome in the last run that had it."""

    last_outcome: str | None
    last_outcome_at: Timestamp | None

    @classmethod
    def of_last(
        cls, entry: Entry, status_details: CourseStatusDetails, last: LastOutcome | None
    ) -> Self:
        """Return the response for an entry and its last outcome."""
        return cls.of_entry(
            entry,
            status_details,
            last_outcome=last and last.outcome,
            last_outcome_at=last and last.at,
        )


class HistoryLine(Response):
    """A fact or a change of a course, and the status that followed."""

    at: Timestamp
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
            history=[HistoryLine.of(line) for line in history],
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
    courses: int
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
    began_at: Timestamp
    ended_at: Timestamp | None
    by: str
    partial: bool
    scheduled: bool
    synced: int
    unchanged: int
    skipped: int
    deleted: int
    failed: int
    requests: int
    database_queries: int
    seconds: float | None
    status: str
    stopped: str | None
    exit_code: int | None

    @classmethod
    def of_run(cls, run: Run, status: RunStatus, **more: Any) -> Self:
        """Return the response for a run; `more` are the fields of a subclass."""
        return cls.of(
            run,
            run_id=run.id,
            began_at=run.started_at,
            by=run.holder,
            database_queries=run.statements,
            status=status,
            **more,
        )


class PersonResponse(Response):
    """A person of a course whose score was not imported by a run; `kept`: ELMS keeps its grade."""

    source: str
    course_id: str
    user_id: str | None
    kept: bool
    detail: str


class RunDetails(RunResponse):
    """A recorded run with its results by reason, and the courses that were asked for."""

    groups: list[ResultGroupResponse]
    courses: list[CourseResultResponse]


class SyncResponse(Response):
    """A run that has just ended; `courses` are those that need attention."""

    run_id: int
    exit_code: int
    stopped: str | None
    next_step: str | None
    action: str | None
    counts: dict[str, int]
    deleted: int
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
            counts={outcome: result.count(outcome) for outcome in CourseOutcome},
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
