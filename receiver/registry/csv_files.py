"""Files of courses and tokens: every line read, or every bad one named, never by what it holds."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from pydantic import TypeAdapter, ValidationError

from contract.events import CourseId
from contract.tokens import Token
from foundation import csv_reader
from foundation.csv_reader import Fault, Row, Table
from receiver.errors import TokenMalformedError
from receiver.models import Source
from receiver.registry.entries import parse_token

REQUIRED = ("course_id",)
OPTIONAL = ("token", "source", "gradebook_course", "gradebook_activity")
TOLD = ("status", "reason", "since", "next_step", "held_token_id", "enrolled_at", "synced_at")
"""What an export tells and an import passes over."""

EXPORTED = ("source", "course_id", *TOLD, "gradebook_course", "gradebook_activity")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_NUMBER = re.compile(r"[1-9][0-9]{0,18}")
_COURSE_ID: TypeAdapter[str] = TypeAdapter(CourseId)


@dataclass(frozen=True)
class Wanted:
    """What a line wants: a course of a source, its token and activity as far as they are given."""

    line: int
    source: Source = field(repr=False)
    course_id: str
    token: Token | None
    gradebook_course: str | None
    gradebook_activity: str | None


def cell(text: str) -> str:
    """Return the text as a cell that no spreadsheet takes for a formula."""
    return f"'{text}" if text.startswith(_FORMULA) or _is_marked(text) else text


def read(text: str, sources: Sequence[Source]) -> list[Wanted]:
    """Return what the lines of a CSV file want, or raise CsvError.

    The source may be left out if there is only one.
    """
    table = Table(text, (*REQUIRED, *OPTIONAL, *TOLD))
    table.check_columns(REQUIRED, (*OPTIONAL, *TOLD))
    wanted, faults = table.parse(lambda line, row: _wanted(line, row, sources))
    csv_reader.refuse([*faults, *_duplicates(wanted)])
    return wanted


def check_number(text: str) -> str:
    """Return the text if it can be the number of a Moodle's course or activity, or raise."""
    if not _NUMBER.fullmatch(text):
        raise ValueError("the number of a course or activity is whole and positive")
    return text


def _wanted(line: int, row: Row, sources: Sequence[Source]) -> Wanted:
    given = {name: _plain(value) for name, value in row.items()}
    source = _source(given.get("source"), sources)
    return Wanted(
        line,
        source,
        _course_id(given["course_id"]),
        _token(given.get("token", "").strip(), source.kind),
        _number(given.get("gradebook_course")),
        _number(given.get("gradebook_activity")),
    )


def _plain(text: str) -> str:
    return text[1:] if _is_marked(text) else text


def _is_marked(text: str) -> bool:
    """Tell whether a text reads as a cell that `cell` has put an apostrophe before."""
    return text.startswith("'") and text[1:].startswith((*_FORMULA, "'"))


def _source(name: str | None, sources: Sequence[Source]) -> Source:
    if not name:
        if len(sources) != 1:
            raise ValueError(f"there are {len(sources)} sources, and none is named")
        return sources[0]
    for source in sources:
        if source.name == name:
            return source
    raise ValueError("there is no source of this name")


def _course_id(text: str) -> str:
    try:
        return _COURSE_ID.validate_python(text)
    except ValidationError as error:
        message = error.errors(include_url=False, include_input=False)[0]["msg"]
        raise ValueError(f"course_id: {message.removeprefix('Value error, ')}") from None


def _token(text: str, kind: str) -> Token | None:
    try:
        return parse_token(text, kind) if text else None
    except TokenMalformedError as error:
        raise ValueError(str(error)) from None


def _number(text: str | None) -> str | None:
    return check_number(text) if text else None


def _duplicates(wanted: Sequence[Wanted]) -> list[Fault]:
    first: dict[tuple[int, str], int] = {}
    return [
        Fault(one.line, f"the course is the same as in line {line}")
        for one in wanted
        if (line := first.setdefault((one.source.id, one.course_id), one.line)) != one.line
    ]
