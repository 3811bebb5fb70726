"""What an administrator does to a course: add, delete, regenerate its token; it is signalled."""

from datetime import datetime

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from contract.tokens import CourseToken
from foundation import database as db
from notifier import signals
from notifier.errors import CourseDeletedError, CourseExistsError, CourseUnknownError
from notifier.models import Course, IssuedToken


def add_course(session: Session, course_id: str, title: str, *, now: datetime) -> CourseToken:
    """Add a course and return its token, which is shown this once and stored hashed.

    Raises CourseExistsError for an id that is or was in use.
    """
    added = session.execute(
        db.insert(session, Course)
        .values(course_id=course_id, title=title, version=1, grades_version=0, created_at=now)
        .on_conflict_do_nothing(index_elements=["course_id"])
        .returning(Course.id)
    )
    if added.first() is None:
        raise CourseExistsError(f"the course id {course_id!r} is taken", course_id=course_id)
    return _issue_token(session, get_course(session, course_id), now=now)


def get_course(session: Session, course_id: str) -> Course:
    """Return a course, deleted or not; raise CourseUnknownError if there never was one."""
    course = session.scalar(select(Course).where(Course.course_id == course_id))
    if course is None:
        raise CourseUnknownError(f"there is no course {course_id!r}", course_id=course_id)
    return course


def list_courses(
    session: Session, *, after: str = "", limit: int = 100, deleted: bool | None = None
) -> list[Course]:
    """Return courses by id, those beyond `after`; `deleted` picks the deleted or the others."""
    query = select(Course).where(Course.course_id > after).order_by(Course.course_id).limit(limit)
    if deleted is not None:
        query = query.where(
            Course.deleted_at.is_not(None) if deleted else Course.deleted_at.is_(None)
        )
    return list(session.scalars(query))


def delete_course(session: Session, course_id: str, *, now: datetime) -> Course:
    """Delete a course for good, and return what remains of it.

    Raises CourseUnknownError, or CourseDeletedError if it was deleted before.
    """
    course = _lock(session, course_id)
    course.deleted_at = now
    course.version += 1
    signals.send(
        signals.course_deleted, session, _change(course, present_token(session, course), now)
    )
    return course


def regenerate_token(session: Session, course_id: str, *, now: datetime) -> CourseToken:
    """Replace a course's token and return the new one, which is shown this once.

    Raises CourseUnknownError, or CourseDeletedError for a course that is gone.
    """
    course = _lock(session, course_id)
    session.execute(
        update(IssuedToken)
        .where(IssuedToken.course_pk == course.id, IssuedToken.superseded_at.is_(None))
        .values(superseded_at=now)
    )
    token = _issue_token(session, course, now=now)
    course.version += 1
    signals.send(signals.token_regenerated, session, _change(course, token.token_id, now))
    return token


def present_token(session: Session, course: Course) -> str:
    """Return the id of the token that is good for the course, or was at its deletion."""
    return session.scalars(
        select(IssuedToken.token_id).where(
            IssuedToken.course_pk == course.id, IssuedToken.superseded_at.is_(None)
        )
    ).one()


def _lock(session: Session, course_id: str) -> Course:
    # Read anew: the session may know the course from before another transaction changed it.
    query = select(Course).where(Course.course_id == course_id).with_for_update()
    course = session.scalar(query.execution_options(populate_existing=True))
    if course is None:
        raise CourseUnknownError(f"there is no course {course_id!r}", course_id=course_id)
    if course.deleted_at is not None:
        raise CourseDeletedError(
            f"the course {course_id!r} was deleted at {course.deleted_at:%Y-%m-%d %H:%M:%S} UTC",
            course_id=course_id,
            course_version=course.version,
            deleted_at=course.deleted_at,
        )
    return course


def _issue_token(session: Session, course: Course, *, now: datetime) -> CourseToken:
    token = CourseToken.generate()
    session.add(
        IssuedToken(
            course_pk=course.id,
            token_id=token.token_id,
            secret_sha256=token.secret_sha256(),
            created_at=now,
        )
    )
    session.flush()
    return token


def _change(course: Course, token_id: str, now: datetime) -> signals.CourseChange:
    return signals.CourseChange(course.course_id, course.version, now, token_id)
