"""The gradebook in ELMS's own database."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, delete, exists, func, select, update
from sqlalchemy.orm import Session

from contract.grades import Score
from foundation.db import bulk
from foundation.db import session as db
from receiver.gradebook.base import CourseScores, Outage, ScoreCounts, WriteResult
from receiver.models import Entry, StoredScore
from receiver.runs.lease import RunLease


class DatabaseGradebook:
    """The gradebook in ELMS's own database, written in transactions of a run's lease."""

    max_courses = 500
    needs_activity = False
    requests = 0

    def __init__(self, lease: RunLease) -> None:
        self._lease = lease

    def check(self) -> Outage | None:
        """Return None: the run has just read the database."""
        return None

    def write(self, courses: Sequence[CourseScores]) -> list[WriteResult]:
        """Write the courses in one transaction, or raise LeaseLostError and write none."""
        with self._lease.transaction() as (session, _):
            counts = write(session, {course.entry_id: course.scores for course in courses})
        return [WriteResult(course.entry_id, counts[course.entry_id]) for course in courses]

    def cancel(self) -> None:
        """Do nothing: the database has a time-out for each statement."""


def write(session: Session, scores: Mapping[int, Sequence[Score]]) -> dict[int, ScoreCounts]:
    """Store scores by entry id in three statements, and return the counts for each entry.

    A score that differs only in its timestamp is unchanged, and
    the scores of users who are not listed stay.
    """
    if not scores:
        return {}
    query = select(*StoredScore.__table__.columns).where(StoredScore.entry_id.in_(list(scores)))
    stored = {(row["entry_id"], row["user_id"]): row for row in db.dicts(session, query)}
    rows = {
        (entry_id, score.user_id): {
            "entry_id": entry_id,
            **vars(score),
            "activity_progress": str(score.activity_progress),
            "grading_progress": str(score.grading_progress),
        }
        for entry_id, listed in scores.items()
        for score in listed
    }
    added: list[dict[str, Any]] = []
    changed: list[dict[str, Any]] = []
    counts = dict.fromkeys(scores, ScoreCounts())
    for key, row in rows.items():
        before = stored.get(key)
        if before is None:
            added.append(row)
            count = ScoreCounts(added=1)
        elif any(before[name] != value for name, value in row.items() if name != "timestamp"):
            changed.append(row)
            count = ScoreCounts(changed=1)
        else:
            count = ScoreCounts(unchanged=1)
        counts[key[0]] += count
    bulk.insert(session, StoredScore, added)
    if changed:
        session.execute(update(StoredScore), changed)
    return counts


def count_by_entry(
    session: Session, *, entry_ids: Collection[int] | None = None, user_id: str | None = None
) -> dict[int, int]:
    """Return by entry id the number of scores of entries, of a user, or of a user in entries."""
    query = select(StoredScore.entry_id, func.count()).where(_scores_of(entry_ids, user_id))
    return {row[0]: row[1] for row in session.execute(query.group_by(StoredScore.entry_id))}


def forget(
    session: Session, *, entry_ids: Collection[int] | None = None, user_id: str | None = None
) -> dict[int, int]:
    """Delete the scores that `count_by_entry` counts; return their numbers by entry id."""
    counts = count_by_entry(session, entry_ids=entry_ids, user_id=user_id)
    _delete(session, _scores_of(counts, user_id))
    return counts


def forget_deleted_courses(session: Session, before: datetime, *, limit: int) -> int:
    """Delete the scores of up to `limit` courses that were deleted before a time.

    Return how many there were.
    """
    has_scores = exists().where(StoredScore.entry_id == Entry.id)
    query = select(Entry.id).where(Entry.deleted_at < before, has_scores)
    # Locked: a course that is restored meanwhile keeps its scores.
    ids = session.scalars(query.order_by(Entry.id).limit(limit).with_for_update()).all()
    # With its etag, the sync would take the course for unchanged if it is restored.
    session.execute(update(Entry).where(db.among(Entry.id, ids)).values(etag=None))
    return _delete(session, _scores_of(ids))


def _scores_of(
    entry_ids: Collection[int] | None, user_id: str | None = None
) -> ColumnElement[bool]:
    conditions = [
        *([] if entry_ids is None else [db.among(StoredScore.entry_id, entry_ids)]),
        *([] if user_id is None else [StoredScore.user_id == user_id]),
    ]
    return and_(*conditions)


def _delete(session: Session, condition: ColumnElement[bool]) -> int:
    statement = delete(StoredScore).where(condition).execution_options(synchronize_session=False)
    result: Any = session.execute(statement)
    return int(result.rowcount)
