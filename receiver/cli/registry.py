"""Commands about the registry: add, list, show and remove courses, set their tokens."""

from collections.abc import Mapping
from typing import Any, BinaryIO

import click

from contract.tokens import Token
from foundation.cli import output
from foundation.cli.output import json_option
from foundation.cli.params import COURSE_ID
from foundation.db import session as db
from foundation.text import printable
from receiver.cli import context, registry_bulk
from receiver.cli.context import source_option
from receiver.course_state import Standing, Status
from receiver.models import API, MOODLE, Entry, Heard
from receiver.registry import entries as registry
from receiver.registry import history
from receiver.runs import store as runs
from receiver.runs.store import LastOutcome
from receiver.services import Services
from receiver.sources import store as sources
from receiver.sync import factory, planner
from receiver.sync.factory import Unproven

_PROMPTS = {API: "Course token (eas_…)", MOODLE: "Moodle token"}


@click.command()
@click.argument("course_id", type=COURSE_ID)
@source_option
def add(course_id: str, source: str | None) -> None:
    """Add COURSE_ID to the grade sync.

    Its token is read from a prompt or standard input.
    """
    here = context.ready()
    token = _read_token(here, source)
    with here.database.writing() as session:
        chosen = sources.choose(session, source)
        entry = registry.enrol(
            session,
            chosen,
            course_id,
            token,
            vault=here.vault,
            actor=context.actor(),
            now=db.now(session),
        )
        standing, name = _standing(entry), chosen.name
    shown = printable(course_id)
    click.echo(f"{shown} of {name} is added, with the token {token.token_id}")
    _exit_unless_active(course_id, standing)


@click.command("list")
@click.option(
    "--status",
    type=click.Choice([status.value for status in Status]),
    help="Only courses with this status.",
)
@source_option
@json_option
def list_(status: str | None, source: str | None, as_json: bool) -> None:
    """List the courses in the grade sync with their status."""
    with context.reading() as session:
        source_id = sources.get(session, source).id if source else None
        entries = registry.listing(session, source_id=source_id)
        last = runs.last_outcomes(session)
    rows = [(entry, _standing(entry)) for entry in entries]
    shown = [row for row in rows if status is None or row[1].status == status]
    if as_json:
        output.print_json(
            [{**_facts(entry, standing), **_last(entry, last)} for entry, standing in shown]
        )
        return
    output.print_table(
        ("course", "source", "status", "last result", "reason", "since", "next step"),
        [
            (
                entry.course_id,
                entry.source.name,
                standing.status,
                _last(entry, last)["last_outcome"],
                standing.reason,
                standing.since,
                standing.next_step,
            )
            for entry, standing in shown
        ],
        empty="No courses match. Add one with `receiver registry add COURSE_ID`.",
    )


@click.command()
@click.argument("course_id", type=COURSE_ID)
@source_option
@click.option(
    "--limit",
    type=click.IntRange(1, 1000),
    default=history.LONGEST,
    show_default=True,
    help="Maximum number of history lines.",
)
@json_option
def show(course_id: str, source: str | None, limit: int, as_json: bool) -> None:
    """Show COURSE_ID: its status, its stored state and its history.

    A course that is not in the registry is shown too if a webhook was received for it.
    """
    with context.reading() as session:
        entry = registry.get_heard_of(
            session, sources.choose(session, source, course_id=course_id), course_id
        )
        heard = history.of_entry(session, entry.id, limit)
    facts = {**_facts(entry, _standing(entry)), **_memory(entry)}
    if as_json:
        output.print_json({**facts, "heard": [_heard(line) for line in heard]})
        return
    if entry.enrolled_at is None:
        click.echo("Not in the registry. Its stored state is used as soon as it is added.")
    output.print_facts((name.replace("_", " "), value) for name, value in facts.items())
    click.echo("\nHistory, newest first")
    output.print_table(
        ("time", "from", "who", "event", "detail", "result"),
        [tuple(_heard(line).values()) for line in heard],
        empty="none",
    )


@click.command()
@click.argument("course_id", type=COURSE_ID)
@source_option
def remove(course_id: str, source: str | None) -> None:
    """Remove COURSE_ID from the grade sync; its grades are kept."""
    here = context.ready()
    with here.database.writing() as session:
        chosen = sources.choose(session, source, course_id=course_id)
        registry.withdraw(session, chosen, course_id, actor=context.actor(), now=db.now(session))
        name = chosen.name
    click.echo(f"{printable(course_id)} of {name} is removed from the grade sync")


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
def set_token(course_id: str | None, source: str | None, file: BinaryIO | None) -> None:
    """Set the current token of COURSE_ID.

    It is read from a prompt or standard input. If it is not the token that eAssessment last
    announced, it is verified with eAssessment before it replaces one that works. Exit code 1 if
    the token is not accepted or the course still cannot be synced.
    """
    if (course_id is None) == (file is None) or (file and source):
        raise click.UsageError("give COURSE_ID, or --from-file alone")
    here = context.ready()
    if file is not None:
        registry_bulk.enter_tokens(here, file)
    elif course_id is not None:
        _set_one(here, course_id, source)


def _set_one(here: Services, course_id: str, source: str | None) -> None:
    token = _read_token(here, source, course_id)
    with here.database.reading() as session:
        chosen = sources.choose(session, source, course_id=course_id)
        entry_id = registry.get(session, chosen, course_id).id
    entry = factory.enter(here, entry_id, token, actor=context.actor())
    click.echo(f"the token {token.token_id} is stored for {printable(course_id)}")
    standing = _standing(entry)
    if standing.status is Status.TOKEN_INVALID:
        standing = _prove(here, entry)
    _exit_unless_active(course_id, standing)


def _read_token(here: Services, source: str | None, course_id: str | None = None) -> Token:
    with here.database.reading() as session:
        kind = sources.choose(session, source, course_id=course_id).kind
    return registry.parse_token(output.read_secret(_PROMPTS[kind]), kind)


def _prove(here: Services, entry: Entry) -> Standing:
    click.echo("it is not the token that eAssessment last announced; verifying it with eAssessment …")
    with factory.opened(here) as kinds:
        proven = factory.prove(here, kinds, entry, actor=context.actor())
    if isinstance(proven, Unproven):
        output.complain(
            f"the token could not be verified: {proven.detail}", proven.next_step
        )
        raise click.exceptions.Exit(output.EXIT_REFUSED)
    return proven


def _standing(entry: Entry) -> Standing:
    return planner.standing(entry, places=context.services().settings.elms_is_moodle)


def _exit_unless_active(course_id: str, standing: Standing) -> None:
    if standing.status is Status.ACTIVE:
        shown = printable(course_id)
        if standing.reason is None:
            click.echo(f"{shown} is active: the next sync fetches its grades")
        else:
            click.echo(f"{shown} is active, but {standing.reason}\n next: {standing.next_step}")
        return
    output.complain(f"{course_id} cannot be synced: {standing.reason}", str(standing.next_step))
    raise click.exceptions.Exit(output.EXIT_REFUSED)


def _facts(entry: Entry, standing: Standing) -> dict[str, Any]:
    return {
        "course_id": entry.course_id,
        "source": entry.source.name,
        "status": standing.status.value,
        "reason": standing.reason,
        "since": standing.since,
        "next_step": standing.next_step,
        "held_token_id": entry.held_token_id,
        "enrolled_at": entry.enrolled_at,
        "synced_at": entry.synced_at,
        "gradebook_course": entry.gradebook_course,
        "gradebook_activity": entry.gradebook_activity,
    }


def _last(entry: Entry, known: Mapping[tuple[str, str], LastOutcome]) -> dict[str, Any]:
    last = known.get((entry.source.name, entry.course_id))
    return {
        "last_outcome": last and last.outcome.value,
        "last_outcome_at": last and last.at,
    }


def _heard(line: Heard) -> dict[str, Any]:
    return {
        "at": line.at,
        "actor": line.actor,
        "who": line.who,
        "what": line.what,
        "detail": line.detail,
        "status": line.status,
    }


def _memory(entry: Entry) -> dict[str, Any]:
    return {
        "course_version": registry.memory_of(entry).course_version,
        "deleted_at": entry.deleted_at,
        "announced_token_id": entry.announced_token_id,
        "announced_at": entry.announced_at,
        "refused_token_id": entry.refused_token_id,
        "refused_reason": entry.refused_reason,
        "refused_at": entry.refused_at,
    }

