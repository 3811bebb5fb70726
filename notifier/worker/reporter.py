"""Log lines for what a batch did, and the totals of a worker's run."""

from dataclasses import dataclass

from foundation import logging
from foundation.errors import Advice, fields_of
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


def report(batch: SettledBatch, totals: WorkerTotals) -> None:
    """Log what a committed batch did, and add it to the totals."""
    for settlement in batch.settlements:
        _report_settled(settlement, totals)
    for settlement in batch.superseded:
        _report_superseded(settlement)
    for claim in batch.expired:
        _report_expired(claim, totals)
    for endpoint_id, reason in batch.disabled.items():
        _log_disabled(_log.bind(endpoint_id=endpoint_id), endpoint_id, reason)


def _report_settled(one: Settlement, totals: WorkerTotals) -> None:
    line = _bind_attempt(one)
    why = {"status": one.status, "failure": one.failure, "detail": one.detail}
    match one.decision:
        case Delivered():
            totals.delivered += 1
            line.info("event delivered", status=one.status)
        case RetryAt(due_at):
            totals.to_retry += 1
            advice = failure_advice.advice_for(one.failure, one.status, one.claimed.endpoint_id)
            line.warning(
                "attempt failed, will be retried",
                due_at=due_at.isoformat(),
                **fields_of(advice),
                **why,
            )
        case Dead(reason):
            totals.dead += 1
            _log_dead(line.bind(**why), one.claimed.delivery_id, reason)
        case Disable(reason):
            totals.held += 1
            _log_disabled(line.bind(**why), one.claimed.endpoint_id, reason)


def _report_superseded(one: Settlement) -> None:
    _bind_attempt(one).warning(
        "result came too late and changes nothing",
        status=one.status,
        failure=one.failure,
        next_step="No action needed: the delivery was sent again, or has been settled.",
    )


def _report_expired(one: ExpiredClaim, totals: WorkerTotals) -> None:
    line = _bind(one).bind(attempt=one.attempts, failure=FailureKind.WORKER_LOST.value)
    if one.dead_reason:
        totals.dead += 1
        _log_dead(line, one.delivery_id, one.dead_reason)
        return
    line.warning(
        "worker lost, its delivery will be retried",
        **fields_of(failure_advice.advice_for(FailureKind.WORKER_LOST, None, one.endpoint_id)),
    )


def _bind_attempt(one: Settlement) -> logging.Logger:
    return _bind(one.claimed).bind(
        url=one.claimed.url.partition("?")[0],
        attempt=one.claimed.attempts,
        milliseconds=one.milliseconds,
        trace_id=one.claimed.span.trace_id,
        span_id=one.claimed.span.span_id,
    )


def _bind(one: DeliveryIdentity) -> logging.Logger:
    return _log.bind(
        delivery_id=one.delivery_id,
        endpoint_id=one.endpoint_id,
        webhook_id=one.webhook_id,
        event_type=one.event_type,
        course_id=one.course_id,
    )


def _log_dead(line: logging.Logger, delivery_id: int, reason: str) -> None:
    advice = Advice("Fix the cause, then replay it.", "deliveries replay", (str(delivery_id),))
    line.error("delivery is dead", reason=reason, **fields_of(advice))


def _log_disabled(line: logging.Logger, endpoint_id: int, reason: str) -> None:
    advice = Advice(
        "Ask the receiver's administrator, then enable the endpoint.",
        "endpoints enable",
        (str(endpoint_id),),
    )
    line.error("endpoint disabled, its deliveries held", reason=reason, **fields_of(advice))
