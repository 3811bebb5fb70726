"""Files of courses and tokens: every line read, or every bad one named, never by what it holds."""

import csv
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from pydantic import TypeAdapter, ValidationError

from contract.events import CourseId
from contract.tokens import Token
from receiver.errors import RegistryFileError, TokenMalformedError
from receiver.models import Source
from receiver.registry.entries import parse_token

REQUIRED = ("course_id",)
OPTIONAL = ("token", "source", "gradebook_course", "gradebook_activity")
IGNORED = ("status", "reason", "since", "next_step", "stored_token_id", "added_at", "synced_at")
"""What an export writes and an import ignores."""

EXPORTED = ("source", "course_id", *IGNORED, "gradebook_course", "gradebook_activity")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_NUMBER = re.compile(r"[1-9][0-9]{0,18}")
_COURSE_ID: TypeAdapter[str] = TypeAdapter(CourseId)
_SHOWN_FAULTS = 20


@dataclass(frozen=True)
class RegistryRow:
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


def read(text: str, sources: Sequence[Source]) -> list[RegistryRow]:
    """Return what the lines of a CSV file want, or raise RegistryFileError.

    Comma or semicolon, as its first line has it. The source may be left out if there is only one.
    """
    first = text.split("\n", 1)[0]
    reader = csv.DictReader(
        text.splitlines(keepends=True), delimiter=";" if ";" in first else ",", strict=True
    )
    wanted: list[RegistryRow] = []
    faults: list[str] = []
    try:
        _check_columns(reader.fieldnames or ())
        for row in reader:
            try:
                wanted.append(_wanted(reader.line_num, row, sources))
            except ValueError as error:
                faults.append(f"line {reader.line_num}: {error}")
    except csv.Error as error:
        faults.append(f"line {reader.reader.line_num}: not CSV: {error}")
    check([*faults, *_doubled(wanted)])
    return wanted


def check(faults: Sequence[str]) -> None:
    """Raise RegistryFileError for faults, if there are any."""
    if faults:
        more = len(faults) - _SHOWN_FAULTS
        tail = [f"and {more} more"] if more > 0 else []
        found = f"nothing was taken in: {len(faults)} lines are wrong"
        raise RegistryFileError("\n".join([found, *faults[:_SHOWN_FAULTS], *tail]))


def check_number(text: str) -> str:
    """Return the text if it can be the number of a Moodle's course or activity, or raise."""
    if not _NUMBER.fullmatch(text):
        raise ValueError("the number of a course or activity is whole and positive")
    return text


def _check_columns(names: Sequence[str]) -> None:
    missing = [name for name in REQUIRED if name not in names]
    if missing:
        raise RegistryFileError(
            f"line 1: the columns {', '.join(missing)} are missing; "
            "columns are named as here, between commas or semicolons"
        )
    # Not named: in a file without a first line of names it may be a token.
    if set(names) - {*REQUIRED, *OPTIONAL, *IGNORED} or len(set(names)) < len(names):
        raise RegistryFileError("line 1: a column is not known, or stands twice")


def _wanted(line: int, row: dict[str, str | None], sources: Sequence[Source]) -> RegistryRow:
    if None in row or None in row.values():
        raise ValueError("the line has more or fewer fields than the first one")
    given = {name: _plain(str(value)) for name, value in row.items()}
    source = _source(given.get("source"), sources)
    return RegistryRow(
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
        raise ValueError(f"no course id: {message.removeprefix('Value error, ')}") from None


def _token(text: str, kind: str) -> Token | None:
    try:
        return parse_token(text, kind) if text else None
    except TokenMalformedError as error:
        raise ValueError(str(error)) from None


def _number(text: str | None) -> str | None:
    return check_number(text) if text else None


def _doubled(wanted: Iterable[RegistryRow]) -> list[str]:
    first: dict[tuple[int, str], int] = {}
    faults = []
    for one in wanted:
        line = first.setdefault((one.source.id, one.course_id), one.line)
        if line != one.line:
            faults.append(f"line {one.line}: the course stands in line {line} already")
    return faults
