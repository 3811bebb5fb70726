"""Read CSV files: find the separator, check the columns, parse every row or name its faults."""

import csv
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from io import StringIO
from types import MappingProxyType
from typing import NamedTuple, TypeVar

from pydantic import ValidationError
from pydantic.alias_generators import to_snake

from contract.strict_json import is_storable
from contract.validation import validation_message
from foundation import csv_writer
from foundation.errors import Advice, Refusal

Row = dict[str, str]
_Parsed = TypeVar("_Parsed")

# Those that Moodle's export offers.
_SEPARATORS = (",", ";", "\t", ":")
_MAX_SHOWN_FAULTS = 20
_MAX_SHOWN_COLUMNS = 5


class CsvError(Refusal):
    """A CSV file cannot be read; nothing was changed."""

    advice = Advice("Correct the lines that are named, then try again with all lines.")


# How the files of spreadsheets begin: as a ZIP archive, or in Microsoft's older format.
_SPREADSHEETS = {
    b"PK\x03\x04": "a spreadsheet (.xlsx or .ods)",
    b"\xd0\xcf\x11\xe0": "a spreadsheet (.xls)",
}


def decode(content: bytes) -> str:
    """Return a file's text, with the line ends it has and without a byte order mark.

    Raises CsvError.
    """
    for beginning, kind in _SPREADSHEETS.items():
        if content.startswith(beginning):
            raise CsvError(f"the file is {kind}, not CSV; save it as CSV in UTF-8 first")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise CsvError("the file is not UTF-8; save it as UTF-8 first") from None


class Fault(NamedTuple):
    """What is wrong with a line, by its number."""

    line: int
    message: str


class Table:
    """The rows of a CSV text under the column names of its first line.

    The separator is a comma, semicolon, tab or colon: the one that finds the most of the known
    column names in the first line, then the most names. Raises CsvError if the first line is not
    CSV.
    """

    def __init__(self, text: str, known: Collection[str]) -> None:
        first = text.split("\n", 1)[0]

        def names_found(separator: str) -> tuple[int, int]:
            try:
                names = next(csv.reader([first], delimiter=separator), [])
            except csv.Error:
                names = []
            return sum(name in known for name in names), len(names)

        separator = max(_SEPARATORS, key=names_found)
        self._reader = csv.reader(StringIO(text, newline=""), strict=True, delimiter=separator)
        try:
            self._header = next(self._reader, [])
        except csv.Error as error:
            raise CsvError(f"line 1: not CSV: {error}") from None
        self.columns: Sequence[str] = [name for name in self._header if name.strip()]

    def check_columns(self, required: Collection[str], optional: Collection[str]) -> None:
        """Raise CsvError unless the required columns are there, no unknown one, and none twice.

        Unknown columns are named by their position: without a first line of names, a secret may
        be in their place.
        """
        missing = [name for name in required if name not in self.columns]
        if missing:
            raise CsvError(
                f"line 1: missing columns: {', '.join(missing)}; "
                "the first line must hold the column names, separated by commas or semicolons"
            )
        unknown = [
            str(position)
            for position, name in enumerate(self._header, start=1)
            if name.strip() and name not in required and name not in optional
        ]
        if unknown:
            more = ", …" if len(unknown) > _MAX_SHOWN_COLUMNS else ""
            raise CsvError(
                f"line 1: unknown columns, number {', '.join(unknown[:_MAX_SHOWN_COLUMNS])}{more}; "
                f"known are {', '.join((*required, *optional))}"
            )
        twice = sorted({name for name in self.columns if self.columns.count(name) > 1})
        if twice:
            raise CsvError(f"line 1: duplicate columns: {', '.join(twice)}")

    def parse(self, parse_row: Callable[[int, Row], _Parsed]) -> tuple[list[_Parsed], list[Fault]]:
        """Return what `parse_row` makes of each line number and row, and the faults.

        A row is at fault if it has too few or too many fields, a value in a column without a name,
        or if `parse_row` raises a ValueError. Empty lines are passed over.
        """
        parsed: list[_Parsed] = []
        faults: list[Fault] = []
        try:
            for cells in filter(None, self._reader):
                line = self._reader.line_num
                try:
                    parsed.append(parse_row(line, self._row(cells)))
                except ValidationError as error:
                    faults.append(Fault(line, describe(error)))
                except ValueError as error:
                    faults.append(Fault(line, str(error)))
        except csv.Error as error:
            faults.append(Fault(self._reader.line_num, f"not CSV: {error}"))
        return parsed, faults

    def _row(self, cells: Sequence[str]) -> Row:
        if len(cells) != len(self._header):
            raise ValueError("the line has more or fewer fields than the first one")
        if not all(map(is_storable, cells)):
            raise ValueError("a field holds NUL, which cannot be stored")
        # A spreadsheet writes columns without a name where a cell was once used.
        for number, (name, cell) in enumerate(zip(self._header, cells, strict=True), start=1):
            if cell.strip() and not name.strip():
                raise ValueError(f"column {number} has a value, but no name in the first line")
        return {name: cell for name, cell in zip(self._header, cells, strict=True) if name.strip()}


def read_list(text: str, column: str) -> list[tuple[int, str]]:
    """Return the values of a list with the numbers of their lines; empty ones are left out.

    It is a column of a CSV text whose first line names it, or else has one value a line. Raises
    CsvError.
    """
    found = list(enumerate(text.splitlines(), start=1))
    if column in text.split("\n", 1)[0]:
        table = Table(text, (column,))
        if column in table.columns:
            found, faults = table.parse(lambda line, row: (line, csv_writer.plain(row[column])))
            refuse(faults)
    return [(line, value.strip()) for line, value in found if value.strip()]


def repeated(keys: Iterable[tuple[int, Hashable]], noun: str = "person") -> list[Fault]:
    """Return a fault for each line whose key is that of an earlier line."""
    first: dict[Hashable, int] = {}
    return [
        Fault(line, f"the same {noun} as in line {first[key]}")
        for line, key in keys
        if first.setdefault(key, line) != line
    ]


def refuse(faults: Sequence[Fault]) -> None:
    """Raise a CsvError that names the first faults by line and counts all, if there are any."""
    if not faults:
        return
    shown = [f"line {line}: {message}" for line, message in sorted(faults)[:_MAX_SHOWN_FAULTS]]
    if len(faults) > len(shown):
        shown.append(f"and {len(faults) - len(shown):,} more")
    wrong = "1 line is" if len(faults) == 1 else f"{len(faults):,} lines are"
    raise CsvError("\n".join([f"nothing was changed: {wrong} invalid", *shown]))


def describe(error: ValidationError, columns: Mapping[str, str] = MappingProxyType({})) -> str:
    """Return what is wrong, by column name; `columns` maps fields to columns of other names."""
    faults = []
    for fault in error.errors(include_url=False, include_input=False):
        fields = (to_snake(str(part)) for part in fault["loc"])
        message = validation_message(fault)
        faults.append(": ".join((*(columns.get(field, field) for field in fields), message)))
    return ", ".join(faults)
