"""The admin API: courses, grades, endpoints and deliveries, for the bearer of the admin key."""

from datetime import timedelta
from typing import Any

from flask import Blueprint
from sqlalchemy.orm import Session

from contract.tokens import CourseToken
from foundation.db import audit
from foundation.db.audit import Actor, Channel
from foundation.db.pagination import PageRequest, Sort
from foundation.responses import Response
from foundation.web.app import check_bearer, client_address, guarded, parse_body, parse_query, takes
from foundation.web.errors import AdminKeyError, RequestInvalidError
from notifier import services
from notifier.api import schemas
from notifier.courses import grades, listing, token_claims
from notifier.courses import service as courses
from notifier.courses.listing import CourseFilter
from notifier.models import MAX_ID
from notifier.webhooks import delivery_queries, endpoints, replay
from notifier.webhooks.delivery_filter import SORTS, DeliveryFilter

admin_api = Blueprint("admin_api", __name__, url_prefix="/api/v1/admin")

# Bytes of a body.
_SMALL_BODY = 64 * 1024
_GRADES_BODY = 16 * 1024 * 1024

Json = dict[str, Any]


def _check_key() -> None:
    key = services.current().settings.admin_key.get_secret_value()
    check_bearer(key, AdminKeyError, "admin key")


admin_only = guarded("admin key", _check_key, strict=True)


def actor() -> Actor:
    """Return the caller of the admin API, for the audit table."""
    return Actor("admin API", Channel.API, client_address())


@admin_api.post("/courses")
@admin_only
def add_course() -> tuple[Json, int]:
    """Add a course; only this response holds its token."""
    new = parse_body(schemas.NewCourse, _SMALL_BODY)
    with services.current().writing() as (session, now):
        token = courses.add_course(session, new.course_id, new.title, now=now)
        audit.record(session, actor(), "course.add", new.course_id, new.title, now=now)
        return _with_token(session, new.course_id, token), 201


@admin_api.get("/courses")
@admin_only
@takes(schemas.CourseListParams)
def list_courses() -> Json:
    """List courses; for the next page set `after` to `next`.

    `matching` are words of ids and titles. They are sorted by id, or for a search ids that start
    with it are first, unless `sort` names a column; -COLUMN sorts descending.
    """
    page = parse_query(schemas.CourseListParams)
    criteria = CourseFilter(page.matching, page.deleted, page.deleted_since)
    sort = Sort.parse(page.sort, listing.SORTS) if page.sort else None
    with services.current().database.reading() as session:
        request = PageRequest(after=(page.after,) if page.after else None)
        found = listing.page(session, criteria, request, sort=sort, limit=page.limit)
        tokens = courses.current_tokens(session, [row.id for row in found.rows])
        return _json(schemas.Courses.of_page(found, tokens))


@admin_api.get("/courses/<path:course_id>")
@admin_only
def show_course(course_id: str) -> Json:
    """Show a course, deleted or not, with its tokens, deliveries and last changes."""
    with services.current().database.reading() as session:
        course = courses.get_course(session, course_id)
        deliveries = delivery_queries.find(session, DeliveryFilter(course_id=course_id))
        changes = audit.about(session, "course", course_id)
        return _json(schemas.CourseDetails.of_course(course, deliveries, changes))


@admin_api.delete("/courses/<path:course_id>")
@admin_only
def delete_course(course_id: str) -> Json:
    """Delete a course and notify all endpoints; it can be restored for NOTIFIER_RESTORE_DAYS."""
    with services.current().writing() as (session, now):
        course = courses.delete_course(session, course_id, now=now)
        audit.record(session, actor(), "course.delete", course_id, now=now)
        return _json(schemas.CourseResponse.of(course))


@admin_api.post("/courses/<path:course_id>/restore")
@admin_only
def restore_course(course_id: str) -> Json:
    """Undo the deletion of a course and notify all endpoints; its token is valid again."""
    current = services.current()
    with current.writing() as (session, now):
        grace = current.settings.grace_period
        course = courses.restore_course(session, course_id, grace=grace, now=now)
        audit.record(session, actor(), "course.restore", course_id, now=now)
        forgotten = bool(grades.find_forgotten(session, [course_id]))
        return _json(schemas.CourseRestored.of(course, grades_forgotten=forgotten))


@admin_api.post("/courses/<path:course_id>/token")
@admin_only
@takes(schemas.TokenRegeneration)
def regenerate_token(course_id: str) -> tuple[Json, int]:
    """Replace a course's token and notify all endpoints; only this response holds the new one.

    The old one stays good for `overlap_seconds`; without them it ends at once.
    """
    overlap = timedelta(seconds=parse_query(schemas.TokenRegeneration).overlap_seconds)
    with services.current().writing() as (session, now):
        token = courses.regenerate_token(
            session, course_id, overlap=overlap, vault=services.current().vault, now=now
        )
        valid_until = courses.end_of(overlap, now=now)
        detail = courses.describe_regeneration(token, valid_until)
        audit.record(session, actor(), "course.regenerate-token", course_id, detail, now=now)
        course = courses.get_course(session, course_id)
        response = schemas.RegeneratedToken.of(
            course,
            token=token.reveal(),
            token_id=token.token_id,
            valid_until=valid_until,
            claimable=token_claims.is_kept(session, token),
        )
        return _json(response), 201


@admin_api.put("/courses/<path:course_id>/grades")
@admin_only
def load_grades(course_id: str) -> Json:
    """Store scores of a course; other users keep their scores."""
    to_load = parse_body(schemas.GradesToLoad, _GRADES_BODY)
    with services.current().writing() as (session, now):
        loaded = grades.load(session, {course_id: to_load.scores}, now=now)
        return _json(schemas.GradesLoaded.of(loaded))


@admin_api.post("/endpoints")
@admin_only
def add_endpoint() -> tuple[Json, int]:
    """Register a URL; only this response holds its secret.

    A host that cannot be resolved is registered too; `warning` says so.
    """
    new = parse_body(schemas.NewEndpoint, _SMALL_BODY)
    current = services.current()
    with current.writing() as (session, now):
        endpoint, secret = endpoints.register(
            session,
            new.url,
            new.event_types,
            name=new.name,
            may_claim_tokens=new.may_claim_tokens,
            vault=current.vault,
            guard=current.settings.guard,
            now=now,
        )
        detail = endpoints.describe(endpoint)
        audit.record(session, actor(), "endpoint.add", endpoint.id, detail, now=now)
    warning = schemas.HostWarning.of_failure(current.check_host(endpoint.url), endpoint.id)
    response = schemas.EndpointWithSecret.of(endpoint, secret=secret.reveal(), warning=warning)
    return _json(response), 201


@admin_api.get("/endpoints")
@admin_only
@takes(schemas.EndpointListParams)
def list_endpoints() -> Json:
    """List the endpoints and their status; with `removed` also those that were removed."""
    params = parse_query(schemas.EndpointListParams)
    with services.current().database.reading() as session:
        rows = endpoints.list_all(session, removed=params.removed)
        found = [schemas.EndpointResponse.of(row) for row in rows]
        return _json(schemas.Endpoints(endpoints=found))


@admin_api.delete(f"/endpoints/<int(max={MAX_ID}):endpoint_id>")
@admin_only
def remove_endpoint(endpoint_id: int) -> Json:
    """Remove an endpoint permanently and cancel its pending and held deliveries."""
    with services.current().writing() as (session, now):
        cancelled = endpoints.remove(session, endpoint_id, by=_by(), now=now)
        audit.record(session, actor(), "endpoint.remove", endpoint_id, now=now)
        endpoint = endpoints.get(session, endpoint_id)
        return _json(schemas.EndpointRemoved.of(endpoint, cancelled=cancelled))


@admin_api.get("/deliveries")
@admin_only
@takes(schemas.DeliveryListParams)
def list_deliveries() -> Json:
    """List deliveries, newest first; for the next page set `before` to `next`.

    With `sort=occurred` the oldest are first; for the next page set `after` to `next`.
    """
    page = parse_query(schemas.DeliveryListParams)
    sort = Sort.parse(page.sort, SORTS)
    if (page.after if sort.descending else page.before) is not None:
        raise RequestInvalidError(
            "`before` goes with newest first, `after` with `sort=occurred`", errors=[]
        )
    with services.current().database.reading() as session:
        cursor = page.before or page.after
        request = PageRequest(after=(cursor,) if cursor else None)
        found = delivery_queries.page(session, page, request, sort=sort, limit=page.limit)
        last = delivery_queries.last_attempts(session, [row.id for row in found.rows])
        return _json(schemas.Deliveries.of_page(found, last))


@admin_api.post("/deliveries/replay")
@admin_only
def replay_deliveries() -> Json:
    """Send deliveries again with the same webhook-id; `dry_run` only lists them."""
    params = parse_body(schemas.ReplayRequest, _SMALL_BODY)
    if (params.ids is None) == (params.filter is None):
        raise RequestInvalidError("give either `ids` or a `filter`", errors=[])
    by = actor()
    with services.current().writing() as (session, now):
        held = 0 if params.filter is None else replay.count_held(session, params.filter)
        if params.filter is None:
            selected = params.ids or []
            if params.dry_run:
                ids = replay.check(session, selected)
            else:
                ids = replay.replay(session, selected, by=by, now=now)
        elif params.dry_run:
            ids = replay.find_replayable(session, params.filter, params.limit)
        else:
            ids = replay.replay_found(session, params.filter, params.limit, by=by, now=now)
    return _json(schemas.Replayed(dry_run=params.dry_run, delivery_ids=ids, held=held))


def _by() -> str:
    return f"admin API from {client_address()}"


def _json(response: Response) -> Json:
    return response.model_dump(mode="json")


def _with_token(session: Session, course_id: str, token: CourseToken) -> Json:
    course = courses.get_course(session, course_id)
    return _json(schemas.CourseWithToken.of(course, token=token.reveal(), token_id=token.token_id))
