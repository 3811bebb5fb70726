"""What is told of a Moodle: its events by itself, a new token by whoever regenerated it."""

import hmac
from typing import Annotated, Any

from flask import Blueprint, request
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, ValidationError

from contract import strict_json
from contract.events import CourseId
from contract.tokens import MOODLE_TOKEN_ID, MoodleToken
from foundation import logging
from foundation.db import session as db
from foundation.web import app as web
from foundation.web.app import guarded, invalid_fields, parse_body
from foundation.web.errors import RequestInvalidError, RequestMalformedError
from notifier import services
from notifier.api.admin import admin_only
from notifier.courses import moodle_events
from notifier.courses import service as courses
from notifier.courses.moodle_events import CourseDeletion, MoodleEventOutcome
from notifier.errors import IngestOffError, IngestRefusedError

ingest_api = Blueprint("ingest_api", __name__, url_prefix="/api/v1")

_SMALL_BODY = 64 * 1024
_log = logging.get_logger(__name__)


class Named(BaseModel):
    """The course that a path names: what no event could carry is not taken in."""

    course_id: CourseId


def _moodle_token(token: SecretStr) -> SecretStr:
    MoodleToken.parse(token.get_secret_value())
    return token


class NewToken(BaseModel):
    """What is known of a new token: its public id, or itself, or nothing."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    token_id: Annotated[str, Field(pattern=f"^{MOODLE_TOKEN_ID.pattern}$")] | None = None
    token: Annotated[SecretStr, AfterValidator(_moodle_token)] | None = None

    def known_id(self) -> str | None:
        """Return the public id, by which alone the token is told."""
        if self.token is None:
            return self.token_id
        return MoodleToken.parse(self.token.get_secret_value()).token_id


@ingest_api.post("/courses/<path:course_id>/token-regenerated")
@admin_only
def tell_token(course_id: str) -> dict[str, Any]:
    """Tell that a Moodle regenerated a course's token; the token itself is not kept."""
    asked = parse_body(NewToken, _SMALL_BODY)
    if asked.token is not None and asked.token_id is not None:
        raise RequestInvalidError("name either `token_id` or a `token`", errors=[])
    try:
        Named(course_id=course_id)
    except ValidationError as error:
        raise invalid_fields(error) from None
    with services.current().database.writing() as session:
        told = courses.announce_token(session, course_id, asked.known_id(), now=db.now(session))
    return {
        "course_id": told.course_id,
        "course_version": told.course_version,
        "token_id": told.token_id,
    }


@ingest_api.post("/ingest/moodle")
@guarded("ingest secret")
def hear_moodle() -> dict[str, str]:
    """Take in an event of a Moodle; it is 200 whatever came of it, for all else is sent again."""
    raw = _proven(services.current().settings.ingest_secret.get_secret_value())
    web.require_json()
    told = _understood(raw)
    if told is None:
        return {"outcome": MoodleEventOutcome.IGNORED.value}
    with services.current().database.writing() as session:
        outcome = moodle_events.accept(session, told, now=db.now(session))
    _log.info("deletion in a Moodle taken in", course_id=told.course_id, outcome=outcome.value)
    return {"outcome": outcome.value}


def _proven(secret: str) -> bytes:
    """Return the body of a request that bears the secret, be it in the body itself."""
    if not secret:
        raise IngestOffError("hearing from a Moodle is switched off here")
    borne = _borne()
    if borne is not None:
        _check_secret(borne, secret)
        return web.read_body(_SMALL_BODY)
    raw = web.read_body(_SMALL_BODY)
    _check_secret(_token_in(raw), secret)
    return raw


def _borne() -> str | None:
    key = request.headers.get("X-Api-Key")
    scheme, _, bearer = request.headers.get("Authorization", "").partition(" ")
    if key is None and scheme.lower() == "bearer":
        return bearer.strip()
    return key


def _token_in(raw: bytes) -> str:
    try:
        document = strict_json.load(raw)
    except strict_json.StrictJsonError:
        return ""
    token = document.get("token") if isinstance(document, dict) else None
    return token if isinstance(token, str) else ""


def _check_secret(borne: str, secret: str) -> None:
    if not borne:
        raise IngestRefusedError("the request has no ingest secret")
    if not hmac.compare_digest(borne.encode(), secret.encode()):
        raise IngestRefusedError("the ingest secret is wrong")


def _understood(raw: bytes) -> CourseDeletion | None:
    try:
        document = strict_json.load(raw)
    except strict_json.StrictJsonError as error:
        raise RequestMalformedError(str(error)) from None
    if not isinstance(document, dict):
        raise RequestMalformedError("the body is JSON, but no object")
    try:
        return moodle_events.parse_event(document)
    except ValidationError as error:
        raise invalid_fields(error) from None
