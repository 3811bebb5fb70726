"""Pings: a signed test of an endpoint, what it answered, and what follows from that."""

import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy.orm import Session

from contract import events, signatures
from contract.signatures import Secret
from foundation import tracing
from foundation.db import session as db
from notifier.errors import EndpointDisabledError
from notifier.models import EndpointPing
from notifier.services import Services
from notifier.webhooks import endpoints, outbox
from notifier.webhooks.retry_policy import Delivered, Failure, WebhookResponse, decide


@dataclass(frozen=True)
class PingResult:
    """What a ping was answered, and whether that means that events are accepted there.

    `due` says how many deliveries waited for a later time, and are due now because it was accepted.
    """

    url: str
    answer: WebhookResponse | Failure
    accepted: bool
    due: int


def send_ping(here: Services, endpoint_id: int) -> PingResult:
    """POST a signed test to an endpoint, with no session open, and write down what came of it.

    If it is accepted, and the endpoint was failing, what waits for it is sent at once; if nothing
    waits, it is well. Raises EndpointUnknownError, EndpointDisabledError, or SealError.
    """
    with here.database.reading() as session:
        url, encrypted = _addressed(session, endpoint_id)
    keys = [Secret.parse(here.vault.decrypt(one)) for one in encrypted]
    moment, clock = datetime.now(UTC), time.perf_counter()
    body = events.dump_ping(here.settings.source, moment).encode()
    headers = signatures.sign(keys, outbox.new_webhook_id(), body, now=moment)
    headers[tracing.HEADER] = tracing.begin().header
    with closing(here.transport(1)) as transport:
        answer = transport.post(url, headers, body)
    milliseconds = round((time.perf_counter() - clock) * 1000)
    accepted = isinstance(decide(answer, 1, now=moment), Delivered)
    with here.database.writing() as session:
        now = db.now(session)
        due = endpoints.resume_after_ping(session, endpoint_id, now=now) if accepted else 0
        _write(session, endpoint_id, answer, accepted=accepted, milliseconds=milliseconds, now=now)
    return PingResult(url, answer, accepted, due)


def _addressed(session: Session, endpoint_id: int) -> tuple[str, Sequence[str]]:
    endpoint = endpoints.get(session, endpoint_id)
    if endpoint.disabled_at is not None:
        raise EndpointDisabledError(f"endpoint {endpoint_id} is disabled")
    encrypted = endpoints.encrypted_secrets(session, [endpoint_id], now=db.now(session))
    return endpoint.url, encrypted[endpoint_id]


def _write(
    session: Session,
    endpoint_id: int,
    answer: WebhookResponse | Failure,
    *,
    accepted: bool,
    milliseconds: int,
    now: datetime,
) -> None:
    known = {
        "started_at": now,
        "milliseconds": milliseconds,
        "accepted": accepted,
        **_columns(answer),
    }
    written = db.insert(session, EndpointPing).values(endpoint_id=endpoint_id, **known)
    session.execute(written.on_conflict_do_update(index_elements=["endpoint_id"], set_=known))


def _columns(answer: WebhookResponse | Failure) -> dict[str, Any]:
    match answer:
        case WebhookResponse(status, _, said):
            return {"status": status, "failure": None, "detail": said or None}
        case Failure(kind, detail):
            return {"status": None, "failure": kind, "detail": detail}
