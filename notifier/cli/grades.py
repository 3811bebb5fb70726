"""Commands about grades."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import BinaryIO

import click

from foundation.cli import context, output
from foundation.cli.output import json_option
from foundation.cli.params import COURSE_ID, TEXT, read_text
from foundation.import_result import ImportResult
from foundation.text import count, printable
from notifier.api.schemas import GradesImported
from notifier.cli.params import MAXIMUM
from notifier.courses import grade_import, grades
from notifier.courses.moodle_export import ExportOptions

_SHOWN_LINES = 20


@click.command("import")
@click.argument("file", type=click.File("rb"))
@click.option("--course", type=COURSE_ID, help="Moodle's grade export only: its course.")
@click.option(
    "--maximum",
    type=MAXIMUM,
    help="Moodle's grade export only: maximum points of the column, if the file does not have it.",
)
@click.option(
    "--item",
    type=TEXT,
    help="Moodle's grade export only: the grade item to import [default: the course total].",
)
@json_option
def import_(
    file: BinaryIO, course: str | None, maximum: Decimal | None, item: str | None, as_json: bool
) -> None:
    """Import grades from FILE, a CSV file.

    Its first line names the columns: course_id, user_id, score_given and score_maximum; optional
    are comment, timestamp, activity_progress and grading_progress. Moodle's grade export is
    accepted too, with --course; users without an ID number are skipped and listed. If a line is
    invalid, it is named and nothing is imported.
    """
    context.checked_services()
    # Before the transaction, because reading standard input may take a while.
    options = ExportOptions(course, maximum, item)
    read = grade_import.read(read_text(file), options, now=datetime.now(UTC))
    number = sum(map(len, read.scores.values()))
    loaded = ImportResult()
    with (
        output.progress_bar(number, "Importing grades", hidden=as_json) as advance,
        context.writing() as (session, now),
    ):
        for batch in grades.load_in_batches(session, read.scores, now=now):
            advance(batch.total)
            loaded += batch
    if as_json:
        output.print_json(GradesImported.of_file(read, loaded))
        return
    click.echo(f"Imported grades of {count(len(read.scores), 'course')}: {loaded}")
    if read.source is not None:
        maximum_used = read.source.maximum or "of each person by the column of percentages"
        click.echo(f"Column: '{printable(read.source.column)}', maximum {maximum_used}")
        if read.source.left_out:
            click.echo(_describe_skipped(read.source.left_out))


def _describe_skipped(lines: tuple[int, ...]) -> str:
    more = ", …" if len(lines) > _SHOWN_LINES else ""
    shown = ", ".join(map(str, lines[:_SHOWN_LINES]))
    return (
        f"Skipped {count(len(lines), 'user')} without an ID number, line {shown}{more}; "
        "set it in Moodle, then export and import again"
    )
