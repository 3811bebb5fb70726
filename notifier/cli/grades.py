"""Commands about grades."""

import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import BinaryIO

import click

from foundation.cli import context, output
from foundation.cli.output import json_option
from foundation.cli.params import COURSE_ID, TEXT, read_text
from foundation.db import audit
from foundation.import_result import ImportResult
from foundation.responses import Deleted
from foundation.text import count, printable
from notifier.api.schemas import GradesImported
from notifier.cli.params import MAXIMUM
from notifier.courses import grade_import, grades
from notifier.courses import service as courses
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

    \b
    course_id,user_id,score_given,score_maximum
    CS101-2026,s1001,7.5,10
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


@click.command()
@click.option("--course", "course_id", type=COURSE_ID, help="Grades of this course.")
@click.option("--user", "user_id", type=TEXT, help="Grades of the user with this id.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@json_option
def forget(course_id: str | None, user_id: str | None, yes: bool, as_json: bool) -> None:
    """Delete stored grades permanently: of a course, of a user, or of a user in a course.

    ELMS keeps the grades that it has fetched: forget them there too, afterwards. On a terminal it
    asks for confirmation, unless --yes is given.
    """
    if course_id is None and user_id is None:
        raise click.UsageError("give --course, --user, or both")
    with context.reading() as session:
        if course_id is not None:
            courses.get_course(session, course_id)
        stored = grades.count_by_course(session, course_id=course_id, user_id=user_id)
    if stored and not yes and sys.stdin.isatty():
        click.confirm(f"Delete {_grades(stored)} permanently?", abort=True)
    with context.writing() as (session, now):
        deleted = grades.forget(session, course_id=course_id, user_id=user_id, now=now)
        # Without the user's id, which is to be forgotten too.
        whose = "of the course" if user_id is None else "of one user"
        audit.record_all(session, context.actor(), "course.forget-grades", deleted, whose, now=now)
    response = Deleted(deleted={"grades": sum(deleted.values())})
    output.print_result(response, f"deleted {_grades(deleted)}", as_json=as_json)


def _grades(counts: Mapping[str, int]) -> str:
    return f"{count(sum(counts.values()), 'grade')} in {count(len(counts), 'course')}"


def _describe_skipped(lines: tuple[int, ...]) -> str:
    more = ", …" if len(lines) > _SHOWN_LINES else ""
    shown = ", ".join(map(str, lines[:_SHOWN_LINES]))
    return (
        f"Skipped {count(len(lines), 'user')} without an ID number, line {shown}{more}; "
        "set it in Moodle, then export and import again"
    )
