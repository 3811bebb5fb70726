"""Pings: a signed test event for an endpoint, and what follows from its result."""

import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy.orm import Session

from contract import events, signatures
from contract.signatures import Secret
from foundation import tracing
from foundation.db import session as db
from notifier.errors import EndpointDisabledError, EndpointRemovedError
from notifier.models import EndpointPing
from notifier.services import Services
from notifier.webhooks import endpoints, outbox
from notifier.webhooks.deliveries import result_columns
from notifier.webhooks.retry_policy import AttemptResult, Delivered, decide


@dataclass(frozen=True)
class PingResult:
    """The result of a ping, and whether an event would have been delivered.

    `due` is the number of waiting deliveries that became due because the ping was accepted.
    """

    url: str
    result: AttemptResult
    accepted: bool
    due: int


def send_ping(services: Services, endpoint_id: int, *, is_heartbeat: bool = False) -> PingResult:
    """POST a signed test event to an endpoint, with no session open, and store the result.

    If it is accepted and the endpoint was failing, its waiting deliveries become due; if none are
    waiting, it counts as healthy. If it is not accepted, it counts as a failure. A heartbeat says
    when the next one is expected; any ping does if none are sent.
    Raises EndpointUnknownError, EndpointRemovedError, EndpointDisabledError, or DecryptionError.
    """
    with services.database.reading() as session:
        url, encrypted = _target(session, endpoint_id)
    keys = [Secret.parse(services.vault.decrypt(one)) for one in encrypted]
    sent_at, clock = datetime.now(UTC), time.perf_counter()
    interval = services.settings.heartbeat_interval
    heartbeat_seconds = interval if is_heartbeat or not interval else None
    body = events.dump_ping(
        services.settings.source, sent_at, heartbeat_seconds=heartbeat_seconds
    ).encode()
    headers = signatures.sign(keys, outbox.new_webhook_id(), body, now=sent_at)
    headers[tracing.HEADER] = tracing.new_span().header
    with closing(services.transport(1)) as transport:
        result = transport.post(url, headers, body)
    milliseconds = round((time.perf_counter() - clock) * 1000)
    accepted = isinstance(decide(result, 1, now=sent_at), Delivered)
    with services.database.writing() as session:
        now = db.now(session)
        due = 0
        if accepted:
            due = endpoints.resume_after_ping(session, endpoint_id, now=now)
        else:
            endpoints.record_failed_ping(session, endpoint_id, result, now=now)
        columns = {
            "started_at": now,
            "milliseconds": milliseconds,
            "accepted": accepted,
            **result_columns(result),
        }
        insert = db.insert(session, EndpointPing).values(endpoint_id=endpoint_id, **columns)
        session.execute(insert.on_conflict_do_update(index_elements=["endpoint_id"], set_=columns))
    return PingResult(url, result, accepted, due)


def _target(session: Session, endpoint_id: int) -> tuple[str, Sequence[str]]:
    endpoint = endpoints.get(session, endpoint_id)
    if endpoint.removed_at is not None:
        raise EndpointRemovedError(f"endpoint {endpoint_id} was removed")
    if endpoint.disabled_at is not None:
        raise EndpointDisabledError(
            f"endpoint {endpoint_id} is disabled",
            advice=EndpointDisabledError.advice.fill("ENDPOINT_ID", str(endpoint_id)),
        )
    encrypted = endpoints.encrypted_secrets(session, [endpoint_id], now=db.now(session))
    return endpoint.url, encrypted[endpoint_id]
