"""eAssessment's tables: courses, tokens, grades, endpoints, events, deliveries, attempts."""

from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from sqlalchemy import (
    JSON,
    CheckConstraint,
    ForeignKey,
    Index,
    MetaData,
    String,
    Text,
    UniqueConstraint,
    and_,
    case,
    false,
    func,
    select,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, column_property, mapped_column, relationship

from foundation.db import audit
from foundation.db.counters import CounterColumns
from foundation.db.migrations import Schema
from foundation.db.session import NAMING, NEVER_REUSED, ExactDecimal, UtcDateTime, only_where
from foundation.pages.models import add_user_tables

# The key in a session's `info` of the site's name, which goes into every event.
SOURCE = "source"


class Base(DeclarativeBase):
    """The base of the tables; every constraint has a name that a migration can use."""

    metadata = MetaData(naming_convention=NAMING)


# Text that every database orders by code point, so that a prefix search is a range of an index.
_BINARY_TEXT = Text().with_variant(Text(collation="C"), "postgresql")

# The largest id of a row; PostgreSQL refuses to compare with larger ones.
MAX_ID = 2**31 - 1
# Characters in the URL of an endpoint.
MAX_URL = 2000
# Characters in the name of an endpoint.
MAX_NAME = 100


# The condition for an attempt that failed, and after which its delivery was not dead.
FAILED_ATTEMPT = "decided NOT IN ('delivered', 'dead')"


class DeliveryStatus(StrEnum):
    """The status of a delivery: pending and held are open, the others are settled.

    Held is not stored: it is a pending delivery whose endpoint is disabled.
    """

    PENDING = "pending"
    DELIVERED = "delivered"
    DEAD = "dead"
    HELD = "held"
    CANCELLED = "cancelled"


class Course(Base):
    """A course; deletion sets `deleted_at`, and restoration within a grace period clears it.

    `version` grows with every deletion, restoration and regeneration. These and a new title set
    `changed_at`. `grades_version` grows with every import that changes a grade, at
    `grades_changed_at`. A course of a Moodle has no tokens here: Moodle issues its own.
    `search_key` is `search.key` of id and title.
    """

    __tablename__ = "courses"
    __table_args__ = (
        Index(None, "search_key", "id"),
        Index("ix_courses_deleted", "course_id", **only_where("deleted_at IS NOT NULL")),
        Index("ix_courses_present", "course_id", **only_where("deleted_at IS NULL")),
        NEVER_REUSED,
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    course_id: Mapped[str] = mapped_column(String(255), unique=True)
    title: Mapped[str] = mapped_column(Text)
    search_key: Mapped[str | None] = mapped_column(_BINARY_TEXT)
    version: Mapped[int]
    grades_version: Mapped[int]
    grades_changed_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    changed_at: Mapped[datetime] = mapped_column(UtcDateTime)
    deleted_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    tokens: Mapped[list["IssuedToken"]] = relationship(
        back_populates="course", order_by="IssuedToken.id"
    )


class IssuedToken(Base):
    """One generation of a course's token; superseded ones are kept, to explain their refusal.

    A superseded one is good until `valid_until`, or ended when it was superseded. One that replaced
    another with an overlap can be claimed until `claimable_until`, as long as its `encrypted_token`
    is stored: until it is used.
    """

    __tablename__ = "issued_tokens"
    __table_args__ = (
        Index(
            "ix_issued_tokens_claimable",
            "claimable_until",
            **only_where("encrypted_token IS NOT NULL"),
        ),
        NEVER_REUSED,
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    course_pk: Mapped[int] = mapped_column(ForeignKey("courses.id"), index=True)
    token_id: Mapped[str] = mapped_column(String(64), unique=True)
    secret_sha256: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    superseded_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    valid_until: Mapped[datetime | None] = mapped_column(UtcDateTime)
    encrypted_token: Mapped[str | None] = mapped_column(Text)
    claimable_until: Mapped[datetime | None] = mapped_column(UtcDateTime)
    course: Mapped[Course] = relationship(back_populates="tokens")


class Grade(Base):
    """One student's score in a course, with the field names of LTI AGS."""

    __tablename__ = "grades"

    course_pk: Mapped[int] = mapped_column(ForeignKey("courses.id"), primary_key=True)
    user_id: Mapped[str] = mapped_column(String(255), primary_key=True)
    score_given: Mapped[Decimal | None] = mapped_column(ExactDecimal)
    score_maximum: Mapped[Decimal] = mapped_column(ExactDecimal)
    comment: Mapped[str | None] = mapped_column(Text)
    timestamp: Mapped[datetime] = mapped_column(UtcDateTime)
    activity_progress: Mapped[str] = mapped_column(String(20))
    grading_progress: Mapped[str] = mapped_column(String(20))


class Endpoint(Base):
    """A URL that is subscribed to events; `event_types` None means all course events.

    `failures` counts the failures since the last success; the first was at `failing_since`, the
    last at `failed_at`. Until `paused_until` no event is sent; then a single attempt tries again.
    The next heartbeat is sent at `heartbeat_due_at`, None before the first one. The receiver
    was last told the interval `heartbeat_seconds`, 0 if none are sent.
    `disabled_by` is the person who disabled it, if one did. A removed endpoint is also disabled; it
    is kept for the history of its deliveries, and its URL can be registered again. With
    `may_claim_tokens` the owner of its secret may claim new course tokens.
    """

    __tablename__ = "endpoints"
    __table_args__ = (
        Index("uq_endpoints_url", "url", unique=True, **only_where("removed_at IS NULL")),
        NEVER_REUSED,
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    url: Mapped[str] = mapped_column(String(MAX_URL))
    name: Mapped[str] = mapped_column(String(MAX_NAME), server_default=text("''"))
    event_types: Mapped[list[str] | None] = mapped_column(JSON(none_as_null=True))
    may_claim_tokens: Mapped[bool] = mapped_column(server_default=false())
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    disabled_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    disabled_reason: Mapped[str | None] = mapped_column(Text)
    disabled_by: Mapped[str | None] = mapped_column(String(255))
    removed_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    failures: Mapped[int] = mapped_column(server_default=text("0"))
    failing_since: Mapped[datetime | None] = mapped_column(UtcDateTime)
    failed_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    paused_until: Mapped[datetime | None] = mapped_column(UtcDateTime)
    heartbeat_due_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    heartbeat_seconds: Mapped[int | None]


class EndpointSecret(Base):
    """An encrypted secret of an endpoint; a replaced one also signs until `expires_at`."""

    __tablename__ = "endpoint_secrets"
    __table_args__ = (NEVER_REUSED,)

    id: Mapped[int] = mapped_column(primary_key=True)
    endpoint_id: Mapped[int] = mapped_column(ForeignKey("endpoints.id"), index=True)
    encrypted: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    expires_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class TokenClaim(Base):
    """The `webhook-id` of a claim that an endpoint sent, so that it is not answered again."""

    __tablename__ = "token_claims"

    endpoint_id: Mapped[int] = mapped_column(ForeignKey("endpoints.id"), primary_key=True)
    webhook_id: Mapped[str] = mapped_column(String(255), primary_key=True)
    received_at: Mapped[datetime] = mapped_column(UtcDateTime)


class Event(Base):
    """An event, written in the transaction of its cause; `id` is the webhook-id.

    `body` is the text that is signed and sent. An operational event has an empty `course_id` and
    version 0. `traceparent` is the trace span that caused the event.
    """

    __tablename__ = "events"
    __table_args__ = (Index(None, "type", "occurred_at"),)

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    type: Mapped[str] = mapped_column(String(64))
    course_id: Mapped[str] = mapped_column(String(255), index=True)
    course_version: Mapped[int]
    body: Mapped[str] = mapped_column(Text)
    occurred_at: Mapped[datetime] = mapped_column(UtcDateTime)
    traceparent: Mapped[str | None] = mapped_column(String(55))


class Attempt(Base):
    """One POST of a delivery: time, duration, response or failure, decision.

    If its worker was lost, `started_at` is when the lease expired: the start was not recorded.
    """

    __tablename__ = "attempts"
    __table_args__ = (
        Index("ix_attempts_failed", "started_at", **only_where(FAILED_ATTEMPT)),
        NEVER_REUSED,
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    delivery_id: Mapped[int] = mapped_column(ForeignKey("deliveries.id"), index=True)
    started_at: Mapped[datetime] = mapped_column(UtcDateTime)
    milliseconds: Mapped[int]
    status: Mapped[int | None]
    failure: Mapped[str | None] = mapped_column(String(40))
    detail: Mapped[str | None] = mapped_column(Text)
    decided: Mapped[str] = mapped_column(String(20))


class Delivery(Base):
    """The delivery of one event to one endpoint.

    `attempts` counts since the start of the schedule; a replay restarts it. `attempt_count` is
    the number of attempts that are recorded. `lost_claims` counts the claims in a row whose worker
    was lost. `lease_token` is the claim that may settle the delivery until `leased_until`.
    `created_at` is the time of its event and orders deliveries.
    """

    __tablename__ = "deliveries"
    __table_args__ = (
        UniqueConstraint("event_id", "endpoint_id"),
        # The status comes first also where it is always the same: without it SQLite prefers an
        # index with an equality, and reads the whole backlog.
        Index(
            "ix_deliveries_free",
            "status",
            "endpoint_id",
            "due_at",
            "id",
            **only_where("status = 'pending' AND lease_token IS NULL"),
        ),
        Index(
            "ix_deliveries_suspect",
            "status",
            "due_at",
            **only_where("status = 'pending' AND lease_token IS NULL AND lost_claims >= 2"),
        ),
        Index(None, "endpoint_id", "status", "created_at", "id"),
        Index(None, "status"),
        Index(None, "status", "leased_until", **only_where("leased_until IS NOT NULL")),
        Index(None, "status", "settled_at", **only_where("settled_at IS NOT NULL")),
        CheckConstraint("status IN ('pending', 'delivered', 'dead', 'cancelled')", name="status"),
        NEVER_REUSED,
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    event_id: Mapped[str] = mapped_column(ForeignKey("events.id"))
    endpoint_id: Mapped[int] = mapped_column(ForeignKey("endpoints.id"))
    stored_status: Mapped[str] = mapped_column("status", String(10))
    attempts: Mapped[int]
    lost_claims: Mapped[int] = mapped_column(server_default=text("0"))
    due_at: Mapped[datetime] = mapped_column(UtcDateTime)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    settled_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    reason: Mapped[str | None] = mapped_column(Text)
    lease_token: Mapped[str | None] = mapped_column(String(32))
    leased_until: Mapped[datetime | None] = mapped_column(UtcDateTime)
    event: Mapped[Event] = relationship()
    endpoint: Mapped[Endpoint] = relationship()
    # No index has it: a condition on many deliveries needs one on the stored status.
    status: Mapped[str] = column_property(
        case(
            (
                and_(
                    stored_status == DeliveryStatus.PENDING,
                    select(Endpoint.disabled_at.is_not(None))
                    .where(Endpoint.id == endpoint_id)
                    .correlate_except(Endpoint)
                    .scalar_subquery(),
                ),
                DeliveryStatus.HELD.value,
            ),
            else_=stored_status,
        )
    )
    attempt_count: Mapped[int] = column_property(
        select(func.count(Attempt.id))
        .where(Attempt.delivery_id == id)  # noqa: A003 - the column of this table
        .correlate_except(Attempt)
        .scalar_subquery(),
        deferred=True,
    )

    @property
    def tried_at(self) -> datetime:
        """When a pending delivery is attempted next: not before its endpoint's pause has ended."""
        return max(self.due_at, self.endpoint.paused_until or self.due_at)


class EndpointPing(Base):
    """The last ping of an endpoint or its last heartbeat: time, duration, response or failure."""

    __tablename__ = "endpoint_pings"

    endpoint_id: Mapped[int] = mapped_column(ForeignKey("endpoints.id"), primary_key=True)
    started_at: Mapped[datetime] = mapped_column(UtcDateTime)
    milliseconds: Mapped[int]
    status: Mapped[int | None]
    failure: Mapped[str | None] = mapped_column(String(40))
    detail: Mapped[str | None] = mapped_column(Text)
    accepted: Mapped[bool]


class MoodleEventReceipt(Base):
    """An event that was received from a Moodle; the primary key detects duplicates."""

    __tablename__ = "moodle_event_receipts"

    host: Mapped[str] = mapped_column(String(255), primary_key=True)
    event_name: Mapped[str] = mapped_column(String(255), primary_key=True)
    object_id: Mapped[str] = mapped_column(String(255), primary_key=True)
    time_created: Mapped[str] = mapped_column(String(20), primary_key=True)
    outcome: Mapped[str] = mapped_column(String(10))
    received_at: Mapped[datetime] = mapped_column(UtcDateTime)


class Replay(Base):
    """A replay of a delivery: when, and the status before; the audit table has by whom."""

    __tablename__ = "replays"
    __table_args__ = (NEVER_REUSED,)

    id: Mapped[int] = mapped_column(primary_key=True)
    delivery_id: Mapped[int] = mapped_column(ForeignKey("deliveries.id"), index=True)
    replayed_at: Mapped[datetime] = mapped_column(UtcDateTime)
    previous_status: Mapped[str] = mapped_column(String(10))


class CounterShard(CounterColumns, Base):
    """The stored counters for the metrics."""


ACTIONS = (
    *("course.add", "course.set-title", "course.delete", "course.restore"),
    *("course.regenerate-token", "course.announce-token", "course.claim-token"),
    *("course.forget-grades", "endpoint.add", "endpoint.disable", "endpoint.enable"),
    *("endpoint.retry", "endpoint.set-event-types", "endpoint.set-token-claims"),
    *("endpoint.correct-url", "endpoint.rotate-secret", "endpoint.remove", "endpoint.set-name"),
    *("delivery.replay", *audit.ACTIONS),
)
"""The actions in the audit table of eAssessment."""

audit.add_audit_table(Base.metadata)
add_user_tables(Base.metadata)
SCHEMA = Schema("notifier", Base.metadata)
