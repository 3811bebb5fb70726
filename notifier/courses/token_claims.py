"""Claims of tokens: ELMS takes a new token over itself, once, before the old one ends.

A token that can be claimed is stored encrypted until it has been used or the overlap is over.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, delete, exists, or_, select, update
from sqlalchemy.orm import Session

from contract.signatures import TOLERANCE
from contract.tokens import CourseToken
from foundation.crypto import Vault
from foundation.db import session as db
from foundation.errors import DecryptionError, Refusal
from foundation.text import format_timestamp
from notifier.errors import CourseDeletedError, CourseUnknownError, TokenNotClaimableError
from notifier.models import Course, Endpoint, IssuedToken, TokenClaim

# How long the id of a claim is stored. Its signature is good for two tolerances, by one clock; the
# third is for machines whose clocks differ.
_REMEMBERED = 3 * TOLERANCE
# The endpoints that are allowed to claim, disabled or not.
_MAY_CLAIM = Endpoint.may_claim_tokens & Endpoint.removed_at.is_(None)


@dataclass(frozen=True)
class ClaimedToken:
    """The current token of a course, the version of the course, and since when it is current.

    The token before it is good until `valid_until`.
    """

    course_id: str
    token: CourseToken
    course_version: int
    regenerated_at: datetime
    valid_until: datetime


def has_claimant(session: Session) -> bool:
    """Return True if an endpoint may claim tokens, and is enabled."""
    return bool(session.scalar(select(exists().where(_MAY_CLAIM, Endpoint.disabled_at.is_(None)))))


def is_kept(session: Session, token: CourseToken) -> bool:
    """Return True if a token can be claimed until its overlap ends."""
    kept = IssuedToken.encrypted_token.is_not(None)
    return bool(
        session.scalar(select(exists().where(IssuedToken.token_id == token.token_id, kept)))
    )


def record(session: Session, endpoint_id: int, webhook_id: str, *, now: datetime) -> bool:
    """Store the id of a claim; return False if it was received before."""
    of_endpoint = delete(TokenClaim).where(TokenClaim.endpoint_id == endpoint_id)
    session.execute(of_endpoint.where(TokenClaim.received_at < now - _REMEMBERED))
    inserted = session.execute(
        db.insert(session, TokenClaim)
        .values(endpoint_id=endpoint_id, webhook_id=webhook_id, received_at=now)
        .on_conflict_do_nothing()
        .returning(TokenClaim.webhook_id)
    )
    return inserted.first() is not None


def claim(
    session: Session, course_ids: Sequence[str], *, vault: Vault, now: datetime
) -> list[ClaimedToken | Refusal]:
    """Return the current token of each course, in order, or why it cannot be claimed.

    Repeated calls return the same tokens.
    """
    is_current = (IssuedToken.course_pk == Course.id) & IssuedToken.superseded_at.is_(None)
    rows = session.execute(
        select(
            Course.course_id,
            Course.version,
            Course.deleted_at,
            IssuedToken.token_id,
            IssuedToken.encrypted_token,
            IssuedToken.created_at,
            IssuedToken.claimable_until,
        )
        .outerjoin(IssuedToken, is_current)
        .where(db.among(Course.course_id, set(course_ids)))
    )
    by_course = {row.course_id: row for row in rows}
    return [_claim(one, by_course.get(one), vault, now=now) for one in course_ids]


def _claim(
    course_id: str, row: Row[Any] | None, vault: Vault, *, now: datetime
) -> ClaimedToken | Refusal:
    if row is None:
        return CourseUnknownError(f"there is no course {course_id!r}", course_id=course_id)
    if row.deleted_at is not None:
        return CourseDeletedError.of(course_id, version=row.version, deleted_at=row.deleted_at)
    if reason := _why_not(row, now=now):
        detail = f"the token of the course {course_id!r} cannot be claimed: {reason}"
        return TokenNotClaimableError(detail, course_id=course_id, token_id=row.token_id)
    try:
        token = CourseToken.parse(vault.decrypt(row.encrypted_token))
    except DecryptionError as error:
        return error
    return ClaimedToken(course_id, token, row.version, row.created_at, row.claimable_until)


def _why_not(row: Row[Any], *, now: datetime) -> str | None:
    if row.token_id is None:
        return "a Moodle issues it"
    if row.claimable_until is None:
        return "it was issued without an overlap, or while no endpoint could claim tokens"
    if row.claimable_until <= now:
        return f"the overlap ended at {format_timestamp(row.claimable_until)}"
    gone = "it has been used once, by this ELMS or another, or claims were forbidden meanwhile"
    return gone if row.encrypted_token is None else None


def forget_used(session: Session, token_ids: Collection[str]) -> None:
    """Delete the encrypted copies of tokens that were used, so that they cannot be claimed."""
    session.execute(
        update(IssuedToken)
        .where(db.among(IssuedToken.token_id, token_ids))
        .values(encrypted_token=None)
    )


def any_to_forget(session: Session, *, now: datetime) -> bool:
    """Return True if there are copies that `forget_expired` deletes."""
    return session.scalar(select(IssuedToken.id).where(_expired(now)).limit(1)) is not None


def forget_expired(session: Session, *, now: datetime) -> None:
    """Delete the encrypted copies whose overlap is over, and all if no endpoint may claim them.

    A disabled endpoint may claim them when it is enabled again.
    """
    session.execute(update(IssuedToken).where(_expired(now)).values(encrypted_token=None))


def reencrypt(session: Session, *, vault: Vault) -> int:
    """Encrypt every copy again with the vault's first key; return how many there are."""
    kept = select(IssuedToken).where(IssuedToken.encrypted_token.is_not(None))
    rows = session.scalars(kept.order_by(IssuedToken.id).with_for_update()).all()
    for row in rows:
        row.encrypted_token = vault.reencrypt(str(row.encrypted_token))
    return len(rows)


def _expired(now: datetime) -> ColumnElement[bool]:
    return IssuedToken.encrypted_token.is_not(None) & or_(
        IssuedToken.claimable_until <= now, ~exists().where(_MAY_CLAIM)
    )
