"""Log lines for what a batch did, and the totals of a worker's run."""

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from datetime import datetime
from logging import DEBUG, INFO, WARNING
from typing import Any

from foundation import logging
from foundation.errors import Advice, fields_of
from foundation.logging import Logger
from notifier.signals import DeliveryIdentity
from notifier.webhooks import failure_advice
from notifier.webhooks.circuit_breaker import BreakerState
from notifier.webhooks.deliveries import Settlement, result_columns
from notifier.webhooks.retry_policy import Dead, Delivered, Disable, RetryAt
from notifier.worker.batch import SettledBatch

_log = logging.get_logger(__name__)
# Dead deliveries of a batch that get a line each.
_MAX_DEAD_LINES = 5


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
    """Log what a committed batch did, and add it to the totals.

    An outage is a few lines, however many attempts fail: the first failure of an endpoint, its
    pause, that it was disabled, that it accepts events again. Further failures are DEBUG lines.
    """
    log = _log.bind()  # assembled once, not for each line
    failing = {endpoint_id for endpoint_id, (before, _) in batch.changed.items() if before.failures}
    dead: list[dict[str, Any]] = []
    for settlement in batch.settlements:
        if settlement.is_late:
            _log_late(log, settlement)
            continue
        match settlement.decision:
            case Delivered():
                totals.delivered += 1
                _log_delivered(log, settlement)
            case RetryAt(due_at):
                totals.to_retry += 1
                _log_failed(log, settlement, due_at, failing)
            case Dead(reason):
                dead.append(_failed_fields(settlement) | {"reason": reason})
            case Disable():
                totals.held += 1
    totals.dead += len(dead)
    _log_dead(log, dead)
    _report_endpoints(log, batch)


def _report_endpoints(log: Logger, batch: SettledBatch) -> None:
    for endpoint_id, (before, after) in batch.changed.items():
        if before.failing_since and not after.failures:
            _log_recovery(log, endpoint_id, before, batch.now)
        elif after.paused_until and not before.paused_until:
            _log_pause(log, endpoint_id, after)
    for endpoint_id, reason in batch.disabled.items():
        _log_disabled(log, endpoint_id, reason)


def _log_delivered(log: Logger, settlement: Settlement) -> None:
    if log.is_enabled_for(INFO):
        status = result_columns(settlement.attempt.result)["status"]
        log.info("event delivered", **_attempt_fields(settlement), status=status)


def _log_failed(log: Logger, settlement: Settlement, due_at: datetime, failing: set[int]) -> None:
    """Log a failed attempt: a warning if its endpoint was not `failing`, to which it is added."""
    endpoint_id = settlement.claimed.endpoint_id
    is_first = endpoint_id not in failing
    if not (is_first or log.is_enabled_for(DEBUG)):
        return
    failing.add(endpoint_id)
    fields = _failed_fields(settlement)
    advice = failure_advice.advice_for(fields["failure"], fields["status"], endpoint_id)
    log.log(
        WARNING if is_first else DEBUG,
        "attempt failed, will be retried",
        **fields,
        due_at=due_at,
        **fields_of(advice),
    )


def _log_recovery(log: Logger, endpoint_id: int, before: BreakerState, now: datetime) -> None:
    since = before.failing_since or now
    log.info(
        "endpoint accepts events again",
        endpoint_id=endpoint_id,
        failing_since=since,
        failing_seconds=round((now - since).total_seconds()),
        failed_attempts=before.failures,
    )


def _log_pause(log: Logger, endpoint_id: int, after: BreakerState) -> None:
    log.warning(
        "endpoint paused",
        endpoint_id=endpoint_id,
        failed_attempts=after.failures,
        paused_until=after.paused_until,
        next_step="No action needed: a single attempt is made when the pause ends, and its "
        "deliveries wait.",
    )


def _log_late(log: Logger, settlement: Settlement) -> None:
    log.warning(
        "result came too late and changes nothing",
        **_failed_fields(settlement),
        next_step="No action needed: the delivery was sent again, or has been settled.",
    )


def _log_dead(log: Logger, dead: Sequence[dict[str, Any]]) -> None:
    for fields in dead[:_MAX_DEAD_LINES]:
        replayed = (str(fields["delivery_id"]),)
        advice = Advice("Fix the cause, then replay it.", "deliveries replay", replayed)
        log.error("delivery is dead", **fields, **fields_of(advice))
    if more := dead[_MAX_DEAD_LINES:]:
        advice = Advice("Fix the cause, then replay them.", "deliveries list")
        log.error(
            "more deliveries are dead",
            count=len(more),
            endpoint_ids=sorted({fields["endpoint_id"] for fields in more}),
            **fields_of(advice),
        )


def _log_disabled(log: Logger, endpoint_id: int, reason: str) -> None:
    advice = Advice(
        "Ask the receiver's administrator, then enable the endpoint.",
        "endpoints enable",
        (str(endpoint_id),),
    )
    log.error(
        "endpoint disabled, its deliveries held",
        endpoint_id=endpoint_id,
        reason=reason,
        **fields_of(advice),
    )


def _delivery_fields(delivery: DeliveryIdentity) -> dict[str, Any]:
    return {
        "delivery_id": delivery.delivery_id,
        "endpoint_id": delivery.endpoint_id,
        "webhook_id": delivery.webhook_id,
        "event_type": delivery.event_type,
        "course_id": delivery.course_id,
    }


def _attempt_fields(settlement: Settlement) -> dict[str, Any]:
    claimed = settlement.claimed
    return {
        **_delivery_fields(claimed),
        "url": claimed.url.partition("?")[0],
        "attempt": claimed.attempts,
        "milliseconds": settlement.attempt.milliseconds,
        "trace_id": claimed.span.trace_id,
        "span_id": claimed.span.span_id,
    }


def _failed_fields(settlement: Settlement) -> dict[str, Any]:
    return _attempt_fields(settlement) | result_columns(settlement.attempt.result)
