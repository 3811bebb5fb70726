"""Moodle's grade export: a CSV file with the grades of one course."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import ROUND_CEILING, Decimal

from pydantic import ValidationError

from contract.grades import Score
from foundation import csv_reader
from foundation.csv_reader import CsvError, Row, Table
from foundation.errors import Advice

# The column that identifies an export, and its users on every site.
ID_NUMBER = "ID number"
TOTAL = "Course total"
# The endings of a column of points, and of the same grades as a part of each person's maximum.
REAL = " (Real)"
PERCENTAGE = " (Percentage)"

_NO_GRADE = ("", "-")
_HUNDRED = Decimal(100)
_NUMBER = re.compile(r"-?[0-9]{1,40}([.,][0-9]{1,40})?", re.ASCII)


@dataclass(frozen=True)
class ExportOptions:
    """What an export does not contain: its course, the maximum grade, and which item to read."""

    course_id: str | None = None
    maximum: Decimal | None = None
    item: str | None = None


@dataclass(frozen=True)
class ExportSource:
    """The column that was read, its maximum grade, and the skipped lines without an ID number.

    `maximum` is None if each person's own was read from the column of percentages.
    """

    column: str
    maximum: Decimal | None
    left_out: tuple[int, ...] = ()


def read(
    table: Table, options: ExportOptions, *, now: datetime
) -> tuple[list[Score], ExportSource]:
    """Return the scores of an export, with `now` as their time, and their source.

    A dash means not graded yet. Users without an ID number are skipped, as in a sync. In Moodle
    each person's total can have a maximum of its own: the column of percentages shows it. Raises
    CsvError with every invalid line, if no user has an ID number, or if the maximum is not known. A
    grade above the maximum is invalid: it shows that the maximum is wrong.
    """
    source = ExportSource(_column(table.columns, options), options.maximum)
    if source.maximum is None and _percentage_of(source) not in table.columns:
        raise CsvError(
            f"this export does not say the maximum of '{source.column}'",
            advice=Advice(
                "Export the grades again with the display types Real and Percentage: each person "
                "can have a maximum of their own. If it is the same for everyone, give --maximum."
            ),
        )
    parsed, faults = table.parse(
        lambda line, row: (line, _score(row, source, now) if row[ID_NUMBER].strip() else None)
    )
    repeated = csv_reader.repeated(
        (line, score.user_id) for line, score in parsed if score is not None
    )
    csv_reader.refuse([*faults, *repeated])
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


def _percentage_of(source: ExportSource) -> str:
    return source.column.removesuffix(REAL) + PERCENTAGE


def _score(row: Row, source: ExportSource, now: datetime) -> Score:
    given, percentage = _number(row, source.column), _number(row, _percentage_of(source))
    maximum = source.maximum or _HUNDRED
    if given is not None and percentage is not None:
        given, maximum = _with_maximum(given, percentage, source.maximum)
    elif given is not None and source.maximum is None:
        raise ValueError(f"{_percentage_of(source)} is empty, so that the maximum is not known")
    fields = {
        "user_id": row[ID_NUMBER],
        "score_given": given,
        "score_maximum": maximum,
        "timestamp": now,
    }
    try:
        score = Score.model_validate(fields, strict=False)
    except ValidationError as error:
        names = {"user_id": ID_NUMBER, "score_given": source.column}
        raise ValueError(csv_reader.describe(error, names)) from None
    if score.score_given is not None and score.score_given > score.score_maximum:
        raise ValueError(f"the grade is above the maximum of {score.score_maximum}: see --maximum")
    return score


def _number(row: Row, column: str) -> Decimal | None:
    """Return the number in a column, without a percent sign; None for no grade or no column."""
    text = row.get(column, "").replace("%", "").strip()
    if text in _NO_GRADE:
        return None
    if not _NUMBER.fullmatch(text):
        raise ValueError(f'{column}: expected digits such as "7.5"')
    return Decimal(text.replace(",", "."))


def _with_maximum(
    given: Decimal, percentage: Decimal, stated: Decimal | None
) -> tuple[Decimal, Decimal]:
    """Return points and their maximum, which both columns agree on within their rounding.

    The maximum is the stated one or, without one, the only integer that fits. If several fit, as
    for a small grade, the percentage itself is the grade, of 100.
    """
    least, most = _maximum_range(given, percentage)
    if stated is not None:
        if least <= stated <= most:
            return given, stated
        raise ValueError(
            f"{given} of {stated} is not {percentage} %: this person has another maximum; "
            "leave out --maximum"
        )
    first = least.to_integral_value(ROUND_CEILING)
    if first <= most < first + 1 and first > 0:
        return given, first
    return percentage, _HUNDRED


def _maximum_range(given: Decimal, percentage: Decimal) -> tuple[Decimal, Decimal]:
    """Return the least and the largest maximum of which these points are that percentage."""
    points, percents = _rounding(given), _rounding(percentage)
    low, high = abs(given) - points, abs(given) + points
    smallest, largest = abs(percentage) - percents, abs(percentage) + percents
    infinite = Decimal("Infinity")
    least = max(low, Decimal(0)) * 100 / largest
    return least, high * 100 / smallest if smallest > 0 else infinite


def _rounding(number: Decimal) -> Decimal:
    """Return half of the last decimal place."""
    exponent = number.as_tuple().exponent
    return Decimal(5).scaleb(int(exponent) - 1)
