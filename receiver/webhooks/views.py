"""The webhook route: verifies the raw body, parses it, stores it; responds after the commit."""

import time
from datetime import UTC, datetime
from typing import Any

from flask import Blueprint, Flask, current_app, request
from sqlalchemy.exc import IntegrityError

from contract import events, signatures
from foundation import logging
from foundation.db import session as db
from foundation.errors import Refusal
from foundation.web import app as web
from foundation.web.app import guarded
from foundation.web.errors import RequestInvalidError, RequestMalformedError
from receiver import services
from receiver.errors import SignatureRefusedError, SourceUnknownError
from receiver.services import Services
from receiver.sources import store as sources
from receiver.sources.store import LastRefusal, WebhookSource
from receiver.webhooks import inbox
from receiver.webhooks.openapi import AcceptedWebhook
from receiver.webhooks.refusals import RefusedWebhooks

MAX_BODY_BYTES = 64 * 1024
# The age in seconds up to which a source is used as it was read, and before a signature is refused:
# a removed secret is refused, and an added one accepted, after that time at the latest.
_MAX_AGE, _MAX_AGE_ON_MISMATCH = 1.0, 0.1
_SOURCES = "webhook_sources"

webhooks = Blueprint("webhooks", __name__)
_log = logging.get_logger(__name__)


@webhooks.post("/webhooks/<source>")
@guarded("webhook signature")
def receive(source: str) -> dict[str, Any]:
    """Accept an event of a source; one that it has not signed is refused before it is parsed."""
    refusals = RefusedWebhooks.of(current_app)
    try:
        accepted = _accept(source)
    except Refusal as refusal:
        last = refusals.record(source, refusal, now=datetime.now(UTC))
        if last is not None:
            _store(source, last)
        raise
    refusals.forget(source)
    return accepted.model_dump(mode="json")


def _accept(source: str) -> AcceptedWebhook:
    sender, webhook_id, raw = _verified(source)
    web.require_json()
    event = _parsed(raw)
    try:
        with services.current().database.writing() as session:
            outcome = inbox.accept(session, sender, webhook_id, event, raw)
    except IntegrityError:  # raised if the source was removed since it was read
        WebhookSources.of(current_app).get(source, read=True)
        raise
    _log.info(
        "webhook accepted",
        source=sender.name,
        webhook_id=webhook_id,
        event_type=event.type,
        course_id=None if isinstance(event, events.UnknownEvent) else event.data.course_id,
        outcome=outcome.value,
    )
    return AcceptedWebhook(outcome=outcome)


def _store(source: str, refusal: LastRefusal) -> None:
    current = services.current()
    try:
        # Anyone can make up a name, which must not lock the database.
        with current.database.reading() as session:
            sources.get(session, source)
        with current.writing() as (session, now):
            sources.store_refusal(session, source, refusal, now=now)
    except SourceUnknownError:
        pass
    except db.UNUSABLE as error:
        _log.debug("refusal not stored", source=source, cause=db.cause(error))


class WebhookSources:
    """The sources of an app by name, with their secrets opened, as they were recently."""

    def __init__(self, app_services: Services) -> None:
        self._services = app_services
        self._cached: dict[str, tuple[float, WebhookSource]] = {}

    @classmethod
    def of(cls, app: Flask) -> "WebhookSources":
        """Return the sources of an app."""
        cached: WebhookSources | None = app.extensions.get(_SOURCES)
        if cached is None:
            cached = app.extensions[_SOURCES] = cls(services.of(app))
        return cached

    def get(self, name: str, *, read: bool = False) -> tuple[WebhookSource, float]:
        """Return a source and its age in seconds, or read it if it is too old.

        Raises SourceUnknownError.
        """
        read_at, source = self._cached.get(name, (float("-inf"), None))
        now = time.monotonic()
        if source is not None and not read and 0 <= now - read_at < _MAX_AGE:
            return source, now - read_at
        with self._services.database.reading() as session:
            source = sources.get_webhook_source(session, name, vault=self._services.vault)
        self._cached[name] = (now, source)
        return source, 0.0


def _verified(name: str) -> tuple[WebhookSource, str, bytes]:
    try:
        # What the headers alone show to be wrong costs neither reading the body nor a query.
        headers = {key.lower(): value for key, value in request.headers}
        parsed = signatures.parse_headers(headers, now=datetime.now(UTC))
        raw = web.read_body(MAX_BODY_BYTES)
        source, age = _webhook_source(name)
        try:
            return source, signatures.verify_body(source.secrets, parsed, raw), raw
        except signatures.NoMatchError as error:
            if not source.source_id:
                # The response is that to a wrong secret; the cause is for the metrics.
                raise SignatureRefusedError(str(error)) from SourceUnknownError(name)
            if age < _MAX_AGE_ON_MISMATCH:
                raise
            source, _ = _webhook_source(name, read=True)
            return source, signatures.verify_body(source.secrets, parsed, raw), raw
    except signatures.SignatureError as error:
        raise SignatureRefusedError(str(error)) from error


def _webhook_source(name: str, *, read: bool = False) -> tuple[WebhookSource, float]:
    try:
        return WebhookSources.of(current_app).get(name, read=read)
    except SourceUnknownError:
        # A secret that no one has: without one, a client cannot find out which sources exist.
        _log.warning("webhook for an unknown source", source=name)
        return WebhookSource(0, name, (signatures.Secret.generate(),)), 0.0


def _parsed(raw: bytes) -> events.Event | events.UnknownEvent:
    try:
        return events.load(raw)
    except events.InvalidEventError as error:
        faults = [{"pointer": error.pointer, "detail": str(error)}]
        raise RequestInvalidError(str(error), errors=faults) from None
    except events.EventError as error:
        raise RequestMalformedError(str(error)) from None
