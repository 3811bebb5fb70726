"""CSV files of courses, tokens and gradebook targets: the columns, and how a row is parsed."""

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pydantic import TypeAdapter, ValidationError

from contract.events import CourseId
from contract.tokens import Token
from foundation import csv_reader
from foundation.csv_reader import Fault, Row, Table
from foundation.text import validation_message
from receiver.errors import TokenMalformedError
from receiver.models import Source
from receiver.registry.entries import parse_token

REQUIRED = ("course_id",)
OPTIONAL = ("token", "source", "gradebook_course", "gradebook_activity")
# Columns that an export writes and an import ignores.
IGNORED = ("status", "reason", "since", "next_step", "stored_token_id", "added_at", "synced_at")

EXPORTED = ("source", "course_id", *IGNORED, "gradebook_course", "gradebook_activity")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_NUMBER = re.compile(r"[1-9][0-9]{0,18}")
_COURSE_ID: TypeAdapter[str] = TypeAdapter(CourseId)


@dataclass(frozen=True)
class RegistryRow:
    """A row of a file: a course of a source, with its token and gradebook target if given."""

    line: int
    source: Source = field(repr=False)
    course_id: str
    token: Token | None
    gradebook_course: str | None
    gradebook_activity: str | None


def write(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """Return these columns of rows as CSV with a header."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([cell(row[name]) for name in columns] for row in rows)
    return text.getvalue()


def cell(value: Any) -> str:
    """Return a value as a cell that no spreadsheet interprets as a formula."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = value.isoformat() if isinstance(value, datetime) else value or ""
    return f"'{text}" if text.startswith(_FORMULA) or _is_marked(text) else text


def read(text: str, sources: Sequence[Source]) -> list[RegistryRow]:
    """Return the rows of a CSV file, or raise CsvError.

    The source may be left out if there is only one.
    """
    table = Table(text, (*REQUIRED, *OPTIONAL, *IGNORED))
    table.check_columns(REQUIRED, (*OPTIONAL, *IGNORED))
    rows, faults = table.parse(lambda line, row: _parse_row(line, row, sources))
    first: dict[tuple[int, str], int] = {}
    duplicates = [
        Fault(row.line, f"the course is the same as in line {line}")
        for row in rows
        if (line := first.setdefault((row.source.id, row.course_id), row.line)) != row.line
    ]
    csv_reader.refuse([*faults, *duplicates])
    return rows


def check_number(text: str) -> str:
    """Return the text if it can be the id of a course or activity in Moodle, or raise."""
    if not _NUMBER.fullmatch(text):
        raise ValueError("the id of a course or activity in Moodle is a positive whole number")
    return text


def _parse_row(line: int, row: Row, sources: Sequence[Source]) -> RegistryRow:
    cells = {name: text[1:] if _is_marked(text) else text for name, text in row.items()}
    source = _source(cells.get("source"), sources)
    token = cells.get("token", "").strip()
    targets = [cells.get(name) for name in ("gradebook_course", "gradebook_activity")]
    try:
        return RegistryRow(
            line,
            source,
            _COURSE_ID.validate_python(cells["course_id"]),
            parse_token(token, source.kind) if token else None,
            *(check_number(text) if text else None for text in targets),
        )
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        raise ValueError(f"course_id: {validation_message(fault)}") from None
    except TokenMalformedError as error:
        raise ValueError(str(error)) from None


def _is_marked(text: str) -> bool:
    # Whether `cell` has put an apostrophe before the text.
    return text.startswith("'") and text[1:].startswith((*_FORMULA, "'"))


def _source(name: str | None, sources: Sequence[Source]) -> Source:
    if not name:
        if len(sources) != 1:
            raise ValueError(f"there are {len(sources)} sources; the row must name one")
        return sources[0]
    for source in sources:
        if source.name == name:
            return source
    raise ValueError("unknown source")
