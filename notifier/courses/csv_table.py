"""CSV tables: their separator, their columns, and every line taken or named for its fault."""

import csv
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from itertools import chain
from types import MappingProxyType
from typing import TypeAlias

from pydantic import ValidationError
from pydantic.alias_generators import to_snake

from contract.strict_json import is_storable
from notifier.errors import GradesFileError

Row = dict[str, str]
Table: TypeAlias = "csv.DictReader[str]"

_SEPARATORS = (",", ";", "\t")
_SHOWN_FAULTS = 20


def open_table(lines: Iterable[str], known: Container[str]) -> Table:
    """Return the table that the lines hold, separated as its first line is.

    The separator is the one that sets the most `known` names apart, then the most names.
    """
    rest = iter(lines)
    first = next(rest, "")

    def names(separator: str) -> tuple[int, int]:
        found = _cut(first, separator)
        return sum(name in known for name in found), len(found)

    separator = max(_SEPARATORS, key=names)
    return csv.DictReader(chain([first], rest), strict=True, delimiter=separator)


def columns(table: Table) -> Sequence[str]:
    """Return the names in the first line, or raise GradesFileError if that is not CSV."""
    try:
        return table.fieldnames or ()
    except csv.Error as error:
        raise GradesFileError(f"line 1: not CSV: {error}") from None


def take_rows(table: Table, take: Callable[[Row, int], None]) -> None:
    """Hand each row to `take` with the number of its line.

    Raises GradesFileError with every line that cannot be read, or whose `take` raised a
    ValueError.
    """
    faults: list[str] = []
    try:
        for row in table:
            try:
                take(_whole(row), table.line_num)
            except ValidationError as error:
                faults.append(f"line {table.line_num}: {words(error)}")
            except ValueError as error:
                faults.append(f"line {table.line_num}: {error}")
    except csv.Error as error:
        faults.append(f"line {table.reader.line_num}: not CSV: {error}")
    if faults:
        raise _refusal(faults)


def words(error: ValidationError, names: Mapping[str, str] = MappingProxyType({})) -> str:
    """Return what is wrong, by the names of the columns; `names` has those that differ."""
    faults = []
    for fault in error.errors(include_url=False, include_input=False):
        fields = (to_snake(str(part)) for part in fault["loc"])
        faults.append(": ".join((*(names.get(field, field) for field in fields), fault["msg"])))
    return ", ".join(faults).replace("Value error, ", "")


def _cut(line: str, separator: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=separator), [])
    except csv.Error:
        return []


def _whole(row: Row) -> Row:
    # A longer line has its rest under None, a shorter one None for what it lacks.
    if None in row or None in row.values():
        raise ValueError("the line has more or fewer fields than the first one")
    if not all(map(is_storable, row.values())):
        raise ValueError("a field holds NUL, which cannot be stored")
    return row


def _refusal(faults: list[str]) -> GradesFileError:
    shown = faults[:_SHOWN_FAULTS]
    more = len(faults) - len(shown)
    tail = f"\nand {more} more" if more else ""
    return GradesFileError(
        f"nothing was imported: {len(faults)} lines cannot be read\n" + "\n".join(shown) + tail
    )
