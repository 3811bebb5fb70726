"""CSV files of new tokens, which ELMS imports."""

from collections.abc import Mapping

from contract.tokens import CourseToken
from foundation import csv_reader, csv_writer
from foundation.csv_reader import Table

COLUMNS = ("course_id", "token")
HEADER = f"{','.join(COLUMNS)}\n"


def document(tokens: Mapping[str, CourseToken]) -> str:
    """Return tokens by course id as a CSV file."""
    rows = [{"course_id": one, "token": token.reveal()} for one, token in tokens.items()]
    return csv_writer.write(COLUMNS, rows)


def lines(tokens: Mapping[str, CourseToken]) -> str:
    """Return the lines of a file without its header."""
    return document(tokens).removeprefix(HEADER)


def read(text: str) -> dict[str, CourseToken]:
    """Return the tokens in a file by course id, or raise CsvError."""
    table = Table(text, COLUMNS)
    table.check_columns(COLUMNS, ())
    parsed, faults = table.parse(
        lambda _, row: (csv_writer.plain(row["course_id"]), CourseToken.parse(row["token"]))
    )
    csv_reader.refuse(faults)
    return dict(parsed)
