"""What is told of a Moodle, which tells of its tokens to nobody: by whoever regenerates one."""

from typing import Annotated, Any

from flask import Blueprint
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
)

from contract.events import CourseId
from contract.tokens import MOODLE_TOKEN_ID, MoodleToken
from foundation import database as db
from foundation.refusals import RequestInvalidError
from foundation.web import invalid, parsed
from notifier import courses, services
from notifier.web.admin_api import admin_only

ingest_api = Blueprint("ingest_api", __name__, url_prefix="/api/v1")

_SMALL_BODY = 64 * 1024


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
    asked = parsed(NewToken, _SMALL_BODY)
    if asked.token is not None and asked.token_id is not None:
        raise RequestInvalidError("name either `token_id` or a `token`", errors=[])
    try:
        Named(course_id=course_id)
    except ValidationError as error:
        raise invalid(error) from None
    with services.current().database.writing() as session:
        told = courses.announce_token(session, course_id, asked.known_id(), now=db.now(session))
    return {
        "course_id": told.course_id,
        "course_version": told.course_version,
        "token_id": told.token_id,
    }
