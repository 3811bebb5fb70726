"""Commands about the registry: add, list, show and remove courses, set their tokens."""

from datetime import datetime
from typing import BinaryIO, NoReturn

import click

from contract.tokens import Token
from foundation.cli import output
from foundation.cli.output import csv_option, json_option
from foundation.cli.params import COURSE_ID, SEARCH, SINCE, Parsed, limit_option, whole_number
from foundation.db import pagination
from foundation.db import session as db
from foundation.db.pagination import PageRequest, Sort
from foundation.errors import Advice, Refusal
from foundation.text import printable
from receiver.cli import context, registry_bulk, schemas
from receiver.cli.context import source_option
from receiver.course_advice import CourseStatusDetails
from receiver.course_state import CourseStatus
from receiver.models import API, MOODLE, Entry
from receiver.registry import csv_files, history, listing
from receiver.registry import entries as registry
from receiver.registry.listing import EntryFilter
from receiver.runs import store as runs
from receiver.services import Services
from receiver.sources import store as sources
from receiver.sources.factory import ClientFactory
from receiver.sync.token_check import TokenCheck, needs_check

_ENTRY_ID = whole_number(1, 2**31 - 1)  # PostgreSQL refuses to compare with larger ids
_SORT = Parsed("column", lambda text: Sort.parse(text, listing.SORTS))
_PROMPTS = {API: "Course token (eas_…)", MOODLE: "Moodle token"}


@click.command()
@click.argument("course_id", type=COURSE_ID)
@source_option
@json_option
def add(course_id: str, source: str | None, as_json: bool) -> None:
    """Add COURSE_ID to the grade sync.

    Its token is read from a prompt or standard input.
    """
    services: Services = context.checked_services()
    token = _read_token(services, source)
    with services.database.writing() as session:
        chosen = sources.choose(session, source)
        entry = registry.add(
            session,
            chosen,
            course_id,
            token,
            vault=services.vault,
            actor=context.actor(),
            now=db.now(session),
        )
        status_details, name = _explain_status(entry, now=db.now(session)), chosen.name
        response = schemas.EntryResponse.of_entry(entry, status_details)
    sentence = f"{course_id} of {name} is added, with the token {token.token_id}"
    output.print_result(response, sentence, as_json=as_json)
    _exit_unless_active(course_id, status_details, as_json=as_json)


@click.command("list")
@click.option(
    "--status",
    type=click.Choice([status.value for status in CourseStatus]),
    help="Only courses with this status.",
)
@click.option(
    "--matching", type=SEARCH, default="", help="Only courses whose id contains TEXT, in any case."
)
@source_option
@click.option(
    "--since",
    type=SINCE,
    help="Only courses that were deleted or whose token is invalid since this time: 2h, "
    "yesterday, or 2026-11-22T09:00 (UTC).",
)
@click.option(
    "--sort",
    type=_SORT,
    metavar="[-]COLUMN",
    help=f"Sort by {', '.join(listing.SORTS)}; -COLUMN sorts descending. Default: by course.",
)
@click.option("--after", type=_ENTRY_ID, help="Start after this entry (next page).")
@limit_option("courses")
@csv_option
@json_option
def list_(
    status: str | None,
    matching: str,
    source: str | None,
    since: datetime | None,
    sort: Sort | None,
    after: int | None,
    limit: int,
    as_csv: bool,
    as_json: bool,
) -> None:
    """List the courses in the grade sync with their status."""
    services: Services = context.checked_services()
    needs_activity = services.settings.elms_is_moodle
    sort = sort or listing.BY_COURSE
    with services.database.reading() as session:
        source_id = sources.get(session, source).id if source else None
        chosen = EntryFilter(CourseStatus(status) if status else None, source_id, matching, since)
        cursor = listing.cursor_of(session, after, sort) if after else None
        if after and cursor is None:
            raise click.UsageError(f"there is no entry {after}")
        now = db.now(session)
        page = listing.page(
            session,
            chosen,
            PageRequest(after=cursor),
            sort=sort,
            needs_activity=needs_activity,
            limit=limit,
            now=now,
        )
        total = listing.count(session, chosen, now=now)
    if as_csv:
        batches = listing.export(
            services.database, chosen, sort=sort, needs_activity=needs_activity, now=now
        )
        output.print_csv(csv_files.EXPORTED, batches, as_json=as_json)
        return
    following = str(page.rows[-1].entry.id) if page.after else None
    if as_json:
        found = [schemas.EntryResponse.of_entry(row.entry, row.status_details) for row in page.rows]
        output.print_json(schemas.Entries(courses=found, next=following))
        return
    output.print_table(
        ("course", "source", "status", "last synced", "reason", "since", "next step"),
        [
            (
                row.entry.course_id,
                row.entry.source.name,
                row.status_details.label,
                row.entry.synced_at,
                row.status_details.reason,
                row.status_details.since,
                output.next_step(row.status_details.advice),
            )
            for row in page.rows
        ],
        empty="No courses match. Add one with `receiver registry add COURSE_ID`.",
    )
    more = f"--after {following}" if following else ""
    output.print_total(len(page.rows), total, "course", more=more)


@click.command()
@click.argument("course_id", type=COURSE_ID)
@source_option
@limit_option("history lines", default=pagination.PAGE, maximum=1000)
@json_option
def show(course_id: str, source: str | None, limit: int, as_json: bool) -> None:
    """Show COURSE_ID: its status, its stored state and its history.

    A course that is not in the registry is shown too if a webhook was received for it.
    """
    with context.reading() as session:
        entry = registry.get_any(
            session, sources.choose(session, source, course_id=course_id), course_id
        )
        lines = history.page(session, entry.id, PageRequest(), limit=limit).rows
        failure = runs.failures(session, [course_id]).get((entry.source.name, course_id))
        now = db.now(session)
    needs_activity = context.services().settings.elms_is_moodle
    status_details = listing.explain_status(entry, failure, needs_activity=needs_activity, now=now)
    details = schemas.EntryDetails.of_history(entry, status_details, lines)
    if as_json:
        output.print_json(details)
        return
    if not entry.is_added:
        click.echo("Not in the registry. Its stored state is used as soon as it is added.")
    output.print_facts((name, v) for name, v in details if name != "history")
    click.echo("\nHistory, newest first")
    output.print_table(
        ("time", "from", "who", "event", "detail", "result"),
        [[value for _, value in line] for line in details.history],
        empty="none",
    )


@click.command()
@click.argument("course_id", type=COURSE_ID, required=False)
@source_option
@click.option(
    "--status",
    type=click.Choice([status.value for status in CourseStatus]),
    help="Remove all courses with this status, of --source if given.",
)
@click.option("--all", "every", is_flag=True, help="Remove all courses of --source.")
@click.option(
    "--from-file",
    "file",
    type=click.File("rb"),
    help="Remove the courses in a CSV file with the column course_id and, if there are several "
    "sources, source; for example one from `export`.",
)
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@json_option
def remove(
    course_id: str | None,
    source: str | None,
    status: str | None,
    every: bool,
    file: BinaryIO | None,
    yes: bool,
    as_json: bool,
) -> None:
    """Remove COURSE_ID from the grade sync, or many courses; their grades are kept.

    Many courses are removed after a confirmation, 500 at a time: if the command is interrupted, run
    it again. A course that is not in the registry is passed over.
    """
    if [course_id is None, status is None, file is None, not every].count(False) != 1:
        raise click.UsageError("give COURSE_ID, --status, --all, or --from-file")
    if (file and source) or (every and not source):
        raise click.UsageError("--all needs --source, and --from-file excludes it")
    services: Services = context.checked_services()
    if file is not None:
        registry_bulk.remove_listed(services, file, yes=yes, as_json=as_json)
    elif course_id is not None:
        _remove_one(services, course_id, source, as_json=as_json)
    else:
        wanted = CourseStatus(status) if status else None
        registry_bulk.remove_found(services, wanted, source, yes=yes, as_json=as_json)


def _remove_one(services: Services, course_id: str, source: str | None, *, as_json: bool) -> None:
    with services.database.writing() as session:
        chosen = sources.choose(session, source, course_id=course_id)
        registry.remove(session, chosen, course_id, actor=context.actor(), now=db.now(session))
        name = chosen.name
    sentence = f"{course_id} of {name} is removed from the grade sync"
    output.print_result(schemas.EntriesRemoved(removed=1, unknown=0), sentence, as_json=as_json)


@click.command("set-token")
@click.argument("course_id", type=COURSE_ID, required=False)
@source_option
@click.option(
    "--from-file",
    "file",
    type=click.File("rb"),
    help="Set the tokens of many courses: a CSV file with the columns course_id, token and, if "
    "there are several sources, source.",
)
@json_option
def set_token(
    course_id: str | None, source: str | None, file: BinaryIO | None, as_json: bool
) -> None:
    """Set the current token of COURSE_ID.

    It is read from a prompt or standard input. If it is not the token that eAssessment last
    announced, it is verified with eAssessment before it replaces one that works. Exit code 1 if
    the token is not accepted or the course still cannot be synced.
    """
    if (course_id is None) == (file is None) or (file and source):
        raise click.UsageError("give COURSE_ID, or --from-file alone")
    services: Services = context.checked_services()
    if file is not None:
        registry_bulk.enter_tokens(services, file, as_json=as_json)
    elif course_id is not None:
        _set_one(services, course_id, source, as_json=as_json)


def _set_one(services: Services, course_id: str, source: str | None, *, as_json: bool) -> None:
    token = _read_token(services, source, course_id)
    with services.database.reading() as session:
        chosen = sources.choose(session, source, course_id=course_id)
        entry = registry.get_added(session, chosen, course_id)
        now = db.now(session)
    if needs_check(entry, token, now=now) and not as_json:
        click.echo(f"verifying the token {token.token_id} with {entry.source.platform} …")
    with ClientFactory(services.settings, services.vault) as clients:
        entered = TokenCheck(services, clients, context.actor()).enter(entry.id, token)
    status_details = _explain_status(entered.entry, now=now)
    failure = None
    if isinstance(entered.checked, CourseStatusDetails):
        status_details = entered.checked
    else:
        failure = entered.checked
    response = schemas.EntryResponse.of_entry(entered.entry, status_details)
    sentence = f"the token {token.token_id} is stored for {course_id}"
    output.print_result(response, sentence, as_json=as_json)
    if failure is not None:
        detail = f"the token could not be verified: {failure.detail}"
        _fail(detail, failure.advice, as_json=as_json)
    _exit_unless_active(course_id, status_details, as_json=as_json)


def _read_token(services: Services, source: str | None, course_id: str | None = None) -> Token:
    with services.database.reading() as session:
        kind = sources.choose(session, source, course_id=course_id).kind
    return registry.parse_token(output.read_secret(_PROMPTS[kind]), kind)


def _explain_status(entry: Entry, *, now: datetime) -> CourseStatusDetails:
    needs_activity = context.services().settings.elms_is_moodle
    return registry.explain_status(entry, needs_activity=needs_activity, now=now)


def _exit_unless_active(
    course_id: str, status_details: CourseStatusDetails, *, as_json: bool
) -> None:
    if status_details.status is not CourseStatus.ACTIVE:
        advice = status_details.advice or Refusal.advice
        _fail(f"{course_id} cannot be synced: {status_details.reason}", advice, as_json=as_json)
    if as_json:
        return
    shown = printable(course_id)
    if status_details.reason is None:
        click.echo(f"{shown} is active: the next sync fetches its grades")
    else:
        step = output.next_step(status_details.advice)
        click.echo(f"{shown} is active, but {status_details.reason}\n next: {step}")


def _fail(detail: str, advice: Advice, *, as_json: bool) -> NoReturn:
    error = output.ErrorMessage(detail, advice)
    output.print_error(error, exit_code=output.EXIT_REFUSED, as_json=as_json)
    raise click.exceptions.Exit(output.EXIT_REFUSED)
