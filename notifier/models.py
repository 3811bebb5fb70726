"""eAssessment's tables: courses, tokens, grades, endpoints, events, deliveries, attempts."""

from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    JSON,
    CheckConstraint,
    ForeignKey,
    Index,
    MetaData,
    String,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from foundation.db.counters import CounterColumns
from foundation.db.migrations import Schema
from foundation.db.session import NAMING, Database, ExactDecimal, UtcDateTime
from foundation.pages.models import add_user_tables
from notifier.config import Settings

SOURCE = "source"
"""Under this key a session knows the name of the site whose events it writes."""


class Base(DeclarativeBase):
    """The root of the tables; every constraint has a name that a migration can use."""

    metadata = MetaData(naming_convention=NAMING)


def open_database(settings: Settings) -> Database:
    """Return the database that the settings name; nothing is connected yet."""
    return Database(
        settings.database_url.get_secret_value(),
        timeout=settings.database_timeout,
        pool_size=max(10, settings.web_threads),
        info={SOURCE: settings.source},
    )


# Without it SQLite gives a deleted row's number to a new one, and a trace of the old would speak
# of the new.
_NEVER_REUSED = {"sqlite_autoincrement": True}


def _where(condition: str) -> dict[str, Any]:
    """Return what makes an index one of some rows only: the others cost it nothing."""
    return {f"{dialect}_where": text(condition) for dialect in ("sqlite", "postgresql")}


_IN_BYTES = Text().with_variant(Text(collation="C"), "postgresql")
"""Text in an order that is alike on each database, and in which a beginning is a range."""

MAX_ID = 2**31 - 1
"""The highest number that a row can have; a database does not even compare with higher ones."""
MAX_URL = 2000
"""How long the URL of an endpoint may be."""


class DeliveryStatus(StrEnum):
    """Where a delivery stands: the first and the last are open, the others settled."""

    PENDING = "pending"
    DELIVERED = "delivered"
    DEAD = "dead"
    HELD = "held"


class Lane(StrEnum):
    """Which places a delivery may take at a worker.

    `first`: an event's first attempt; some places are reserved for these.
    `again`: retried, replayed or released, in the places that are not reserved.
    `alone`: its worker was lost; a worker takes one of these at a time, for it may be the cause.
    """

    FIRST = "first"
    RETRY = "retry"
    ISOLATED = "isolated"


class Course(Base):
    """A course, or what remains of one: `deleted_at` is set once and for good.

    `version` grows with every deletion and regeneration, `grades_version` with every load of
    grades that changed one, at `grades_changed_at`; that is None if it was before it was written
    down. A course that lives in a Moodle has no tokens here: Moodle issues its own.
    `search_key` is what a search looks through: `search.key` of id and title.
    """

    __tablename__ = "courses"
    __table_args__ = (
        Index(None, "search_key", "id"),
        Index("ix_courses_deleted", "course_id", **_where("deleted_at IS NOT NULL")),
        Index("ix_courses_present", "course_id", **_where("deleted_at IS NULL")),
        _NEVER_REUSED,
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    course_id: Mapped[str] = mapped_column(String(255), unique=True)
    title: Mapped[str] = mapped_column(Text)
    search_key: Mapped[str | None] = mapped_column(_IN_BYTES)
    version: Mapped[int]
    grades_version: Mapped[int]
    grades_changed_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    deleted_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    tokens: Mapped[list["IssuedToken"]] = relationship(
        back_populates="course", order_by="IssuedToken.id"
    )


class IssuedToken(Base):
    """One generation of a course's token; superseded ones stay, so that their bearer learns why."""

    __tablename__ = "issued_tokens"
    __table_args__ = (_NEVER_REUSED,)

    id: Mapped[int] = mapped_column(primary_key=True)
    course_pk: Mapped[int] = mapped_column(ForeignKey("courses.id"), index=True)
    token_id: Mapped[str] = mapped_column(String(64), unique=True)
    secret_sha256: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    superseded_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    course: Mapped[Course] = relationship(back_populates="tokens")


class Grade(Base):
    """One student's score in a course, by the names of LTI AGS."""

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
    """A URL that wants events; `event_types` None means all events of courses.

    `failures` counts the attempts that failed since one was answered well, `failing_since` is when
    the first of them did and `failed_at` when the last did. Until `paused_until` nothing is sent;
    then one attempt tries whether it is well again.
    """

    __tablename__ = "endpoints"
    __table_args__ = (_NEVER_REUSED,)

    id: Mapped[int] = mapped_column(primary_key=True)
    url: Mapped[str] = mapped_column(String(MAX_URL), unique=True)
    event_types: Mapped[list[str] | None] = mapped_column(JSON(none_as_null=True))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    disabled_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    disabled_reason: Mapped[str | None] = mapped_column(Text)
    failures: Mapped[int] = mapped_column(server_default=text("0"))
    failing_since: Mapped[datetime | None] = mapped_column(UtcDateTime)
    failed_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    paused_until: Mapped[datetime | None] = mapped_column(UtcDateTime)


class EndpointSecret(Base):
    """A sealed secret of an endpoint; an old one signs beside the new until `expires_at`."""

    __tablename__ = "endpoint_secrets"
    __table_args__ = (_NEVER_REUSED,)

    id: Mapped[int] = mapped_column(primary_key=True)
    endpoint_id: Mapped[int] = mapped_column(ForeignKey("endpoints.id"), index=True)
    encrypted: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    expires_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class Event(Base):
    """A fact, written in the transaction of its cause; `id` is the webhook-id, `body` its bytes.

    One that is about no course has an empty `course_id`, and 0 for its version. `traceparent` is
    the span that caused it; those of before traces were kept have none.
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


class Delivery(Base):
    """One event for one endpoint until settled.

    `attempts` counts those since the schedule began (a replay begins it anew).
    `lease_token` names the worker's claim that may settle it until `leased_until`.
    `created_at` is the moment of its event: by it deliveries are found in their order.
    """

    __tablename__ = "deliveries"
    __table_args__ = (
        UniqueConstraint("event_id", "endpoint_id"),
        Index(None, "endpoint_id", "status", "lane", "due_at"),
        Index(None, "endpoint_id", "status", "created_at", "id"),
        Index(None, "status", "due_at"),
        Index(None, "leased_until", **_where("leased_until IS NOT NULL")),
        Index(None, "status", "settled_at", **_where("settled_at IS NOT NULL")),
        CheckConstraint("status IN ('pending', 'delivered', 'dead', 'held')", name="status"),
        _NEVER_REUSED,
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    event_id: Mapped[str] = mapped_column(ForeignKey("events.id"))
    endpoint_id: Mapped[int] = mapped_column(ForeignKey("endpoints.id"))
    status: Mapped[str] = mapped_column(String(10))
    lane: Mapped[str] = mapped_column(String(8), server_default=Lane.FIRST)
    attempts: Mapped[int]
    due_at: Mapped[datetime] = mapped_column(UtcDateTime)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    settled_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    reason: Mapped[str | None] = mapped_column(Text)
    lease_token: Mapped[str | None] = mapped_column(String(32))
    leased_until: Mapped[datetime | None] = mapped_column(UtcDateTime)
    event: Mapped[Event] = relationship()
    endpoint: Mapped[Endpoint] = relationship()


class Attempt(Base):
    """One POST of a delivery: when, how long, what was answered, what was decided."""

    __tablename__ = "attempts"
    __table_args__ = (_NEVER_REUSED,)

    id: Mapped[int] = mapped_column(primary_key=True)
    delivery_id: Mapped[int] = mapped_column(ForeignKey("deliveries.id"), index=True)
    started_at: Mapped[datetime] = mapped_column(UtcDateTime)
    milliseconds: Mapped[int]
    status: Mapped[int | None]
    failure: Mapped[str | None] = mapped_column(String(40))
    detail: Mapped[str | None] = mapped_column(Text)
    decided: Mapped[str] = mapped_column(String(20))


class EndpointPing(Base):
    """The last test of an endpoint: when, how long, what was answered, whether that took it."""

    __tablename__ = "endpoint_pings"

    endpoint_id: Mapped[int] = mapped_column(ForeignKey("endpoints.id"), primary_key=True)
    started_at: Mapped[datetime] = mapped_column(UtcDateTime)
    milliseconds: Mapped[int]
    status: Mapped[int | None]
    failure: Mapped[str | None] = mapped_column(String(40))
    detail: Mapped[str | None] = mapped_column(Text)
    accepted: Mapped[bool]


class MoodleEventReceipt(Base):
    """A Moodle event that was taken: the primary key answers whether it is a duplicate."""

    __tablename__ = "moodle_event_receipts"

    host: Mapped[str] = mapped_column(String(255), primary_key=True)
    event_name: Mapped[str] = mapped_column(String(255), primary_key=True)
    object_id: Mapped[str] = mapped_column(String(255), primary_key=True)
    time_created: Mapped[str] = mapped_column(String(20), primary_key=True)
    outcome: Mapped[str] = mapped_column(String(10))
    received_at: Mapped[datetime] = mapped_column(UtcDateTime)


class Replay(Base):
    """Who made a delivery due again, when, and where it stood before."""

    __tablename__ = "replays"
    __table_args__ = (_NEVER_REUSED,)

    id: Mapped[int] = mapped_column(primary_key=True)
    delivery_id: Mapped[int] = mapped_column(ForeignKey("deliveries.id"), index=True)
    replayed_at: Mapped[datetime] = mapped_column(UtcDateTime)
    replayed_by: Mapped[str] = mapped_column(String(255))
    previous_status: Mapped[str] = mapped_column(String(10))


class CounterShard(CounterColumns, Base):
    """How much of what has happened, for the numbers that operations watch."""


add_user_tables(Base.metadata)
SCHEMA = Schema("notifier", Base.metadata)
