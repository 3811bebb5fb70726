"""The command that imports courses."""

from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import click

from foundation.cli import context, output
from foundation.cli.output import json_option
from foundation.cli.params import read_text
from foundation.db import audit
from foundation.text import count, printable
from notifier.api.schemas import CoursesImported
from notifier.cli import token_file
from notifier.courses import course_import
from notifier.courses.course_import import CourseRow, ImportedCourses
from notifier.services import Services

_SHOWN_IDS = 20


@click.command("import")
@click.argument("file", type=click.File("rb"))
@click.option(
    "--tokens-to",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    help="Append the tokens of new courses to this CSV file, which only you can read.",
)
@json_option
def import_(file: BinaryIO, tokens_to: Path, as_json: bool) -> None:
    """Add or update the courses in FILE, a CSV file.

    Its first line names the columns course_id and title (`-`: standard input). New courses get a
    token, which is written to the file of --tokens-to and shown nowhere else; ELMS reads that file
    with `receiver registry import`. An existing course gets the title of the file. A deleted course
    is passed over and listed, because its id cannot be used again; exit code 1 if there is one. If
    a line is invalid, it is named and nothing is imported. Courses are imported 500 at a time: if
    the command is interrupted, run it again.

    \b
    course_id,title
    CS101-2026,Databases
    """
    services: Services = context.checked_services()
    rows = course_import.read(read_text(file))
    imported = ImportedCourses()
    with token_file.appending(tokens_to) as tokens:
        try:
            with output.progress_bar(len(rows), "Importing courses", hidden=as_json) as advance:
                for start in range(0, len(rows), course_import.AT_ONCE):
                    batch = rows[start : start + course_import.AT_ONCE]
                    imported += _import(services, batch, tokens)
                    advance(len(batch))
        finally:
            _print_result(imported, len(rows), tokens_to, as_json=as_json)
    if imported.deleted:
        raise click.exceptions.Exit(output.EXIT_REFUSED)


def _import(services: Services, rows: Sequence[CourseRow], tokens: BinaryIO) -> ImportedCourses:
    with token_file.restored_on_error(tokens), services.writing() as (session, now):
        imported = course_import.import_courses(session, rows, now=now)
        audit.record_all(
            session, context.actor(), "course.add", imported.tokens, "imported", now=now
        )
        titles = imported.titles
        audit.record_all(
            session, context.actor(), "course.set-title", titles, details=titles, now=now
        )
        token_file.write(tokens, imported.tokens)
    return imported


def _print_result(imported: ImportedCourses, wanted: int, path: Path, *, as_json: bool) -> None:
    if as_json:
        output.print_json(CoursesImported.of_result(imported, str(path)))
        return
    done = imported.counts.total + len(imported.deleted)
    part = f" of {wanted:,}" if done < wanted else ""
    click.echo(f"Imported {done:,}{part} courses: {imported.counts}")
    if done < wanted:
        click.echo("Run the command again to import the others.")
    if imported.counts.added:
        click.echo(token_file.what_next(path, "receiver registry import"))
    if imported.deleted:
        deleted = count(len(imported.deleted), "course is deleted", "courses are deleted")
        more = ", …" if len(imported.deleted) > _SHOWN_IDS else ""
        shown = printable(", ".join(imported.deleted[:_SHOWN_IDS]))
        click.echo(f"{deleted}, and the ids cannot be used again: {shown}{more}")
