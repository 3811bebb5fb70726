"""Write CSV files whose cells no spreadsheet interprets as formulas."""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from contract.events import wire_time

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def write(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """Return these columns of rows as CSV with a header."""
    return "".join(stream(columns, [rows]))


def stream(columns: Sequence[str], batches: Iterable[Iterable[Mapping[str, Any]]]) -> Iterator[str]:
    """Yield a header, then these columns of each batch of rows, as CSV."""
    yield _lines([columns])
    for rows in batches:
        yield _lines([cell(row[name]) for name in columns] for row in rows)


def cell(value: Any) -> str:
    """Return a value as a cell; an apostrophe is put before what looks like a formula."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = wire_time(value) if isinstance(value, datetime) else str(value)
    return f"'{text}" if text.startswith(_FORMULA) or _is_marked(text) else text


def plain(text: str) -> str:
    """Return the text of a cell without the apostrophe that `cell` has put before it."""
    return text[1:] if _is_marked(text) else text


def _is_marked(text: str) -> bool:
    return text.startswith("'") and text[1:].startswith((*_FORMULA, "'"))


def _lines(rows: Iterable[Sequence[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
