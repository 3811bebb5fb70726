"""Commands about courses: add, list, show, delete, regenerate a token or tell of it."""

import re
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any, BinaryIO

import click

from contract.tokens import MalformedTokenError, MoodleToken
from foundation.cli import output
from foundation.cli.output import Commands, json_option
from foundation.cli.params import COURSE_ID, WORDS, read_text
from foundation.db import session as db
from foundation.db.session import Database
from foundation.text import count, printable
from notifier.cli import context
from notifier.cli.params import MOODLE_TOKEN, TITLE
from notifier.courses import service as courses
from notifier.errors import CourseUnknownError, NotifierError, TokenMalformedError
from notifier.models import Course
from notifier.webhooks import delivery_queries
from notifier.webhooks.delivery_filter import DeliveryFilter

_NUMBER = re.compile(r"[1-9][0-9]{0,17}", re.ASCII)
"""How Moodle names a course."""


@click.group("courses", cls=Commands)
def courses_group() -> None:
    """Add, list, show and delete courses; regenerate their tokens."""


@courses_group.command()
@click.argument("course_id", type=COURSE_ID)
@click.option("--title", type=TITLE, required=True, help="What people call the course.")
@json_option
def add(course_id: str, title: str, as_json: bool) -> None:
    """Add a course and print its token, which is shown this once."""
    with context.writing() as (session, now):
        token = courses.add_course(session, course_id, title, now=now)
    _show_token("is added; its token", course_id, token.token_id, token.reveal(), as_json=as_json)


@courses_group.command("list")
@click.option("--deleted/--not-deleted", default=None, help="Only the deleted, or the others.")
@click.option(
    "--after", type=WORDS, default="", help="Begin behind this course id, to go on with a list."
)
@click.option("--limit", type=click.IntRange(1, 10_000), default=100, help="How many at the most.")
@json_option
def list_(deleted: bool | None, after: str, limit: int, as_json: bool) -> None:
    """List courses by id."""
    with context.reading() as session:
        rows = courses.list_courses(session, after=after, limit=limit, deleted=deleted)
    if as_json:
        output.print_json([_facts(row) for row in rows])
        return
    output.print_table(
        ("course", "title", "version", "created", "deleted"),
        [(row.course_id, row.title, row.version, row.created_at, row.deleted_at) for row in rows],
        empty="no courses; add one with `notifier courses add COURSE_ID --title …`",
    )
    if len(rows) == limit:
        click.echo(f"there may be more: --after {printable(rows[-1].course_id)}")


@courses_group.command()
@click.argument("course_id", type=COURSE_ID)
@json_option
def show(course_id: str, as_json: bool) -> None:
    """Show a course: its state, its tokens' public ids, and who was told what of it."""
    with context.reading() as session:
        course = courses.get_course(session, course_id)
        tokens = [
            {
                "token_id": token.token_id,
                "created_at": token.created_at,
                "superseded_at": token.superseded_at,
            }
            for token in course.tokens
        ]
        told = [
            {
                "delivery_id": row.id,
                "event_type": row.event.type,
                "url": row.endpoint.url,
                "status": row.status,
                "occurred_at": row.event.occurred_at,
            }
            for row in delivery_queries.find(session, DeliveryFilter(course_id=course_id))
        ]
    if as_json:
        output.print_json({**_facts(course), "tokens": tokens, "deliveries": told})
        return
    output.print_facts(_facts(course).items())
    click.echo("\ntokens, the oldest first")
    output.print_table(
        ("token id", "created", "replaced"), [tuple(one.values()) for one in tokens], empty="none"
    )
    click.echo("\nwho was told what, the newest first")
    output.print_table(
        ("delivery", "event", "endpoint", "status", "happened"),
        [tuple(one.values()) for one in told],
        empty="nothing was told of this course yet",
    )


@courses_group.command()
@click.argument("course_ids", nargs=-1, type=COURSE_ID, metavar="COURSE_ID...")
@click.option(
    "--from-file",
    type=click.File("rb"),
    help="A file of course ids to delete, one on each line (`-`: standard input).",
)
@click.option("--yes", is_flag=True, help="Do not ask before deleting.")
@json_option
def delete(
    course_ids: tuple[str, ...], from_file: BinaryIO | None, yes: bool, as_json: bool
) -> None:
    """Delete courses for good and tell every endpoint; each on its own, exit 1 if one is refused.

    On a terminal it asks first, unless --yes is given.
    """
    wanted = list(dict.fromkeys([*course_ids, *_listed(from_file)]))
    if not wanted:
        raise click.UsageError("name at least one COURSE_ID, or a file with --from-file")
    if not yes and sys.stdin.isatty():
        click.confirm(f"Delete {count(len(wanted), 'course')} for good?", abort=True)
    database = context.ready().database
    results: list[dict[str, Any]] = []
    try:
        for course_id in wanted:
            results.append(_delete_one(database, course_id))
    finally:
        _show_deleted(results, as_json=as_json)
    if not all(result["deleted"] for result in results):
        raise click.exceptions.Exit(output.EXIT_REFUSED)


@courses_group.command("regenerate-token")
@click.argument("course_id", type=COURSE_ID)
@json_option
def regenerate_token(course_id: str, as_json: bool) -> None:
    """Replace a course's token, tell every endpoint, and print the new one, shown this once."""
    with context.writing() as (session, now):
        token = courses.regenerate_token(session, course_id, now=now)
    _show_token("has a new token", course_id, token.token_id, token.reveal(), as_json=as_json)


@courses_group.command("announce-token")
@click.argument("course_id", type=COURSE_ID)
@click.option("--token-id", type=MOODLE_TOKEN, help="The new token's public id, if you have it.")
@click.option("--unknown", is_flag=True, help="Tell it though nobody knows the new token.")
@click.option("--yes", is_flag=True, help="Do not ask about a course that is not known here yet.")
@json_option
def token_regenerated(
    course_id: str, token_id: str | None, unknown: bool, yes: bool, as_json: bool
) -> None:
    """Tell every endpoint that a Moodle regenerated COURSE_ID's token, for Moodle tells nobody.

    The new token is read from a prompt or standard input, unless its id is given or nobody knows
    it. It is not kept: only a public id made of it is told. A course that is not known here yet
    must be named by its number in Moodle; on a terminal it asks first, unless --yes is given.
    """
    if unknown and token_id:
        raise click.UsageError("give either --token-id or --unknown")
    _check_not_mistyped(course_id, asks=not yes and sys.stdin.isatty())
    if not unknown and token_id is None:
        token_id = _read_token_id()
    with context.writing() as (session, now):
        told = courses.announce_token(session, course_id, token_id, now=now)
    if as_json:
        output.print_json(
            {
                "course_id": told.course_id,
                "course_version": told.course_version,
                "token_id": told.token_id,
            }
        )
        return
    present = "not known here" if token_id is None else token_id
    click.echo(f"the course {printable(course_id)} has a new token, which is told: {present}")


def _check_not_mistyped(course_id: str, *, asks: bool) -> None:
    """Keep a slip of the hand from being told as a course."""
    with context.reading() as session:
        if courses.find_courses(session, [course_id]):
            return
    if not _NUMBER.fullmatch(course_id):
        raise CourseUnknownError(
            f"there is no course {course_id!r} here, and a Moodle's is a whole number",
            next_step="Name the course by its number in Moodle, the id in its address "
            "(course/view.php?id=…), or as `notifier courses list` does.",
        )
    if asks:
        click.confirm(f"The course {course_id} is not known here yet. Tell it?", abort=True)


def _read_token_id() -> str:
    try:
        return MoodleToken.parse(output.read_secret("New Moodle token")).token_id
    except MalformedTokenError as error:
        raise TokenMalformedError(
            str(error), next_step="Copy the whole token again, or give --unknown."
        ) from None


def _delete_one(database: Database, course_id: str) -> dict[str, Any]:
    try:
        with database.writing() as session:
            courses.delete_course(session, course_id, now=db.now(session))
            caused = DeliveryFilter(event_type="course.deleted", course_id=course_id)
            told = Counter(row.status for row in delivery_queries.find(session, caused))
    except NotifierError as refusal:
        result = f"refused: {refusal}. {refusal.advice}"
        return {"course_id": course_id, "deleted": False, "result": result}
    told_how = ", ".join(f"{count} {status}" for status, count in sorted(told.items()))
    result = f"deleted; deliveries: {told_how or 'none, for no endpoint wants this event'}"
    return {"course_id": course_id, "deleted": True, "result": result}


def _show_deleted(results: list[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        output.print_json(results)
        return
    for result in results:
        click.echo(printable(f"{result['course_id']}: {result['result']}"))


def _listed(file: BinaryIO | None) -> Iterator[str]:
    if file is None:
        return
    for number, line in enumerate(read_text(file).splitlines(), start=1):
        try:
            if line.strip():
                yield COURSE_ID.convert(line.strip(), None, None)
        except click.BadParameter as error:
            raise click.UsageError(f"line {number} of the file: {error.message}") from None


def _show_token(what: str, course_id: str, token_id: str, token: str, *, as_json: bool) -> None:
    if as_json:
        output.print_json({"course_id": course_id, "token_id": token_id, "token": token})
        return
    click.echo(f"the course {printable(course_id)} {what}, shown this once:")
    click.echo(token)


def _facts(course: Course) -> dict[str, Any]:
    return {
        "course_id": course.course_id,
        "title": course.title,
        "course_version": course.version,
        "created_at": course.created_at,
        "deleted_at": course.deleted_at,
    }
