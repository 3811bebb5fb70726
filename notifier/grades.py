"""Grades: what a bearer may read and why not, and what an administrator loads."""

import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.orm import Session, contains_eager

from contract.grades import Score
from contract.tokens import CourseToken, MalformedTokenError
from foundation import database as db
from notifier.errors import (
    CourseDeletedError,
    CourseUnknownError,
    TokenMalformedError,
    TokenMissingError,
    TokenRegeneratedError,
    TokenUnknownError,
    TokenWrongCourseError,
)
from notifier.models import Course, Grade, IssuedToken


@dataclass(frozen=True)
class Reading:
    """A course that the bearer may read, at its present versions."""

    course_pk: int
    course_id: str
    course_version: int
    token_id: str
    etag: str


@dataclass(frozen=True)
class Loaded:
    """How many scores were new, changed and the same as before."""

    added: int = 0
    changed: int = 0
    unchanged: int = 0


def parse_bearer(authorization: str | None) -> CourseToken:
    """Return the course token of an Authorization header (RFC 6750); needs no query.

    Raises TokenMissingError or TokenMalformedError.
    """
    scheme, _, credentials = (authorization or "").strip().partition(" ")
    if scheme.lower() != "bearer":
        raise TokenMissingError("the request bears no course token")
    try:
        return CourseToken.parse(credentials.strip())
    except MalformedTokenError as error:
        raise TokenMalformedError(str(error)) from None


def authorize(session: Session, course_id: str, bearer: CourseToken) -> Reading:
    """Return what the bearer may read of a course, or raise the reason why not."""
    issued = _find_issued(session, bearer)
    if issued.course.course_id != course_id:
        raise _not_of_this_course(session, course_id, bearer)
    course = issued.course
    if course.deleted_at is not None:
        raise _deleted(course)
    if issued.superseded_at is not None:
        raise _regenerated(session, issued)
    return Reading(
        course_pk=course.id,
        course_id=course.course_id,
        course_version=course.version,
        token_id=issued.token_id,
        etag=f"{course.id}-{course.version}-{course.grades_version}",
    )


def read(session: Session, reading: Reading) -> tuple[Score, ...]:
    """Return the scores of a course, by user."""
    rows = session.scalars(
        select(Grade).where(Grade.course_pk == reading.course_pk).order_by(Grade.user_id)
    )
    return tuple(_score(row) for row in rows)


def load(session: Session, scores: Mapping[str, Sequence[Score]]) -> Loaded:
    """Store the scores of courses, by course id; the last one of a user counts.

    Scores of users who are not named stay as they are. Raises CourseUnknownError or
    CourseDeletedError, and then nothing is stored.
    """
    courses = _lock_courses(session, sorted(scores))
    known = _known(session, [course.id for course in courses.values()])
    new: list[dict[str, Any]] = []
    changed: list[dict[str, Any]] = []
    unchanged = 0
    for course_id, course_scores in scores.items():
        for user_id, row in _last_of_each_user(courses[course_id].id, course_scores).items():
            before = known.get((courses[course_id].id, user_id))
            if before is None:
                new.append(row)
            elif _differs(before, row):
                changed.append(row)
            else:
                unchanged += 1
    _store(session, new, changed)
    return Loaded(len(new), len(changed), unchanged)


def _find_issued(session: Session, bearer: CourseToken) -> IssuedToken:
    issued = session.scalar(
        select(IssuedToken)
        .join(IssuedToken.course)
        .options(contains_eager(IssuedToken.course))
        .where(IssuedToken.token_id == bearer.token_id)
    )
    if issued is None or not hmac.compare_digest(issued.secret_sha256, bearer.secret_sha256()):
        raise TokenUnknownError("no course has this token")
    return issued


def _not_of_this_course(session: Session, course_id: str, bearer: CourseToken) -> Exception:
    exists = session.scalar(select(Course.id).where(Course.course_id == course_id)) is not None
    if exists:
        return TokenWrongCourseError(
            f"the token {bearer.token_id} belongs to another course than {course_id!r}",
            course_id=course_id,
            token_id=bearer.token_id,
        )
    return CourseUnknownError(f"there is no course {course_id!r}", course_id=course_id)


def _deleted(course: Course) -> CourseDeletedError:
    return CourseDeletedError(
        f"the course {course.course_id!r} was deleted at {course.deleted_at:%Y-%m-%d %H:%M:%S} UTC",
        course_id=course.course_id,
        course_version=course.version,
        deleted_at=course.deleted_at,
    )


def _regenerated(session: Session, issued: IssuedToken) -> TokenRegeneratedError:
    present = session.scalars(
        select(IssuedToken).where(
            IssuedToken.course_pk == issued.course_pk, IssuedToken.superseded_at.is_(None)
        )
    ).one()
    return TokenRegeneratedError(
        f"the token {issued.token_id} was replaced at "
        f"{issued.superseded_at:%Y-%m-%d %H:%M:%S} UTC; the present one is {present.token_id}",
        course_id=issued.course.course_id,
        course_version=issued.course.version,
        token_id=present.token_id,
        regenerated_at=present.created_at,
    )


def _lock_courses(session: Session, course_ids: Sequence[str]) -> dict[str, Course]:
    # Read anew: the session may know a course from before another transaction deleted it.
    query = select(Course).where(Course.course_id.in_(course_ids)).order_by(Course.id)
    rows = session.scalars(query.with_for_update().execution_options(populate_existing=True))
    courses = {row.course_id: row for row in rows}
    for course_id in course_ids:
        if course_id not in courses:
            raise CourseUnknownError(f"there is no course {course_id!r}", course_id=course_id)
        if courses[course_id].deleted_at is not None:
            raise _deleted(courses[course_id])
    return courses


_COLUMNS = list(Grade.__table__.columns)


def _known(session: Session, course_pks: Sequence[int]) -> dict[tuple[int, str], dict[str, Any]]:
    rows = session.execute(select(*_COLUMNS).where(Grade.course_pk.in_(course_pks))).mappings()
    return {(row["course_pk"], row["user_id"]): dict(row) for row in rows}


def _last_of_each_user(course_pk: int, scores: Sequence[Score]) -> dict[str, dict[str, Any]]:
    return {
        score.user_id: {
            "course_pk": course_pk,
            **score.model_dump(),
            "activity_progress": score.activity_progress.value,
            "grading_progress": score.grading_progress.value,
        }
        for score in scores
    }


def _differs(before: dict[str, Any], row: dict[str, Any]) -> bool:
    """Tell whether a score says anything new; being said again at another time is not new."""
    return {**before, "timestamp": None} != {**row, "timestamp": None}


def _store(session: Session, new: list[dict[str, Any]], changed: list[dict[str, Any]]) -> None:
    db.insert_all(session, Grade, new)
    if changed:
        session.execute(update(Grade), changed)
    touched = sorted({row["course_pk"] for row in (*new, *changed)})
    if touched:
        session.execute(
            update(Course)
            .where(Course.id.in_(touched))
            .values(grades_version=Course.grades_version + 1)
        )


def _score(row: Grade) -> Score:
    return Score.model_validate(
        {
            "user_id": row.user_id,
            "score_given": row.score_given,
            "score_maximum": row.score_maximum,
            "comment": row.comment,
            "timestamp": row.timestamp,
            "activity_progress": row.activity_progress,
            "grading_progress": row.grading_progress,
        },
        strict=False,
    )
