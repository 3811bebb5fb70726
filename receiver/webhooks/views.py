"""The webhook route: verifies the raw body, parses it, stores it; responds after the commit."""

from datetime import UTC, datetime
from typing import Any

from flask import Blueprint, request

from contract import events, signatures
from foundation import logging
from foundation.db import session as db
from foundation.web import app as web
from foundation.web.app import guarded
from foundation.web.errors import RequestInvalidError, RequestMalformedError
from receiver import services
from receiver.errors import SignatureRefusedError, SourceUnknownError
from receiver.services import Services
from receiver.sources import store as sources
from receiver.sources.store import WebhookSource
from receiver.webhooks import inbox
from receiver.webhooks.openapi import AcceptedWebhook

MAX_BODY_BYTES = 64 * 1024

webhooks = Blueprint("webhooks", __name__)
_log = logging.get_logger(__name__)


@webhooks.post("/webhooks/<source>")
@guarded("webhook signature")
def receive(source: str) -> dict[str, Any]:
    """Accept an event of a source; one that it has not signed is refused before it is parsed."""
    current = services.current()
    verified, webhook_id, raw = _verified(current, source)
    web.require_json()
    event = _parsed(raw)
    with current.database.writing() as session:
        outcome = inbox.accept(session, verified, webhook_id, event, raw, now=db.now(session))
    _log.info(
        "webhook accepted",
        source=verified.name,
        webhook_id=webhook_id,
        event_type=event.type,
        course_id=None if isinstance(event, events.UnknownEvent) else event.data.course_id,
        outcome=outcome.value,
    )
    return AcceptedWebhook(outcome=outcome).model_dump(mode="json")


def _verified(current: Services, name: str) -> tuple[WebhookSource, str, bytes]:
    try:
        # What the headers alone show to be wrong costs neither reading the body nor a query.
        headers = {key.lower(): value for key, value in request.headers}
        parsed = signatures.parse_headers(headers, now=datetime.now(UTC))
        raw = web.read_body(MAX_BODY_BYTES)
        source = _webhook_source(current, name)
        return source, signatures.verify_body(source.secrets, parsed, raw), raw
    except signatures.SignatureError as error:
        raise SignatureRefusedError(str(error)) from None


def _webhook_source(current: Services, name: str) -> WebhookSource:
    try:
        with current.database.reading() as session:
            return sources.get_webhook_source(session, name, vault=current.vault)
    except SourceUnknownError:
        # A secret that no one has: without one, a client cannot find out which sources exist.
        _log.warning("webhook for an unknown source", source=name)
        return WebhookSource(0, name, (signatures.Secret.generate(),))


def _parsed(raw: bytes) -> events.Event | events.UnknownEvent:
    try:
        return events.load(raw)
    except events.InvalidEventError as error:
        faults = [{"pointer": error.pointer, "detail": str(error)}]
        raise RequestInvalidError(str(error), errors=faults) from None
    except events.EventError as error:
        raise RequestMalformedError(str(error)) from None
