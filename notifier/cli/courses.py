"""Commands about courses: add, list, show, delete, restore, regenerate or announce a token."""

import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import BinaryIO

import click
from sqlalchemy.orm import Session

from contract.tokens import CourseToken, MalformedTokenError, MoodleToken
from foundation.cli import context, output
from foundation.cli.output import csv_option, json_option
from foundation.cli.params import (
    COURSE_ID,
    SEARCH,
    SINCE,
    TEXT,
    Parsed,
    limit_option,
    parse_course_id,
    read_text,
)
from foundation.db import audit
from foundation.db import session as db
from foundation.db.pagination import PageRequest, Sort
from foundation.db.session import Database
from foundation.errors import Advice
from foundation.text import (
    count,
    format_duration,
    format_timestamp,
    parse_duration,
    printable,
    readable,
)
from notifier.api import schemas
from notifier.api.schemas import (
    ChangeOutcome,
    ChangeResult,
    CourseChanges,
    CourseWithToken,
    RegeneratedToken,
)
from notifier.cli.params import MOODLE_TOKEN, TITLE
from notifier.courses import grades, listing, token_claims
from notifier.courses import service as courses
from notifier.courses.listing import CourseFilter
from notifier.errors import (
    CourseDeletedError,
    CourseNotDeletedError,
    CourseUnknownError,
    DeletionFinalError,
    NotifierError,
    TokenMalformedError,
)
from notifier.models import Course
from notifier.services import Services
from notifier.webhooks import delivery_queries
from notifier.webhooks.delivery_filter import DeliveryFilter

# A course id as a Moodle assigns it.
_MOODLE_COURSE_ID = re.compile(r"[1-9][0-9]{0,17}", re.ASCII)
# What a search finds, in the help of its option.
_FOUND = "courses whose id and title contain all words of TEXT, in any case"
_SORT = Parsed("column", lambda text: Sort.parse(text, listing.SORTS))


def _parse_overlap(value: str) -> timedelta:
    overlap = parse_duration(value)
    if not timedelta(0) < overlap <= courses.MAX_OVERLAP:
        longest = format_duration(courses.MAX_OVERLAP)
        raise ValueError(f"'{printable(value)}' is not between 1s and {longest}")
    return overlap


_OVERLAP = Parsed("duration", _parse_overlap)
# The number of courses that a confirmation names, and that a result lists one by one.
_NAMED = 3
_LISTED = 20
_REFUSED = {ChangeOutcome.UNKNOWN, ChangeOutcome.FINAL}
_NO_GRADES = "; its grades were deleted meanwhile: import them again"


@dataclass(frozen=True)
class _Words:
    """What the output of a command that changes many courses says."""

    done: ChangeOutcome
    verb: str
    progress: str
    none: str
    refused: str


_DELETION = _Words(
    ChangeOutcome.DELETED, "Delete", "Deleting", "No active courses match.", "unknown"
)
_RESTORATION = _Words(
    ChangeOutcome.RESTORED,
    *("Restore", "Restoring", "No courses that can be restored match.", "refused"),
)


@click.command()
@click.argument("course_id", type=COURSE_ID)
@click.option("--title", type=TITLE, required=True, help="Title of the course.")
@json_option
def add(course_id: str, title: str, as_json: bool) -> None:
    """Add a course and print its token, which is shown only once."""
    with context.writing() as (session, now):
        token = courses.add_course(session, course_id, title, now=now)
        audit.record(session, context.actor(), "course.add", course_id, title, now=now)
        response = _with_token(session, course_id, token)
    _show_token(response, "is added. Its token, shown only once:", as_json=as_json)


@click.command("list")
@click.option("--deleted/--not-deleted", default=None, help="Only deleted courses, or only others.")
@click.option(
    "--deleted-since",
    type=SINCE,
    help="Only courses deleted since this time: 2h, yesterday, or 2026-11-22T09:00 (UTC).",
)
@click.option("--matching", type=SEARCH, default="", help=f"Only {_FOUND}.")
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
    rows = page.rows
    if as_json:
        output.print_json(schemas.Courses.of_page(page))
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
            (row.delivery_id, row.event_type, row.url, row.status, row.occurred_at)
            for row in course.deliveries
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


_Command = Callable[..., None]


def _course_options(verb: str, deleted: str) -> Callable[[_Command], _Command]:
    """Return a decorator for the options of a command that changes many courses."""

    def decorate(command: _Command) -> _Command:
        options = (
            click.argument("course_ids", nargs=-1, type=COURSE_ID, metavar="COURSE_ID..."),
            click.option(
                "--from-file",
                type=click.File("rb"),
                help=f"Also {verb} the courses in this file, one id per line "
                "(`-`: standard input).",
            ),
            click.option(
                "--matching",
                type=SEARCH,
                help=f"Also {verb} {deleted}{_FOUND}, as `courses list` does.",
            ),
            click.option("--yes", is_flag=True, help="Do not ask for confirmation."),
            json_option,
        )
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


@click.command()
@_course_options("delete", "")
def delete(
    course_ids: tuple[str, ...],
    from_file: BinaryIO | None,
    matching: str | None,
    yes: bool,
    as_json: bool,
) -> None:
    """Delete courses and notify all endpoints.

    They can be restored for NOTIFIER_RESTORE_DAYS. A course that is unknown or already deleted does
    not prevent the deletion of the others; exit code 1 if one is unknown. Courses are deleted 500
    at a time: if the command is interrupted, run it again. On a terminal it asks for confirmation,
    unless --yes is given; --matching needs a terminal or --yes.
    """
    criteria = CourseFilter(matching or "", deleted=False)
    ids = _selected(course_ids, from_file, matching, criteria)
    _confirm(_DELETION, ids, ask=not yes, is_search=matching is not None)
    _change_all(_delete_together, ids, _DELETION, as_json=as_json)


@click.command()
@_course_options("restore", "deleted ")
def restore(
    course_ids: tuple[str, ...],
    from_file: BinaryIO | None,
    matching: str | None,
    yes: bool,
    as_json: bool,
) -> None:
    """Undo the deletion of courses and notify all endpoints.

    A course can be restored for NOTIFIER_RESTORE_DAYS after its deletion; its token is then valid
    again, and ELMS syncs it without a new one. --matching finds only courses that can be restored.
    Otherwise as `courses delete`; exit code 1 if a course is unknown or its deletion is final.
    """
    services: Services = context.checked_services()
    grace = services.settings.grace_period
    with services.database.reading() as session:
        since = db.now(session) - grace
    criteria = CourseFilter(matching or "", deleted=True, deleted_since=since)
    ids = _selected(course_ids, from_file, matching, criteria)
    _confirm(_RESTORATION, ids, ask=not yes, is_search=matching is not None)
    _change_all(partial(_restore_together, grace=grace), ids, _RESTORATION, as_json=as_json)


@click.command("regenerate-token")
@click.argument("course_id", type=COURSE_ID)
@click.option(
    "--overlap",
    type=_OVERLAP,
    help="How long the old token stays good, for example 24h or 7d, up to 90d. Without it the old "
    "token ends at once.",
)
@click.option(
    "--now",
    "at_once",
    is_flag=True,
    help="No overlap, because the old token leaked; an overlap in progress ends, too.",
)
@json_option
def regenerate_token(
    course_id: str, overlap: timedelta | None, at_once: bool, as_json: bool
) -> None:
    """Replace a course's token, notify all endpoints, and print the new token.

    The new token is shown only once. Enter it in ELMS before the overlap ends; until then ELMS
    goes on with the old one. Without an overlap ELMS skips the course until it has the new token.
    """
    if at_once and overlap is not None:
        raise click.UsageError("give either --now or --overlap")
    overlap = overlap or timedelta(0)
    with context.writing() as (session, now):
        token = courses.regenerate_token(
            session, course_id, overlap=overlap, vault=context.services().vault, now=now
        )
        valid_until = courses.end_of(overlap, now=now)
        detail = courses.describe_regeneration(token, valid_until)
        audit.record(
            session, context.actor(), "course.regenerate-token", course_id, detail, now=now
        )
        response = RegeneratedToken.of(
            courses.get_course(session, course_id),
            token=token.reveal(),
            token_id=token.token_id,
            valid_until=valid_until,
            claimable=token_claims.is_kept(session, token),
        )
    what = "has a new token, shown only once:"
    if valid_until is not None:
        claimable = ", and ELMS can claim the new one" if response.claimable else ""
        what = (
            "has a new token, shown only once; the old one is good until "
            f"{readable(valid_until)}{claimable}:"
        )
    _show_token(response, what, as_json=as_json)


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


def _selected(
    course_ids: Sequence[str],
    from_file: BinaryIO | None,
    matching: str | None,
    criteria: CourseFilter,
) -> list[str]:
    """Return the ids that a command was given, and those that its search finds, each once."""
    if matching is not None and not criteria.is_search:
        raise click.UsageError("--matching needs a text to search for")
    ids = [*course_ids, *_ids_in(from_file)]
    if not ids and matching is None:
        if from_file is not None:
            raise click.UsageError(f"there are no course ids in {from_file.name}")
        raise click.UsageError("give at least one COURSE_ID, --from-file or --matching")
    database: Database = context.checked_services().database
    if matching is not None:
        with database.reading() as session:
            ids += listing.ids(session, criteria)
    return list(dict.fromkeys(ids))


def _confirm(words: _Words, ids: Sequence[str], *, ask: bool, is_search: bool) -> None:
    if ids and ask and (is_search or sys.stdin.isatty()):
        examples = printable(", ".join(ids[:_NAMED])) + (", …" if len(ids) > _NAMED else "")
        output.confirm(f"{words.verb} {count(len(ids), 'course')} ({examples})?")


def _change_all(
    change: Callable[[Session, Sequence[str]], list[ChangeResult]],
    ids: Sequence[str],
    words: _Words,
    *,
    as_json: bool,
) -> None:
    """Change courses in batches of one transaction each, and print the results."""
    database: Database = context.checked_services().database
    results: list[ChangeResult] = []
    try:
        with output.progress_bar(len(ids), f"{words.progress} courses", hidden=as_json) as advance:
            for start in range(0, len(ids), courses.CHANGED_AT_ONCE):
                with database.writing() as session:
                    changed = change(session, ids[start : start + courses.CHANGED_AT_ONCE])
                results += changed
                advance(len(changed))
    finally:
        _print_changes(results, len(ids), words, as_json=as_json)
    if any(result.outcome in _REFUSED for result in results):
        raise click.exceptions.Exit(output.EXIT_REFUSED)


def _delete_together(session: Session, course_ids: Sequence[str]) -> list[ChangeResult]:
    """Delete courses; return the result of each, in their order."""
    now = db.now(session)
    outcomes = courses.delete_courses(session, course_ids, now=now)
    deleted = [one for one in course_ids if isinstance(outcomes[one], Course)]
    audit.record_all(session, context.actor(), "course.delete", deleted, now=now)
    deliveries = delivery_queries.count_by_course(session, "course.deleted", course_ids)
    return [
        _result(one, outcomes[one], ChangeOutcome.DELETED, deliveries[one]) for one in course_ids
    ]


def _restore_together(
    session: Session, course_ids: Sequence[str], *, grace: timedelta
) -> list[ChangeResult]:
    """Restore courses; return the result of each, in their order."""
    now = db.now(session)
    outcomes = courses.restore_courses(session, course_ids, grace=grace, now=now)
    restored = [one for one in course_ids if isinstance(outcomes[one], Course)]
    audit.record_all(session, context.actor(), "course.restore", restored, now=now)
    deliveries = delivery_queries.count_by_course(session, "course.restored", course_ids)
    forgotten = grades.find_forgotten(session, restored)
    return [
        _result(
            one,
            outcomes[one],
            ChangeOutcome.RESTORED,
            deliveries[one],
            _NO_GRADES if one in forgotten else "",
        )
        for one in course_ids
    ]


def _result(
    course_id: str,
    outcome: Course | NotifierError,
    done: ChangeOutcome,
    deliveries: Counter[str],
    remark: str = "",
) -> ChangeResult:
    match outcome:
        case Course():
            code, detail = done, f"{done}; {_describe(deliveries)}{remark}"
        case CourseDeletedError(facts={"deleted_at": deleted_at}):
            code = ChangeOutcome.ALREADY_DELETED
            detail = f"already deleted at {format_timestamp(deleted_at)}"
        case CourseNotDeletedError():
            code, detail = ChangeOutcome.NOT_DELETED, "not deleted"
        case _:
            is_final = isinstance(outcome, DeletionFinalError)
            code = ChangeOutcome.FINAL if is_final else ChangeOutcome.UNKNOWN
            detail = f"refused: {outcome}. {output.next_step(outcome.advice)}"
    return ChangeResult(
        course_id=course_id, outcome=code, deliveries=dict(deliveries), detail=detail
    )


def _describe(deliveries: Counter[str]) -> str:
    counts = ", ".join(f"{number:,} {status}" for status, number in sorted(deliveries.items()))
    return f"deliveries: {counts or 'none, because no endpoint gets this event'}"


def _print_changes(
    results: list[ChangeResult], wanted: int, words: _Words, *, as_json: bool
) -> None:
    if as_json:
        reached = CourseChanges(courses=results, not_reached=wanted - len(results))
        output.print_json(reached)
        return
    if not wanted:
        click.echo(words.none)
        return
    listed: Sequence[ChangeResult] = results
    if wanted > _LISTED:
        listed = [one for one in results if one.outcome in _REFUSED]
    for result in listed[:_LISTED]:
        click.echo(printable(f"{result.course_id}: {result.detail}"))
    if len(listed) > _LISTED:
        click.echo(f"and {len(listed) - _LISTED:,} more {words.refused}; --json lists all")
    if wanted > 1:
        click.echo(_summary(results, wanted, words.done))
    if len(results) < wanted and wanted > 1:
        click.echo(f"Not reached: {wanted - len(results):,}. Run the command again.")


def _summary(results: Sequence[ChangeResult], wanted: int, done: ChangeOutcome) -> str:
    outcomes = Counter(result.outcome for result in results)
    parts = [f"{done.capitalize()} {outcomes.pop(done, 0):,} of {count(wanted, 'course')}"]
    parts += [f"{number:,} {code.replace('_', ' ')}" for code, number in outcomes.items()]
    if wanted > _LISTED:
        deliveries: Counter[str] = Counter()
        for result in results:
            if result.outcome is done:
                deliveries.update(result.deliveries)
        parts.append(_describe(deliveries))
    return "; ".join(parts)


def _ids_in(file: BinaryIO | None) -> Iterator[str]:
    if file is None:
        return
    for number, line in enumerate(read_text(file).splitlines(), start=1):
        try:
            if line.strip():
                yield parse_course_id(line.strip())
        except ValueError as error:
            raise click.UsageError(f"line {number} of the file: {error}") from None


def _with_token(session: Session, course_id: str, token: CourseToken) -> CourseWithToken:
    course = courses.get_course(session, course_id)
    return CourseWithToken.of(course, token=token.reveal(), token_id=token.token_id)


def _show_token(course: CourseWithToken, what: str, *, as_json: bool) -> None:
    output.print_result(
        course, f"The course {course.course_id} {what}", course.token, as_json=as_json
    )
