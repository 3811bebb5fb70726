"""Commands about many courses of the registry: export, import, and tokens from a file."""

import csv
import io
from dataclasses import replace
from datetime import datetime
from typing import Any, BinaryIO

import click

from foundation.cli import output
from foundation.cli.params import COURSE_ID, read_text
from foundation.db import session as db
from foundation.text import count, printable
from receiver.cli import context, schemas
from receiver.cli.context import source_option
from receiver.course_state import CourseStatus, Status
from receiver.models import Entry
from receiver.registry import bulk, csv_files
from receiver.registry import entries as registry
from receiver.registry.csv_files import RegistryRow
from receiver.services import Services
from receiver.sources import store as sources
from receiver.sources.factory import ClientFactory
from receiver.sync import token_check
from receiver.sync.token_check import RejectedToken

# Entries per query; databases limit the number of values.
_READ_AT_ONCE = 500


@click.command("export")
@click.option(
    "--to",
    "file",
    type=click.File("w", encoding="utf-8", atomic=True),
    help="Write to this file instead.",
)
@source_option
def export(file: Any, source: str | None) -> None:
    """Print the courses in the grade sync as CSV, without tokens.

    An apostrophe is put in front of a cell that a spreadsheet would read as a formula.
    """
    with context.reading() as session:
        source_id = sources.get(session, source).id if source else None
        entries = registry.list_entries(session, source_id=source_id)
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(csv_files.EXPORTED)
    rows.writerows(_cells(entry) for entry in entries)
    if file is None:
        click.echo(text.getvalue(), nl=False)
    else:
        file.write(text.getvalue())


@click.command("import")
@click.argument("file", type=click.File("rb"))
def import_(file: BinaryIO) -> None:
    """Add or update the courses in FILE, a CSV file.

    Its columns are course_id and token; optional are source, gradebook_course and
    gradebook_activity (`-`: standard input). A course that is in the registry keeps its token if
    the file has none, so a file from `export` can be edited and imported. A token is verified with
    eAssessment before it replaces one that works. Exit code 1 if a line is invalid (then nothing
    is imported) or if a token is not accepted.
    """
    here: Services = context.checked_services()
    rows = read(here, file)
    with ClientFactory(here.settings, here.vault) as clients:
        rejected = token_check.reject_unverified(here, clients, rows, actor=context.actor())
    lines = {one.row.line for one in rejected}
    rows = [replace(one, token=None) if one.line in lines else one for one in rows]
    with here.database.writing() as session:
        imported = bulk.import_rows(
            session, rows, vault=here.vault, actor=context.actor(), now=db.now(session)
        )
    counts = (
        f"{imported.added:,} new, {imported.changed:,} changed, {imported.unchanged:,} unchanged"
    )
    click.echo(counts + _rejected_count(rejected))
    if rejected:
        output.print_table(
            ("course", "source", "reason", "next step"),
            [
                (
                    one.row.course_id,
                    one.row.source.name,
                    one.error,
                    output.next_step(one.error.advice),
                )
                for one in rejected
            ],
            empty="",
        )
        raise click.exceptions.Exit(output.EXIT_REFUSED)


@click.command("set-activity")
@click.argument("course_id", type=COURSE_ID)
@click.option("--course", type=click.IntRange(1, 2**63 - 1), help="Number of the course in Moodle.")
@click.option(
    "--activity", type=click.IntRange(1, 2**63 - 1), help="Number of the activity (cmid) in Moodle."
)
@click.option("--clear", is_flag=True, help="Remove the activity.")
@source_option
def set_activity(
    course_id: str, course: int | None, activity: int | None, clear: bool, source: str | None
) -> None:
    """Set the Moodle activity that receives the grades of COURSE_ID."""
    target = None if course is None or activity is None else (str(course), str(activity))
    if clear == bool(target) or (clear and (course or activity)):
        raise click.UsageError("give --course and --activity, or --clear alone")
    with context.writing() as (session, _):
        chosen = sources.choose(session, source, course_id=course_id)
        entry = registry.get(session, chosen, course_id)
        bulk.set_gradebook_target(entry, *(target or (None, None)))
    shown = printable(course_id)
    if clear:
        click.echo(f"{shown} has no activity now")
    else:
        click.echo(f"grades of {shown} go to activity {activity} of course {course}")


def read(here: Services, file: BinaryIO) -> list[RegistryRow]:
    """Return the parsed lines of a file, or raise CsvError."""
    text = read_text(file)
    with here.database.reading() as session:
        return csv_files.read(text, sources.list_all(session))


def enter_tokens(here: Services, file: BinaryIO) -> None:
    """Set the tokens in a file, and print the status of each course."""
    rows = read(here, file)
    with ClientFactory(here.settings, here.vault) as clients:
        rejected = token_check.reject_unverified(here, clients, rows, actor=context.actor())
    lines = {one.row.line for one in rejected}
    accepted = [one for one in rows if one.line not in lines]
    with here.database.writing() as session:
        ids = bulk.set_tokens(
            session, accepted, vault=here.vault, actor=context.actor(), now=db.now(session)
        )
    unverified = _check_all(here, _entries(here, ids))
    after = [(entry, registry.course_status(entry)) for entry in _entries(here, ids)]
    output.print_table(
        ("course", "source", "status", "reason", "next step"),
        [
            _status_row(entry, course_status, unverified.get(entry.id))
            for entry, course_status in after
        ]
        + _rejected_rows(here, rejected),
        empty="The file has no courses.",
    )
    waiting = sum(course_status.status is not Status.ACTIVE for _, course_status in after)
    counts = f"{len(after) - waiting:,} active, {waiting:,} need action"
    click.echo(counts + _rejected_count(rejected))
    if waiting or rejected:
        raise click.exceptions.Exit(output.EXIT_REFUSED)


def _rejected_count(rejected: list[RejectedToken]) -> str:
    return f"; {count(len(rejected), 'token')} not accepted" if rejected else ""


def _rejected_rows(here: Services, rejected: list[RejectedToken]) -> list[tuple[object, ...]]:
    """Return the rows of courses whose new token is not accepted, with the reason."""
    why = {one.entry_id: one.error for one in rejected}
    return [
        (
            entry.course_id,
            entry.source.name,
            registry.course_status(entry).status,
            why[entry.id],
            output.next_step(why[entry.id].advice),
        )
        for entry in _entries(here, list(why))
    ]


def _check_all(here: Services, entries: list[Entry]) -> dict[int, str]:
    """Check the tokens that eAssessment has not named; return by entry id which checks failed."""
    invalid = [
        entry for entry in entries if registry.course_status(entry).status is Status.TOKEN_INVALID
    ]
    if not invalid:
        return {}
    with ClientFactory(here.settings, here.vault) as clients:
        failed = token_check.check_tokens(here, clients, invalid, actor=context.actor())
    return {
        entry_id: f"the token could not be verified: {failure.detail}"
        for entry_id, failure in failed.items()
    }


def _entries(here: Services, ids: list[int]) -> list[Entry]:
    with here.database.reading() as session:
        return [
            entry
            for start in range(0, len(ids), _READ_AT_ONCE)
            for entry in registry.list_entries(
                session, entry_ids=ids[start : start + _READ_AT_ONCE]
            )
        ]


def _status_row(
    entry: Entry, course_status: CourseStatus, unverified: str | None
) -> tuple[object, ...]:
    why = unverified or course_status.reason
    step = output.next_step(course_status.advice)
    return entry.course_id, entry.source.name, course_status.status, why, step


def _cells(entry: Entry) -> list[str]:
    course_status = registry.course_status(entry)
    values = dict(schemas.EntryResponse.of(entry, course_status))
    values["next_step"] = output.next_step(course_status.advice)
    cells = [values[name] for name in csv_files.EXPORTED]
    return [
        csv_files.cell(cell.isoformat() if isinstance(cell, datetime) else cell or "")
        for cell in cells
    ]
