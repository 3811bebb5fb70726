"""The sources: eAssessment sites with their URL, webhook secrets and, for a Moodle, site token."""

import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from pydantic import TypeAdapter, ValidationError
from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session, selectinload

from contract.events import SourceName
from contract.signatures import Secret
from contract.tokens import MoodleToken
from foundation.crypto import Vault
from foundation.db import session as db
from foundation.errors import Advice
from foundation.http import hosts
from foundation.text import count
from receiver.errors import (
    CourseIdError,
    LastSecretError,
    SecretExistsError,
    SecretUnknownError,
    SourceExistsError,
    SourceInUseError,
    SourceInvalidError,
    SourceKindError,
    SourceUnclearError,
    SourceUnknownError,
)
from receiver.models import (
    API,
    MOODLE,
    Entry,
    HistoryEntry,
    InboxMessage,
    Source,
    SourceRefusal,
    SourceSecret,
    StoredScore,
)
from receiver.runs import lease

# The next step if there is no source yet.
FIRST_STEP = Advice("Add eAssessment as a source.", "sources add", ("NAME", "--url", "URL"))

# The id of a course in a Moodle.
MOODLE_COURSE = re.compile(r"[1-9][0-9]{0,17}", re.ASCII)

# The reason of a refusal because one of the two clocks is wrong.
CLOCK_DIFFERS = "timestamp-not-current"

COLUMNS = (
    *("source", "kind", "url", "secret_count", "site_token_set"),
    *("created_at", "last_webhook_at", "heartbeat_seconds", "silent"),
)
"""The columns of an exported list."""

_NAME: TypeAdapter[str] = TypeAdapter(SourceName)


@dataclass(frozen=True)
class WebhookSource:
    """A source for its webhook route: its name and its secrets."""

    source_id: int
    name: str
    secrets: tuple[Secret, ...]


@dataclass(frozen=True)
class LastRefusal:
    """Why webhooks at the route of a source are refused: since when, and the last time."""

    status: int
    reason: str
    detail: str
    since: datetime
    last_at: datetime


@dataclass(frozen=True)
class Reception:
    """When the last valid webhook of a source was received, and the interval of its heartbeats.

    ELMS was started at `listening_since`. `refusal` is the stored one, if nothing was received
    since.
    """

    last_at: datetime | None
    heartbeat: timedelta | None
    listening_since: datetime | None = None
    refusal: LastRefusal | None = None

    def is_silent(self, now: datetime) -> bool:
        """Return True if nothing was received for more than two intervals since ELMS started."""
        if self.last_at is None or self.heartbeat is None:
            return False
        since = self.last_at
        # A start in the future was recorded by a clock that was wrong.
        if self.listening_since is not None and self.listening_since <= now:
            since = max(since, self.listening_since)
        return now - since > 2 * self.heartbeat

    def is_refused(self, now: datetime) -> bool:
        """Return True if webhooks are refused, and none was received for an interval.

        One refused webhook can be from anyone; the next heartbeat shows that it was.
        """
        if self.refusal is None or self.last_at is None or self.heartbeat is None:
            return self.refusal is not None
        return now - self.last_at > self.heartbeat


def add(session: Session, name: str, url: str, kind: str = API, *, now: datetime) -> Source:
    """Add a source, or raise SourceInvalidError or SourceExistsError."""
    if not _is_name(name):
        raise SourceInvalidError(f"{name!r} is not a valid name of a source")
    source: Source | None = session.scalar(
        db.insert(session, Source)
        .values(name=name, url=_site_url(url), kind=kind, created_at=now)
        .on_conflict_do_nothing(index_elements=["name"])
        .returning(Source)
    )
    if source is None:
        raise SourceExistsError(f"the source {name} already exists")
    return source


def set_url(session: Session, source: Source, url: str, *, now: datetime) -> None:
    """Change the URL of a source, so that the next sync requests all grades of its courses there.

    Raises SourceInvalidError, or RunInProgressError while a sync may still use the old URL.
    """
    lease.check_free(session, now=now)
    source.url = _site_url(url)
    # The other server may give the same etags to other grades.
    session.execute(update(Entry).where(Entry.source_id == source.id).values(etag=None))


def remove(session: Session, source: Source) -> None:
    """Remove a source, and what it reported about courses that are not in the grade sync.

    Raises SourceInUseError if it has courses in the grade sync, or stored grades.
    """
    _lock(session, source)
    of_source = select(Entry.id).where(Entry.source_id == source.id)
    scores = select(StoredScore.entry_id).where(StoredScore.entry_id.in_(of_source)).distinct()
    for found, what, advice in (
        (
            of_source.where(Entry.added_at.is_not(None)),
            "in the grade sync",
            Advice(
                "Remove its courses first; their grades are kept.",
                "registry remove",
                ("--all", "--source", source.name),
            ),
        ),
        (
            scores,
            "with stored grades",
            Advice(
                "Delete these grades first, or keep the source.",
                "grades forget",
                ("--source", source.name),
            ),
        ),
    ):
        if courses := session.scalars(select(func.count()).select_from(found.subquery())).one():
            raise SourceInUseError(
                f"the source {source.name} has {count(courses, 'course')} {what}", advice=advice
            )
    session.execute(delete(HistoryEntry).where(HistoryEntry.entry_id.in_(of_source)))
    for table in (Entry, InboxMessage, SourceSecret, SourceRefusal):
        session.execute(delete(table).where(table.source_id == source.id))
    session.execute(delete(Source).where(Source.id == source.id))


def list_all(session: Session) -> list[Source]:
    """Return all sources with their secrets, by name."""
    return list(
        session.scalars(select(Source).options(selectinload(Source.secrets)).order_by(Source.name))
    )


def receptions(session: Session) -> dict[str, Reception]:
    """Return by name what is known of the last webhook of each source, by name, in one query."""
    last = select(InboxMessage.received_at).where(InboxMessage.source_id == Source.id)
    last = last.order_by(InboxMessage.received_at.desc()).limit(1)
    query = select(Source, SourceRefusal, last.scalar_subquery()).outerjoin(SourceRefusal)
    rows = session.execute(query.order_by(Source.name))
    return {source.name: _reception(source, refusal, at) for source, refusal, at in rows}


def _reception(
    source: Source, refused: SourceRefusal | None, received_at: datetime | None
) -> Reception:
    last_at = max(filter(None, (source.heartbeat_at, received_at)), default=None)
    refusal = None
    if refused is not None and (last_at is None or last_at < refused.last_at):
        refusal = LastRefusal(
            refused.status, refused.reason, refused.detail, refused.since, refused.last_at
        )
    seconds = source.heartbeat_seconds
    heartbeat = timedelta(seconds=seconds) if seconds else None
    return Reception(last_at, heartbeat, source.listening_since, refusal)


def store_heartbeat(session: Session, source_id: int, seconds: int, *, now: datetime) -> None:
    """Store that a source sent a heartbeat, and its interval; 0 means that it sends no more.

    Raises SourceUnknownError if the source was removed.
    """
    sent = update(Source).where(Source.id == source_id)
    found: Any = session.execute(sent.values(heartbeat_at=now, heartbeat_seconds=seconds or None))
    if not found.rowcount:
        raise SourceUnknownError("the source was removed")


def store_refusal(session: Session, name: str, refusal: LastRefusal, *, now: datetime) -> None:
    """Store that webhooks of a source are refused now, unless it was removed."""
    query = select(Source.id).where(Source.name == name).with_for_update(key_share=True)
    source_id = session.scalar(query)
    if source_id is None:
        return
    known = receptions(session)[name].refusal
    is_same = known is not None and known.reason == refusal.reason
    values = vars(refusal) | {"since": known.since if known and is_same else now, "last_at": now}
    insert = db.insert(session, SourceRefusal).values(source_id=source_id, **values)
    session.execute(insert.on_conflict_do_update(index_elements=["source_id"], set_=values))


def record_start(session: Session, *, now: datetime) -> None:
    """Record that ELMS starts: it could receive nothing before."""
    session.execute(update(Source).values(listening_since=now))


def record_request(session: Session, source_ids: Collection[int], *, now: datetime) -> None:
    """Record that grades were requested from sources."""
    if source_ids:
        session.execute(update(Source).where(Source.id.in_(source_ids)).values(requested_at=now))


def record_claim(session: Session, source_id: int, *, now: datetime) -> None:
    """Record that tokens were claimed from a source."""
    session.execute(update(Source).where(Source.id == source_id).values(claimed_at=now))


def export(session: Session, *, now: datetime) -> list[dict[str, Any]]:
    """Return all sources as rows with `COLUMNS`, by name."""
    received = receptions(session)
    return [
        {
            "source": source.name,
            "kind": source.kind,
            "url": source.url,
            "secret_count": len(source.secrets),
            "site_token_set": source.encrypted_site_token is not None,
            "created_at": source.created_at,
            "last_webhook_at": received[source.name].last_at,
            "heartbeat_seconds": source.heartbeat_seconds,
            "silent": received[source.name].is_silent(now),
        }
        for source in list_all(session)
    ]


def get(session: Session, name: str) -> Source:
    """Return a source, or raise SourceUnknownError (without a query for an invalid name)."""
    query = select(Source).options(selectinload(Source.secrets)).where(Source.name == name)
    source = session.scalar(query) if _is_name(name) else None
    if source is None:
        raise SourceUnknownError(f"there is no source {name!r}")
    return source


def choose(session: Session, name: str | None, *, course_id: str | None = None) -> Source:
    """Return the source of this name; without a name the only source, or the only one of a course.

    Raises SourceUnknownError or SourceUnclearError.
    """
    if name is not None:
        return get(session, name)
    sources = list_all(session)
    if not sources:
        raise SourceUnclearError("there is no source yet", advice=FIRST_STEP)
    if len(sources) > 1 and course_id is not None:
        with_course = set(
            session.scalars(select(Entry.source_id).where(Entry.course_id == course_id))
        )
        sources = [source for source in sources if source.id in with_course] or sources
    if len(sources) > 1:
        raise SourceUnclearError(f"there are {len(sources)} sources, and none was given")
    return sources[0]


def check_course(source: Source, course_id: str) -> None:
    """Raise CourseIdError if the source cannot have a course with this id."""
    if source.kind == MOODLE and not MOODLE_COURSE.fullmatch(course_id):
        raise CourseIdError(f"{course_id!r}: in a Moodle the id of a course is a number")


def get_webhook_source(session: Session, name: str, *, vault: Vault) -> WebhookSource:
    """Return a source with its secrets, or raise SourceUnknownError or DecryptionError."""
    source = get(session, name)
    return WebhookSource(source.id, source.name, tuple(secrets_of(source, vault=vault)))


def secrets_of(source: Source, *, vault: Vault) -> list[Secret]:
    """Return the decrypted secrets of a source, oldest first."""
    return [Secret.parse(vault.decrypt(row.encrypted)) for row in source.secrets]


def newest_secret(source: Source, *, vault: Vault) -> Secret | None:
    """Return the decrypted secret of a source that was added last, or None if it has none."""
    return Secret.parse(vault.decrypt(source.secrets[-1].encrypted)) if source.secrets else None


def add_secret(
    session: Session, source: Source, secret: Secret, *, vault: Vault, now: datetime
) -> SourceSecret:
    """Add a secret to those of a source, or raise SecretExistsError."""
    if secret in secrets_of(source, vault=vault):
        raise SecretExistsError(f"the source {source.name} already has this secret")
    row = SourceSecret(encrypted=vault.encrypt(secret.reveal()), created_at=now)
    source.secrets.append(row)
    session.flush()
    return row


def remove_secret(
    session: Session, source: Source, secret_id: int, *, even_last: bool = False
) -> int:
    """Remove a secret of a source, and return how many it has left.

    Raises SecretUnknownError, or LastSecretError unless `even_last`: without a secret, all webhooks
    of the source are refused.
    """
    _lock(session, source)
    secrets = select(SourceSecret).where(SourceSecret.source_id == source.id)
    rows = {row.id: row for row in session.scalars(secrets)}
    if secret_id not in rows:
        raise SecretUnknownError(f"the source {source.name} has no secret {secret_id}")
    if len(rows) == 1 and not even_last:
        raise LastSecretError(f"the secret {secret_id} is the last one of {source.name}")
    session.delete(rows[secret_id])
    return len(rows) - 1


def set_site_token(session: Session, source: Source, token: MoodleToken, *, vault: Vault) -> None:
    """Set or replace the site token of a Moodle, or raise SourceKindError."""
    if source.kind != MOODLE:
        raise SourceKindError(f"the source {source.name} is not a Moodle, but of the kind {API}")
    source.encrypted_site_token = vault.encrypt(token.reveal())
    session.flush()


def site_token_of(source: Source, *, vault: Vault) -> MoodleToken | None:
    """Return the decrypted site token of a source, or None if it has none."""
    encrypted = source.encrypted_site_token
    return None if encrypted is None else MoodleToken.parse(vault.decrypt(encrypted))


def ciphertexts_of(source: Source) -> list[str]:
    """Return everything that is stored encrypted for a source."""
    site_token = source.encrypted_site_token
    return [row.encrypted for row in source.secrets] + ([site_token] if site_token else [])


def reencrypt(session: Session, *, vault: Vault) -> int:
    """Re-encrypt all secrets and site tokens with the first key; return their number."""
    rows = session.scalars(select(SourceSecret).order_by(SourceSecret.id).with_for_update()).all()
    for row in rows:
        row.encrypted = vault.reencrypt(row.encrypted)
    moodles = session.scalars(
        select(Source)
        .where(Source.encrypted_site_token.is_not(None))
        .order_by(Source.id)
        .with_for_update()
    ).all()
    for source in moodles:
        source.encrypted_site_token = vault.reencrypt(str(source.encrypted_site_token))
    return len(rows) + len(moodles)


def _lock(session: Session, source: Source) -> None:
    session.execute(select(Source.id).where(Source.id == source.id).with_for_update())


def _site_url(url: str) -> str:
    if fault := hosts.site_url_error(url):
        raise SourceInvalidError(fault)
    return url.rstrip("/")


def _is_name(name: str) -> bool:
    try:
        _NAME.validate_python(name)
    except ValidationError:
        return False
    return True
