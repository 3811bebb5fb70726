"""Commands about grades: import a file of them."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import BinaryIO

import click

from foundation.cli import output
from foundation.cli.output import Commands, json_option
from foundation.cli.params import COURSE_ID, WORDS, read_text
from foundation.text import count, printable
from notifier.cli import context
from notifier.cli.params import MAXIMUM
from notifier.courses import grade_import, grades
from notifier.courses.moodle_export import ExportOptions, ExportSource

_SHOWN_LINES = 20


@click.group("grades", cls=Commands)
def grades_group() -> None:
    """Load grades."""


@grades_group.command("import")
@click.argument("file", type=click.File("rb"))
@click.option("--course", type=COURSE_ID, help="Whose grades a Moodle's export holds.")
@click.option(
    "--maximum", type=MAXIMUM, help="What a Moodle's export counts out of; 100 unless given."
)
@click.option(
    "--item", type=WORDS, help="Whose points to take from a Moodle's export; the course total."
)
@json_option
def import_(
    file: BinaryIO, course: str | None, maximum: Decimal | None, item: str | None, as_json: bool
) -> None:
    """Import FILE, a CSV with course_id, user_id, score_given, score_maximum in its first line.

    comment, timestamp, activity_progress and grading_progress may be there too. The CSV that
    Moodle's grade export writes is taken as well: it needs --course, and people without an ID
    number are left out. A file with a line that cannot be read is refused as a whole, with every
    such line named.
    """
    # Before the transaction, for input may take its time.
    chosen = ExportOptions(course, maximum, item)
    read = grade_import.read(read_text(file), chosen, now=datetime.now(UTC))
    with context.writing() as (session, now):
        loaded = grades.load(session, read.scores, now=now)
    if as_json:
        facts = {"courses": len(read.scores), **vars(loaded)}
        output.print_json({**facts, **(vars(read.source) if read.source else {})})
        return
    click.echo(
        f"imported grades of {count(len(read.scores), 'course')}: "
        f"{loaded.added} new, {loaded.changed} changed, {loaded.unchanged} unchanged"
    )
    if read.source is not None:
        click.echo(_told(read.source, maximum))


def _told(taken: ExportSource, maximum: Decimal | None) -> str:
    column = printable(taken.column)
    why = "" if maximum else ", for no --maximum was given"
    points = f"the points are those of '{column}', out of {taken.maximum}{why}"
    return f"{points}\n{_left_out(taken.left_out)}" if taken.left_out else points


def _left_out(lines: tuple[int, ...]) -> str:
    people = count(len(lines), "person", "people")
    more = ", …" if len(lines) > _SHOWN_LINES else ""
    shown = ", ".join(map(str, lines[:_SHOWN_LINES]))
    return (
        f"left out, for want of an ID number: {people}, line {shown}{more}; "
        "give them one in Moodle, then export and import again"
    )
