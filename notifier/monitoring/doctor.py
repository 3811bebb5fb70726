"""The checks of `notifier doctor`: secrets, endpoints, backlog, dead deliveries."""

from datetime import datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from foundation.cli.doctor import Finding, examine_database, examine_secrets
from foundation.crypto import Vault
from foundation.db import session as db
from foundation.db.session import Database
from foundation.errors import Advice
from foundation.text import count, format_duration, format_timestamp, readable
from notifier.models import SCHEMA, Delivery, DeliveryStatus, Endpoint
from notifier.monitoring import endpoint_summary
from notifier.webhooks import delivery_queries, endpoints, failure_advice
from notifier.webhooks.circuit_breaker import PAUSED_AFTER

# If a delivery has been due for longer than this, there is no worker, or there are too few.
LATE = timedelta(minutes=5)

# Dead deliveries of this time need attention; older ones are history.
RECENT = timedelta(days=7)


def examine(database: Database, vault: Vault) -> list[Finding]:
    """Return the findings; if the check of the database fails, no others are made."""
    findings = examine_database(database, SCHEMA)
    if not all(finding.ok for finding in findings):
        return findings
    with database.reading() as session:
        now = db.now(session)
        return [
            *findings,
            _secrets(session, vault, now),
            _endpoints(session),
            _backlog(session, now),
            _dead_deliveries(session, now),
        ]


def _secrets(session: Session, vault: Vault, now: datetime) -> Finding:
    ids = [endpoint.id for endpoint in endpoints.list_all(session)]
    secrets = endpoints.encrypted_secrets(session, ids, now=now).values()
    return examine_secrets(vault, [secret for of_endpoint in secrets for secret in of_endpoint])


def _endpoints(session: Session) -> Finding:
    every = endpoints.list_all(session)
    if not every:
        advice = Advice("Add the webhook URL of ELMS.", "endpoints add", ("URL",))
        return Finding("endpoints", False, "none: no events are sent", advice)
    disabled = [one for one in every if one.disabled_at and one.disabled_by is None]
    if disabled:
        first = disabled[0]
        summary = (
            f"{len(disabled)} of {len(every)} disabled; endpoint {first.id}: "
            f"{first.disabled_reason}"
        )
        text = "Fix the receiver, then enable the endpoint."
        advice = Advice(text, "endpoints enable", (str(first.id),))
        return Finding("endpoints", False, summary, advice)
    failing = [one for one in every if not one.disabled_at and one.failures >= PAUSED_AFTER]
    if failing:
        first = failing[0]
        summary = (
            f"{len(failing)} of {len(every)} failing and paused; endpoint {first.id} since "
            f"{readable(first.failing_since)}, "
            f"{count(first.failures, 'failure in a row', 'failures in a row')}"
        )
        text = "Send a test event to see its response; its deliveries wait until it accepts one."
        advice = Advice(text, "endpoints ping", (str(first.id),))
        return Finding("endpoints", False, summary, advice)
    if failed_tests := endpoint_summary.failed_tests(session):
        endpoint, ping = failed_tests[0]
        response = ping.failure if ping.status is None else ping.status
        summary = (
            f"{len(failed_tests)} of {len(every)} failed the last test; endpoint {endpoint.id} "
            f"at {readable(ping.started_at)}: {response}"
        )
        known = failure_advice.advice_for(ping.failure, ping.status, endpoint.id)
        text = "Fix the receiver, then send another test."
        advice = known or Advice(text, "endpoints ping", (str(endpoint.id),))
        return Finding("endpoints", False, summary, advice)
    on_purpose = sum(one.disabled_at is not None for one in every)
    summary = f"{on_purpose} disabled on purpose" if on_purpose else "none disabled"
    return Finding("endpoints", True, f"{len(every)}, {summary}, none paused")


def _backlog(session: Session, now: datetime) -> Finding:
    backlog = delivery_queries.backlog(session, now=now)
    counts = ", ".join(f"{count} {status}" for status, count in sorted(backlog.counts.items()))
    oldest = backlog.oldest_due_at
    if oldest is None or oldest >= now - LATE:
        return Finding("backlog", True, counts or "empty")
    late = f"{counts}; the oldest has been due for {format_duration(now - oldest)}"
    attempted = delivery_queries.last_attempted_at(session)
    if attempted is not None and attempted >= now - LATE:
        advice = Advice("The running workers cannot keep up: start more of them.", "work")
        return Finding("backlog", False, late, advice)
    since = f"since {format_timestamp(attempted)}" if attempted else "yet"
    advice = Advice("Start a worker, or look into its log to see why it sends nothing.", "work")
    return Finding("backlog", False, f"{late}, and nothing was attempted {since}", advice)


def _dead_deliveries(session: Session, now: datetime) -> Finding:
    number = session.scalar(
        select(func.count(Delivery.id))
        .join(Endpoint, Endpoint.id == Delivery.endpoint_id)
        .where(
            Delivery.stored_status == DeliveryStatus.DEAD,
            Delivery.settled_at > now - RECENT,
            Endpoint.removed_at.is_(None),
        )
    )
    if not number:
        return Finding("dead_deliveries", True, f"none in the last {RECENT.days} days")
    text = "Fix the cause, then replay these deliveries."
    advice = Advice(text, "deliveries replay", ("--status", "dead"))
    return Finding("dead_deliveries", False, f"{number} in the last {RECENT.days} days", advice)
