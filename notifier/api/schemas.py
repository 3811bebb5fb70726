"""The requests and responses of eAssessment's API, which also make `--json` and openapi.json."""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
)

from contract.events import EVENT_TYPES, OPERATIONAL_TYPES, CourseId, Version, WireTime
from contract.grades import Scores
from contract.tokens import MOODLE_TOKEN_ID, MoodleToken
from foundation.db.audit import AuditEntry
from foundation.db.pagination import Page
from foundation.errors import fields_of
from foundation.import_result import ImportResult
from foundation.responses import AuditResponse, Response, Timestamp
from foundation.text import check_until
from notifier import models
from notifier.courses import listing
from notifier.courses.course_import import ImportedCourses
from notifier.courses.grade_import import GradesFile
from notifier.courses.service import MAX_OVERLAP
from notifier.models import MAX_ID, MAX_NAME, DeliveryStatus
from notifier.monitoring import endpoint_status
from notifier.monitoring.endpoint_status import EndpointStatus
from notifier.webhooks import delivery_queries, failure_advice
from notifier.webhooks.delivery_filter import DeliveryFilter
from notifier.webhooks.delivery_queries import DeliveryReplay
from notifier.webhooks.receiver_probes import (
    DESCRIPTIONS,
    Expected,
    Probe,
    ProbeOutcome,
    ProbeResult,
)
from notifier.webhooks.retry_policy import Failure, WebhookResponse
from notifier.worker.ping import PingResult, ReceiverCheck, SampleResult

_TYPES = "|".join([*EVENT_TYPES, *OPERATIONAL_TYPES]).replace(".", r"\.")
EventType = Annotated[str, Field(pattern=f"^({_TYPES})$")]
_ATTEMPTS = "Attempts that were made, all in all; a replay does not reset the number."
RowId = Annotated[int, Field(ge=1, le=MAX_ID)]


class Request(BaseModel):
    """A request; fields that are not known are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class NewCourse(Request):
    """A course to add."""

    course_id: CourseId
    title: Annotated[str, Field(min_length=1, max_length=10_000)]


_MAX_SECONDS = int(MAX_OVERLAP.total_seconds())


class TokenRegeneration(Request):
    """How long the old token stays good; without it, it ends at once."""

    overlap_seconds: Annotated[int, Field(ge=0, le=_MAX_SECONDS)] = 0


class NewEndpoint(Request):
    """A URL to register; without event types it receives all events about courses."""

    url: Annotated[str, Field(min_length=1, max_length=2000)]
    name: Annotated[str, Field(max_length=MAX_NAME)] = ""
    event_types: Annotated[list[EventType], Field(min_length=1)] | None = None
    may_claim_tokens: bool = False


class EndpointListParams(Request):
    """Which endpoints to list."""

    removed: bool = False


class GradesToLoad(Request):
    """Scores of one course."""

    scores: Annotated[Scores, Field(max_length=50_000)]


class CourseListParams(Request):
    """Which courses to list; a field that is left out is no condition."""

    matching: Annotated[str, Field(max_length=255)] = ""
    deleted: bool | None = None
    deleted_since: WireTime | None = None
    sort: Annotated[str, Field(pattern=f"^-?({'|'.join(listing.SORTS)})$")] | None = None
    after: str = ""
    limit: Annotated[int, Field(ge=1, le=1000)] = 100


class DeliveryFilterParams(DeliveryFilter):
    """Which deliveries to select; a field that is left out is no condition."""

    event_type: EventType | None = None
    endpoint_id: RowId | None = None
    since: WireTime | None = None
    until: Annotated[WireTime, AfterValidator(check_until)] | None = None


class DeliveryListParams(DeliveryFilterParams):
    """Which deliveries to list."""

    sort: Literal["occurred", "-occurred"] = "-occurred"
    before: RowId | None = None
    after: RowId | None = None
    limit: Annotated[int, Field(ge=1, le=1000)] = 100


class ReplayRequest(Request):
    """What to replay: ids, or what a filter selects, up to a limit."""

    ids: Annotated[list[RowId], Field(min_length=1, max_length=1000)] | None = None
    filter: DeliveryFilterParams | None = None
    limit: Annotated[int, Field(ge=1, le=1000)] = delivery_queries.DEFAULT_LIMIT
    dry_run: bool = False


def _moodle_token(token: SecretStr) -> SecretStr:
    MoodleToken.parse(token.get_secret_value())
    return token


class NewToken(Request):
    """What is known of a new token: its public id, the token itself, or nothing."""

    token_id: Annotated[str, Field(pattern=f"^{MOODLE_TOKEN_ID.pattern}$")] | None = None
    token: Annotated[SecretStr, AfterValidator(_moodle_token)] | None = None

    def known_id(self) -> str | None:
        """Return the public id; nothing else of a token is kept or sent."""
        if self.token is None:
            return self.token_id
        return MoodleToken.parse(self.token.get_secret_value()).token_id


class CourseResponse(Response):
    """A course, deleted or not."""

    course_id: str
    title: str
    course_version: int
    created_at: Timestamp
    changed_at: Timestamp
    deleted_at: Timestamp | None

    @classmethod
    def of(cls, row: models.Course, **more: Any) -> Self:
        """Return the response for a row; `more` are the fields of a subclass."""
        return super().of(row, course_version=row.version, **more)


class CourseWithToken(CourseResponse):
    """A course with its new token, which is shown only once."""

    token: str
    token_id: str


class RegeneratedToken(CourseWithToken):
    """A course with its new token; the old one is good until `valid_until`, or ended at once.

    `claimable`: ELMS can claim the new one until then.
    """

    valid_until: Timestamp | None
    claimable: bool


class ListedCourse(CourseResponse):
    """A course and the public id of its current token, if it has one."""

    token_id: str | None


class Courses(Response):
    """A page of courses."""

    courses: list[ListedCourse]
    next: str | None = None

    @classmethod
    def of_page(cls, page: Page[models.Course], tokens: Mapping[int, str]) -> Self:
        """Return the response for a page; `tokens` are the ids of current tokens by row id."""
        return cls(
            courses=[ListedCourse.of(row, token_id=tokens.get(row.id)) for row in page.rows],
            next=page.after[0] if page.after else None,
        )


class TokenRow(Response):
    """A token's public id, when it was replaced, and until when it is good if not until then."""

    token_id: str
    created_at: Timestamp
    superseded_at: Timestamp | None
    valid_until: Timestamp | None


class CourseDelivery(Response):
    """A delivery of an event about a course."""

    delivery_id: int
    event_type: str
    endpoint_id: int
    endpoint_name: str
    url: str
    status: DeliveryStatus
    occurred_at: Timestamp


class CourseDetails(ListedCourse):
    """A course with its tokens, oldest first, its deliveries and its last changes, newest first."""

    tokens: list[TokenRow]
    deliveries: list[CourseDelivery]
    changes: list[AuditResponse]

    @classmethod
    def of_course(
        cls,
        row: models.Course,
        deliveries: Sequence[models.Delivery],
        changes: Sequence[AuditEntry],
    ) -> Self:
        """Return the response for a course, its deliveries and its changes."""
        current = [token.token_id for token in row.tokens if token.superseded_at is None]
        return cls.of(
            row,
            token_id=current[-1] if current else None,
            tokens=[TokenRow.of(token) for token in row.tokens],
            deliveries=[
                CourseDelivery(
                    delivery_id=delivery.id,
                    event_type=delivery.event.type,
                    endpoint_id=delivery.endpoint_id,
                    endpoint_name=delivery.endpoint.name,
                    url=delivery.endpoint.url,
                    status=delivery.status,
                    occurred_at=delivery.event.occurred_at,
                )
                for delivery in deliveries
            ],
            changes=[AuditResponse.of_entry(change) for change in changes],
        )


class CourseRestored(CourseResponse):
    """A restored course; `grades_forgotten` if its grades were deleted before."""

    grades_forgotten: bool


class ChangeOutcome(StrEnum):
    """What became of a course that was to be deleted or restored, or get a new token."""

    DELETED = "deleted"
    ALREADY_DELETED = "already_deleted"
    RESTORED = "restored"
    NOT_DELETED = "not_deleted"
    FINAL = "final"
    REGENERATED = "regenerated"
    ALREADY_REGENERATED = "already_regenerated"
    ISSUED_BY_MOODLE = "issued_by_moodle"
    UNKNOWN = "unknown"


class ChangeResult(Response):
    """What became of a course, in words too, and its deliveries of this change by status."""

    course_id: str
    outcome: ChangeOutcome
    deliveries: dict[str, int]
    detail: str


class CourseChanges(Response):
    """The results of changing many courses; `not_reached` of them were not tried."""

    courses: Sequence[ChangeResult]
    not_reached: int


class TokenChanges(CourseChanges):
    """The results of regenerating tokens, and the file of the new ones, if there is one.

    The old ones are good until `valid_until` at least, or ended at once. `claimable`: ELMS can
    claim the new ones until then.
    """

    tokens_file: str | None
    valid_until: Timestamp | None
    claimable: bool


class GradesLoaded(Response):
    """How many scores were new, changed or unchanged."""

    added: int
    changed: int
    unchanged: int


class GradesImported(GradesLoaded):
    """What was imported from a file; `column` and so on only for Moodle's grade export."""

    course_count: int
    column: str | None = None
    maximum: Decimal | None = None
    left_out: Sequence[int] | None = None

    @classmethod
    def of_file(cls, file: GradesFile, loaded: ImportResult) -> Self:
        """Return the response for a file and what was loaded of it."""
        source = {} if file.source is None else vars(file.source)
        return cls(course_count=len(file.scores), **vars(loaded), **source)


class CoursesImported(Response):
    """How many courses of a file were new, changed or unchanged; deleted ones were passed over."""

    added: int
    changed: int
    unchanged: int
    deleted_course_ids: Sequence[str]
    tokens_file: str

    @classmethod
    def of_result(cls, imported: ImportedCourses, tokens_file: str) -> Self:
        """Return the response for what was imported, and the file of the new tokens."""
        return cls(
            **vars(imported.counts), deleted_course_ids=imported.deleted, tokens_file=tokens_file
        )


class TokenAnnouncement(Response):
    """The event that announced a regenerated token."""

    course_id: str
    course_version: Version
    token_id: str | None


class EndpointResponse(Response):
    """An endpoint, its status, why it has that, and how it has been responding."""

    endpoint_id: int
    name: str
    url: str
    event_types: list[str]
    may_claim_tokens: bool
    status: EndpointStatus
    detail: str | None
    created_at: Timestamp
    disabled_at: Timestamp | None
    disabled_by: str | None
    removed_at: Timestamp | None
    failures: int
    failing_since: Timestamp | None
    paused_until: Timestamp | None

    @classmethod
    def of(cls, row: models.Endpoint, **more: Any) -> Self:
        """Return the response for a row; `more` are the fields of a subclass."""
        status_details = endpoint_status.status_details(row)
        return super().of(
            row,
            endpoint_id=row.id,
            event_types=row.event_types or list(EVENT_TYPES),
            status=status_details.status,
            detail=status_details.reason,
            **more,
        )


class HostWarning(Response):
    """Why nothing can be sent to an endpoint now: its host is not resolved, or is blocked."""

    failure: str
    detail: str
    next_step: str | None
    action: str | None

    @classmethod
    def of_failure(cls, failure: Failure | None, endpoint_id: int) -> Self | None:
        """Return the warning about a failed look-up, or None."""
        if failure is None:
            return None
        advice = failure_advice.advice_for(failure.kind, None, endpoint_id)
        return cls(failure=failure.kind, detail=failure.detail, **fields_of(advice))


class EndpointWithWarning(EndpointResponse):
    """An endpoint with a warning about its host."""

    warning: HostWarning | None = None


class EndpointWithSecret(EndpointWithWarning):
    """An endpoint with its secret, which is shown only once, and a warning about its host."""

    secret: str


class EndpointEnabled(EndpointResponse):
    """An enabled endpoint, and how many of its held deliveries are due now."""

    queued: int


class EndpointRemoved(EndpointResponse):
    """A removed endpoint, and how many of its deliveries were cancelled."""

    cancelled: int


class PingResponse(Response):
    """The response to a ping, or why there was none; `queued` deliveries are due now."""

    endpoint_id: int
    url: str
    accepted: bool
    http_status: int | None
    failure: str | None
    detail: str | None
    next_step: str | None
    action: str | None
    retry_after: str | None
    response_body: str | None
    queued: int

    @classmethod
    def of_ping(cls, endpoint_id: int, ping: PingResult, **more: Any) -> Self:
        """Return the response for the result of a ping; `more` are the fields of a subclass."""
        status: int | None = None
        failure: str | None = None
        detail: str | None = None
        retry_after: str | None = None
        body: str | None = None
        match ping.result:
            case Failure(kind, text):
                failure, detail = kind, text
            case WebhookResponse(code, wait, excerpt):
                status, retry_after, body = code, wait, excerpt
        advice = failure_advice.advice_for(failure, status, endpoint_id)
        return cls(
            endpoint_id=endpoint_id,
            url=ping.url,
            accepted=ping.accepted,
            http_status=status,
            failure=failure,
            detail=detail,
            **fields_of(advice),
            retry_after=retry_after,
            response_body=body,
            queued=ping.due,
            **more,
        )


class SampleResponse(PingResponse):
    """The response to a sample of an event, with the sample itself."""

    webhook_id: str
    event_type: str
    body: str

    @classmethod
    def of_sample(cls, endpoint_id: int, sample: SampleResult) -> Self:
        """Return the response for the result of a sample."""
        return cls.of_ping(
            endpoint_id,
            sample,
            webhook_id=sample.webhook_id,
            event_type=sample.event_type,
            body=sample.body,
        )


class ProbeResponse(Response):
    """A ping of a check, what should be done with it, and what the receiver did."""

    probe: Probe
    expected: Expected
    outcome: ProbeOutcome
    as_expected: bool
    http_status: int | None
    failure: str | None
    detail: str

    @classmethod
    def of_result(cls, one: ProbeResult) -> Self:
        """Return the response for a probe."""
        result = one.result
        return cls(
            probe=one.probe,
            expected=one.expected,
            outcome=one.outcome,
            as_expected=one.is_as_expected,
            http_status=result.status if isinstance(result, WebhookResponse) else None,
            failure=result.kind if isinstance(result, Failure) else None,
            detail=DESCRIPTIONS[one.probe],
        )


class FindingResponse(Response):
    """What a receiver does, and whether that is a flaw."""

    finding: str
    ok: bool
    detail: str
    next_step: str | None
    action: str | None


class EndpointCheck(Response):
    """Whether an endpoint's receiver verifies webhooks; its clock is ahead by these seconds."""

    endpoint_id: int
    url: str
    ok: bool
    findings: list[FindingResponse]
    clock_offset_seconds: int | None
    probes: list[ProbeResponse]

    @classmethod
    def of_check(cls, endpoint_id: int, check: ReceiverCheck) -> Self:
        """Return the response for a check."""
        offset = check.clock_offset
        return cls(
            endpoint_id=endpoint_id,
            url=check.url,
            ok=not check.is_flawed,
            findings=[
                FindingResponse(
                    finding=one.code, ok=not one.is_flaw, detail=one.detail, **fields_of(one.advice)
                )
                for one in check.findings
            ],
            clock_offset_seconds=None if offset is None else round(offset.total_seconds()),
            probes=[ProbeResponse.of_result(one) for one in check.results],
        )


class Endpoints(Response):
    """All endpoints."""

    endpoints: list[EndpointResponse]
    next: str | None = None


class DeliveryResponse(Response):
    """One event for one endpoint, and its status."""

    delivery_id: int
    webhook_id: str
    event_type: str
    course_id: str | None
    course_version: int
    endpoint_id: int
    endpoint_name: str
    url: str
    status: DeliveryStatus
    attempt_count: Annotated[int, Field(description=_ATTEMPTS)]
    last_http_status: int | None
    last_failure: str | None
    occurred_at: Timestamp
    due_at: Timestamp | None
    settled_at: Timestamp | None
    detail: str | None

    @classmethod
    def of_last(cls, row: models.Delivery, last: models.Attempt | None, **more: Any) -> Self:
        """Return the response for a row and its last attempt; `more` are fields of a subclass."""
        return cls.of(
            row,
            last_http_status=last and last.status,
            last_failure=last and last.failure,
            detail=row.reason,
            delivery_id=row.id,
            webhook_id=row.event_id,
            event_type=row.event.type,
            course_id=row.event.course_id or None,
            course_version=row.event.course_version,
            endpoint_name=row.endpoint.name,
            url=row.endpoint.url,
            occurred_at=row.event.occurred_at,
            due_at=row.due_at if row.status == DeliveryStatus.PENDING else None,
            **more,
        )


class Deliveries(Response):
    """A page of deliveries."""

    deliveries: list[DeliveryResponse]
    next: str | None = None

    @classmethod
    def of_page(cls, page: Page[models.Delivery], last: Mapping[int, models.Attempt]) -> Self:
        """Return the response for a page; `last` are the last attempts by delivery."""
        return cls(
            deliveries=[DeliveryResponse.of_last(row, last.get(row.id)) for row in page.rows],
            next=str(page.after[0]) if page.after else None,
        )


class AttemptResponse(Response):
    """One POST of a delivery, and what it led to."""

    started_at: Timestamp
    milliseconds: int
    http_status: int | None
    failure: str | None
    outcome: str
    detail: str | None
    next_step: str | None
    action: str | None

    @classmethod
    def of_attempt(cls, row: models.Attempt, endpoint: models.Endpoint) -> Self:
        """Return the response for an attempt to send to an endpoint."""
        advice = failure_advice.of_attempt(row, endpoint)
        return cls.of(row, http_status=row.status, outcome=row.decided, **fields_of(advice))


class ReplayResponse(Response):
    """When, by whom and how a delivery was replayed; None if the audit entry was pruned."""

    replayed_at: Timestamp
    replayed_by: str | None
    channel: str | None
    previous_status: str

    @classmethod
    def of_replay(cls, replay: DeliveryReplay) -> Self:
        """Return the response for a replay."""
        entry = replay.entry
        return cls.of(replay, replayed_by=entry and entry.actor, channel=entry and entry.channel)


class DeliveryDetails(DeliveryResponse):
    """A delivery with its payload, attempts and replays."""

    body: str
    attempts: list[AttemptResponse]
    replays: list[ReplayResponse]


class Replayed(Response):
    """Which deliveries are due again, or would be; `held` others match, of disabled endpoints."""

    dry_run: bool
    delivery_ids: list[int]
    held: int


class WorkResponse(Response):
    """How many attempts a worker made, by what followed."""

    delivered: int
    to_retry: int
    dead: int
    held: int


class Outcome(Response):
    """What an event did."""

    outcome: str
