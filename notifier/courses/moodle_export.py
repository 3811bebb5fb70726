"""Moodle's grade export: a CSV file with the grades of one course."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal

from pydantic import ValidationError

from contract.grades import Score
from foundation import csv_reader
from foundation.csv_reader import CsvError, Fault, Row, Table
from foundation.errors import Advice

# The column that identifies an export, and its users on every site.
ID_NUMBER = "ID number"
TOTAL = "Course total"
# The ending of a column of points; others are percentages, letters or feedback.
REAL = " (Real)"
# Moodle's default maximum of a course total.
MAXIMUM = Decimal(100)

_NO_GRADE = ("", "-")


@dataclass(frozen=True)
class ExportOptions:
    """What an export does not contain: its course, the maximum grade, and which item to read."""

    course_id: str | None = None
    maximum: Decimal | None = None
    item: str | None = None


@dataclass(frozen=True)
class ExportSource:
    """The column that was read, its maximum grade, and the skipped lines without an ID number."""

    column: str
    maximum: Decimal
    left_out: tuple[int, ...] = ()


def read(
    table: Table, options: ExportOptions, *, now: datetime
) -> tuple[list[Score], ExportSource]:
    """Return the scores of an export, with `now` as their time, and their source.

    A dash means not graded yet. Users without an ID number are skipped, as in a sync. Raises
    CsvError with every invalid line, or if no user has an ID number. A grade above the maximum is
    invalid: it shows that the maximum is wrong.
    """
    source = ExportSource(_column(table.columns, options), options.maximum or MAXIMUM)
    parsed, faults = table.parse(
        lambda line, row: (line, _score(row, source, now) if row[ID_NUMBER].strip() else None)
    )
    first: dict[str, int] = {}
    duplicates = [
        Fault(line, f"the ID number is the same as in line {first[score.user_id]}")
        for line, score in parsed
        if score is not None and first.setdefault(score.user_id, line) != line
    ]
    csv_reader.refuse([*faults, *duplicates])
    scores = [score for _, score in parsed if score is not None]
    left_out = [line for line, score in parsed if score is None]
    if left_out and not scores:
        raise CsvError(
            f"no user in this export has an ID number: '{ID_NUMBER}' is empty in every line",
            advice=Advice(
                "Enter the users' ID numbers in that Moodle, or export with an account that may "
                "see them, then import again."
            ),
        )
    return scores, replace(source, left_out=tuple(left_out))


def _column(names: Sequence[str], options: ExportOptions) -> str:
    item = options.item or TOTAL
    # Moodle puts the kind of an activity before its name: `Quiz: Final exam (Real)`.
    points = [name for name in names if name.endswith(REAL)]
    exact = [name for name in points if name == item + REAL]
    matching = exact or [name for name in points if name.endswith(f": {item}{REAL}")]
    if not matching:
        listed = ", ".join(repr(name.removesuffix(REAL)) for name in points) or "none"
        raise CsvError(
            f"line 1: there is no column '{item}{REAL}'; columns with points: {listed}",
            advice=Advice(
                "Choose one of these items with --item, or export the grades with the display type "
                "Real."
            ),
        )
    if len(matching) > 1 or names.count(ID_NUMBER) > 1:
        duplicate = matching[0] if len(matching) > 1 else ID_NUMBER
        raise CsvError(f"line 1: duplicate columns: {duplicate}")
    return matching[0]


def _score(row: Row, source: ExportSource, now: datetime) -> Score:
    grade = row[source.column].strip()
    fields = {
        "user_id": row[ID_NUMBER],
        "score_given": None if grade in _NO_GRADE else grade.replace(",", ".", 1),
        "score_maximum": source.maximum,
        "timestamp": now,
    }
    try:
        score = Score.model_validate(fields, strict=False)
    except ValidationError as error:
        names = {"user_id": ID_NUMBER, "score_given": source.column}
        raise ValueError(csv_reader.describe(error, names)) from None
    if score.score_given is not None and score.score_given > source.maximum:
        raise ValueError(f"the grade is above the maximum of {source.maximum}: see --maximum")
    return score
