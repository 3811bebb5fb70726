"""The grades API: courses' grades for the bearers of their tokens, one by one or many at once."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta
from logging import INFO, WARNING

from flask import Blueprint, Response, request
from werkzeug.http import parse_etags, quote_etag

from contract.grades import (
    BatchRequest,
    BatchRequestItem,
    BatchResponse,
    BatchResponseItem,
    GradesResponse,
)
from foundation import logging
from foundation.db import session as db
from foundation.web.app import guarded, parse_body, to_problem
from notifier import services
from notifier.courses import grade_access
from notifier.courses.grade_access import (
    GradesOutcome,
    GradesRequest,
    GradesResult,
    GradesUnchanged,
)
from notifier.errors import NotifierError

_BATCH_BODY = 256 * 1024
_SECOND = timedelta(seconds=1)
_TICK = timedelta(microseconds=1)

_log = logging.get_logger(__name__)

api = Blueprint("api", __name__, url_prefix="/api/v1")


@api.get("/courses/<path:course_id>/grades")
@guarded("course token")
def read_grades(course_id: str) -> Response:
    """Answer a course's grades, or 304 if the caller has them, or why not."""
    question = _asked_by_headers(course_id)
    with services.current().database.reading() as session:
        now = db.now(session)  # before the grades are read: what changes after it is not in them
        (answer,) = grade_access.read_grades(session, [question])
    if isinstance(answer, NotifierError):
        raise answer
    response = _one(answer)
    response.set_etag(answer.access.etag)
    if (changed_at := answer.access.changed_at) is not None:
        response.last_modified = _last_modified(changed_at, now)
    response.headers["Cache-Control"] = "private, no-cache"
    return response


@api.post("/grades/batch")
@guarded("course token")
def read_batch() -> Response:
    """Answer many courses' grades, each with the status that it would have had by itself."""
    order = parse_body(BatchRequest, _BATCH_BODY)
    with services.current().database.reading() as session:
        answers = grade_access.read_grades(session, [_asked_in_batch(one) for one in order.courses])
    items = tuple(map(_item, order.courses, answers))
    _tell(items, answers)
    # What was not set is left out; None inside a score was set, and stays.
    body = BatchResponse(answers=items).model_dump_json(by_alias=True, exclude_unset=True)
    return Response(body, content_type="application/json")


def _asked_by_headers(course_id: str) -> GradesRequest:
    bearer = grade_access.parse_bearer(request.headers.get("Authorization"))
    if "If-None-Match" in request.headers:
        return GradesRequest(course_id, bearer, has_etag=request.if_none_match.contains_weak)
    since = request.if_modified_since
    # Before that second, for in it grades may have changed again after they were read.
    return GradesRequest(course_id, bearer, since=since and since - _TICK)


def _asked_in_batch(asked: BatchRequestItem) -> GradesRequest:
    bearer = grade_access.parse_token(asked.token)
    if asked.if_none_match is not None:
        etags = parse_etags(asked.if_none_match)
        return GradesRequest(asked.course_id, bearer, has_etag=etags.contains_weak)
    return GradesRequest(asked.course_id, bearer, since=asked.if_modified_since)


def _last_modified(changed_at: datetime, now: datetime) -> datetime:
    # HTTP knows whole seconds only. The next one is named, unless it is still to come: then what
    # changes until it comes is sent again (RFC 9110, 8.8.2.1).
    return min(changed_at + _SECOND, now)


def _one(answer: GradesResult | GradesUnchanged) -> Response:
    if isinstance(answer, GradesUnchanged):
        return Response(status=304)
    body = _grades(answer).model_dump_json(by_alias=True)
    return Response(body, content_type="application/json")


def _item(asked: BatchRequestItem, answer: GradesOutcome) -> BatchResponseItem:
    match answer:
        case GradesResult(reading):
            etag, grades = quote_etag(reading.etag), _grades(answer)
            return BatchResponseItem(
                course_id=asked.course_id, status=200, etag=etag, grades=grades
            )
        case GradesUnchanged():
            return BatchResponseItem(course_id=asked.course_id, status=304)
        case refusal:
            problem = to_problem(refusal)
            document = problem.document()
            return BatchResponseItem(
                course_id=asked.course_id, status=problem.status, problem=document
            )


def _grades(granted: GradesResult) -> GradesResponse:
    return GradesResponse(
        course_id=granted.access.course_id,
        course_version=granted.access.course_version,
        token_id=granted.access.token_id,
        scores=granted.scores,
    )


def _tell(items: Sequence[BatchResponseItem], answers: Sequence[GradesOutcome]) -> None:
    refused = defaultdict(list)
    for item, answer in zip(items, answers, strict=True):
        if isinstance(answer, NotifierError):
            refused[to_problem(answer).type.value].append(item.course_id)
    _log.log(
        WARNING if refused else INFO,
        "batch answered",
        courses=len(answers),
        sent=sum(isinstance(one, GradesResult) for one in answers),
        unchanged=sum(isinstance(one, GradesUnchanged) for one in answers),
        refused=dict(refused),
    )
    _log.debug("batch in detail", statuses=[(item.course_id, item.status) for item in items])
