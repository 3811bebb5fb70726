"""Readings: what the bearers of course tokens may read, each course on its own, and why not."""

import hmac
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import Row, func, select
from sqlalchemy.orm import Session, aliased

from contract.grades import Score
from contract.tokens import CourseToken, MalformedTokenError
from foundation.db import session as db
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

MAX_WEIGHT = 12_000_000
"""How many bytes of scores are read for one batch: about 50,000 scores without comments.

ELMS takes no answer beyond 16 MiB. One course is answered whatever it weighs.
"""

_SCORE_WEIGHT, _CHARACTER_WEIGHT = 200, 4


@dataclass(frozen=True)
class GradesRequest:
    """One course that somebody asks for, and what they have of it.

    `has_etag` tells whether they have what an entity tag names; it is None if they name none, and
    only then do they have what changed up to `since` (RFC 9110, 13.1.3).
    """

    course_id: str
    bearer: CourseToken | TokenMalformedError
    has_etag: Callable[[str], bool] | None = None
    since: datetime | None = None


@dataclass(frozen=True)
class CourseAccess:
    """A course that the bearer may read, at its present versions.

    `changed_at` is when its grades changed last, or None if that was never written down.
    """

    course_pk: int
    course_id: str
    course_version: int
    token_id: str
    etag: str
    changed_at: datetime | None

    def is_known_to(self, question: GradesRequest) -> bool:
        """Tell whether the asker has all of it already."""
        if question.has_etag is not None:
            return question.has_etag(self.etag)
        if question.since is None or self.changed_at is None:
            return False
        return self.changed_at <= question.since


@dataclass(frozen=True)
class GradesResult:
    """The scores of a course, by user."""

    reading: CourseAccess
    scores: tuple[Score, ...]


@dataclass(frozen=True)
class GradesUnchanged:
    """The asker has these scores already."""

    reading: CourseAccess


GradesOutcome = GradesResult | GradesUnchanged | NotifierError


def parse_bearer(authorization: str | None) -> CourseToken:
    """Return the course token of an Authorization header (RFC 6750); needs no query.

    Raises TokenMissingError or TokenMalformedError.
    """
    scheme, _, credentials = (authorization or "").strip().partition(" ")
    if scheme.lower() != "bearer":
        raise TokenMissingError("the request bears no course token")
    bearer = parse_token(credentials.strip())
    if isinstance(bearer, TokenMalformedError):
        raise bearer
    return bearer


def parse_token(text: str) -> CourseToken | TokenMalformedError:
    """Return the course token that a text spells, or why it spells none."""
    try:
        return CourseToken.parse(text)
    except MalformedTokenError as error:
        return TokenMalformedError(str(error))


def read_grades(
    session: Session, questions: Sequence[GradesRequest], *, max_weight: int = MAX_WEIGHT
) -> list[GradesOutcome]:
    """Return what each question is answered: in their order, each on its own.

    Takes four statements at the most, however many are asked. What would go beyond `max_weight`
    is answered with a BatchFullError; the first course that has scores to tell never is.
    """
    verdicts = [
        GradesUnchanged(verdict)
        if isinstance(verdict, CourseAccess) and verdict.is_known_to(question)
        else verdict
        for verdict, question in zip(authorize(session, questions), questions, strict=True)
    ]
    fitting = _within(session, verdicts, max_weight)
    scores = _read(session, {one.course_pk for one in fitting if isinstance(one, CourseAccess)})
    return [
        GradesResult(one, tuple(scores[one.course_pk])) if isinstance(one, CourseAccess) else one
        for one in fitting
    ]


def authorize(
    session: Session, questions: Sequence[GradesRequest]
) -> list[CourseAccess | NotifierError]:
    """Return what the bearer of each question may read, or the reason why not.

    A question whose bearer is malformed costs no query.
    """
    issued = _find_issued(session, questions)
    found = [_row_of(question.bearer, issued) for question in questions]
    elsewhere = {
        question.course_id
        for question, row in zip(questions, found, strict=True)
        if row is not None and row.course_id != question.course_id
    }
    existing = _existing(session, elsewhere)
    return [
        _verdict(question, row, existing) for question, row in zip(questions, found, strict=True)
    ]


def _find_issued(session: Session, questions: Sequence[GradesRequest]) -> dict[str, Row[Any]]:
    """Return the issued tokens that are borne, each with its course and that one's present."""
    borne = {one.bearer.token_id for one in questions if isinstance(one.bearer, CourseToken)}
    if not borne:
        return {}
    present = aliased(IssuedToken)
    is_present = (present.course_pk == Course.id) & present.superseded_at.is_(None)
    rows = session.execute(
        select(
            IssuedToken.token_id,
            IssuedToken.secret_sha256,
            IssuedToken.superseded_at,
            Course.id.label("course_pk"),
            Course.course_id,
            Course.version,
            Course.grades_version,
            Course.grades_changed_at,
            Course.deleted_at,
            present.token_id.label("present_token_id"),
            present.created_at.label("regenerated_at"),
        )
        .join(Course, Course.id == IssuedToken.course_pk)
        .outerjoin(present, is_present)
        .where(IssuedToken.token_id.in_(borne))
    )
    return {row.token_id: row for row in rows}


def _row_of(
    bearer: CourseToken | TokenMalformedError, issued: Mapping[str, Row[Any]]
) -> Row[Any] | None:
    if isinstance(bearer, TokenMalformedError) or (row := issued.get(bearer.token_id)) is None:
        return None
    return row if hmac.compare_digest(row.secret_sha256, bearer.secret_sha256()) else None


def _existing(session: Session, course_ids: Collection[str]) -> set[str]:
    if not course_ids:
        return set()
    return set(session.scalars(select(Course.course_id).where(Course.course_id.in_(course_ids))))


def _verdict(
    question: GradesRequest, row: Row[Any] | None, existing: Collection[str]
) -> CourseAccess | NotifierError:
    if isinstance(question.bearer, TokenMalformedError):
        return question.bearer
    if row is None:
        return TokenUnknownError("no course has this token")
    if row.course_id != question.course_id:
        return _not_of_this_course(question.course_id, row.token_id, existing)
    if row.deleted_at is not None:
        return CourseDeletedError.of(
            row.course_id,
            version=row.version,
            deleted_at=row.deleted_at,
            next_step=CourseDeletedError.for_bearer,
        )
    return _reading(row) if row.superseded_at is None else _regenerated(row)


def _not_of_this_course(course_id: str, token_id: str, existing: Collection[str]) -> NotifierError:
    if course_id in existing:
        return TokenWrongCourseError(
            f"the token {token_id} belongs to another course than {course_id!r}",
            course_id=course_id,
            token_id=token_id,
        )
    return CourseUnknownError(f"there is no course {course_id!r}", course_id=course_id)


def _regenerated(row: Row[Any]) -> TokenRegeneratedError:
    return TokenRegeneratedError(
        f"the token {row.token_id} was replaced at {row.superseded_at:%Y-%m-%d %H:%M:%S} UTC; "
        f"the present one is {row.present_token_id}",
        course_id=row.course_id,
        course_version=row.version,
        token_id=row.present_token_id,
        regenerated_at=row.regenerated_at,
    )


def _reading(row: Row[Any]) -> CourseAccess:
    return CourseAccess(
        course_pk=row.course_pk,
        course_id=row.course_id,
        course_version=row.version,
        token_id=row.token_id,
        etag=f"{row.course_pk}-{row.version}-{row.grades_version}",
        changed_at=row.grades_changed_at,
    )


_Verdict = CourseAccess | GradesUnchanged | NotifierError


def _within(session: Session, verdicts: Sequence[_Verdict], max_weight: int) -> list[_Verdict]:
    weights = _weigh(session, [one.course_pk for one in verdicts if isinstance(one, CourseAccess)])
    fitting: list[_Verdict] = []
    sum_of_them = 0
    for one in verdicts:
        weight = weights.get(one.course_pk, 0) if isinstance(one, CourseAccess) else 0
        if isinstance(one, CourseAccess) and sum_of_them and sum_of_them + weight > max_weight:
            fitting.append(_full(one))
        else:
            fitting.append(one)
            sum_of_them += weight
    return fitting


def _weigh(session: Session, course_pks: Sequence[int]) -> dict[int, int]:
    """Return how many bytes the scores of courses take, estimated; one alone needs no weighing."""
    if len(course_pks) <= 1:
        return {}
    characters = func.length(Grade.user_id) + func.coalesce(func.length(Grade.comment), 0)
    rows = session.execute(
        select(Grade.course_pk, func.count(), func.sum(characters))
        .where(Grade.course_pk.in_(set(course_pks)))
        .group_by(Grade.course_pk)
    )
    return {pk: count * _SCORE_WEIGHT + int(text) * _CHARACTER_WEIGHT for pk, count, text in rows}


def _full(reading: CourseAccess) -> BatchFullError:
    return BatchFullError(
        f"the scores of {reading.course_id!r} do not fit into this batch beside the others",
        course_id=reading.course_id,
    )


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
