"""The grades API: a course's grades for the bearer of its token."""

from flask import Blueprint, Response, request

from contract.grades import GradesAnswer
from foundation.web import guarded
from notifier import grades, services

api = Blueprint("api", __name__, url_prefix="/api/v1")


@api.get("/courses/<path:course_id>/grades")
@guarded("course token")
def read_grades(course_id: str) -> Response:
    """Answer a course's grades, or 304 if the caller has them, or why not."""
    bearer = grades.parse_bearer(request.headers.get("Authorization"))
    with services.current().database.reading() as session:
        reading = grades.authorize(session, course_id, bearer)
        if request.if_none_match.contains_weak(reading.etag):
            response = Response(status=304)
        else:
            answer = GradesAnswer(
                course_id=reading.course_id,
                course_version=reading.course_version,
                token_id=reading.token_id,
                scores=grades.read(session, reading),
            )
            body = answer.model_dump_json(by_alias=True)
            response = Response(body, content_type="application/json")
    response.set_etag(reading.etag)
    response.headers["Cache-Control"] = "private, no-cache"
    return response
