"""The gradebook in ELMS's own database."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from contract.grades import Score
from foundation.db import session as db
from receiver.gradebook.base import CourseScores, Outage, ScoreCounts, WriteResult
from receiver.models import StoredScore
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
    db.insert_all(session, StoredScore, added)
    if changed:
        session.execute(update(StoredScore), changed)
    return counts
