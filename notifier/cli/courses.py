"""Commands about courses: add, list, show, announce a token of a Moodle."""

import re
import sys
from datetime import datetime

import click

from contract.tokens import MalformedTokenError, MoodleToken
from foundation.cli import context, output
from foundation.cli.output import csv_option, json_option
from foundation.cli.params import COURSE_ID, SEARCH, SINCE, TEXT, Parsed, limit_option
from foundation.db import audit
from foundation.db.pagination import PageRequest, Sort
from foundation.errors import Advice
from notifier.api import schemas
from notifier.api.schemas import CourseWithToken
from notifier.cli.params import MOODLE_TOKEN, SEARCHED, TITLE
from notifier.courses import listing
from notifier.courses import service as courses
from notifier.courses.listing import CourseFilter
from notifier.errors import CourseUnknownError, TokenMalformedError
from notifier.webhooks import delivery_queries
from notifier.webhooks.delivery_filter import DeliveryFilter

# A course id as a Moodle assigns it.
_MOODLE_COURSE_ID = re.compile(r"[1-9][0-9]{0,17}", re.ASCII)
_SORT = Parsed("column", lambda text: Sort.parse(text, listing.SORTS))


@click.command()
@click.argument("course_id", type=COURSE_ID)
@click.option("--title", type=TITLE, required=True, help="Title of the course.")
@json_option
def add(course_id: str, title: str, as_json: bool) -> None:
    """Add a course and print its token, which is shown only once."""
    with context.writing() as (session, now):
        token = courses.add_course(session, course_id, title, now=now)
        audit.record(session, context.actor(), "course.add", course_id, title, now=now)
        row = courses.get_course(session, course_id)
        response = CourseWithToken.of(row, token=token.reveal(), token_id=token.token_id)
    message = f"The course {course_id} is added. Its token, shown only once:"
    output.print_result(response, message, response.token, as_json=as_json)


@click.command("list")
@click.option("--deleted/--not-deleted", default=None, help="Only deleted courses, or only others.")
@click.option(
    "--deleted-since",
    type=SINCE,
    help="Only courses deleted since this time: 2h, yesterday, or 2026-11-22T09:00 (UTC).",
)
@click.option("--matching", type=SEARCH, default="", help=f"Only {SEARCHED}.")
@click.option(
    "--sort",
    type=_SORT,
    metavar="[-]COLUMN",
    help=f"Sort by {', '.join(listing.SORTS)}; -COLUMN sorts descending. Default: by id, or for a "
    "search ids that start with it first.",
)
@click.option("--after", type=TEXT, help="Start after this course id (next page).")
@limit_option("courses")
@csv_option
@json_option
def list_(
    deleted: bool | None,
    deleted_since: datetime | None,
    matching: str,
    sort: Sort | None,
    after: str | None,
    limit: int,
    as_csv: bool,
    as_json: bool,
) -> None:
    """List courses."""
    criteria = CourseFilter(matching, deleted, deleted_since)
    if as_csv:
        batches = listing.export(context.checked_services().database, criteria, sort)
        output.print_csv(listing.COLUMNS, batches, as_json=as_json)
        return
    with context.reading() as session:
        page_request = PageRequest(after=(after,) if after else None)
        page = listing.page(session, criteria, page_request, sort=sort, limit=limit)
        total = listing.count(session, criteria)
        tokens = courses.current_tokens(session, [row.id for row in page.rows]) if as_json else {}
    rows = page.rows
    if as_json:
        output.print_json(schemas.Courses.of_page(page, tokens))
        return
    output.print_table(
        ("course", "title", "version", "created", "changed", "deleted"),
        [
            (row.course_id, row.title, row.version, row.created_at, row.changed_at, row.deleted_at)
            for row in rows
        ],
        empty="No courses match."
        if after or criteria != CourseFilter()
        else "No courses. Add one with `notifier courses add COURSE_ID --title TITLE`.",
    )
    more = f"--after {page.after[0]}" if page.after else ""
    output.print_total(len(rows), total, "course", more=more)


@click.command()
@click.argument("course_id", type=COURSE_ID)
@json_option
def show(course_id: str, as_json: bool) -> None:
    """Show a course, its token ids, its deliveries, and who changed it."""
    with context.reading() as session:
        row = courses.get_course(session, course_id)
        deliveries = delivery_queries.find(session, DeliveryFilter(course_id=course_id))
        changes = audit.about(session, "course", course_id)
        course = schemas.CourseDetails.of_course(row, deliveries, changes)
    if as_json:
        output.print_json(course)
        return
    output.print_facts(
        (name, value) for name, value in course if name not in {"tokens", "deliveries", "changes"}
    )
    click.echo("\nTokens, oldest first")
    output.print_table(
        ("token id", "created", "replaced", "good until"),
        [
            (token.token_id, token.created_at, token.superseded_at, token.valid_until)
            for token in course.tokens
        ],
        empty="none",
    )
    click.echo("\nDeliveries, newest first")
    output.print_table(
        ("delivery", "event", "endpoint", "status", "occurred"),
        [
            (
                one.delivery_id,
                one.event_type,
                f"{one.endpoint_id} {one.endpoint_name or one.url}",
                one.status,
                one.occurred_at,
            )
            for one in course.deliveries
        ],
        empty="none",
    )
    click.echo("\nChanges, newest first")
    output.print_table(
        ("time", "actor", "channel", "address", "action", "detail"),
        [
            (one.recorded_at, one.actor, one.channel, one.address, one.action, one.detail)
            for one in course.changes
        ],
        empty="none",
    )


@click.command("announce-token")
@click.argument("course_id", type=COURSE_ID)
@click.option("--token-id", type=MOODLE_TOKEN, help="Public id of the new token, if you have it.")
@click.option("--unknown", is_flag=True, help="Notify although the new token is not known.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation for an unknown course.")
@json_option
def announce_token(
    course_id: str, token_id: str | None, unknown: bool, yes: bool, as_json: bool
) -> None:
    """Notify all endpoints that the token of a Moodle course was regenerated.

    Moodle itself sends no event for that. The new token is read from a prompt or standard input,
    unless --token-id or --unknown is given. It is not stored: only its public id is sent. A course
    that is not known here must be given by its number in Moodle; on a terminal the command then
    asks for confirmation, unless --yes is given.
    """
    if unknown and token_id:
        raise click.UsageError("give either --token-id or --unknown")
    _check_course(course_id, ask=not yes and sys.stdin.isatty())
    if not unknown and token_id is None:
        try:
            token_id = MoodleToken.parse(output.read_secret("New Moodle token")).token_id
        except MalformedTokenError as error:
            raise TokenMalformedError(
                str(error), advice=Advice("Copy the whole token again, or use --unknown.")
            ) from None
    with context.writing() as (session, now):
        change = courses.announce_token(session, course_id, token_id, now=now)
        audit.record(
            session, context.actor(), "course.announce-token", course_id, token_id or "", now=now
        )
    shown = "not known" if token_id is None else token_id
    output.print_result(
        schemas.TokenAnnouncement.of(change),
        f"All endpoints are notified of a new token of {course_id}: {shown}",
        as_json=as_json,
    )


def _check_course(course_id: str, *, ask: bool) -> None:
    # A mistyped id would be announced as a new course.
    with context.reading() as session:
        if courses.find_courses(session, [course_id]):
            return
    if not _MOODLE_COURSE_ID.fullmatch(course_id):
        raise CourseUnknownError(
            f"there is no course {course_id!r} here, and it is not the number of a Moodle course",
            advice=Advice(
                "Give the course's number in Moodle, the id in its address "
                "(course/view.php?id=…), or the id of a course here.",
                "courses list",
            ),
        )
    if ask:
        click.confirm(f"The course {course_id} is not known here. Continue?", abort=True)
