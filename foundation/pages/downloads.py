"""Files that pages offer for download."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from flask import Response

from foundation import csv_writer

# Without it a spreadsheet would not read the file as UTF-8.
_BYTE_ORDER_MARK = "\ufeff"


def csv_file(
    name: str, columns: Sequence[str], batches: Iterable[Iterable[Mapping[str, Any]]]
) -> Response:
    """Return batches of rows as a CSV file, sent while they are read."""

    def chunks() -> Iterable[str]:
        yield _BYTE_ORDER_MARK
        yield from csv_writer.stream(columns, batches)

    response = Response(chunks(), content_type="text/csv; charset=utf-8")
    response.headers["Content-Disposition"] = f"attachment; filename={name}.csv"
    return response
