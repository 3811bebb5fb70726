"""Files of grades: every line read, or every line that cannot be read named."""

import csv
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from pydantic import ValidationError
from pydantic.alias_generators import to_snake

from contract.grades import Score
from contract.json_text import is_storable
from notifier.errors import GradesFileError

REQUIRED = ("course_id", "user_id", "score_given", "score_maximum")
OPTIONAL = ("comment", "timestamp", "activity_progress", "grading_progress")
_SHOWN_FAULTS = 20


def read(lines: Iterable[str], *, now: datetime) -> dict[str, list[Score]]:
    """Return the scores of a CSV file by course id; a score without a timestamp is of `now`.

    The first line names the columns: `REQUIRED`, and any of `OPTIONAL`. An empty `score_given`
    is a score that is not given yet. Raises GradesFileError, naming each line that is wrong.
    """
    reader = csv.DictReader(lines, strict=True)
    _check_columns(_columns(reader))
    scores: defaultdict[str, list[Score]] = defaultdict(list)
    faults: list[str] = []
    try:
        for row in reader:
            try:
                scores[_course_id(row)].append(_score(row, now))
            except ValidationError as error:
                faults.append(f"line {reader.line_num}: {_words(error)}")
            except ValueError as error:
                faults.append(f"line {reader.line_num}: {error}")
    except csv.Error as error:
        faults.append(f"line {reader.reader.line_num}: not CSV: {error}")
    if faults:
        raise _refusal(faults)
    return dict(scores)


def _columns(reader: "csv.DictReader[str]") -> Sequence[str]:
    try:
        return reader.fieldnames or ()
    except csv.Error as error:
        raise GradesFileError(f"line 1: not CSV: {error}") from None


def _check_columns(names: Sequence[str]) -> None:
    named = set(names)
    missing = [column for column in REQUIRED if column not in named]
    unknown = sorted(named - {*REQUIRED, *OPTIONAL})
    twice = sorted(name for name in named if names.count(name) > 1)
    if missing:
        raise GradesFileError(f"line 1: the columns {', '.join(missing)} are missing")
    if unknown:
        raise GradesFileError(f"line 1: unknown columns {', '.join(unknown)}")
    if twice:
        raise GradesFileError(f"line 1: the columns {', '.join(twice)} stand twice")


def _course_id(row: Mapping[str, str | None]) -> str:
    course_id = row["course_id"]
    if not course_id:
        raise ValueError("course_id is empty")
    return course_id


def _score(row: Mapping[str, str | None], now: datetime) -> Score:
    if None in row or None in row.values():
        raise ValueError("the line has more or fewer fields than the first one")
    for value in row.values():
        if value is not None and not is_storable(value):
            raise ValueError("a field holds NUL, which cannot be stored")
    fields = {name: value for name, value in row.items() if value and name != "course_id"}
    return Score.model_validate({"timestamp": now, **fields}, strict=False)


def _words(error: ValidationError) -> str:
    """Return what is wrong, by the names of the columns."""
    return ", ".join(
        ": ".join((*map(to_snake, map(str, fault["loc"])), fault["msg"]))
        for fault in error.errors(include_url=False, include_input=False)
    ).replace("Value error, ", "")


def _refusal(faults: list[str]) -> GradesFileError:
    shown = faults[:_SHOWN_FAULTS]
    more = len(faults) - len(shown)
    tail = f"\nand {more} more" if more else ""
    return GradesFileError(
        f"nothing was imported: {len(faults)} lines cannot be read\n" + "\n".join(shown) + tail
    )
