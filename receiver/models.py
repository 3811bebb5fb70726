"""The tables of ELMS: sources, inbox, registry, history, gradebook, runs."""

from datetime import datetime
from decimal import Decimal

from sqlalchemy import (
    JSON,
    BigInteger,
    Double,
    ForeignKey,
    Index,
    MetaData,
    String,
    Text,
    UniqueConstraint,
    and_,
    false,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from foundation.db import audit
from foundation.db.counters import CounterColumns
from foundation.db.migrations import Schema
from foundation.db.session import NAMING, NEVER_REUSED, ExactDecimal, UtcDateTime
from foundation.errors import Advice
from foundation.pages.models import add_user_tables
from receiver.course_state import index_conditions


class Base(DeclarativeBase):
    """The base class of the tables; it gives every constraint a name, which migrations need."""

    metadata = MetaData(naming_convention=NAMING)


# Ids are opaque: they are sorted by bytes, not by the collation of the database.
_BYTEWISE = String(255).with_variant(String(255, collation="C"), "postgresql")


# The kinds of sources: our own grades API, and Moodle's web services.
API = "api"
MOODLE = "moodle"


class Source(Base):
    """An eAssessment site: its name in events, its URL and its kind.

    `encrypted_site_token` is a token of a Moodle that can read every course. The last heartbeat was
    received at `heartbeat_at`; one is sent every `heartbeat_seconds`, None if none are. ELMS was
    last started at `listening_since`.
    A grade sync last requested grades from it at `requested_at`, and claimed tokens from it at
    `claimed_at`.
    """

    __tablename__ = "sources"
    __table_args__ = (NEVER_REUSED,)

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(100), unique=True)
    url: Mapped[str] = mapped_column(String(2000))
    kind: Mapped[str] = mapped_column(String(20), default=API)
    encrypted_site_token: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    heartbeat_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    heartbeat_seconds: Mapped[int | None]
    listening_since: Mapped[datetime | None] = mapped_column(UtcDateTime)
    requested_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    claimed_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    secrets: Mapped[list["SourceSecret"]] = relationship(
        order_by="SourceSecret.id", back_populates="source"
    )

    @property
    def platform(self) -> str:
        """What messages call the site."""
        return "Moodle" if self.kind == MOODLE else "eAssessment"


class SourceSecret(Base):
    """An encrypted webhook secret of a source; there are several during a rotation."""

    __tablename__ = "source_secrets"
    __table_args__ = (NEVER_REUSED,)

    id: Mapped[int] = mapped_column(primary_key=True)
    source_id: Mapped[int] = mapped_column(ForeignKey("sources.id"), index=True)
    encrypted: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    source: Mapped[Source] = relationship(back_populates="secrets")


class SourceRefusal(Base):
    """Why webhooks at the route of a source were last refused, since when, and the last time."""

    __tablename__ = "source_refusals"

    source_id: Mapped[int] = mapped_column(ForeignKey("sources.id"), primary_key=True)
    status: Mapped[int]
    reason: Mapped[str] = mapped_column(String(40))
    detail: Mapped[str] = mapped_column(Text)
    since: Mapped[datetime] = mapped_column(UtcDateTime)
    last_at: Mapped[datetime] = mapped_column(UtcDateTime)


class InboxMessage(Base):
    """An accepted webhook; the primary key decides whether another one is a duplicate."""

    __tablename__ = "inbox"
    __table_args__ = (
        Index(None, "received_at", "source_id", "webhook_id"),
        Index(None, "source_id", "received_at", "webhook_id"),
        Index(None, "outcome", "received_at", "source_id", "webhook_id"),
        Index(None, "course_id", "received_at", "source_id", "webhook_id"),
    )

    source_id: Mapped[int] = mapped_column(ForeignKey("sources.id"), primary_key=True)
    webhook_id: Mapped[str] = mapped_column(String(255), primary_key=True)
    type: Mapped[str] = mapped_column(String(255))
    course_id: Mapped[str | None] = mapped_column(String(255))
    course_version: Mapped[int | None] = mapped_column(BigInteger)
    body_sha256: Mapped[str] = mapped_column(String(64))
    outcome: Mapped[str] = mapped_column(String(10))
    received_at: Mapped[datetime] = mapped_column(UtcDateTime)


class Entry(Base):
    """A course: its stored token, and the facts that eAssessment reported.

    It is in the registry, and so in the grade sync, if it was added; `added_at` is None for a
    course of which only events were received. There is no status column: the status is derived
    from the facts (`course_state`). `gradebook_course` and `gradebook_activity` say where its
    grades go in ELMS's Moodle. The last claim of the token `claim_failed_token_id` failed.
    """

    __tablename__ = "entries"
    __table_args__ = (
        UniqueConstraint("source_id", "course_id"),
        # Not partial: SQLite would choose it for a query by status, instead of that status's index.
        Index(None, "course_id", "source_id", "added_at"),
        NEVER_REUSED,
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    source_id: Mapped[int] = mapped_column(ForeignKey("sources.id"))
    course_id: Mapped[str] = mapped_column(_BYTEWISE)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    added_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    encrypted_token: Mapped[str | None] = mapped_column(Text)
    stored_token_id: Mapped[str | None] = mapped_column(String(64))
    deleted_version: Mapped[int | None] = mapped_column(BigInteger)
    deleted_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    restored_version: Mapped[int | None] = mapped_column(BigInteger)
    restored_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    announced_version: Mapped[int | None] = mapped_column(BigInteger)
    announced_token_id: Mapped[str | None] = mapped_column(String(64))
    announced_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    announced_valid_until: Mapped[datetime | None] = mapped_column(UtcDateTime)
    rejected_token_id: Mapped[str | None] = mapped_column(String(64))
    rejected_reason: Mapped[str | None] = mapped_column(Text)
    rejected_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    accepted_token_id: Mapped[str | None] = mapped_column(String(64))
    accepted_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    claim_failed_token_id: Mapped[str | None] = mapped_column(String(64))
    claim_failed_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    claim_failure: Mapped[str | None] = mapped_column(String(10))
    claim_failure_detail: Mapped[str | None] = mapped_column(Text)
    gradebook_course: Mapped[str | None] = mapped_column(String(20))
    gradebook_activity: Mapped[str | None] = mapped_column(String(20))
    etag: Mapped[str | None] = mapped_column(String(255))
    synced_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    source: Mapped[Source] = relationship(lazy="raise")

    @property
    def is_added(self) -> bool:
        """Whether the course is in the registry."""
        return self.added_at is not None


# An index of the added entries for each status, in the order of lists.
for _status, _condition in index_conditions(Entry).items():
    _where = and_(Entry.added_at.is_not(None), _condition)
    _keys = (Entry.course_id, Entry.source_id)
    Index(f"ix_entries_{_status.value}", *_keys, sqlite_where=_where, postgresql_where=_where)


# The condition for a fact that a webhook brings, but a sync found.
FOUND_BY_SYNC = (
    "actor = 'sync' AND event IN ('course.deleted', 'course.restored', 'token.regenerated')"
)


class HistoryEntry(Base):
    """A fact or a change of a course: its actor, its time, and the resulting status."""

    __tablename__ = "history"
    __table_args__ = (
        Index(
            "ix_history_found_by_sync",
            "actor",
            "at",
            sqlite_where=text(FOUND_BY_SYNC),
            postgresql_where=text(FOUND_BY_SYNC),
        ),
        NEVER_REUSED,
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    entry_id: Mapped[int] = mapped_column(ForeignKey("entries.id"), index=True)
    at: Mapped[datetime] = mapped_column(UtcDateTime)
    actor: Mapped[str] = mapped_column(String(20))
    actor_name: Mapped[str] = mapped_column(String(255))
    event: Mapped[str] = mapped_column(String(40))
    detail: Mapped[str | None] = mapped_column(Text)
    status: Mapped[str] = mapped_column(String(20))


class StoredScore(Base):
    """The score of one student in ELMS's own gradebook, with the field names of LTI AGS."""

    __tablename__ = "scores"

    entry_id: Mapped[int] = mapped_column(ForeignKey("entries.id"), primary_key=True)
    user_id: Mapped[str] = mapped_column(String(255), primary_key=True)
    score_given: Mapped[Decimal | None] = mapped_column(ExactDecimal)
    score_maximum: Mapped[Decimal] = mapped_column(ExactDecimal)
    comment: Mapped[str | None] = mapped_column(Text)
    timestamp: Mapped[datetime] = mapped_column(UtcDateTime)
    activity_progress: Mapped[str] = mapped_column(String(20))
    grading_progress: Mapped[str] = mapped_column(String(20))


class Run(Base):
    """One run of the grade sync; `ended_at` stays None if it was killed.

    `partial`: only the named courses or sources were synced. `unattended`: it is for every
    course, and was not started at a terminal or on a page, but by cron, a timer or a script.
    `stopped` says why it ended early.
    Unchanged courses have no row in `run_courses`, but are counted while it runs.
    `deleted` of the skipped courses were deleted; those that were known when it started have no
    row either, and are counted from then on.
    The score counts are None if the run did not record them.
    """

    __tablename__ = "runs"
    __table_args__ = (NEVER_REUSED,)

    id: Mapped[int] = mapped_column(primary_key=True)
    holder: Mapped[str] = mapped_column(String(255))
    started_at: Mapped[datetime] = mapped_column(UtcDateTime)
    ended_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    synced: Mapped[int] = mapped_column(default=0)
    unchanged: Mapped[int] = mapped_column(default=0)
    skipped: Mapped[int] = mapped_column(default=0)
    deleted: Mapped[int] = mapped_column(default=0)
    failed: Mapped[int] = mapped_column(default=0)
    scores_added: Mapped[int | None]
    scores_changed: Mapped[int | None]
    scores_unchanged: Mapped[int | None]
    requests: Mapped[int] = mapped_column(default=0)
    statements: Mapped[int] = mapped_column(default=0)
    seconds: Mapped[float | None] = mapped_column(Double)
    partial: Mapped[bool] = mapped_column(server_default=false())
    unattended: Mapped[bool] = mapped_column(server_default=false())
    stopped: Mapped[str | None] = mapped_column(Text)
    exit_code: Mapped[int | None]


class RunCourse(Base):
    """The result of one course in one run; unchanged and known deleted courses have none."""

    __tablename__ = "run_courses"
    __table_args__ = (
        Index(None, "run_id", "outcome", "source", "id"),
        Index(None, "course_id", "source", "id"),
        NEVER_REUSED,
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id"))
    source: Mapped[str] = mapped_column(String(100))
    course_id: Mapped[str] = mapped_column(String(255))
    outcome: Mapped[str] = mapped_column(String(10))
    reason: Mapped[str | None] = mapped_column(String(40))
    detail: Mapped[str | None] = mapped_column(Text)
    since: Mapped[datetime | None] = mapped_column(UtcDateTime)
    next_step: Mapped[str | None] = mapped_column(Text)
    # A command and its arguments.
    action: Mapped[list[str] | None] = mapped_column(JSON(none_as_null=True))

    @property
    def advice(self) -> Advice | None:
        """What to do about it."""
        if self.next_step is None:
            return None
        action, *args = self.action or (None,)
        return Advice(self.next_step, action, tuple(map(str, args)))


class RunPerson(Base):
    """A person of a course whose score a run did not import, and why."""

    __tablename__ = "run_people"
    __table_args__ = (Index(None, "run_id", "source", "course_id", "id"), NEVER_REUSED)

    id: Mapped[int] = mapped_column(primary_key=True)
    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id"))
    source: Mapped[str] = mapped_column(String(100))
    course_id: Mapped[str] = mapped_column(String(255))
    # None for a person without an ID number; cut off if it is longer.
    user_id: Mapped[str | None] = mapped_column(String(255))
    # Whether ELMS keeps its own grade, because it is locked or overridden there.
    kept: Mapped[bool]
    detail: Mapped[str] = mapped_column(Text)


class SyncLease(Base):
    """The run that may write, and until when; `token` is None while the lease is free."""

    __tablename__ = "sync_lease"

    name: Mapped[str] = mapped_column(String(20), primary_key=True)
    holder: Mapped[str | None] = mapped_column(String(255))
    token: Mapped[str | None] = mapped_column(String(32))
    leased_until: Mapped[datetime | None] = mapped_column(UtcDateTime)


class SyncPause(Base):
    """The last pause of the grade sync: since when, by whom, and when it was resumed."""

    __tablename__ = "sync_pause"

    name: Mapped[str] = mapped_column(String(20), primary_key=True)
    paused_at: Mapped[datetime] = mapped_column(UtcDateTime)
    paused_by: Mapped[str] = mapped_column(String(255))
    resumed_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class CounterShard(CounterColumns, Base):
    """The values of the counters, for the metrics."""


ACTIONS = (
    *("entry.add", "entry.remove", "entry.set-token", "entry.set-activity", "entry.forget-grades"),
    *("source.add", "source.set-url", "source.add-secret", "source.remove-secret"),
    *("source.set-site-token", "source.remove", "sync.start", "sync.pause", "sync.resume"),
    *audit.ACTIONS,
)
"""The actions in the audit table of ELMS."""

audit.add_audit_table(Base.metadata)
add_user_tables(Base.metadata)
SCHEMA = Schema("receiver", Base.metadata)
