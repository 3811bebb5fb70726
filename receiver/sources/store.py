"""The eAssessment sites: where to ask each, and the secrets that its webhooks are signed with."""

import re
from dataclasses import dataclass
from datetime import datetime

from pydantic import TypeAdapter, ValidationError
from sqlalchemy import select
from sqlalchemy.orm import Session, selectinload

from contract.events import SourceName
from contract.signatures import Secret
from contract.tokens import MoodleToken
from foundation.crypto import Vault
from foundation.db import session as db
from foundation.errors import Advice
from foundation.http import hosts
from receiver.errors import (
    CourseIdError,
    SecretExistsError,
    SecretUnknownError,
    SourceExistsError,
    SourceInvalidError,
    SourceKindError,
    SourceUnclearError,
    SourceUnknownError,
)
from receiver.models import API, MOODLE, Entry, InboxMessage, Source, SourceSecret

FIRST_STEP = Advice("Add eAssessment as a source.", "sources add", ("NAME", "--url", "URL"))
"""What to do where there is no source yet."""

MOODLE_COURSE = re.compile(r"[1-9][0-9]{0,17}", re.ASCII)
"""The form of a course's id in a Moodle: its number."""

_NAME: TypeAdapter[str] = TypeAdapter(SourceName)


@dataclass(frozen=True)
class WebhookSource:
    """A source as its door knows it: who it is, and what its events are signed with."""

    source_id: int
    name: str
    secrets: tuple[Secret, ...]


def add(session: Session, name: str, url: str, kind: str = API, *, now: datetime) -> Source:
    """Add a source of a kind, or raise SourceInvalidError or SourceExistsError."""
    if not _is_name(name):
        raise SourceInvalidError(f"{name!r} cannot be a source's name")
    if fault := hosts.site_url_error(url):
        raise SourceInvalidError(fault)
    source: Source | None = session.scalar(
        db.insert(session, Source)
        .values(name=name, url=url.rstrip("/"), kind=kind, created_at=now)
        .on_conflict_do_nothing(index_elements=["name"])
        .returning(Source)
    )
    if source is None:
        raise SourceExistsError(f"the source {name} exists already")
    return source


def list_all(session: Session) -> list[Source]:
    """Return every source with its secrets, by name."""
    return list(
        session.scalars(select(Source).options(selectinload(Source.secrets)).order_by(Source.name))
    )


def last_heard(session: Session) -> dict[int, datetime | None]:
    """Return by source id when each source was heard last, in one query."""
    last = select(InboxMessage.received_at).where(InboxMessage.source_id == Source.id)
    last = last.order_by(InboxMessage.received_at.desc()).limit(1)
    rows = session.execute(select(Source.id, last.scalar_subquery()))
    return {row[0]: row[1] for row in rows}


def get(session: Session, name: str) -> Source:
    """Return a source, or raise SourceUnknownError; what cannot be a name costs no query."""
    source = _find(session, name) if _is_name(name) else None
    if source is None:
        raise SourceUnknownError(f"there is no source {name!r}")
    return source


def choose(session: Session, name: str | None, *, course_id: str | None = None) -> Source:
    """Return the source of this name; if none was named the only one, or the only one of a course.

    Raises SourceUnknownError or SourceUnclearError.
    """
    if name is not None:
        return get(session, name)
    sources = list_all(session)
    if not sources:
        raise SourceUnclearError("there is no source yet", advice=FIRST_STEP)
    if len(sources) > 1 and course_id is not None:
        spoke_of = set(session.scalars(select(Entry.source_id).where(Entry.course_id == course_id)))
        sources = [source for source in sources if source.id in spoke_of] or sources
    if len(sources) > 1:
        raise SourceUnclearError(f"there are {len(sources)} sources, and none was named")
    return sources[0]


def check_course(source: Source, course_id: str) -> None:
    """Raise CourseIdError if a source can have no course of this id."""
    if source.kind == MOODLE and not MOODLE_COURSE.fullmatch(course_id):
        raise CourseIdError(f"{course_id!r}: a course's id is a whole number in a Moodle")


def get_webhook_source(session: Session, name: str, *, vault: Vault) -> WebhookSource:
    """Return what the door of a source needs, or raise SourceUnknownError or SealError."""
    source = get(session, name)
    return WebhookSource(source.id, source.name, tuple(secrets_of(source, vault=vault)))


def secrets_of(source: Source, *, vault: Vault) -> list[Secret]:
    """Return a source's secrets, opened, the oldest first."""
    return [Secret.parse(vault.decrypt(row.encrypted)) for row in source.secrets]


def add_secret(
    session: Session, source: Source, secret: Secret, *, vault: Vault, now: datetime
) -> SourceSecret:
    """Add a secret to a source, beside those that it has; raise SecretExistsError for a known."""
    if secret in secrets_of(source, vault=vault):
        raise SecretExistsError(f"the source {source.name} has this secret already")
    row = SourceSecret(encrypted=vault.encrypt(secret.reveal()), created_at=now)
    source.secrets.append(row)
    session.flush()
    return row


def remove_secret(session: Session, source: Source, secret_id: int) -> None:
    """Forget a secret of a source, or raise SecretUnknownError."""
    row = session.get(SourceSecret, secret_id)
    if row is None or row.source_id != source.id:
        raise SecretUnknownError(f"the source {source.name} has no secret {secret_id}")
    session.delete(row)


def set_site_token(session: Session, source: Source, token: MoodleToken, *, vault: Vault) -> None:
    """Hold a site-wide token of a Moodle in place of any other, or raise SourceKindError."""
    if source.kind != MOODLE:
        raise SourceKindError(f"the source {source.name} is no Moodle, but of the kind {API}")
    source.encrypted_site_token = vault.encrypt(token.reveal())
    session.flush()


def site_token_of(source: Source, *, vault: Vault) -> MoodleToken | None:
    """Return the site-wide token of a source, opened, or None if none is held."""
    encrypted = source.encrypted_site_token
    return None if encrypted is None else MoodleToken.parse(vault.decrypt(encrypted))


def encrypted_of(source: Source) -> list[str]:
    """Return all that is sealed of a source."""
    held = [] if source.encrypted_site_token is None else [source.encrypted_site_token]
    return [row.encrypted for row in source.secrets] + held


def reencrypt(session: Session, *, vault: Vault) -> int:
    """Seal every secret and site-wide token anew with the first key; return how many there are."""
    rows = session.scalars(select(SourceSecret).order_by(SourceSecret.id).with_for_update()).all()
    for row in rows:
        row.encrypted = vault.reencrypt(row.encrypted)
    held = session.scalars(
        select(Source)
        .where(Source.encrypted_site_token.is_not(None))
        .order_by(Source.id)
        .with_for_update()
    ).all()
    for source in held:
        source.encrypted_site_token = vault.reencrypt(str(source.encrypted_site_token))
    return len(rows) + len(held)


def _find(session: Session, name: str) -> Source | None:
    return session.scalar(
        select(Source).options(selectinload(Source.secrets)).where(Source.name == name)
    )


def _is_name(name: str) -> bool:
    try:
        _NAME.validate_python(name)
    except ValidationError:
        return False
    return True
