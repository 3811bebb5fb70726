"""Commands about many courses of the registry: export, import, and tokens from a file."""

import csv
import io
from dataclasses import replace
from typing import Any, BinaryIO

import click

from foundation.cli import output
from foundation.cli.params import COURSE_ID, read_text
from foundation.db import session as db
from foundation.text import count, printable
from receiver.cli import context
from receiver.cli.context import source_option
from receiver.course_state import Standing, Status
from receiver.models import Entry
from receiver.registry import bulk, csv_files
from receiver.registry import entries as registry
from receiver.registry.csv_files import Wanted
from receiver.services import Services
from receiver.sources import store as sources
from receiver.sources.base import Misconfigured, SiteOutage, Transient
from receiver.sync import factory, token_check
from receiver.sync.factory import NotTaken

_READ_AT_ONCE = 500
"""How many entries one query names: databases take only so many values."""


@click.command("export")
@click.option(
    "--to", "file", type=click.File("w", encoding="utf-8", atomic=True), help="Write to this file instead."
)
@source_option
def export(file: Any, source: str | None) -> None:
    """Print the courses in the grade sync as CSV, without tokens.

    An apostrophe is put in front of a cell that a spreadsheet would read as a formula.
    """
    with context.reading() as session:
        source_id = sources.get(session, source).id if source else None
        entries = registry.listing(session, source_id=source_id)
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
    here = context.ready()
    wanted = read(here, file)
    refused = factory.not_taken(here, wanted, actor=context.actor())
    lines = {one.wanted.line for one in refused}
    wanted = [replace(one, token=None) if one.line in lines else one for one in wanted]
    with here.database.writing() as session:
        linked = bulk.link(
            session, wanted, vault=here.vault, actor=context.actor(), now=db.now(session)
        )
    counts = f"{linked.new} new, {linked.changed} changed, {linked.as_before} unchanged"
    click.echo(counts + _counted(refused))
    if refused:
        output.print_table(
            ("course", "source", "reason", "next step"),
            [
                (one.wanted.course_id, one.wanted.source.name, one.why, one.why.advice)
                for one in refused
            ],
            empty="",
        )
        raise click.exceptions.Exit(output.EXIT_REFUSED)


@click.command("set-activity")
@click.argument("course_id", type=COURSE_ID)
@click.option("--course", type=click.IntRange(1, 2**63 - 1), help="Number of the course in Moodle.")
@click.option("--activity", type=click.IntRange(1, 2**63 - 1), help="Number of the activity (cmid) in Moodle.")
@click.option("--clear", is_flag=True, help="Remove the activity.")
@source_option
def set_activity(
    course_id: str, course: int | None, activity: int | None, clear: bool, source: str | None
) -> None:
    """Set the Moodle activity that receives the grades of COURSE_ID."""
    place = None if course is None or activity is None else (str(course), str(activity))
    if clear == bool(place) or (clear and (course or activity)):
        raise click.UsageError("give --course and --activity, or --clear alone")
    with context.writing() as (session, _):
        chosen = sources.choose(session, source, course_id=course_id)
        entry = registry.get(session, chosen, course_id)
        bulk.set_place(entry, *(place or (None, None)))
    shown = printable(course_id)
    if clear:
        click.echo(f"{shown} has no activity now")
    else:
        click.echo(f"grades of {shown} go to activity {activity} of course {course}")


def read(here: Services, file: BinaryIO) -> list[Wanted]:
    """Return the parsed lines of a file, or raise CsvError."""
    text = read_text(file)
    with here.database.reading() as session:
        return csv_files.read(text, sources.list_all(session))


def enter_tokens(here: Services, file: BinaryIO) -> None:
    """Set the tokens in a file, and print the status of each course."""
    wanted = read(here, file)
    refused = factory.not_taken(here, wanted, actor=context.actor())
    lines = {one.wanted.line for one in refused}
    taken = [one for one in wanted if one.line not in lines]
    with here.database.writing() as session:
        ids = bulk.enter_tokens(
            session, taken, vault=here.vault, actor=context.actor(), now=db.now(session)
        )
    told = _prove_all(here, _entries(here, ids))
    after = [(entry, registry.standing(entry)) for entry in _entries(here, ids)]
    output.print_table(
        ("course", "source", "status", "reason", "next step"),
        [_told(entry, standing, told.get(entry.id)) for entry, standing in after]
        + _kept(here, refused),
        empty="The file has no courses.",
    )
    waiting = sum(standing.status is not Status.ACTIVE for _, standing in after)
    counts = f"{len(after) - waiting:,} active, {waiting:,} need action"
    click.echo(counts + _counted(refused))
    if waiting or refused:
        raise click.exceptions.Exit(output.EXIT_REFUSED)


def _counted(refused: list[NotTaken]) -> str:
    return f"; {count(len(refused), 'token')} not accepted" if refused else ""


def _kept(here: Services, refused: list[NotTaken]) -> list[tuple[object, ...]]:
    """Return the rows of courses that keep the token they hold, with why the other is not taken."""
    why = {one.entry_id: one.why for one in refused}
    return [
        (
            entry.course_id,
            entry.source.name,
            registry.standing(entry).status,
            why[entry.id],
            why[entry.id].advice,
        )
        for entry in _entries(here, list(why))
    ]


def _prove_all(here: Services, entries: list[Entry]) -> dict[int, str]:
    """Ask eAssessment about the tokens that it did not name last; return what it could not tell."""
    doubtful = [
        entry for entry in entries if registry.standing(entry).status is Status.TOKEN_INVALID
    ]
    if not doubtful:
        return {}
    with factory.opened(here) as kinds:
        known = {entry.source.name: entry.source for entry in doubtful}
        heard = token_check.prove(
            here.database,
            {name: kinds[source.kind](source) for name, source in known.items()},
            doubtful,
            vault=here.vault,
            actor=context.actor(),
            concurrency=here.settings.sync_concurrency,
        )
    return {
        one.entry.id: f"the token could not be verified: {one.outcome.detail}"
        for one in heard
        if isinstance(one.outcome, Transient | Misconfigured | SiteOutage)
    }


def _entries(here: Services, ids: list[int]) -> list[Entry]:
    with here.database.reading() as session:
        return [
            entry
            for start in range(0, len(ids), _READ_AT_ONCE)
            for entry in registry.listing(session, entry_ids=ids[start : start + _READ_AT_ONCE])
        ]


def _told(entry: Entry, standing: Standing, unclear: str | None) -> tuple[object, ...]:
    why = unclear or standing.reason
    return entry.course_id, entry.source.name, standing.status, why, standing.next_step


def _cells(entry: Entry) -> list[str]:
    standing = registry.standing(entry)
    facts = {
        "source": entry.source.name,
        "course_id": entry.course_id,
        "status": standing.status.value,
        "reason": standing.reason,
        "since": standing.since and standing.since.isoformat(),
        "next_step": standing.next_step,
        "held_token_id": entry.held_token_id,
        "enrolled_at": entry.enrolled_at and entry.enrolled_at.isoformat(),
        "synced_at": entry.synced_at and entry.synced_at.isoformat(),
        "gradebook_course": entry.gradebook_course,
        "gradebook_activity": entry.gradebook_activity,
    }
    return [csv_files.cell(str(facts[name] or "")) for name in csv_files.EXPORTED]
