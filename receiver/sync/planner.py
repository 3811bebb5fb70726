"""The courses that a run fetches, those it skips because of their status, and why."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.orm import Session

from foundation.db import session as db
from foundation.db.session import Database
from receiver.course_state import CourseStatus
from receiver.models import Entry
from receiver.registry import entries as registry
from receiver.runs.store import CourseResult
from receiver.sync import results


@dataclass(frozen=True)
class Plan:
    """The entries to fetch, and the results of the others.

    `deleted` are skipped for good, `skipped` until someone enters their tokens, and
    `without_activity` fail unfetched: no activity is set for their grades.
    """

    to_fetch: tuple[Entry, ...] = ()
    deleted: tuple[CourseResult, ...] = ()
    skipped: tuple[CourseResult, ...] = ()
    without_activity: tuple[CourseResult, ...] = ()

    @property
    def not_fetched(self) -> tuple[CourseResult, ...]:
        """The results of all courses that are not fetched."""
        return self.deleted + self.skipped + self.without_activity


@dataclass(frozen=True)
class Planner:
    """Plans a run of the named courses and sources, or of all; each plan is one query.

    `needs_activity`: the gradebook needs to know each course's target activity.
    """

    database: Database
    course_ids: Collection[str] = ()
    sources: Collection[str] = ()
    needs_activity: bool = False

    def plan(self, session: Session, *, now: datetime) -> Plan:
        """Return the plan for now, or raise EntryUnknownError if a named course does not exist."""
        entries = registry.list_added(
            session, source_names=self.sources, course_ids=self.course_ids
        )
        planned = plan_entries(entries, needs_activity=self.needs_activity, now=now)
        session.expunge_all()  # a commit would expire the entries, which outlive the session
        return planned

    def refresh(self, entries: Sequence[Entry]) -> Plan:
        """Return the plan for entries that were read some time ago, as they are now."""
        if not entries:
            return Plan()
        with self.database.reading() as session:
            current = registry.list_added(session, entry_ids=[entry.id for entry in entries])
            now = db.now(session)
            planned = plan_entries(current, needs_activity=self.needs_activity, now=now)
            session.expunge_all()
        return planned


def plan_entries(entries: Sequence[Entry], *, needs_activity: bool, now: datetime) -> Plan:
    """Return the plan for these entries, by source and then by course id, without a query."""
    to_fetch: list[Entry] = []
    deleted: list[CourseResult] = []
    skipped: list[CourseResult] = []
    without_activity: list[CourseResult] = []
    for entry in sorted(entries, key=lambda entry: (entry.source_id, entry.course_id)):
        status = registry.explain_status(entry, needs_activity=needs_activity, now=now)
        if status.status is CourseStatus.COURSE_DELETED:
            deleted.append(results.skipped_result(entry, status))
        elif status.status is not CourseStatus.ACTIVE:
            skipped.append(results.skipped_result(entry, status))
        elif needs_activity and not registry.has_activity(entry):
            without_activity.append(results.missing_activity_result(entry))
        else:
            to_fetch.append(entry)
    return Plan(tuple(to_fetch), tuple(deleted), tuple(skipped), tuple(without_activity))
