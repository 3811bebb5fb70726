"""Endpoints: register, list, disable, enable, change, remove, and their signing secrets."""

from collections import defaultdict
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Select, bindparam, delete, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from contract.events import EVENT_TYPES
from contract.signatures import Secret
from foundation.crypto import Vault
from foundation.db import session as db
from foundation.errors import Advice
from foundation.http.ssrf import Guard
from foundation.text import format_timestamp
from notifier import signals
from notifier.errors import (
    ClaimsNotAllowedError,
    EndpointChangedError,
    EndpointExistsError,
    EndpointRemovedError,
    EndpointUnknownError,
    EndpointUrlError,
    NotifierError,
    SignatureRefusedError,
)
from notifier.models import DeliveryStatus, Endpoint, EndpointPing, EndpointSecret
from notifier.webhooks import circuit_breaker, deliveries, url_policy
from notifier.webhooks.circuit_breaker import BreakerState, record_failure, record_results
from notifier.webhooks.retry_policy import AttemptResult

# How long a replaced secret keeps signing together with the new one.
DEFAULT_OVERLAP = timedelta(hours=24)


def register(
    session: Session,
    url: str,
    event_types: Sequence[str] | None = None,
    *,
    name: str = "",
    may_claim_tokens: bool = False,
    vault: Vault,
    guard: Guard,
    now: datetime,
) -> tuple[Endpoint, Secret]:
    """Register a URL for event types (None: all course events); return it with its secret.

    `name` is for people, and may be empty. `may_claim_tokens`: who has its secret may claim new
    course tokens.
    The secret is shown only this once. Raises EndpointUrlError or EndpointExistsError.
    """
    url = url_policy.normalize(url, guard)
    endpoint: Endpoint | None = session.scalar(
        db.insert(session, Endpoint)
        .values(
            url=url,
            name=name,
            event_types=_unique(event_types),
            may_claim_tokens=may_claim_tokens,
            created_at=now,
        )
        .on_conflict_do_nothing(index_elements=["url"], index_where=Endpoint.removed_at.is_(None))
        .returning(Endpoint)
    )
    if endpoint is None:
        raise EndpointExistsError(f"{url} is registered already")
    return endpoint, _add_secret(session, endpoint, vault=vault, now=now)


def describe(endpoint: Endpoint) -> str:
    """Return the detail of a registration in the audit table."""
    return endpoint.url + (", may claim tokens" if endpoint.may_claim_tokens else "")


def get(session: Session, endpoint_id: int) -> Endpoint:
    """Return an endpoint, or raise EndpointUnknownError."""
    endpoint = session.get(Endpoint, endpoint_id)
    if endpoint is None:
        raise EndpointUnknownError(f"there is no endpoint {endpoint_id}")
    return endpoint


def list_all(session: Session, *, removed: bool = False) -> list[Endpoint]:
    """Return every endpoint, oldest first; with `removed` also those that were removed."""
    query = select(Endpoint).order_by(Endpoint.id)
    return list(session.scalars(query if removed else query.where(Endpoint.removed_at.is_(None))))


def subscribed_to(session: Session, event_type: str) -> list[Endpoint]:
    """Return the endpoints subscribed to an event type, including disabled ones."""
    return _subscribed(session, event_type, _REGISTERED)


def lock_subscribed(session: Session, event_type: str, *, wait: bool) -> list[Endpoint]:
    """Return what `subscribed_to` does, locked so that none is removed meanwhile.

    Without `wait`, which is for transactions that have locked deliveries already, those that are
    being removed are left out.
    """
    kept = _REGISTERED.with_for_update(read=True, key_share=True, skip_locked=not wait)
    return _subscribed(session, event_type, kept)


_REGISTERED = select(Endpoint).where(Endpoint.removed_at.is_(None)).order_by(Endpoint.id)


def _subscribed(
    session: Session, event_type: str, query: Select[tuple[Endpoint]]
) -> list[Endpoint]:
    rows = session.scalars(query)
    return [row for row in rows if event_type in (row.event_types or EVENT_TYPES)]


def disable(
    session: Session, endpoint_id: int, reason: str, *, by: str | None = None, now: datetime
) -> bool:
    """Disable an endpoint and signal it; its deliveries are held. The first reason is kept.

    `by` is the person who does it, and becomes part of the reason. Return True if it was enabled.
    """
    reason = f"{reason} ({by})" if by else reason
    endpoint = _lock(session, endpoint_id)
    was_enabled = endpoint.disabled_at is None
    if was_enabled:
        endpoint.disabled_at, endpoint.disabled_reason, endpoint.disabled_by = now, reason, by
        change = signals.EndpointChange(endpoint_id, endpoint.url, reason, now)
        signals.send(signals.endpoint_disabled, session, change)
    return was_enabled


def remove(session: Session, endpoint_id: int, *, by: str, now: datetime) -> int:
    """Remove an endpoint and cancel its open deliveries; return how many were cancelled.

    Its row and its deliveries stay, its secrets are deleted, and its URL can be registered again.
    Repeated calls have no effect.
    """
    endpoint = _lock(session, endpoint_id, removed=True)
    if endpoint.removed_at is None:
        reason = f"the endpoint was removed ({by})"
        was_enabled = endpoint.disabled_at is None
        endpoint.disabled_at = endpoint.disabled_at or now
        endpoint.removed_at, endpoint.disabled_reason, endpoint.disabled_by = now, reason, by
        session.execute(delete(EndpointSecret).where(EndpointSecret.endpoint_id == endpoint_id))
        if was_enabled:
            change = signals.EndpointChange(endpoint_id, endpoint.url, reason, now)
            signals.send(signals.endpoint_disabled, session, change)
    return deliveries.cancel(session, endpoint_id, endpoint.disabled_reason or "", now=now)


def enable(session: Session, endpoint_id: int, *, now: datetime) -> tuple[Endpoint, int]:
    """Enable an endpoint as healthy and release its held deliveries; return it and their number."""
    endpoint = _lock(session, endpoint_id)
    was_disabled = endpoint.disabled_at is not None
    endpoint.disabled_at = endpoint.disabled_reason = endpoint.disabled_by = None
    circuit_breaker.set_state(endpoint, BreakerState())
    return endpoint, deliveries.release(session, endpoint_id, now=now) if was_disabled else 0


def try_now(session: Session, endpoint_id: int, *, now: datetime) -> int:
    """End an endpoint's pause and make its waiting deliveries due; return how many became due.

    A worker tries one of them, and continues with the others if that is delivered. Does nothing
    for a disabled or a healthy endpoint.
    """
    endpoint = _lock(session, endpoint_id)
    if endpoint.disabled_at is not None or not endpoint.failures:
        return 0
    circuit_breaker.set_state(endpoint, circuit_breaker.state_of(endpoint).end_pause(now))
    return deliveries.make_due_now(session, endpoint_id, now=now)


def resume_after_ping(session: Session, endpoint_id: int, *, now: datetime) -> int:
    """Try an endpoint that accepted a ping, as `try_now` does; return how many became due.

    If nothing is pending, the ping is the latest result: the endpoint counts as healthy.
    """
    due = try_now(session, endpoint_id, now=now)
    if not deliveries.any_with(session, endpoint_id, DeliveryStatus.PENDING):
        circuit_breaker.set_state(get(session, endpoint_id), BreakerState())
    return due


def record_failed_ping(
    session: Session, endpoint_id: int, result: AttemptResult, *, now: datetime
) -> None:
    """Count a ping that was not accepted as a failure, whatever its result is.

    The next success resets it. Does nothing for a disabled endpoint.
    """
    endpoint = _lock(session, endpoint_id)
    if endpoint.disabled_at is None:
        state = circuit_breaker.state_of(endpoint)
        circuit_breaker.set_state(endpoint, record_failure(state, result, now=now))


def record_heartbeat(
    session: Session, endpoint_id: int, result: AttemptResult, *, now: datetime
) -> None:
    """Count the result of a heartbeat as that of an attempt; deliveries keep their schedules.

    A success counts only if no delivery is pending: an endpoint that fails events is failing. A
    failure does not prolong a pause, after which a delivery is tried. Does nothing for a disabled
    endpoint.
    """
    endpoint = _lock(session, endpoint_id)
    if endpoint.disabled_at is not None:
        return
    before = circuit_breaker.state_of(endpoint)
    after = record_results(before, [result], now=now)
    if after.failures:
        counts = not before.is_paused(now)
    else:
        counts = not deliveries.any_with(session, endpoint_id, DeliveryStatus.PENDING)
    if counts:
        circuit_breaker.set_state(endpoint, after)


def set_event_types(
    session: Session, endpoint_id: int, event_types: Sequence[str] | None
) -> Endpoint:
    """Subscribe an endpoint to event types (None: all course events) from now on."""
    endpoint = _lock(session, endpoint_id)
    endpoint.event_types = _unique(event_types)
    return endpoint


def set_name(session: Session, endpoint_id: int, name: str) -> None:
    """Give an endpoint a name, or none if it is empty."""
    _lock(session, endpoint_id).name = name


def lock_claimant(session: Session, secret: EndpointSecret) -> NotifierError | None:
    """Return why an endpoint may not claim tokens with a secret, or None.

    It is locked, so that it is not forbidden before the transaction ends.
    """
    query = select(Endpoint).where(Endpoint.id == secret.endpoint_id).with_for_update(read=True)
    endpoint = session.scalars(query.execution_options(populate_existing=True)).one()
    (newest, *_) = secrets_of(session, endpoint.id) or [secret]
    if newest.id != secret.id:
        return SignatureRefusedError(
            f"signed with an old secret of endpoint {endpoint.id}: claims need the one that "
            f"replaced it at {format_timestamp(newest.created_at)}",
            advice=SignatureRefusedError.replaced,
        )
    if not endpoint.may_claim_tokens or endpoint.disabled_at is not None:
        allowed = endpoint.may_claim_tokens
        advice = ClaimsNotAllowedError.disabled if allowed else ClaimsNotAllowedError.advice
        return ClaimsNotAllowedError(
            f"endpoint {endpoint.id} {'is disabled' if allowed else 'may not claim tokens'}",
            advice=advice.fill("ENDPOINT_ID", str(endpoint.id)),
        )
    return None


def set_token_claims(session: Session, endpoint_id: int, *, allowed: bool) -> None:
    """Allow the owner of an endpoint's secret to claim new course tokens, or forbid it."""
    _lock(session, endpoint_id).may_claim_tokens = allowed


def correct_url(
    session: Session, endpoint_id: int, url: str, *, guard: Guard, now: datetime
) -> int:
    """Change the URL of an endpoint that never accepted a delivery; return how many became due.

    Open deliveries go to the new URL, signed with the same secret; failures at the old one no
    longer count, also of attempts that are in progress. Once something was delivered the URL is
    part of the record and cannot change. Raises EndpointUrlError or EndpointExistsError.
    """
    url = url_policy.normalize(url, guard)
    endpoint = _lock(session, endpoint_id)
    if deliveries.any_with(session, endpoint_id, DeliveryStatus.DELIVERED):
        raise EndpointUrlError(
            f"endpoint {endpoint_id} has accepted deliveries at its current URL",
            advice=Advice("Add the new URL, then remove this endpoint.", "endpoints add", ("URL",)),
        )
    due = deliveries.release(session, endpoint_id, now=now)
    try:
        with session.begin_nested():
            endpoint.url = url
    except IntegrityError:
        raise EndpointExistsError(f"{url} is registered already") from None
    circuit_breaker.set_state(endpoint, BreakerState())
    endpoint.heartbeat_seconds = None
    session.execute(delete(EndpointPing).where(EndpointPing.endpoint_id == endpoint_id))
    return due


def rotate_secret(
    session: Session,
    endpoint_id: int,
    *,
    overlap: timedelta,
    vault: Vault,
    newest: int | None = None,
    now: datetime,
) -> Secret:
    """Give an endpoint a new secret and return it; the old ones also sign until the overlap ends.

    It may be for a receiver that was set up again, and does not know the interval of heartbeats.
    `newest` is the id of the newest secret that the caller has seen. Raises EndpointChangedError
    if there is a newer one.
    """
    endpoint = _lock(session, endpoint_id)
    if newest is not None and newest != secrets_of(session, endpoint_id)[0].id:
        raise EndpointChangedError(f"endpoint {endpoint_id} has a newer secret")
    endpoint.heartbeat_seconds = None
    ends = now + overlap
    session.execute(
        update(EndpointSecret)
        .where(
            EndpointSecret.endpoint_id == endpoint_id,
            or_(EndpointSecret.expires_at.is_(None), EndpointSecret.expires_at > ends),
        )
        .values(expires_at=ends)
    )
    return _add_secret(session, endpoint, vault=vault, now=now)


_SECRET: Any = EndpointSecret.__table__
_ENCRYPTED_SECRETS = (
    select(_SECRET.c.endpoint_id, _SECRET.c.encrypted)
    .where(
        db.among_given(_SECRET.c.endpoint_id, "endpoint_ids"),
        or_(_SECRET.c.expires_at.is_(None), _SECRET.c.expires_at > bindparam("now")),
    )
    .order_by(_SECRET.c.id.desc())
)


def encrypted_secrets(
    session: Session, endpoint_ids: Collection[int], *, now: datetime
) -> dict[int, tuple[str, ...]]:
    """Return the encrypted secrets that sign for each endpoint now, newest first."""
    rows = session.execute(_ENCRYPTED_SECRETS, {"endpoint_ids": [*endpoint_ids], "now": now})
    secrets: defaultdict[int, tuple[str, ...]] = defaultdict(tuple)
    for endpoint_id, encrypted in rows:
        secrets[endpoint_id] += (encrypted,)
    return dict(secrets)


def signing_secrets(session: Session, *, now: datetime) -> list[EndpointSecret]:
    """Return the secrets of all endpoints that sign now, encrypted, newest first."""
    signs = or_(EndpointSecret.expires_at.is_(None), EndpointSecret.expires_at > now)
    return list(
        session.scalars(select(EndpointSecret).where(signs).order_by(EndpointSecret.id.desc()))
    )


def secrets_of(session: Session, endpoint_id: int) -> list[EndpointSecret]:
    """Return all secrets that an endpoint ever had, encrypted, newest first."""
    query = select(EndpointSecret).where(EndpointSecret.endpoint_id == endpoint_id)
    return list(session.scalars(query.order_by(EndpointSecret.id.desc())))


def reencrypt(session: Session, *, vault: Vault) -> int:
    """Encrypt every secret again with the vault's first key; return how many there are."""
    rows = list(session.scalars(select(EndpointSecret)))
    for row in rows:
        row.encrypted = vault.reencrypt(row.encrypted)
    return len(rows)


def _unique(event_types: Sequence[str] | None) -> list[str] | None:
    return list(dict.fromkeys(event_types)) if event_types else None


def _add_secret(session: Session, endpoint: Endpoint, *, vault: Vault, now: datetime) -> Secret:
    secret = Secret.generate()
    encrypted = vault.encrypt(secret.reveal())
    session.add(EndpointSecret(endpoint_id=endpoint.id, encrypted=encrypted, created_at=now))
    session.flush()
    return secret


def _lock(session: Session, endpoint_id: int, *, removed: bool = False) -> Endpoint:
    # KEY SHARE: a transaction that writes a delivery for the endpoint need not wait for this one,
    # unless it is removed.
    query = select(Endpoint).where(Endpoint.id == endpoint_id)
    query = query.with_for_update(key_share=not removed)
    endpoint = session.scalar(query.execution_options(populate_existing=True))
    if endpoint is None:
        raise EndpointUnknownError(f"there is no endpoint {endpoint_id}")
    if endpoint.removed_at is not None and not removed:
        raise EndpointRemovedError(f"endpoint {endpoint_id} was removed")
    return endpoint
