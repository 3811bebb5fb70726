"""The door: raw bytes, verified, then understood, then taken in; answered after the commit."""

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
from receiver.sources.store import Door
from receiver.webhooks import inbox

MAX_BODY_BYTES = 64 * 1024

webhooks = Blueprint("webhooks", __name__)
_log = logging.get(__name__)


@webhooks.post("/webhooks/<source>")
@guarded("webhook signature")
def receive(source: str) -> dict[str, Any]:
    """Take an event of a source in; what is not signed by it is refused before it is parsed."""
    here = services.current()
    door, webhook_id, raw = _verified(here, source)
    web.require_json()
    event = _understood(raw)
    with here.database.writing() as session:
        outcome = inbox.accept(session, door, webhook_id, event, raw, now=db.now(session))
    _log.info(
        "webhook taken in",
        source=door.name,
        webhook_id=webhook_id,
        event_type=event.type,
        course_id=None if isinstance(event, events.UnknownEvent) else event.data.course_id,
        outcome=outcome.value,
    )
    return {"outcome": outcome.value}


def _verified(here: Services, source: str) -> tuple[Door, str, bytes]:
    try:
        # What the headers alone give away costs neither the body nor a query.
        headers = {name.lower(): value for name, value in request.headers}
        stamp = signatures.read(headers, now=datetime.now(UTC))
        raw = web.body(MAX_BODY_BYTES)
        door = _door(here, source)
        return door, signatures.verify_stamp(door.secrets, stamp, raw), raw
    except signatures.SignatureError as error:
        raise SignatureRefusedError(str(error)) from None


def _door(here: Services, source: str) -> Door:
    try:
        with here.database.reading() as session:
            return sources.find_door(session, source, vault=here.vault)
    except SourceUnknownError:
        # A door whose secret nobody has: who bears no secret is not told which sources there are.
        _log.warning("webhook for an unknown source", source=source)
        return Door(0, source, (signatures.Secret.generate(),))


def _understood(raw: bytes) -> events.Event | events.UnknownEvent:
    try:
        return events.load(raw)
    except events.InvalidEventError as error:
        faults = [{"pointer": error.pointer, "detail": str(error)}]
        raise RequestInvalidError(str(error), errors=faults) from None
    except events.EventError as error:
        raise RequestMalformedError(str(error)) from None
