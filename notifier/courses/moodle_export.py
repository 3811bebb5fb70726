"""What Moodle's grade export says of one course, and what it leaves to be said beside it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal

from pydantic import ValidationError

from contract.grades import Score
from foundation import csv_reader
from foundation.csv_reader import CsvError, Fault, Row, Table

ID_NUMBER = "ID number"
"""The column that tells a Moodle's export from other files, and names the person on every site."""
TOTAL = "Course total"
REAL = " (Real)"
"""How a column of points ends; those that end otherwise are percentages, letters or feedback."""
MAXIMUM = Decimal(100)
"""What a course total is out of, unless its teachers chose otherwise."""

_NO_GRADE = ("", "-")


@dataclass(frozen=True)
class ExportOptions:
    """What was said beside the file: whose grades these are, out of how much, of which item."""

    course_id: str | None = None
    maximum: Decimal | None = None
    item: str | None = None


@dataclass(frozen=True)
class ExportSource:
    """Which column was taken for the score, and what it was taken to be out of.

    `left_out` are the lines of people without an ID number, who are nobody elsewhere.
    """

    column: str
    maximum: Decimal
    left_out: tuple[int, ...] = ()


def read(table: Table, chosen: ExportOptions, *, now: datetime) -> tuple[list[Score], ExportSource]:
    """Return the scores of an export, of `now`, and what they were taken from.

    A dash is a score that is not given yet; who has no ID number is left out, as in a sync. Raises
    CsvError if nobody has one, and naming each line that is wrong, a grade above the
    maximum among them: it shows that the maximum is another.
    """
    taken = ExportSource(_column(table.columns, chosen), chosen.maximum or MAXIMUM)
    parsed, faults = table.parse(
        lambda line, row: (line, _score(row, taken, now) if row[ID_NUMBER].strip() else None)
    )
    csv_reader.refuse([*faults, *_duplicates(parsed)])
    scores = [score for _, score in parsed if score is not None]
    left_out = [line for line, score in parsed if score is None]
    if left_out and not scores:
        raise CsvError(
            f"nobody in this export has an ID number; '{ID_NUMBER}' is empty in every line",
            next_step="Give people their ID numbers in that Moodle, or export as somebody who may "
            "see them, then import again.",
        )
    return scores, replace(taken, left_out=tuple(left_out))


def _duplicates(parsed: Sequence[tuple[int, Score | None]]) -> list[Fault]:
    first: dict[str, int] = {}
    return [
        Fault(line, f"the ID number is the same as in line {first[score.user_id]}")
        for line, score in parsed
        if score is not None and first.setdefault(score.user_id, line) != line
    ]


def _column(names: Sequence[str], chosen: ExportOptions) -> str:
    wanted = chosen.item or TOTAL
    # Moodle puts the kind of an activity before its name: `Quiz: Final exam (Real)`.
    points = [name for name in names if name.endswith(REAL)]
    exact = [name for name in points if name == wanted + REAL]
    found = exact or [name for name in points if name.endswith(f": {wanted}{REAL}")]
    if not found:
        listed = ", ".join(repr(name.removesuffix(REAL)) for name in points) or "none"
        raise CsvError(
            f"line 1: there is no column '{wanted}{REAL}'; items with points here: {listed}",
            next_step="Name one of these items with --item, or export the grades with the "
            "display type Real.",
        )
    if len(found) > 1 or names.count(ID_NUMBER) > 1:
        doubled = found[0] if len(found) > 1 else ID_NUMBER
        raise CsvError(f"line 1: duplicate columns: {doubled}")
    return found[0]


def _score(row: Row, taken: ExportSource, now: datetime) -> Score:
    grade = row[taken.column].strip()
    given = {
        "user_id": row[ID_NUMBER],
        "score_given": None if grade in _NO_GRADE else grade.replace(",", ".", 1),
        "score_maximum": taken.maximum,
        "timestamp": now,
    }
    try:
        score = Score.model_validate(given, strict=False)
    except ValidationError as error:
        names = {"user_id": ID_NUMBER, "score_given": taken.column}
        raise ValueError(csv_reader.describe(error, names)) from None
    if score.score_given is not None and score.score_given > taken.maximum:
        raise ValueError(f"the grade is above the maximum of {taken.maximum}: see --maximum")
    return score
