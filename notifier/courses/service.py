"""Courses: add, delete, restore, regenerate or announce a token; each change sends a signal."""

import secrets
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from contract.tokens import CourseToken
from foundation.crypto import Vault
from foundation.db import bulk
from foundation.db import session as db
from foundation.errors import Advice
from foundation.text import format_timestamp
from notifier import signals
from notifier.courses import search, token_claims
from notifier.errors import (
    CourseChangedError,
    CourseDeletedError,
    CourseExistsError,
    CourseNotDeletedError,
    CourseUnknownError,
    DeletionFinalError,
    NotifierError,
    TokenIssuerError,
)
from notifier.models import Course, IssuedToken, MoodleEventReceipt

MAX_OVERLAP = timedelta(days=90)
"""The longest time for which a replaced token stays good."""

CHANGED_AT_ONCE = 500
"""Courses to change in one transaction; other writers wait meanwhile, for a second at most."""


def add_course(session: Session, course_id: str, title: str, *, now: datetime) -> CourseToken:
    """Add a course and return its token, which is shown only this once and stored as a hash.

    Raises CourseExistsError for an id that is or was in use.
    """
    if not ensure_course(session, course_id, title, now=now):
        raise CourseExistsError(
            f"the course id {course_id!r} is taken",
            advice=CourseExistsError.advice.fill("COURSE_ID", course_id),
            course_id=course_id,
        )
    return issue_tokens(session, [get_course(session, course_id)], now=now)[course_id]


def ensure_course(session: Session, course_id: str, title: str, *, now: datetime) -> bool:
    """Add a course of a Moodle, without a token, unless it exists; return True if it was added."""
    added = session.execute(
        db.insert(session, Course)
        .values(columns_of(course_id, title, now=now))
        .on_conflict_do_nothing(index_elements=["course_id"])
        .returning(Course.id)
    )
    return added.first() is not None


def columns_of(course_id: str, title: str, *, now: datetime) -> dict[str, Any]:
    """Return the columns of a new course."""
    return {
        "course_id": course_id,
        "title": title,
        "search_key": search.key(f"{course_id} {title}"),
        "version": 1,
        "grades_version": 0,
        "created_at": now,
        "changed_at": now,
    }


def get_course(session: Session, course_id: str) -> Course:
    """Return a course, deleted or not; raise CourseUnknownError if there never was one."""
    course = session.scalar(select(Course).where(Course.course_id == course_id))
    if course is None:
        raise CourseUnknownError(f"there is no course {course_id!r}", course_id=course_id)
    return course


def find_courses(session: Session, course_ids: Collection[str]) -> list[Course]:
    """Return the courses that exist, deleted or not, ordered by id."""
    query = select(Course).where(db.among(Course.course_id, set(course_ids)))
    return list(session.scalars(query.order_by(Course.course_id)))


def delete_course(session: Session, course_id: str, *, now: datetime) -> Course:
    """Delete a course and return its row.

    Raises CourseUnknownError, or CourseDeletedError if it is already deleted.
    """
    course = _lock(session, course_id)
    _delete(session, [course], now=now)
    return course


def delete_courses(
    session: Session, course_ids: Collection[str], *, now: datetime
) -> dict[str, Course | NotifierError]:
    """Delete several courses at the same time; return the row of each, or why it was refused.

    A course that is unknown or already deleted does not prevent the deletion of the others. The
    number of statements does not grow with the number of courses.
    """
    rows = lock_known(session, course_ids)
    refusals = {one: _refusal(one, rows.get(one)) for one in dict.fromkeys(course_ids)}
    _delete(session, [rows[one] for one, refusal in refusals.items() if not refusal], now=now)
    return {one: refusal or rows[one] for one, refusal in refusals.items()}


def restore_courses(
    session: Session, course_ids: Collection[str], *, grace: timedelta, now: datetime
) -> dict[str, Course | NotifierError]:
    """Undo the deletion of several courses; return the row of each, or why it was refused.

    A course can be restored for a grace period after its deletion, unless its Moodle deleted it.
    Its token is valid again. The number of statements does not grow with the number of courses.
    """
    rows = lock_known(session, course_ids)
    refusals = find_restore_refusals(session, course_ids, rows, grace=grace, now=now)
    restored = [rows[one] for one, refusal in refusals.items() if not refusal]
    tokens = current_tokens(session, [course.id for course in restored])
    for course in restored:
        course.deleted_at = None
        _advance(course, now)
    changes = [_change(course, tokens.get(course.id, ""), now) for course in restored]
    signals.send(signals.course_restored, session, *changes)
    return {one: refusal or rows[one] for one, refusal in refusals.items()}


def find_restore_refusals(
    session: Session,
    course_ids: Collection[str],
    rows: Mapping[str, Course],
    *,
    grace: timedelta,
    now: datetime,
) -> dict[str, NotifierError | None]:
    """Return for each course why it cannot be restored, or None; `rows` are those that exist."""
    deleted_in_moodle = select(MoodleEventReceipt.object_id).where(
        db.among(MoodleEventReceipt.object_id, set(rows))
    )
    in_moodle = set(session.scalars(deleted_in_moodle))
    return {
        one: _restore_refusal(one, rows.get(one), one in in_moodle, grace=grace, now=now)
        for one in dict.fromkeys(course_ids)
    }


def restore_course(session: Session, course_id: str, *, grace: timedelta, now: datetime) -> Course:
    """Undo the deletion of a course and return its row.

    Raises CourseUnknownError, CourseNotDeletedError or DeletionFinalError.
    """
    result = restore_courses(session, [course_id], grace=grace, now=now)[course_id]
    if isinstance(result, NotifierError):
        raise result
    return result


def regenerate_token(
    session: Session,
    course_id: str,
    *,
    overlap: timedelta = timedelta(0),
    vault: Vault | None = None,
    version: int | None = None,
    now: datetime,
) -> CourseToken:
    """Replace a course's token and return the new one, as `regenerate_tokens` does.

    Raises CourseUnknownError, CourseDeletedError, CourseChangedError if the course is not at
    `version`, or TokenIssuerError if a Moodle issues its tokens.
    """
    course = _lock(session, course_id, version)
    result = _regenerate(session, [course], overlap=overlap, vault=vault, now=now)[course_id]
    if isinstance(result, NotifierError):
        raise result
    return result


def regenerate_tokens(
    session: Session,
    course_ids: Collection[str],
    *,
    overlap: timedelta = timedelta(0),
    vault: Vault | None = None,
    now: datetime,
) -> dict[str, CourseToken | NotifierError]:
    """Replace the tokens of several courses; return the new one of each, or why it was refused.

    Each token is returned only this once. If there is a vault and an endpoint may claim tokens,
    they can be claimed until the overlap ends. The old ones are good until the overlap ends;
    without one they end at once, as do the tokens before them, whose overlap may not have ended.
    None of them is good longer than before. The number of statements does not grow with the number
    of courses.
    """
    rows = lock_known(session, course_ids)
    refusals = {one: _refusal(one, rows.get(one)) for one in dict.fromkeys(course_ids)}
    locked = [rows[one] for one, refusal in refusals.items() if not refusal]
    results = _regenerate(session, locked, overlap=overlap, vault=vault, now=now)
    return {one: refusal or results[one] for one, refusal in refusals.items()}


def end_of(overlap: timedelta, *, now: datetime) -> datetime | None:
    """Return until when a replaced token is good, or None if it ends at once."""
    return now + overlap if overlap else None


def describe_regeneration(token: CourseToken, valid_until: datetime | None) -> str:
    """Return the detail of a regeneration in the audit table."""
    if valid_until is None:
        return token.token_id
    return f"{token.token_id}; the old one is good until {format_timestamp(valid_until)}"


def announce_token(
    session: Session,
    course_id: str,
    token_id: str | None,
    *,
    version: int | None = None,
    now: datetime,
) -> signals.CourseChange:
    """Signal that a Moodle regenerated a course's token, and return the change.

    A course that is not known yet is added. Without the public id of the new token the change has
    an id that no token has, so that ELMS requires the new token. Raises CourseDeletedError,
    CourseChangedError if the course is not at `version`, or TokenIssuerError if its tokens are
    issued here.
    """
    ensure_course(session, course_id, course_id, now=now)
    course = _lock(session, course_id, version)
    if current_token(session, course) is not None:
        raise TokenIssuerError(
            f"the tokens of the course {course_id!r} are issued here, not by a Moodle",
            advice=Advice("Regenerate its token.", "courses regenerate-token", (course_id,)),
            course_id=course_id,
        )
    _advance(course, now)
    change = _change(course, token_id or f"m{secrets.token_hex(8)}", now)
    signals.send(signals.token_regenerated, session, change)
    return change


def current_token(session: Session, course: Course) -> str | None:
    """Return the id of the course's current token, or the last one of a deleted course.

    None for a course of a Moodle.
    """
    return current_tokens(session, [course.id]).get(course.id)


def current_tokens(session: Session, course_pks: Collection[int]) -> dict[int, str]:
    """Return the ids of the current tokens of courses; a course of a Moodle has none."""
    rows = session.execute(
        select(IssuedToken.course_pk, IssuedToken.token_id).where(
            db.among(IssuedToken.course_pk, course_pks), IssuedToken.superseded_at.is_(None)
        )
    )
    return {row.course_pk: row.token_id for row in rows}


def issue_tokens(
    session: Session,
    courses: Iterable[Course],
    *,
    vault: Vault | None = None,
    claimable_until: datetime | None = None,
    now: datetime,
) -> dict[str, CourseToken]:
    """Store a new token for each course and return them by course id.

    Only a hash is stored, unless there is a vault: then the token can be claimed until a time.
    """
    pks = {course.course_id: course.id for course in courses}
    tokens = {course_id: CourseToken.generate() for course_id in pks}
    rows = [
        {
            "course_pk": pks[course_id],
            "token_id": token.token_id,
            "secret_sha256": token.secret_sha256(),
            "created_at": now,
            "encrypted_token": vault and vault.encrypt(token.reveal()),
            "claimable_until": vault and claimable_until,
        }
        for course_id, token in tokens.items()
    ]
    bulk.insert(session, IssuedToken, rows)
    return tokens


def lock_courses(session: Session, course_ids: Collection[str]) -> dict[str, Course]:
    """Lock courses, in the order of their ids, and return their current rows.

    Raises CourseUnknownError or CourseDeletedError.
    """
    rows = lock_known(session, course_ids)
    for course_id in sorted(course_ids):
        if refusal := _refusal(course_id, rows.get(course_id)):
            raise refusal
    return rows


def lock_known(session: Session, course_ids: Collection[str]) -> dict[str, Course]:
    """Lock the courses that exist, deleted or not, and return their current rows by id."""
    # In one order for all transactions, so that two cannot deadlock. Read again: the session may
    # hold a course as it was before another transaction changed it.
    query = select(Course).where(db.among(Course.course_id, set(course_ids))).order_by(Course.id)
    rows = session.scalars(query.with_for_update().execution_options(populate_existing=True))
    return {row.course_id: row for row in rows}


def _refusal(
    course_id: str, course: Course | None
) -> CourseUnknownError | CourseDeletedError | None:
    if course is None:
        return CourseUnknownError(f"there is no course {course_id!r}", course_id=course_id)
    if course.deleted_at is not None:
        return CourseDeletedError.of(
            course_id, version=course.version, deleted_at=course.deleted_at
        )
    return None


def _restore_refusal(
    course_id: str, course: Course | None, in_moodle: bool, *, grace: timedelta, now: datetime
) -> NotifierError | None:
    if course is None:
        return _refusal(course_id, None)
    if course.deleted_at is None:
        return CourseNotDeletedError(
            f"the course {course_id!r} is not deleted", course_id=course_id
        )
    if in_moodle:
        return DeletionFinalError(
            f"the course {course_id!r} was deleted in its Moodle",
            advice=DeletionFinalError.in_moodle,
            course_id=course_id,
            deleted_at=course.deleted_at,
        )
    if now >= course.deleted_at + grace:
        return DeletionFinalError.of(course_id, deleted_at=course.deleted_at, grace=grace)
    return None


def _delete(session: Session, courses: Sequence[Course], *, now: datetime) -> None:
    tokens = current_tokens(session, [course.id for course in courses])
    for course in courses:
        course.deleted_at = now
        _advance(course, now)
    changes = [_change(course, tokens.get(course.id, ""), now) for course in courses]
    signals.send(signals.course_deleted, session, *changes)


def _regenerate(
    session: Session,
    courses: Sequence[Course],
    *,
    overlap: timedelta,
    vault: Vault | None,
    now: datetime,
) -> dict[str, CourseToken | NotifierError]:
    issued = current_tokens(session, [course.id for course in courses])
    refusals = {
        course.course_id: TokenIssuerError(
            f"the tokens of the course {course.course_id!r} are issued by its Moodle",
            course_id=course.course_id,
        )
        for course in courses
        if course.id not in issued
    }
    changed = [course for course in courses if course.id in issued]
    valid_until = end_of(overlap, now=now)
    _end_tokens(session, [course.id for course in changed], valid_until, now=now)
    is_claimable = valid_until and vault and token_claims.has_claimant(session)
    tokens = issue_tokens(
        session,
        changed,
        vault=vault if is_claimable else None,
        claimable_until=valid_until,
        now=now,
    )
    changes = []
    for course in changed:
        _advance(course, now)
        change = _change(course, tokens[course.course_id].token_id, now)
        changes.append(replace(change, valid_until=valid_until))
    signals.send(signals.token_regenerated, session, *changes)
    return {**refusals, **tokens}


def _end_tokens(
    session: Session, course_pks: Collection[int], valid_until: datetime | None, *, now: datetime
) -> None:
    """End the tokens of courses at a time, or at once; those that end before then still do."""
    ends = valid_until or now
    tokens = update(IssuedToken).where(db.among(IssuedToken.course_pk, course_pks))
    session.execute(tokens.where(IssuedToken.valid_until > ends).values(valid_until=ends))
    session.execute(
        tokens.where(IssuedToken.superseded_at.is_(None)).values(
            superseded_at=now, valid_until=valid_until, encrypted_token=None
        )
    )


def _advance(course: Course, now: datetime) -> None:
    course.version += 1
    course.changed_at = now


def _lock(session: Session, course_id: str, version: int | None = None) -> Course:
    course = lock_courses(session, [course_id])[course_id]
    if version is not None and course.version != version:
        raise CourseChangedError(
            f"the course {course_id!r} is at version {course.version}, no longer at {version}",
            course_id=course_id,
            course_version=course.version,
        )
    return course


def _change(course: Course, token_id: str, now: datetime) -> signals.CourseChange:
    return signals.CourseChange(course.course_id, course.version, now, token_id)
