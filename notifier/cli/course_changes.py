"""Commands that change many courses at once: delete, restore, regenerate tokens."""

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import BinaryIO, ClassVar

import click
from sqlalchemy.orm import Session

from contract.tokens import CourseToken
from foundation import csv_reader
from foundation.cli import context, output
from foundation.cli.output import json_option
from foundation.cli.params import COURSE_ID, SEARCH, Parsed, parse_course_id, read_text
from foundation.csv_reader import CsvError
from foundation.db import audit
from foundation.db import session as db
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
from notifier.api.schemas import (
    ChangeOutcome,
    ChangeResult,
    CourseChanges,
    RegeneratedToken,
    TokenChanges,
)
from notifier.cli import token_file
from notifier.cli.params import SEARCHED
from notifier.courses import grades, listing, token_claims
from notifier.courses import service as courses
from notifier.courses.listing import CourseFilter
from notifier.errors import (
    CourseDeletedError,
    CourseNotDeletedError,
    CourseUnknownError,
    DeletionFinalError,
    NotifierError,
    TokenIssuerError,
    TokenNotClaimableError,
)
from notifier.models import Course
from notifier.services import Services
from notifier.webhooks import delivery_queries

# The number of courses that a confirmation names, and that a result lists one by one.
_NAMED = 3
_LISTED = 20
_NO_GRADES = "; its grades were deleted meanwhile: import them again"
_REFUSALS: Mapping[type[object], ChangeOutcome] = {
    CourseUnknownError: ChangeOutcome.UNKNOWN,
    CourseDeletedError: ChangeOutcome.ALREADY_DELETED,
    CourseNotDeletedError: ChangeOutcome.NOT_DELETED,
    DeletionFinalError: ChangeOutcome.FINAL,
    TokenIssuerError: ChangeOutcome.ISSUED_BY_MOODLE,
}


def _parse_overlap(value: str) -> timedelta:
    overlap = parse_duration(value)
    if not timedelta(0) < overlap <= courses.MAX_OVERLAP:
        longest = format_duration(courses.MAX_OVERLAP)
        raise ValueError(f"'{printable(value)}' is not between 1s and {longest}")
    return overlap


_OVERLAP = Parsed("duration", _parse_overlap)
_Command = Callable[..., None]


def _course_options(verb: str, found: str = SEARCHED) -> Callable[[_Command], _Command]:
    """Return a decorator for the options of a command that changes many courses."""

    def decorate(command: _Command) -> _Command:
        options = (
            click.argument("course_ids", nargs=-1, type=COURSE_ID, metavar="COURSE_ID..."),
            click.option(
                "--from-file",
                type=click.File("rb"),
                help=f"Also {verb} the courses in this file, one id per line or CSV with a "
                "column course_id, such as an export (`-`: standard input).",
            ),
            click.option(
                "--matching",
                type=SEARCH,
                help=f"Also {verb} {found}, as `courses list` does.",
            ),
            click.option("--yes", is_flag=True, help="Do not ask for confirmation."),
            json_option,
        )
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


@click.command()
@_course_options("delete")
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
    change = _Deletion()
    _confirm(change, ids, ask=not yes, is_search=matching is not None)
    _change_all(change, ids, as_json=as_json)


@click.command()
@_course_options("restore", f"deleted {SEARCHED}")
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
    change = _Restoration(services.settings.grace_period)
    with services.database.reading() as session:
        since = db.now(session) - change.grace
    criteria = CourseFilter(matching or "", deleted=True, deleted_since=since)
    ids = _selected(course_ids, from_file, matching, criteria)
    _confirm(change, ids, ask=not yes, is_search=matching is not None)
    _change_all(change, ids, as_json=as_json)


@click.command("regenerate-token")
@_course_options("regenerate the tokens of")
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
@click.option(
    "--tokens-to",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the new tokens to this CSV file, which only you can read and which must not exist.",
)
@click.option(
    "--no-tokens",
    is_flag=True,
    help="Show no tokens, because ELMS claims them; needs --overlap.",
)
@click.option(
    "--resume",
    is_flag=True,
    help="Go on with the file of --tokens-to: pass over the courses whose current token it has.",
)
def regenerate_token(
    course_ids: tuple[str, ...],
    from_file: BinaryIO | None,
    matching: str | None,
    yes: bool,
    as_json: bool,
    overlap: timedelta | None,
    at_once: bool,
    tokens_to: Path | None,
    no_tokens: bool,
    resume: bool,
) -> None:
    """Replace the tokens of courses and notify all endpoints.

    The new token of one course is printed, only this once. Those of several are written to the file
    of --tokens-to and shown nowhere else; ELMS reads it with `receiver registry set-token
    --from-file`. If ELMS may claim tokens, --no-tokens leaves them to it. Enter the new tokens in
    ELMS before the overlap ends; until then ELMS goes on with the old ones. Without an overlap ELMS
    skips a course until it has the new token.

    With --tokens-to or --no-tokens, courses are selected, confirmed and changed as by
    `courses delete`, and --overlap or --now must be given; exit code 1 if a course is unknown or
    deleted, or a Moodle issues its tokens. If the command is interrupted, run it again with
    --resume; with --no-tokens it regenerates all tokens again, which does no harm.
    """
    if at_once and overlap is not None:
        raise click.UsageError("give either --now or --overlap")
    if tokens_to is None and not no_tokens:
        if len(course_ids) != 1 or from_file is not None or matching is not None:
            raise click.UsageError(
                "give one COURSE_ID to print its new token, or --tokens-to FILE for the new tokens "
                "of several courses, or --no-tokens if ELMS claims them"
            )
        _regenerate_one(course_ids[0], overlap or timedelta(0), as_json=as_json)
        return
    if tokens_to is not None and no_tokens:
        raise click.UsageError("give either --tokens-to or --no-tokens")
    if overlap is None and (no_tokens or not at_once):
        raise click.UsageError(
            "give --overlap, for how long the old tokens stay good"
            + ("" if no_tokens else "; or --now, if they must end at once")
        )
    if resume and tokens_to is None:
        raise click.UsageError("--resume needs --tokens-to")
    ids = _selected(course_ids, from_file, matching, CourseFilter(matching or "", deleted=False))
    change = _Regeneration(overlap or timedelta(0), tokens_to)
    if tokens_to is not None and resume:
        change.finished = _finished(tokens_to)
    _confirm(change, ids, ask=not yes, is_search=matching is not None)
    if tokens_to is None or not ids:
        _change_all(change, ids, as_json=as_json)
        return
    if not resume:
        token_file.create(tokens_to)
    with token_file.appending(tokens_to) as file:
        change.file = file
        _change_all(change, ids, as_json=as_json)


def _regenerate_one(course_id: str, overlap: timedelta, *, as_json: bool) -> None:
    with context.writing() as (session, now):
        vault = context.services().vault
        token = courses.regenerate_token(session, course_id, overlap=overlap, vault=vault, now=now)
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
    overlaps = ""
    if valid_until is not None:
        claimable = ", and ELMS can claim the new one" if response.claimable else ""
        overlaps = f"; the old one is good until {readable(valid_until)}{claimable}"
    message = f"The course {course_id} has a new token, shown only once{overlaps}:"
    output.print_result(response, message, response.token, as_json=as_json)


def _finished(path: Path) -> frozenset[str]:
    """Return the courses whose current token a file has; others are taken out of the file."""
    if not path.exists():
        token_file.create(path)
    tokens = token_file.read(path)
    with context.reading() as session:
        rows = courses.find_courses(session, tokens)
        current = courses.current_tokens(session, [row.id for row in rows])
        ids = {row.course_id: current.get(row.id) for row in rows}
    # A crash may have left tokens that were never stored.
    kept = {one: token for one, token in tokens.items() if ids.get(one) == token.token_id}
    token_file.replace(path, kept)
    return frozenset(kept)


class _Change:
    """A change of many courses: what it does, and the words of its output."""

    done: ClassVar[ChangeOutcome]
    verb: ClassVar[str]
    past: ClassVar[str]
    progress: ClassVar[str]
    none: ClassVar[str]
    refused: ClassVar[frozenset[ChangeOutcome]]
    question = ""
    again = "Run the command again."

    def make(self, session: Session, course_ids: Sequence[str]) -> list[ChangeResult]:
        """Change courses; return the result of each, in their order."""
        raise NotImplementedError

    def around(self) -> AbstractContextManager[None]:
        """Return a context for each transaction."""
        return nullcontext()

    def respond(self, results: Sequence[ChangeResult], *, not_reached: int) -> CourseChanges:
        """Return the response with all results."""
        return CourseChanges(courses=results, not_reached=not_reached)

    def closing_lines(self) -> Iterable[str]:
        """Return what is printed after the results, if a course was not refused."""
        return ()

    def result(
        self,
        course_id: str,
        outcome: object,
        deliveries: Counter[str],
        remark: str = "",
    ) -> ChangeResult:
        """Return the result for a course: its row or token, or the refusal."""
        code = _REFUSALS.get(type(outcome), self.done)
        if not isinstance(outcome, NotifierError):
            detail = f"{self.done}; {_describe(deliveries)}{remark}"
        elif code in self.refused:
            detail = f"refused: {outcome}. {output.next_step(outcome.advice)}"
        elif isinstance(outcome, CourseDeletedError):
            detail = f"already deleted at {format_timestamp(outcome.facts['deleted_at'])}"
        else:
            detail = code.replace("_", " ")
        return ChangeResult(
            course_id=course_id, outcome=code, deliveries=dict(deliveries), detail=detail
        )


class _Deletion(_Change):
    done = ChangeOutcome.DELETED
    verb, past, progress = "Delete", "Deleted", "Deleting courses"
    none = "No active courses match."
    refused = frozenset({ChangeOutcome.UNKNOWN})

    def make(self, session: Session, course_ids: Sequence[str]) -> list[ChangeResult]:
        now = db.now(session)
        outcomes = courses.delete_courses(session, course_ids, now=now)
        deleted = [one for one in course_ids if isinstance(outcomes[one], Course)]
        audit.record_all(session, context.actor(), "course.delete", deleted, now=now)
        deliveries = delivery_queries.count_by_course(session, "course.deleted", course_ids)
        return [self.result(one, outcomes[one], deliveries[one]) for one in course_ids]


@dataclass
class _Restoration(_Change):
    grace: timedelta

    done = ChangeOutcome.RESTORED
    verb, past, progress = "Restore", "Restored", "Restoring courses"
    none = "No courses that can be restored match."
    refused = frozenset({ChangeOutcome.UNKNOWN, ChangeOutcome.FINAL})

    def make(self, session: Session, course_ids: Sequence[str]) -> list[ChangeResult]:
        now = db.now(session)
        outcomes = courses.restore_courses(session, course_ids, grace=self.grace, now=now)
        restored = [one for one in course_ids if isinstance(outcomes[one], Course)]
        audit.record_all(session, context.actor(), "course.restore", restored, now=now)
        deliveries = delivery_queries.count_by_course(session, "course.restored", course_ids)
        forgotten = grades.find_forgotten(session, restored)
        remarks = dict.fromkeys(forgotten, _NO_GRADES)
        return [
            self.result(one, outcomes[one], deliveries[one], remarks.get(one, ""))
            for one in course_ids
        ]


class _Regeneration(_Change):
    done = ChangeOutcome.REGENERATED
    verb, past = "Regenerate the tokens of", "Regenerated the tokens of"
    progress = "Regenerating tokens"
    none = "No active courses match."
    refused = frozenset(
        {ChangeOutcome.UNKNOWN, ChangeOutcome.ALREADY_DELETED, ChangeOutcome.ISSUED_BY_MOODLE}
    )

    def __init__(self, overlap: timedelta, path: Path | None) -> None:
        self.overlap, self.path = overlap, path
        self.file: BinaryIO | None = None
        # Courses that a command with the same file has changed before.
        self.finished: frozenset[str] = frozenset()
        self.valid_until: datetime | None = None
        self.is_claimable = False
        good = f"are good for {format_duration(overlap)}" if overlap else "end at once"
        self.question = f" The old ones {good}."
        if path is not None:
            self.again = "Run the command again with --resume."

    def around(self) -> AbstractContextManager[None]:
        return nullcontext() if self.file is None else token_file.restored_on_error(self.file)

    def make(self, session: Session, course_ids: Sequence[str]) -> list[ChangeResult]:
        now = db.now(session)
        outcomes = courses.regenerate_tokens(
            session,
            [one for one in course_ids if one not in self.finished],
            overlap=self.overlap,
            vault=context.services().vault,
            now=now,
        )
        tokens = {one: new for one, new in outcomes.items() if isinstance(new, CourseToken)}
        valid_until = courses.end_of(self.overlap, now=now)
        details = {
            one: courses.describe_regeneration(new, valid_until) for one, new in tokens.items()
        }
        audit.record_all(
            *(session, context.actor(), "course.regenerate-token", tokens), details=details, now=now
        )
        if tokens:
            self.valid_until = self.valid_until or valid_until
            self.is_claimable = token_claims.is_kept(session, next(iter(tokens.values())))
            if self.path is None and not self.is_claimable:
                raise TokenNotClaimableError(
                    "no endpoint may claim tokens, or it is disabled",
                    advice=Advice(
                        "Let the endpoint of ELMS claim them and enable it, or use --tokens-to.",
                        *("endpoints set-token-claims", ("ENDPOINT_ID", "on")),
                    ),
                )
        if self.file is not None:
            token_file.write(self.file, tokens)
        deliveries = delivery_queries.count_by_course(session, "token.regenerated", course_ids)
        return [
            self.result(one, outcomes[one], deliveries[one])
            if one in outcomes
            else ChangeResult(
                course_id=one,
                outcome=ChangeOutcome.ALREADY_REGENERATED,
                deliveries={},
                detail=f"already regenerated: its token is in {self.path}",
            )
            for one in course_ids
        ]

    def respond(self, results: Sequence[ChangeResult], *, not_reached: int) -> CourseChanges:
        return TokenChanges(
            courses=results,
            not_reached=not_reached,
            tokens_file=None if self.path is None else str(self.path),
            valid_until=self.valid_until,
            claimable=self.is_claimable,
        )

    def closing_lines(self) -> Iterator[str]:
        if self.valid_until is not None:
            claimable = ", and ELMS can claim the new ones" if self.is_claimable else ""
            yield f"The old tokens are good until {readable(self.valid_until)}{claimable}."
        if self.path is not None:
            yield token_file.what_next(self.path, "receiver registry set-token --from-file")


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


def _ids_in(file: BinaryIO | None) -> Iterator[str]:
    if file is None:
        return
    try:
        listed = csv_reader.read_list(read_text(file), "course_id")
    except CsvError as error:
        raise click.UsageError(str(error)) from None
    for number, course_id in listed:
        try:
            yield parse_course_id(course_id)
        except ValueError as error:
            raise click.UsageError(f"line {number} of the file: {error}") from None


def _confirm(change: _Change, ids: Sequence[str], *, ask: bool, is_search: bool) -> None:
    if ids and ask and (is_search or sys.stdin.isatty()):
        examples = printable(", ".join(ids[:_NAMED])) + (", …" if len(ids) > _NAMED else "")
        output.confirm(f"{change.verb} {count(len(ids), 'course')} ({examples})?{change.question}")


def _change_all(change: _Change, ids: Sequence[str], *, as_json: bool) -> None:
    """Change courses in batches of one transaction each, and print the results."""
    database: Database = context.checked_services().database
    results: list[ChangeResult] = []
    try:
        with output.progress_bar(len(ids), change.progress, hidden=as_json) as advance:
            for start in range(0, len(ids), courses.CHANGED_AT_ONCE):
                with change.around(), database.writing() as session:
                    changed = change.make(session, ids[start : start + courses.CHANGED_AT_ONCE])
                results += changed
                advance(len(changed))
    finally:
        _print_changes(change, results, len(ids), as_json=as_json)
    if any(result.outcome in change.refused for result in results):
        raise click.exceptions.Exit(output.EXIT_REFUSED)


def _print_changes(
    change: _Change, results: Sequence[ChangeResult], wanted: int, *, as_json: bool
) -> None:
    if as_json:
        output.print_json(change.respond(results, not_reached=wanted - len(results)))
        return
    if not wanted:
        click.echo(change.none)
        return
    listed = results
    if wanted > _LISTED:
        listed = [one for one in results if one.outcome in change.refused]
    for result in listed[:_LISTED]:
        click.echo(printable(f"{result.course_id}: {result.detail}"))
    if len(listed) > _LISTED:
        codes = {one.outcome for one in listed}
        what = codes.pop().replace("_", " ") if len(codes) == 1 else "refused"
        click.echo(f"and {len(listed) - _LISTED:,} more {what}; --json lists all")
    if wanted > 1:
        click.echo(_summary(change, results, wanted))
    if len(results) < wanted and wanted > 1:
        click.echo(f"Not reached: {wanted - len(results):,}. {change.again}")
    if any(result.outcome not in change.refused for result in results):
        for line in change.closing_lines():
            click.echo(line)


def _summary(change: _Change, results: Sequence[ChangeResult], wanted: int) -> str:
    outcomes = Counter(result.outcome for result in results)
    done = outcomes.pop(change.done, 0)
    parts = [f"{change.past} {done:,} of {count(wanted, 'course')}"]
    parts += [f"{number:,} {code.replace('_', ' ')}" for code, number in outcomes.items()]
    if wanted > _LISTED and done:
        deliveries: Counter[str] = Counter()
        for result in results:
            if result.outcome is change.done:
                deliveries.update(result.deliveries)
        parts.append(_describe(deliveries))
    return "; ".join(parts)


def _describe(deliveries: Counter[str]) -> str:
    counts = ", ".join(f"{number:,} {status}" for status, number in sorted(deliveries.items()))
    return f"deliveries: {counts or 'none, because no endpoint gets this event'}"
