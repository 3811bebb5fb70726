"""The grades API: grades of one course, or of a batch, for the bearers of course tokens."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import timedelta
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
from notifier.courses import grade_access, token_claims
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
    """Return a course's grades, or 304 if they have not changed."""
    grades_request = _request_from_headers(course_id)
    with services.current().database.reading() as session:
        now = db.now(session)  # before the read, because later changes are not in its result
        (result,) = grade_access.read_grades(session, [grades_request], now=now)
    _forget_used([result])
    if isinstance(result, NotifierError):
        raise result
    if isinstance(result, GradesUnchanged):
        response = Response(status=304)
    else:
        body = _grades(result).model_dump_json(by_alias=True, exclude_unset=True)
        response = Response(body, content_type="application/json")
    response.set_etag(result.access.etag)
    if (changed_at := result.access.changed_at) is not None:
        # HTTP has whole seconds only: the next one, unless it is in the future (RFC 9110, 8.8.2.1).
        response.last_modified = min(changed_at + _SECOND, now)
    response.headers["Cache-Control"] = "private, no-cache"
    return response


@api.post("/grades/batch")
@guarded("course token")
def read_batch() -> Response:
    """Return the grades of a batch of courses, each with the status of its own request."""
    batch = parse_body(BatchRequest, _BATCH_BODY)
    with services.current().database.reading() as session:
        requests = [_request_from_batch(item) for item in batch.courses]
        results = grade_access.read_grades(session, requests, now=db.now(session))
    _forget_used(results)
    items = tuple(map(_item, batch.courses, results))
    _log_batch(items, results)
    # Unset fields are left out; None in a score is set and kept.
    body = BatchResponse(answers=items).model_dump_json(by_alias=True, exclude_unset=True)
    return Response(body, content_type="application/json")


def _forget_used(results: Sequence[GradesOutcome]) -> None:
    """End the claims of tokens that were used for the first time, before the response.

    If the database takes no writes, the grades are returned all the same, and the next request for
    them does it.
    """
    used = [
        result.access.token_id
        for result in results
        if not isinstance(result, NotifierError) and result.access.is_first_use
    ]
    if used:
        try:
            with services.current().database.writing() as session:
                token_claims.forget_used(session, used)
        except db.UNUSABLE as error:
            _log.warning("used tokens can still be claimed", token_ids=used, cause=db.cause(error))


def _request_from_headers(course_id: str) -> GradesRequest:
    bearer = grade_access.parse_bearer(request.headers.get("Authorization"))
    if "If-None-Match" in request.headers:
        return GradesRequest(course_id, bearer, has_etag=request.if_none_match.contains_weak)
    since = request.if_modified_since
    # Just before that second, because grades may have changed again within it.
    return GradesRequest(course_id, bearer, since=since and since - _TICK)


def _request_from_batch(item: BatchRequestItem) -> GradesRequest:
    bearer = grade_access.parse_token(item.token)
    if item.if_none_match is not None:
        etags = parse_etags(item.if_none_match)
        return GradesRequest(item.course_id, bearer, has_etag=etags.contains_weak)
    return GradesRequest(item.course_id, bearer, since=item.if_modified_since)


def _item(item: BatchRequestItem, result: GradesOutcome) -> BatchResponseItem:
    match result:
        case GradesResult(access):
            etag, grades = quote_etag(access.etag), _grades(result)
            return BatchResponseItem(course_id=item.course_id, status=200, etag=etag, grades=grades)
        case GradesUnchanged():
            return BatchResponseItem(course_id=item.course_id, status=304)
        case refusal:
            problem = to_problem(refusal)
            return BatchResponseItem(
                course_id=item.course_id, status=problem.status, problem=problem.document()
            )


def _grades(result: GradesResult) -> GradesResponse:
    access = result.access
    overlap = {} if access.overlap is None else {"overlap": access.overlap}
    return GradesResponse(
        course_id=access.course_id,
        course_version=access.course_version,
        token_id=access.token_id,
        scores=result.scores,
        **overlap,
    )


def _log_batch(items: Sequence[BatchResponseItem], results: Sequence[GradesOutcome]) -> None:
    refused = defaultdict(list)
    for item, result in zip(items, results, strict=True):
        if isinstance(result, NotifierError):
            refused[to_problem(result).type.value].append(item.course_id)
    _log.log(
        WARNING if refused else INFO,
        "batch answered",
        courses=len(results),
        sent=sum(isinstance(result, GradesResult) for result in results),
        unchanged=sum(isinstance(result, GradesUnchanged) for result in results),
        refused=dict(refused),
    )
    _log.debug("batch in detail", statuses=[(item.course_id, item.status) for item in items])
