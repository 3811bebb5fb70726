"""What a run is told to do, and which courses it would ask for and skip."""

import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from foundation.db.session import Database
from receiver.course_state import CourseStatus, Status
from receiver.gradebook import base as gradebooks
from receiver.models import Entry
from receiver.registry import entries as registry
from receiver.runs.store import CourseResult
from receiver.sync import results


@dataclass(frozen=True)
class SyncOptions:
    """How a run goes: as whom, how long its lease lasts, which courses and sources (none: all).

    `chunk` is how many answers are stored at once. `concurrency` requests are under way at a time,
    what fails for now is asked again after each of `retry_waits` seconds, and all of it ends at
    the `deadline` or when `stop` is set. `modified_since` asks for what changed after that, and
    not for what differs from what was fetched last. `read_again` is how old a reading of the
    registry may be when a course of it is asked for. `progress` is told how many courses of how
    many are done.
    """

    holder: str
    lease: timedelta
    course_ids: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    chunk: int = 100
    concurrency: int = 4
    retry_waits: tuple[float, ...] = (2.0, 10.0)
    deadline: timedelta = timedelta(hours=1)
    modified_since: datetime | None = None
    read_again: timedelta = timedelta(seconds=1)
    stop: threading.Event = field(default_factory=threading.Event)
    progress: Callable[[int, int], None] = lambda _done, _all: None

    @property
    def partial(self) -> bool:
        """Whether the run is told to leave courses out."""
        return bool(self.course_ids or self.sources)


@dataclass(frozen=True)
class Plan:
    """Which entries would be asked, which are skipped with their reason, and which fail unasked.

    Of the `unplaced` it is not said where their grades go.
    """

    ask: tuple[Entry, ...]
    skipped: tuple[CourseResult, ...]
    unplaced: tuple[CourseResult, ...]

    @property
    def not_asked(self) -> tuple[CourseResult, ...]:
        """The reports of all that are not asked."""
        return self.skipped + self.unplaced


def plan(
    database: Database,
    course_ids: Collection[str] = (),
    sources: Collection[str] = (),
    *,
    places: bool = False,
) -> Plan:
    """Return what a run would do now, without any request; one query.

    `places`: the gradebook has to be told where each course's grades go.
    """
    with database.reading() as session:
        entries = registry.list_entries(session, course_ids=course_ids)
        return of(chosen(entries, sources, course_ids), places=places)


def chosen(
    entries: Sequence[Entry], sources: Collection[str], course_ids: Collection[str] = ()
) -> list[Entry]:
    """Return the entries of these sources, of all if none is named.

    Raises EntryUnknownError if one of the course ids is of none of them.
    """
    found = [entry for entry in entries if not sources or entry.source.name in sources]
    registry.check_all_found(course_ids, found)
    return found


def of(entries: Sequence[Entry], *, places: bool = False) -> Plan:
    """Return which of the entries are asked for as they stand, and the reports of the others."""
    statuses = [(entry, registry.course_status(entry)) for entry in entries]
    active = [entry for entry, one in statuses if one.status is Status.ACTIVE]
    return Plan(
        ask=tuple(entry for entry in active if _has_place(entry) or not places),
        skipped=tuple(
            results.skipped(entry, one)
            for entry, one in statuses
            if one.status is not Status.ACTIVE
        ),
        unplaced=tuple(
            results.unplaced(entry) for entry in active if places and not _has_place(entry)
        ),
    )


def course_status(entry: Entry, *, places: bool = False) -> CourseStatus:
    """Return an entry's status; an active one that would fail unasked has the cause beside it."""
    found = registry.course_status(entry)
    if found.status is not Status.ACTIVE or not places or _has_place(entry):
        return found
    why = gradebooks.unplaced(entry.course_id)
    return replace(found, reason=why.detail, next_step=why.next_step)


def _has_place(entry: Entry) -> bool:
    return bool(entry.gradebook_course and entry.gradebook_activity)
