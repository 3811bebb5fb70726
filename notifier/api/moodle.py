"""The API for a site that is a Moodle: its events, and announcements of regenerated tokens."""

import hmac
from typing import Any

from flask import Blueprint, request
from pydantic import BaseModel, ValidationError

from contract import strict_json
from contract.events import CourseId
from foundation import logging
from foundation.db import audit
from foundation.db.audit import Actor, Channel
from foundation.web import app as web
from foundation.web.app import client_address, guarded, invalid_fields, parse_body
from foundation.web.errors import RequestInvalidError, RequestMalformedError
from notifier import services
from notifier.api import schemas
from notifier.api.admin import actor, admin_only
from notifier.courses import moodle_events
from notifier.courses import service as courses
from notifier.courses.moodle_events import CourseDeletion, MoodleEventOutcome
from notifier.errors import IngestOffError, IngestRefusedError

ingest_api = Blueprint("ingest_api", __name__, url_prefix="/api/v1")

_SMALL_BODY = 64 * 1024
_log = logging.get_logger(__name__)


class CoursePath(BaseModel):
    """The course of a path; its id must be one that an event can carry."""

    course_id: CourseId


@ingest_api.post("/courses/<path:course_id>/token-regenerated")
@admin_only
def announce_token(course_id: str) -> dict[str, Any]:
    """Notify all endpoints that a Moodle course's token was regenerated; it is not stored."""
    new = parse_body(schemas.NewToken, _SMALL_BODY)
    if new.token is not None and new.token_id is not None:
        raise RequestInvalidError("give either `token_id` or `token`", errors=[])
    try:
        CoursePath(course_id=course_id)
    except ValidationError as error:
        raise invalid_fields(error) from None
    token_id = new.known_id()
    with services.current().writing() as (session, now):
        change = courses.announce_token(session, course_id, token_id, now=now)
        audit.record(session, actor(), "course.announce-token", course_id, token_id or "", now=now)
    return schemas.TokenAnnouncement.of(change).model_dump(mode="json")


@ingest_api.post("/ingest/moodle")
@guarded("ingest secret")
def receive_moodle_event() -> dict[str, str]:
    """Accept an event of a Moodle; `outcome` says what it did. Any other status is retried."""
    raw = _authenticated_body(services.current().settings.ingest_secret.get_secret_value())
    web.require_json()
    deletion = _parse_deletion(raw)
    outcome = MoodleEventOutcome.IGNORED
    if deletion is not None:
        with services.current().writing() as (session, now):
            outcome = moodle_events.accept(session, deletion, now=now)
            if outcome == MoodleEventOutcome.APPLIED:
                audit.record(session, _moodle(), "course.delete", deletion.course_id, now=now)
        _log.info("Moodle deletion accepted", course_id=deletion.course_id, outcome=outcome.value)
    return schemas.Outcome(outcome=outcome).model_dump(mode="json")


def _moodle() -> Actor:
    return Actor("Moodle", Channel.API, client_address())


def _authenticated_body(secret: str) -> bytes:
    """Return the body of a request that has the secret in a header or in the body itself."""
    if not secret:
        raise IngestOffError("Moodle events are not enabled here")
    header = request.headers.get("X-Api-Key")
    scheme, _, bearer = request.headers.get("Authorization", "").partition(" ")
    if header is None and scheme.lower() == "bearer":
        header = bearer.strip()
    if header is not None:
        _check_secret(header, secret)
        return web.read_body(_SMALL_BODY)
    raw = web.read_body(_SMALL_BODY)
    _check_secret(_body_secret(raw), secret)
    return raw


def _body_secret(raw: bytes) -> str:
    try:
        document = strict_json.load(raw)
    except strict_json.StrictJsonError:
        return ""
    token = document.get("token") if isinstance(document, dict) else None
    return token if isinstance(token, str) else ""


def _check_secret(received: str, secret: str) -> None:
    if not received:
        raise IngestRefusedError("the request has no ingest secret")
    if not hmac.compare_digest(received.encode(), secret.encode()):
        raise IngestRefusedError("the ingest secret is wrong")


def _parse_deletion(raw: bytes) -> CourseDeletion | None:
    try:
        document = strict_json.load(raw)
    except strict_json.StrictJsonError as error:
        raise RequestMalformedError(str(error)) from None
    if not isinstance(document, dict):
        raise RequestMalformedError("the body is not a JSON object")
    try:
        return moodle_events.parse_event(document)
    except ValidationError as error:
        raise invalid_fields(error) from None
