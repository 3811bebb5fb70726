"""Commands about many courses of the registry: export, import, remove, tokens from a file."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, BinaryIO

import click

from foundation import csv_writer
from foundation.cli import output
from foundation.cli.output import json_option
from foundation.cli.params import COURSE_ID, read_text, whole_number
from foundation.db import audit
from foundation.db import session as db
from foundation.errors import Advice
from foundation.import_result import ImportResult
from foundation.text import count, printable
from receiver.cli import context, schemas
from receiver.cli.context import source_option
from receiver.cli.schemas import CourseProblem
from receiver.course_state import CourseStatus
from receiver.registry import bulk, csv_files, id_numbers, listing
from receiver.registry import entries as registry
from receiver.registry.csv_files import RegistryRow
from receiver.registry.listing import EntryFilter
from receiver.services import Services
from receiver.sources import store as sources
from receiver.sources.factory import ClientFactory
from receiver.sync.token_check import RefusedToken, TokenCheck


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
    services: Services = context.checked_services()
    with services.database.reading() as session:
        source_id = sources.get(session, source).id if source else None
        now = db.now(session)
    batches = listing.export(
        services.database,
        EntryFilter(source_id=source_id),
        needs_activity=services.settings.elms_is_moodle,
        now=now,
    )
    for text in csv_writer.stream(csv_files.EXPORTED, batches):
        click.echo(text, nl=False, file=file)


@click.command("import")
@click.argument("file", type=click.File("rb"))
@json_option
def import_(file: BinaryIO, as_json: bool) -> None:
    """Add or update the courses in FILE, a CSV file.

    Its columns are course_id and token; optional are source, gradebook_course and
    gradebook_activity (`-`: standard input). For a Moodle with a site-wide token, course_idnumber
    may take the place of course_id. A course that is in the registry keeps its token if
    the file has none, so a file from `export` can be edited and imported. A token is verified with
    eAssessment before it replaces one that works. Exit code 1 if a line is invalid (then nothing
    is imported) or if a token is not accepted.

    \b
    course_id,token
    CS101-2026,eas_…
    """
    services: Services = context.checked_services()
    rows = _read(services, file)
    with ClientFactory(services.settings, services.vault) as clients:
        refused = TokenCheck(services, clients, context.actor()).refuse_unconfirmed(rows)
    lines = {token.row.line for token in refused}
    rows = [replace(row, token=None) if row.line in lines else row for row in rows]
    imported = ImportResult()
    with (
        output.progress_bar(len(rows), "Importing courses", hidden=as_json) as advance,
        services.writing() as (session, now),
    ):
        for batch in bulk.import_in_batches(
            session, rows, vault=services.vault, actor=context.actor(), now=now
        ):
            advance(batch.total)
            imported += batch
    problems = [CourseProblem.of_refused(token) for token in refused]
    response = schemas.EntriesImported(**vars(imported), problems=problems)
    output.print_result(response, f"{imported}{_refused_count(refused)}", as_json=as_json)
    if refused:
        if not as_json:
            _print_problems(problems)
        raise click.exceptions.Exit(output.EXIT_REFUSED)


@click.command("set-activity")
@click.argument("course_id", type=COURSE_ID)
@click.option("--course", type=whole_number(1, 2**63 - 1), help="Number of the course in Moodle.")
@click.option(
    "--activity", type=whole_number(1, 2**63 - 1), help="Number of the activity (cmid) in Moodle."
)
@click.option("--clear", is_flag=True, help="Remove the activity.")
@source_option
@json_option
def set_activity(
    course_id: str,
    course: int | None,
    activity: int | None,
    clear: bool,
    source: str | None,
    as_json: bool,
) -> None:
    """Set the Moodle activity that receives the grades of COURSE_ID."""
    target = None if course is None or activity is None else (str(course), str(activity))
    if clear == bool(target) or (clear and (course or activity)):
        raise click.UsageError("give --course and --activity, or --clear alone")
    with context.writing() as (session, now):
        chosen = sources.choose(session, source, course_id=course_id)
        entry = registry.get_added(session, chosen, course_id)
        bulk.set_gradebook_target(entry, *(target or (None, None)))
        detail = f"{chosen.name}: {course}/{activity}" if target else chosen.name
        audit.record(session, context.auditor(), "entry.set-activity", course_id, detail, now=now)
        needs_activity = context.services().settings.elms_is_moodle
        status_details = registry.explain_status(entry, needs_activity=needs_activity, now=now)
        response = schemas.EntryResponse.of_entry(entry, status_details)
    sentence = f"grades of {course_id} go to activity {activity} of course {course}"
    if clear:
        sentence = f"{course_id} has no activity now"
    output.print_result(response, sentence, as_json=as_json)


def enter_tokens(services: Services, file: BinaryIO, *, as_json: bool) -> None:
    """Set the tokens in a file, and print the courses that cannot be synced yet."""
    rows = _read(services, file)
    with ClientFactory(services.settings, services.vault) as clients:
        entered, refused = TokenCheck(services, clients, context.actor()).enter_all(rows)
    problems = [CourseProblem.of_entered(token) for token in entered if token.reason is not None]
    problems += [CourseProblem.of_refused(token) for token in refused]
    active = sum(token.is_active for token in entered)
    waiting = len(entered) - active
    if problems and not as_json:
        _print_problems(problems)
    output.print_result(
        schemas.TokensEntered(active=active, problems=problems),
        f"{active:,} active, {waiting:,} need action{_refused_count(refused)}",
        as_json=as_json,
    )
    if waiting or refused:
        raise click.exceptions.Exit(output.EXIT_REFUSED)


def remove_found(
    services: Services,
    status: CourseStatus | None,
    source: str | None,
    *,
    yes: bool,
    as_json: bool,
) -> None:
    """Remove the courses with a status, of a source, or both from the grade sync."""
    with services.database.reading() as session:
        source_id = sources.get(session, source).id if source else None
        found = EntryFilter(status, source_id)
        selected = listing.find_selected(session, found, now=db.now(session))
    courses = {course.entry_id: course.course_id for course in selected}
    removed = _remove(services, courses, status=status, yes=yes, hidden=as_json)
    _print_removed(removed, len(courses), 0, as_json=as_json)


def remove_listed(services: Services, file: BinaryIO, *, yes: bool, as_json: bool) -> None:
    """Remove the courses in a file from the grade sync."""
    rows = _read(services, file)
    with services.database.reading() as session:
        found = bulk.find_added(session, rows)
    courses = {entry.id: entry.course_id for _, entry in found}
    removed = _remove(services, courses, yes=yes, hidden=as_json)
    _print_removed(removed, len(courses), len(rows) - len(found), as_json=as_json)


def _remove(
    services: Services,
    courses: Mapping[int, str],
    *,
    status: CourseStatus | None = None,
    yes: bool,
    hidden: bool,
) -> int:
    """Remove the courses, by the ids of their entries; return how many were removed."""
    entry_ids, course_ids = [*courses], [*courses.values()]
    if courses and not yes:
        examples = printable(", ".join(course_ids[:3])) + (", …" if len(course_ids) > 3 else "")
        which = f"{count(len(courses), 'course')} from the grade sync ({examples})"
        output.confirm(f"Remove {which}? Their grades are kept.")
    removed = 0
    with output.progress_bar(len(entry_ids), "Removing courses", hidden=hidden) as advance:
        for start in range(0, len(entry_ids), bulk.REMOVED_AT_ONCE):
            batch = entry_ids[start : start + bulk.REMOVED_AT_ONCE]
            with services.writing() as (session, now):
                removed += bulk.remove(
                    session, batch, status=status, actor=context.actor(), now=now
                )
            advance(len(batch))
    return removed


def _print_removed(removed: int, found: int, unknown: int, *, as_json: bool) -> None:
    sentences = []
    if unknown:
        sentences.append(f"{count(unknown, 'course')} of the file not in the registry")
    if found:
        courses = count(found, "course")
        sentences.append(f"removed {removed:,} of {courses} from the grade sync")
    response = schemas.EntriesRemoved(removed=removed, unknown=unknown)
    output.print_result(response, *(sentences or ["No courses match."]), as_json=as_json)


def _read(services: Services, file: BinaryIO) -> list[RegistryRow]:
    text = read_text(file)
    with services.database.reading() as session:
        rows = csv_files.read(text, sources.list_all(session))
        session.expunge_all()
    with ClientFactory(services.settings, services.vault) as clients:
        return id_numbers.resolve(rows, clients)


def _print_problems(problems: Iterable[CourseProblem]) -> None:
    output.print_table(
        ("course", "source", "reason", "next step"),
        [
            (
                problem.course_id,
                problem.source,
                problem.detail,
                output.next_step(Advice(problem.next_step or "", problem.action)),
            )
            for problem in problems
        ],
        empty="",
    )


def _refused_count(refused: list[RefusedToken]) -> str:
    return f"; {count(len(refused), 'token')} not accepted" if refused else ""
