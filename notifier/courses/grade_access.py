"""Access to grades by course token: each course of a request is authorized on its own."""

import hmac
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import Row, func, select
from sqlalchemy.orm import Session, aliased

from contract.grades import Score, TokenOverlap
from contract.tokens import CourseToken, MalformedTokenError
from foundation.db import session as db
from foundation.text import readable
from notifier.errors import (
    BatchFullError,
    CourseDeletedError,
    CourseUnknownError,
    NotifierError,
    TokenMalformedError,
    TokenMissingError,
    TokenRegeneratedError,
    TokenUnknownError,
    TokenWrongCourseError,
)
from notifier.models import Course, Grade, IssuedToken

# Estimated bytes of scores in one batch: about 50,000 scores without comments. ELMS accepts
# responses of up to 16 MiB. A single course is returned whatever its size.
MAX_BYTES = 12_000_000

_BYTES_PER_SCORE, _BYTES_PER_CHARACTER = 200, 4


@dataclass(frozen=True)
class GradesRequest:
    """A request for the grades of one course.

    `has_etag` returns True for an entity tag that the client has; it is None if the client sent
    none, and only then `since` counts (RFC 9110, 13.1.3).
    """

    course_id: str
    bearer: CourseToken | TokenMalformedError
    has_etag: Callable[[str], bool] | None = None
    since: datetime | None = None


@dataclass(frozen=True)
class CourseAccess:
    """A course that the bearer of a token may read, at its current versions.

    `changed_at` is when its grades last changed, or None if they never did. `overlap` is there if
    the token was replaced, and is still good. `is_first_use`: it could be claimed until now.
    """

    course_pk: int
    course_id: str
    course_version: int
    token_id: str
    etag: str
    changed_at: datetime | None
    overlap: TokenOverlap | None = None
    is_first_use: bool = False

    def is_current_at(self, request: GradesRequest) -> bool:
        """Return True if the client already has these grades."""
        if request.has_etag is not None:
            return request.has_etag(self.etag)
        if request.since is None or self.changed_at is None:
            return False
        return self.changed_at <= request.since


@dataclass(frozen=True)
class GradesResult:
    """The scores of a course, by user."""

    access: CourseAccess
    scores: tuple[Score, ...]


@dataclass(frozen=True)
class GradesUnchanged:
    """The client already has the scores of a course."""

    access: CourseAccess


GradesOutcome = GradesResult | GradesUnchanged | NotifierError


def parse_bearer(authorization: str | None) -> CourseToken:
    """Return the course token of an Authorization header (RFC 6750); needs no query.

    Raises TokenMissingError or TokenMalformedError.
    """
    scheme, _, credentials = (authorization or "").strip().partition(" ")
    if scheme.lower() != "bearer":
        raise TokenMissingError("the request has no course token")
    bearer = parse_token(credentials.strip())
    if isinstance(bearer, TokenMalformedError):
        raise bearer
    return bearer


def parse_token(text: str) -> CourseToken | TokenMalformedError:
    """Return the course token in a text, or the reason why it is malformed."""
    try:
        return CourseToken.parse(text)
    except MalformedTokenError as error:
        return TokenMalformedError(str(error))


def read_grades(
    session: Session,
    requests: Sequence[GradesRequest],
    *,
    max_bytes: int = MAX_BYTES,
    now: datetime,
) -> list[GradesOutcome]:
    """Return the outcome of each request, in the same order.

    Executes up to four statements, whatever the number of requests. A course that does not fit
    into `max_bytes` gets a BatchFullError, unless it is the first one with scores to return.
    """
    accesses = [
        GradesUnchanged(access)
        if isinstance(access, CourseAccess) and access.is_current_at(request)
        else access
        for access, request in zip(authorize(session, requests, now=now), requests, strict=True)
    ]
    limited = _limit_batch(session, accesses, max_bytes)
    scores = _read(session, {part.course_pk for part in limited if isinstance(part, CourseAccess)})
    return [
        GradesResult(part, tuple(scores[part.course_pk]))
        if isinstance(part, CourseAccess)
        else part
        for part in limited
    ]


def authorize(
    session: Session, requests: Sequence[GradesRequest], *, now: datetime
) -> list[CourseAccess | NotifierError]:
    """Return for each request the access that its token grants, or the reason for the refusal.

    Malformed tokens cause no query.
    """
    issued = _find_issued(session, requests)
    rows = [_row_of(request.bearer, issued) for request in requests]
    mismatched = {
        request.course_id
        for request, row in zip(requests, rows, strict=True)
        if row is not None and row.course_id != request.course_id
    }
    query = select(Course.course_id).where(Course.course_id.in_(mismatched))
    existing = set(session.scalars(query)) if mismatched else set()
    return [
        _access(request, row, existing, now=now)
        for request, row in zip(requests, rows, strict=True)
    ]


def _find_issued(session: Session, requests: Sequence[GradesRequest]) -> dict[str, Row[Any]]:
    """Return the issued tokens of the requests by id, with their courses and current tokens."""
    token_ids = {
        request.bearer.token_id for request in requests if isinstance(request.bearer, CourseToken)
    }
    if not token_ids:
        return {}
    current = aliased(IssuedToken)
    is_current = (current.course_pk == Course.id) & current.superseded_at.is_(None)
    rows = session.execute(
        select(
            IssuedToken.token_id,
            IssuedToken.secret_sha256,
            IssuedToken.superseded_at,
            IssuedToken.valid_until,
            IssuedToken.encrypted_token,
            Course.id.label("course_pk"),
            Course.course_id,
            Course.version,
            Course.grades_version,
            Course.grades_changed_at,
            Course.deleted_at,
            current.token_id.label("current_token_id"),
            current.created_at.label("regenerated_at"),
        )
        .join(Course, Course.id == IssuedToken.course_pk)
        .outerjoin(current, is_current)
        .where(IssuedToken.token_id.in_(token_ids))
    )
    return {row.token_id: row for row in rows}


def _row_of(
    bearer: CourseToken | TokenMalformedError, issued: Mapping[str, Row[Any]]
) -> Row[Any] | None:
    if isinstance(bearer, TokenMalformedError) or (row := issued.get(bearer.token_id)) is None:
        return None
    return row if hmac.compare_digest(row.secret_sha256, bearer.secret_sha256()) else None


def _access(
    request: GradesRequest, row: Row[Any] | None, existing: Collection[str], *, now: datetime
) -> CourseAccess | NotifierError:
    if isinstance(request.bearer, TokenMalformedError):
        return request.bearer
    if row is None:
        return TokenUnknownError("no course has this token")
    course_id = request.course_id
    if row.course_id != course_id:
        if course_id not in existing:
            return CourseUnknownError(f"there is no course {course_id!r}", course_id=course_id)
        return TokenWrongCourseError(
            f"the token {row.token_id} belongs to another course than {course_id!r}",
            course_id=course_id,
            token_id=row.token_id,
        )
    if row.deleted_at is not None:
        return CourseDeletedError.of(
            course_id,
            version=row.version,
            deleted_at=row.deleted_at,
            advice=CourseDeletedError.for_bearer,
        )
    overlap: TokenOverlap | None = None
    if row.valid_until is not None and now < row.valid_until:
        overlap = TokenOverlap(
            token_id=row.current_token_id,
            regenerated_at=row.regenerated_at,
            valid_until=row.valid_until,
        )
    if row.superseded_at is not None and overlap is None:
        return TokenRegeneratedError(
            f"the token {row.token_id} was replaced at {readable(row.superseded_at)}; "
            f"the current one is {row.current_token_id}",
            course_id=course_id,
            course_version=row.version,
            token_id=row.current_token_id,
            regenerated_at=row.regenerated_at,
        )
    return CourseAccess(
        course_pk=row.course_pk,
        course_id=course_id,
        course_version=row.version,
        token_id=row.token_id,
        etag=f"{row.course_pk}-{row.version}-{row.grades_version}",
        changed_at=row.grades_changed_at,
        overlap=overlap,
        is_first_use=row.encrypted_token is not None,
    )


_Limited = CourseAccess | GradesUnchanged | NotifierError


def _limit_batch(session: Session, accesses: Sequence[_Limited], max_bytes: int) -> list[_Limited]:
    sizes = _estimate_sizes(
        session, [access.course_pk for access in accesses if isinstance(access, CourseAccess)]
    )
    limited: list[_Limited] = []
    total = 0
    for access in accesses:
        size = sizes.get(access.course_pk, 0) if isinstance(access, CourseAccess) else 0
        if isinstance(access, CourseAccess) and total and total + size > max_bytes:
            message = f"the scores of {access.course_id!r} do not fit into this batch"
            limited.append(BatchFullError(message, course_id=access.course_id))
        else:
            limited.append(access)
            total += size
    return limited


def _estimate_sizes(session: Session, course_pks: Sequence[int]) -> dict[int, int]:
    # A single course always fits, so its size is not needed.
    if len(course_pks) <= 1:
        return {}
    characters = func.length(Grade.user_id) + func.coalesce(func.length(Grade.comment), 0)
    rows = session.execute(
        select(Grade.course_pk, func.count(), func.sum(characters))
        .where(Grade.course_pk.in_(set(course_pks)))
        .group_by(Grade.course_pk)
    )
    return {
        pk: count * _BYTES_PER_SCORE + int(text) * _BYTES_PER_CHARACTER for pk, count, text in rows
    }


_SCORES = TypeAdapter(list[Score])


def _read(session: Session, course_pks: Collection[int]) -> Mapping[int, list[Score]]:
    scores: defaultdict[int, list[Score]] = defaultdict(list)
    if course_pks:
        query = select(*Grade.__table__.columns).where(Grade.course_pk.in_(course_pks))
        rows = db.dicts(session, query.order_by(Grade.course_pk, Grade.user_id))
        read = _SCORES.validate_python(rows, strict=False)
        for row, score in zip(rows, read, strict=True):
            scores[row["course_pk"]].append(score)
    return scores
