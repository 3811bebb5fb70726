"""What a worker tells of its turns: a line for whatever came of one, and the tally of a run."""

from dataclasses import dataclass

from foundation import logging
from notifier.webhooks import failures
from notifier.webhooks.deliveries import Settlement
from notifier.webhooks.failures import FailureKind
from notifier.webhooks.retry_policy import Dead, Delivered, Disable, RetryAt
from notifier.worker.batch import BatchResult
from notifier.worker.claims import ExpiredClaim

_log = logging.get(__name__)


@dataclass
class WorkerTotals:
    """What a run of the worker did."""

    delivered: int = 0
    to_retry: int = 0
    dead: int = 0
    held: int = 0


def tell(done: BatchResult, totals: WorkerTotals) -> None:
    """Count and log what came of a turn that is committed: the one place that does."""
    for one in done.settled:
        _tell_settled(one, totals)
    for lost in done.lost:
        _tell_lost(lost, totals)
    for endpoint_id, reason in done.given_up.items():
        _tell_disabled(_log.bind(endpoint_id=endpoint_id), endpoint_id, reason)


def _tell_settled(one: Settlement, totals: WorkerTotals) -> None:
    line = _log.bind(
        delivery_id=one.claimed.delivery_id,
        endpoint_id=one.claimed.endpoint_id,
        webhook_id=one.claimed.webhook_id,
        event_type=one.claimed.event_type,
        course_id=one.claimed.course_id,
        url=one.claimed.url.partition("?")[0],
        attempt=one.claimed.attempts,
        milliseconds=one.milliseconds,
        trace_id=one.claimed.span.trace_id,
        span_id=one.claimed.span.span_id,
    )
    why = {"status": one.status, "failure": one.failure, "detail": one.detail}
    match one.outcome:
        case Delivered():
            totals.delivered += 1
            line.info("event delivered", status=one.status)
        case RetryAt(due_at):
            totals.to_retry += 1
            step = failures.next_step(one.failure, one.status)
            line.warning(
                "attempt failed, will be retried", due_at=due_at.isoformat(), next_step=step, **why
            )
        case Dead(reason):
            totals.dead += 1
            _tell_dead(line.bind(**why), one.claimed.delivery_id, reason)
        case Disable(reason):
            totals.held += 1
            _tell_disabled(line.bind(**why), one.claimed.endpoint_id, reason)


def _tell_lost(one: ExpiredClaim, totals: WorkerTotals) -> None:
    line = _log.bind(
        delivery_id=one.delivery_id,
        endpoint_id=one.endpoint_id,
        webhook_id=one.webhook_id,
        event_type=one.event_type,
        course_id=one.course_id,
        attempt=one.attempts,
        failure=FailureKind.WORKER_LOST.value,
    )
    if one.dead:
        totals.dead += 1
        _tell_dead(line, one.delivery_id, one.dead)
        return
    line.warning(
        "worker lost, its delivery is attempted again",
        next_step=failures.next_step(FailureKind.WORKER_LOST),
    )


def _tell_dead(line: logging.Logger, delivery_id: int, reason: str) -> None:
    step = f"Mend the cause, then `notifier deliveries replay {delivery_id}`."
    line.error("delivery is dead", reason=reason, next_step=step)


def _tell_disabled(line: logging.Logger, endpoint_id: int, reason: str) -> None:
    step = f"Ask the receiver, then `notifier endpoints enable {endpoint_id}`."
    line.error("endpoint disabled, its deliveries held", reason=reason, next_step=step)
