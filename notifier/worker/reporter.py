"""Log lines for what a batch did, and the totals of a worker's run."""

from dataclasses import astuple, dataclass
from datetime import datetime
from logging import INFO
from typing import Any

from foundation import logging
from foundation.errors import Advice, fields_of
from foundation.logging import Logger
from notifier.signals import DeliveryIdentity
from notifier.webhooks import failure_advice
from notifier.webhooks.deliveries import Settlement
from notifier.webhooks.failure_advice import FailureKind
from notifier.webhooks.retry_policy import Dead, Delivered, Disable, RetryAt
from notifier.worker.batch import SettledBatch
from notifier.worker.claims import ExpiredClaim

_log = logging.get_logger(__name__)


@dataclass
class WorkerTotals:
    """The number of attempts of a run by what followed from them."""

    delivered: int = 0
    to_retry: int = 0
    dead: int = 0
    held: int = 0

    def __add__(self, other: "WorkerTotals") -> "WorkerTotals":
        return WorkerTotals(*map(sum, zip(astuple(self), astuple(other), strict=True)))


def report(batch: SettledBatch, totals: WorkerTotals) -> None:
    """Log what a committed batch did, and add it to the totals."""
    log = _log.bind()  # assembled once, not for each line
    for settlement in batch.settlements:
        _report_settled(log, settlement, totals)
    for settlement in batch.superseded:
        _log_superseded(log, settlement)
    for claim in batch.expired:
        _report_expired(log, claim, totals)
    for endpoint_id, reason in batch.disabled.items():
        _log_disabled(log, endpoint_id, reason, endpoint_id=endpoint_id)


def _report_settled(log: Logger, one: Settlement, totals: WorkerTotals) -> None:
    match one.decision:
        case Delivered():
            totals.delivered += 1
            _log_delivered(log, one)
        case RetryAt(due_at):
            totals.to_retry += 1
            _log_failed(log, one, due_at)
        case Dead(reason):
            totals.dead += 1
            _log_dead(log, one.claimed.delivery_id, reason, **_failed_fields(one))
        case Disable(reason):
            totals.held += 1
            _log_disabled(log, one.claimed.endpoint_id, reason, **_failed_fields(one))


def _report_expired(log: Logger, one: ExpiredClaim, totals: WorkerTotals) -> None:
    if one.dead_reason:
        totals.dead += 1
        _log_dead(log, one.delivery_id, one.dead_reason, **_expired_fields(one))
    else:
        _log_lost(log, one)


def _log_delivered(log: Logger, one: Settlement) -> None:
    if log.is_enabled_for(INFO):
        log.info("event delivered", **_attempt_fields(one), status=one.status)


def _log_failed(log: Logger, one: Settlement, due_at: datetime) -> None:
    advice = failure_advice.advice_for(one.failure, one.status, one.claimed.endpoint_id)
    log.warning(
        "attempt failed, will be retried",
        **_failed_fields(one),
        due_at=due_at.isoformat(),
        **fields_of(advice),
    )


def _log_superseded(log: Logger, one: Settlement) -> None:
    log.warning(
        "result came too late and changes nothing",
        **_attempt_fields(one),
        status=one.status,
        failure=one.failure,
        next_step="No action needed: the delivery was sent again, or has been settled.",
    )


def _log_lost(log: Logger, one: ExpiredClaim) -> None:
    advice = failure_advice.advice_for(FailureKind.WORKER_LOST, None, one.endpoint_id)
    log.warning(
        "worker lost, its delivery will be retried", **_expired_fields(one), **fields_of(advice)
    )


def _log_dead(log: Logger, delivery_id: int, reason: str, /, **fields: Any) -> None:
    advice = Advice("Fix the cause, then replay it.", "deliveries replay", (str(delivery_id),))
    log.error("delivery is dead", **fields, reason=reason, **fields_of(advice))


def _log_disabled(log: Logger, endpoint_id: int, reason: str, /, **fields: Any) -> None:
    advice = Advice(
        "Ask the receiver's administrator, then enable the endpoint.",
        "endpoints enable",
        (str(endpoint_id),),
    )
    log.error(
        "endpoint disabled, its deliveries held", **fields, reason=reason, **fields_of(advice)
    )


def _delivery_fields(one: DeliveryIdentity) -> dict[str, Any]:
    return {
        "delivery_id": one.delivery_id,
        "endpoint_id": one.endpoint_id,
        "webhook_id": one.webhook_id,
        "event_type": one.event_type,
        "course_id": one.course_id,
    }


def _attempt_fields(one: Settlement) -> dict[str, Any]:
    return {
        **_delivery_fields(one.claimed),
        "url": one.claimed.url.partition("?")[0],
        "attempt": one.claimed.attempts,
        "milliseconds": one.milliseconds,
        "trace_id": one.claimed.span.trace_id,
        "span_id": one.claimed.span.span_id,
    }


def _failed_fields(one: Settlement) -> dict[str, Any]:
    return {
        **_attempt_fields(one),
        "status": one.status,
        "failure": one.failure,
        "detail": one.detail,
    }


def _expired_fields(one: ExpiredClaim) -> dict[str, Any]:
    return {
        **_delivery_fields(one),
        "attempt": one.attempts,
        "failure": FailureKind.WORKER_LOST.value,
    }
