"""CSV files of courses: read them, add new courses with tokens, and update titles."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.orm import Session

from contract.events import CourseId
from contract.tokens import CourseToken
from foundation import csv_reader, csv_writer
from foundation.csv_reader import Row, Table
from foundation.db import session as db
from foundation.import_result import ImportResult
from notifier.courses import listing, search
from notifier.courses import service as courses
from notifier.models import Course

COLUMNS = ("course_id", "title")
# Columns that an export writes and an import ignores.
IGNORED = tuple(name for name in listing.COLUMNS if name not in COLUMNS)

AT_ONCE = 500
"""Courses to import in one transaction; other writers wait meanwhile."""


class CourseRow(BaseModel):
    """A row of a file."""

    model_config = ConfigDict(frozen=True)

    course_id: CourseId
    title: Annotated[str, Field(min_length=1, max_length=10_000)]


@dataclass(frozen=True)
class ImportedCourses:
    """What was imported: the counts, the tokens of new courses, the changed titles of others.

    `deleted` were passed over. Results of parts can be added.
    """

    counts: ImportResult = field(default_factory=ImportResult)
    tokens: dict[str, CourseToken] = field(default_factory=dict)
    titles: dict[str, str] = field(default_factory=dict)
    deleted: tuple[str, ...] = ()

    def __add__(self, other: "ImportedCourses") -> "ImportedCourses":
        """Return the sum of both."""
        return ImportedCourses(
            self.counts + other.counts,
            {**self.tokens, **other.tokens},
            {**self.titles, **other.titles},
            (*self.deleted, *other.deleted),
        )


def read(text: str) -> list[CourseRow]:
    """Return the rows of a CSV file in the order of their ids, or raise CsvError."""
    table = Table(text, (*COLUMNS, *IGNORED))
    table.check_columns(COLUMNS, IGNORED)
    parsed, faults = table.parse(lambda line, row: (line, _parse_row(row)))
    keys = ((line, row.course_id) for line, row in parsed)
    csv_reader.refuse([*faults, *csv_reader.repeated(keys, "course")])
    # In one order for all, or two files at once could wait for each other.
    return sorted((row for _, row in parsed), key=lambda row: row.course_id)


def import_courses(
    session: Session, rows: Sequence[CourseRow], *, now: datetime
) -> ImportedCourses:
    """Add the courses that do not exist, each with a token, and update the titles of the others.

    A deleted course is passed over: its id cannot be used again.
    """
    table: Any = Course.__table__
    insert = db.insert(session, table).on_conflict_do_nothing(index_elements=["course_id"])
    values = [courses.columns_of(row.course_id, row.title, now=now) for row in rows]
    added = set(session.scalars(insert.returning(table.c.course_id), values)) if values else set()
    stored = courses.lock_known(session, [row.course_id for row in rows])
    tokens = courses.issue_tokens(
        session, [stored[row.course_id] for row in rows if row.course_id in added], now=now
    )
    titles: dict[str, str] = {}
    deleted = []
    for row in rows:
        course = stored[row.course_id]
        if course.deleted_at is not None:
            deleted.append(row.course_id)
        elif course.title != row.title:
            course.title = titles[row.course_id] = row.title
            course.search_key = search.key(f"{row.course_id} {row.title}")
            course.changed_at = now
    session.flush()
    unchanged = len(rows) - len(added) - len(titles) - len(deleted)
    counts = ImportResult(len(added), len(titles), unchanged)
    return ImportedCourses(counts, tokens, titles, tuple(deleted))


def _parse_row(row: Row) -> CourseRow:
    return CourseRow(**{name: csv_writer.plain(row[name]) for name in COLUMNS})
