"""The health of endpoints: pause one that keeps failing, try it again, give it up after days."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from notifier.models import Endpoint
from notifier.webhooks.retry_policy import (
    EndpointSignal,
    Failure,
    WebhookResponse,
    requested_wait,
    signal_of,
)

PAUSED_AFTER = 5
"""So many failures with nothing good between them pause an endpoint."""

SHORTEST_PAUSE, LONGEST_PAUSE = timedelta(seconds=15), timedelta(minutes=15)
"""A pause is half as long as the endpoint has been failing, within these bounds."""

RESET_AFTER = timedelta(hours=36)
"""Failures further apart than the schedule's longest wait belong to different troubles."""

Answers = Sequence[WebhookResponse | Failure]


@dataclass(frozen=True)
class BreakerState:
    """How an endpoint has been answering: failures in a row, since when, until when it rests."""

    failures: int = 0
    failing_since: datetime | None = None
    failed_at: datetime | None = None
    paused_until: datetime | None = None

    def is_paused(self, now: datetime) -> bool:
        """Whether nothing is sent at present."""
        return self.paused_until is not None and now < self.paused_until

    def is_half_open(self, now: datetime) -> bool:
        """Whether a pause is over and one attempt may try."""
        return self.paused_until is not None and now >= self.paused_until


class EndpointState(StrEnum):
    """How an endpoint is, in one word."""

    ENABLED = "enabled"
    FAILING = "failing"
    PAUSED = "paused"
    DISABLED = "disabled"


@dataclass(frozen=True)
class EndpointStatus:
    """An endpoint's state: since when, why, and when it is tried again if it is paused."""

    state: EndpointState
    since: datetime | None
    reason: str | None = None
    tried_at: datetime | None = None


def status_of(endpoint: Endpoint) -> EndpointStatus:
    """Return how an endpoint is, with what there is to say of it."""
    if endpoint.disabled_at:
        return EndpointStatus(
            EndpointState.DISABLED, endpoint.disabled_at, endpoint.disabled_reason
        )
    failures = f"failures in a row: {endpoint.failures}"
    if endpoint.paused_until:
        return EndpointStatus(
            EndpointState.PAUSED, endpoint.failing_since, failures, endpoint.paused_until
        )
    if endpoint.failing_since:
        return EndpointStatus(EndpointState.FAILING, endpoint.failing_since, failures)
    return EndpointStatus(EndpointState.ENABLED, endpoint.created_at)


def record_results(health: BreakerState, answers: Answers, *, now: datetime) -> BreakerState:
    """Return the health after answers; one that speaks of a well endpoint makes it well."""
    for answer in answers:
        match signal_of(answer):
            case EndpointSignal.HEALTHY:
                health = BreakerState()
            case EndpointSignal.FAILING:
                health = _ailing(health, requested_wait(answer, now), now)
    return health


def is_failing_for(health: BreakerState, lasting: timedelta, *, now: datetime) -> bool:
    """Tell whether an endpoint has been failing for so long that it is given up."""
    since = health.failing_since
    return since is not None and health.failures >= PAUSED_AFTER and now - since >= lasting


def read_states(
    session: Session, *, only: Collection[int] | None = None, lock: bool = False
) -> dict[int, BreakerState]:
    """Return the health of each enabled endpoint by its id; locked, in the order of ids."""
    query = (
        select(
            Endpoint.id,
            Endpoint.failures,
            Endpoint.failing_since,
            Endpoint.failed_at,
            Endpoint.paused_until,
        )
        .where(Endpoint.disabled_at.is_(None))
        .order_by(Endpoint.id)
    )
    if only is not None:
        query = query.where(Endpoint.id.in_(only))
    # KEY SHARE: a delivery that another transaction writes for the endpoint need not wait for it.
    rows = session.execute(query.with_for_update(key_share=True) if lock else query)
    return {endpoint_id: BreakerState(*columns) for endpoint_id, *columns in rows}


def read_and_lock(
    session: Session, answers: Mapping[int, Answers], *, also: Collection[int], now: datetime
) -> dict[int, BreakerState]:
    """Return the health of each enabled endpoint, those locked that are about to change.

    That is those whose answers change it, those whose pause is over, and `also` those named.
    """
    every = read_states(session)
    changing = {
        endpoint_id
        for endpoint_id, health in every.items()
        if endpoint_id in also
        or health.is_half_open(now)
        or record_results(health, answers.get(endpoint_id, ()), now=now) != health
    }
    if not changing:
        return every
    steady = {one: health for one, health in every.items() if one not in changing}
    return steady | read_states(session, only=changing, lock=True)


def write_states(session: Session, changed: Mapping[int, BreakerState]) -> None:
    """Store the health of endpoints."""
    if changed:
        rows = [{"id": endpoint_id, **vars(health)} for endpoint_id, health in changed.items()]
        session.execute(update(Endpoint), rows)


def end_pauses(session: Session, *, now: datetime) -> None:
    """End every pause, so that each paused endpoint is tried at once."""
    if not any(health.is_paused(now) for health in read_states(session).values()):
        return
    # All of them, though only some change: who locks some first and others later may deadlock.
    locked = read_states(session, lock=True)
    paused = {one: health for one, health in locked.items() if health.is_paused(now)}
    write_states(
        session, {one: replace(health, paused_until=now) for one, health in paused.items()}
    )


def _ailing(health: BreakerState, asked: timedelta, now: datetime) -> BreakerState:
    if health.failed_at is None or now - health.failed_at > RESET_AFTER:
        health = BreakerState(failing_since=now)
    failures = health.failures + 1
    pause = min(asked, LONGEST_PAUSE)
    if failures >= PAUSED_AFTER or health.paused_until is not None:
        lasted = now - (health.failing_since or now)
        pause = max(pause, min(max(lasted / 2, SHORTEST_PAUSE), LONGEST_PAUSE))
    until = max(health.paused_until or now, now + pause) if pause else health.paused_until
    return BreakerState(failures, health.failing_since, now, until)
