"""CSV files of courses, tokens and gradebook targets: the columns, and how a row is parsed."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from pydantic import TypeAdapter, ValidationError

from contract.events import CourseId
from contract.tokens import Token
from contract.validation import validation_message
from foundation import csv_reader, csv_writer
from foundation.csv_reader import Fault, Row, Table
from receiver.errors import TokenMalformedError
from receiver.models import MOODLE, Source
from receiver.registry.entries import parse_token

REQUIRED = ("course_id",)
# Names the course of a Moodle instead of its id.
ID_NUMBER = "course_idnumber"
OPTIONAL = (ID_NUMBER, "token", "source", "gradebook_course", "gradebook_activity")
# Columns that an export writes and an import ignores.
IGNORED = (
    *("status", "detail", "since", "failing", "next_step", "action"),
    *("stored_token_id", "token_valid_until", "added_at", "synced_at"),
)

EXPORTED = ("source", "course_id", *IGNORED, "gradebook_course", "gradebook_activity")
_NUMBER = re.compile(r"[1-9][0-9]{0,18}")
_COURSE_ID: TypeAdapter[str] = TypeAdapter(CourseId)


@dataclass(frozen=True)
class RegistryRow:
    """A row of a file: a course of a source, with its token and gradebook target if given.

    `course_id` is empty if the row names the course by `id_number`.
    """

    line: int
    source: Source = field(repr=False)
    course_id: str
    token: Token | None
    gradebook_course: str | None
    gradebook_activity: str | None
    id_number: str = ""


def read(text: str, sources: Sequence[Source]) -> list[RegistryRow]:
    """Return the rows of a CSV file, or raise CsvError.

    The source may be left out if there is only one.
    """
    table = Table(text, (*REQUIRED, *OPTIONAL, *IGNORED))
    required = () if ID_NUMBER in table.columns else REQUIRED
    table.check_columns(required, (*REQUIRED, *OPTIONAL, *IGNORED))
    rows, faults = table.parse(lambda line, row: _parse_row(line, row, sources))
    csv_reader.refuse([*faults, *repeated(rows)])
    return rows


def repeated(rows: Iterable[RegistryRow]) -> list[Fault]:
    """Return a fault for each row whose course is that of an earlier row."""
    first: dict[tuple[int, str, str], int] = {}
    return [
        Fault(row.line, f"the course is the same as in line {line}")
        for row in rows
        if (line := first.setdefault((row.source.id, row.course_id, row.id_number), row.line))
        != row.line
    ]


def check_number(text: str) -> str:
    """Return the text if it can be the id of a course or activity in Moodle, or raise."""
    if not _NUMBER.fullmatch(text):
        raise ValueError("the id of a course or activity in Moodle is a positive whole number")
    return text


def _parse_row(line: int, row: Row, sources: Sequence[Source]) -> RegistryRow:
    cells = {name: csv_writer.plain(text) for name, text in row.items()}
    source = _source(cells.get("source"), sources)
    token = cells.get("token", "").strip()
    course_id, id_number = cells.get("course_id", ""), cells.get(ID_NUMBER, "").strip()
    if id_number and course_id:
        raise ValueError(f"give course_id or {ID_NUMBER}, not both")
    if id_number and source.kind != MOODLE:
        raise ValueError(f"{ID_NUMBER}: only a Moodle has ID numbers; give the course_id")
    target_course, target_activity = (
        check_number(text) if (text := cells.get(name)) else None
        for name in ("gradebook_course", "gradebook_activity")
    )
    try:
        return RegistryRow(
            line,
            source,
            "" if id_number else _COURSE_ID.validate_python(course_id),
            parse_token(token, source.kind) if token else None,
            target_course,
            target_activity,
            id_number,
        )
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        raise ValueError(f"course_id: {validation_message(fault)}") from None
    except TokenMalformedError as error:
        raise ValueError(str(error)) from None


def _source(name: str | None, sources: Sequence[Source]) -> Source:
    if not name:
        if len(sources) != 1:
            raise ValueError(f"there are {len(sources)} sources; the row must name one")
        return sources[0]
    for source in sources:
        if source.name == name:
            return source
    raise ValueError("unknown source")
