"""Pings: a signed test event for an endpoint, and what follows from its result.

A check of the receiver is a series of pings, most of them signed in a wrong way. A sample is an
event of any type with the mark of a test.
"""

import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from contract import events
from contract.signatures import Secret
from foundation import tracing
from foundation.db import counters
from foundation.db import session as db
from notifier.courses import service as courses
from notifier.errors import EndpointDisabledError, EndpointRemovedError, SampleRefusedError
from notifier.models import EndpointPing
from notifier.services import Services
from notifier.webhooks import endpoints, outbox, receiver_probes
from notifier.webhooks.deliveries import result_columns
from notifier.webhooks.receiver_probes import Probe, ProbeResult, ReceiverFinding
from notifier.webhooks.retry_policy import AttemptResult, Delivered, WebhookResponse, decide
from notifier.worker.metrics import HEARTBEATS

if TYPE_CHECKING:
    from notifier.webhooks.http_client import Transport

# Seconds after which a check sends no further ping.
CHECK_SECONDS = 30.0


@dataclass(frozen=True)
class PingResult:
    """The result of a ping, and whether an event would have been delivered.

    `due` is the number of waiting deliveries that became due because the ping was accepted.
    """

    url: str
    result: AttemptResult
    accepted: bool
    due: int


@dataclass(frozen=True)
class SampleResult(PingResult):
    """The result of a sample: its id, its event type, and the body that was sent."""

    webhook_id: str
    event_type: str
    body: str


@dataclass(frozen=True)
class ReceiverCheck:
    """The results of all probes of an endpoint's receiver, and what they say of it."""

    url: str
    findings: Sequence[ReceiverFinding]
    clock_offset: timedelta | None
    results: Sequence[ProbeResult]

    @property
    def is_flawed(self) -> bool:
        """Whether something must be done at the receiver."""
        return any(finding.is_flaw for finding in self.findings)


def send_ping(services: Services, endpoint_id: int, *, is_heartbeat: bool = False) -> PingResult:
    """POST a signed test event to an endpoint, with no session open, and store the result.

    If it is accepted and the endpoint was failing, its waiting deliveries become due; if none are
    waiting, it counts as healthy. If it is not accepted, it counts as a failure. A heartbeat
    changes no delivery (`endpoints.record_heartbeat`). Any ping states the interval of the
    heartbeats, so that the receiver expects them, but only a heartbeat delays the next one.
    Raises EndpointUnknownError, EndpointRemovedError, EndpointDisabledError, or DecryptionError.
    """
    target = _read_target(services, endpoint_id, is_heartbeat=is_heartbeat)
    with closing(services.transport(1)) as transport:
        posted = _post(transport, target, Probe.SIGNED, outbox.new_webhook_id())
    return _store(services, target, posted, is_heartbeat=is_heartbeat)


def check_receiver(services: Services, endpoint_id: int) -> ReceiverCheck:
    """Send an endpoint the pings that show whether its receiver verifies, with no session open.

    The first is what `send_ping` sends and has the same effects; nothing is stored of the others.
    None begins later than after `CHECK_SECONDS`. Raises what `send_ping` raises.
    """
    target, ends_at = _read_target(services, endpoint_id), time.monotonic() + CHECK_SECONDS
    webhook_id = outbox.new_webhook_id()
    with closing(services.transport(1)) as transport:
        first = _post(transport, target, Probe.SIGNED, webhook_id)
        _store(services, target, first)
        results = [ProbeResult(Probe.SIGNED, first.result)]
        if not receiver_probes.is_about_route(first.result):
            for probe in receiver_probes.probes_for(target.keys)[1:]:
                if time.monotonic() > ends_at:
                    results.append(ProbeResult(probe, None))
                    continue
                sent_id = webhook_id if probe is Probe.REPEATED else outbox.new_webhook_id()
                results.append(ProbeResult(probe, _post(transport, target, probe, sent_id).result))
    date = first.result.date if isinstance(first.result, WebhookResponse) else ""
    offset = receiver_probes.clock_offset(date, first.sent_at + first.took / 2)
    findings = receiver_probes.diagnose(results, offset, endpoint_id)
    return ReceiverCheck(target.url, findings, offset, results)


def send_sample(
    services: Services, endpoint_id: int, event_type: str, course_id: str | None
) -> SampleResult:
    """POST a signed sample of an event to an endpoint, with no session open; store nothing.

    Without a course id it has a new one. Raises SampleRefusedError if a course with this id exists
    or existed, and what `send_ping` raises.
    """
    webhook_id = outbox.new_webhook_id()
    course_id = course_id or f"sample-{webhook_id.removeprefix('msg_')}"
    target = _read_target(services, endpoint_id)
    with services.database.reading() as session:
        if courses.find_courses(session, [course_id]):
            raise SampleRefusedError(f"there is or was a course {course_id!r}")
    body = events.dump_sample(event_type, services.settings.source, course_id, datetime.now(UTC))
    target = replace(target, body=body.encode())
    with closing(services.transport(1)) as transport:
        posted = _post(transport, target, Probe.SIGNED, webhook_id)
    accepted = isinstance(decide(posted.result, 1, now=posted.sent_at), Delivered)
    return SampleResult(target.url, posted.result, accepted, 0, webhook_id, event_type, body)


@dataclass(frozen=True)
class _Target:
    """An endpoint with its secrets, the newest first, and the body of its pings.

    `heartbeat_seconds` is the interval in the body.
    """

    endpoint_id: int
    url: str
    keys: Sequence[Secret]
    body: bytes
    heartbeat_seconds: int


@dataclass(frozen=True)
class _Posted:
    sent_at: datetime
    took: timedelta
    result: AttemptResult


def _read_target(services: Services, endpoint_id: int, *, is_heartbeat: bool = False) -> _Target:
    with services.database.reading() as session:
        endpoint = endpoints.get(session, endpoint_id)
        if endpoint.removed_at is not None:
            raise EndpointRemovedError(f"endpoint {endpoint_id} was removed")
        if endpoint.disabled_at is not None:
            raise EndpointDisabledError(
                f"endpoint {endpoint_id} is disabled",
                advice=EndpointDisabledError.advice.fill("ENDPOINT_ID", str(endpoint_id)),
            )
        encrypted = endpoints.encrypted_secrets(session, [endpoint_id], now=db.now(session))
    keys = [Secret.parse(services.vault.decrypt(one)) for one in encrypted[endpoint_id]]
    interval = services.settings.heartbeat_interval
    body = events.dump_ping(
        services.settings.source,
        datetime.now(UTC),
        heartbeat_seconds=interval,
        is_heartbeat=is_heartbeat,
    )
    return _Target(endpoint_id, endpoint.url, keys, body.encode(), interval)


def _post(transport: "Transport", target: _Target, probe: Probe, webhook_id: str) -> _Posted:
    sent_at, clock = datetime.now(UTC), time.perf_counter()
    headers, body = receiver_probes.make_probe(
        probe, target.keys, webhook_id, target.body, now=sent_at
    )
    headers[tracing.HEADER] = tracing.new_span().header
    result = transport.post(target.url, headers, body)
    return _Posted(sent_at, timedelta(seconds=time.perf_counter() - clock), result)


def _store(
    services: Services, target: _Target, posted: _Posted, *, is_heartbeat: bool = False
) -> PingResult:
    endpoint_id, result = target.endpoint_id, posted.result
    accepted = isinstance(decide(result, 1, now=posted.sent_at), Delivered)
    with services.database.writing() as session:
        now = db.now(session)
        due = 0
        if is_heartbeat:
            endpoints.record_heartbeat(session, endpoint_id, result, now=now)
            counters.add(session, HEARTBEATS.count([("accepted" if accepted else "failed",)]))
        elif accepted:
            due = endpoints.resume_after_ping(session, endpoint_id, now=now)
        else:
            endpoints.record_failed_ping(session, endpoint_id, result, now=now)
        if accepted:
            endpoints.get(session, endpoint_id).heartbeat_seconds = target.heartbeat_seconds
        columns = {
            "started_at": now,
            "milliseconds": round(posted.took / timedelta(milliseconds=1)),
            "accepted": accepted,
            **result_columns(result),
        }
        insert = db.insert(session, EndpointPing).values(endpoint_id=endpoint_id, **columns)
        session.execute(insert.on_conflict_do_update(index_elements=["endpoint_id"], set_=columns))
    return PingResult(target.url, result, accepted, due)
