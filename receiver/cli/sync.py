"""The command `sync-grades`: the run, and its story."""

import gc
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from types import FrameType
from typing import Any

import click
from flask.cli import with_appcontext
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from foundation import tracing
from foundation.cli import output
from foundation.cli.output import json_option
from foundation.cli.params import COURSE_ID, DURATION, TIMESTAMP
from foundation.db import session as db
from foundation.errors import Refusal
from foundation.text import printable
from receiver.cli import context
from receiver.errors import RunInProgressError
from receiver.runs import summary
from receiver.runs.store import CourseOutcome, CourseResult, RunResult
from receiver.services import Services
from receiver.sources import store as sources
from receiver.sync import factory, planner
from receiver.sync import run as grade_sync
from receiver.sync.planner import Plan, SyncOptions
from receiver.sync.run import EXIT_LEASED

RETRY_WAITS = (2.0, 10.0, 30.0, 60.0, 120.0)
"""Seconds before each time that a request that failed for now is made again."""

_COLUMNS = ("course", "source", "outcome", "why", "since", "what to do")


@click.command("sync-grades")
@click.option(
    "--course",
    "course_ids",
    type=COURSE_ID,
    multiple=True,
    help="Only this course; may be given several times.",
)
@click.option("--source", "names", multiple=True, help="Only this source; alike.")
@click.option(
    "--changed-since",
    type=TIMESTAMP,
    help="Ask for grades that changed after this moment, and not for those that differ from what "
    "was fetched last; a Moodle is asked for all of them.",
)
@click.option(
    "--concurrency",
    type=click.IntRange(1, 32),
    help="Requests under way at the same time (RECEIVER_SYNC_CONCURRENCY).",
)
@click.option(
    "--every",
    type=DURATION,
    help="Do not end, but run again and again, so long after each beginning (15m).",
)
@click.option("--dry-run", is_flag=True, help="Say what would be asked and skipped; ask nothing.")
@json_option
@with_appcontext
def sync_grades(
    course_ids: tuple[str, ...],
    names: tuple[str, ...],
    changed_since: datetime | None,
    concurrency: int | None,
    every: timedelta | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Fetch the grades of the linked courses; those known to be invalid are not asked for.

    SIGTERM ends it with a report of what was done until then; a second one ends it at once.
    Exit codes: 0 all went well (skips are well), 1 some course failed, 3 another run is at work,
    4 the registry cannot be read or the database is away, 143 it was told to stop.
    With --every, 0 when it is told to stop.
    """
    here = context.ready()
    gc.freeze()  # what is loaded by now stays; the collector need not walk it with every batch
    _check_sources(here, names)
    if dry_run:
        places = here.settings.elms_is_moodle
        planned = planner.plan(here.database, course_ids, names, places=places)
        _show_plan(planned, as_json=as_json)
        if not (planned.ask or planned.not_asked):
            _say_what_comes_first(here)
        return
    options = SyncOptions(
        holder=output.who(),
        lease=timedelta(seconds=here.settings.sync_lease),
        course_ids=course_ids,
        sources=names,
        concurrency=concurrency or here.settings.sync_concurrency,
        retry_waits=RETRY_WAITS[: here.settings.sync_retries],
        deadline=timedelta(seconds=here.settings.sync_deadline),
        modified_since=changed_since,
    )
    signal.signal(signal.SIGTERM, partial(_leave, options.stop))
    if every is None:
        raise click.exceptions.Exit(_run_once(here, options, as_json=as_json))
    _run_every(here, options, every, as_json=as_json)


def _run_every(here: Services, options: SyncOptions, every: timedelta, *, as_json: bool) -> None:
    """Run again and again; what one run refuses or fails at does not keep the next from running."""
    while not options.stop.is_set():
        began = time.monotonic()
        try:
            _run_once(here, options, as_json=as_json)
        except Refusal as refusal:
            output.complain(str(refusal), refusal.advice)
        except db.UNUSABLE as error:
            output.complain(
                f"the database cannot be used: {db.cause(error)}",
                "The next run tries again; check that the database runs.",
            )
        options.stop.wait(max(0.0, began + every.total_seconds() - time.monotonic()))


def _run_once(here: Services, options: SyncOptions, *, as_json: bool) -> int:
    try:
        with (
            tracing.entered(tracing.begin()),
            factory.opened(here) as kinds,
            factory.gradebook(here) as gradebook,
            _progress() as progress,
        ):
            told = replace(options, progress=progress)
            report = grade_sync.run(here.database, here.vault, kinds, told, gradebook)
    except RunInProgressError as error:
        output.complain(str(error), error.advice)
        return EXIT_LEASED
    if as_json:
        output.print_json(_document(report))
    else:
        _show(report)
    if not (report.courses or report.stopped):
        _say_what_comes_first(here)
    return report.exit_code


def _say_what_comes_first(here: Services) -> None:
    """Say why there was nothing to sync: that is no failure, but nobody's wish either."""
    with here.database.reading() as session:
        is_there = bool(sources.list_all(session))
    why = "no course is linked" if is_there else "there is no source"
    step = "Link one with `receiver registry add COURSE_ID`." if is_there else sources.FIRST_STEP
    click.echo(f"nothing to sync: {why}\n next: {step}", err=True)


def _check_sources(here: Services, names: tuple[str, ...]) -> None:
    with here.database.reading() as session:
        for name in names:
            sources.get(session, name)


def _leave(stop: threading.Event, _number: int, _frame: FrameType | None) -> None:
    """Let the run end after what is under way; the next signal ends it where it is."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    stop.set()


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None]]:
    """Give what is told how far a run is: a bar on a terminal, and nothing elsewhere."""
    if not sys.stderr.isatty():
        yield lambda _done, _all: None
        return
    console = Console(stderr=True)
    with Progress(
        TextColumn("grade sync"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        console=console, transient=True,
    ) as bar:  # fmt: skip
        task = bar.add_task("", total=None)
        yield lambda done, courses: bar.update(task, completed=done, total=courses)


def _show(report: RunResult) -> None:
    for line in summary.of_report(report):
        click.echo(printable(line))
    told = [course for course in report.courses if course.reason is not None]
    if told:
        click.echo()
        _show_courses(told)


def _show_plan(plan: Plan, *, as_json: bool) -> None:
    if as_json:
        output.print_json(
            {
                "dry_run": True,
                "would_ask": [
                    {"source": entry.source.name, "course_id": entry.course_id}
                    for entry in plan.ask
                ],
                "would_skip": [course.columns() for course in plan.skipped],
                "would_fail": [course.columns() for course in plan.unplaced],
            }
        )
        return
    click.echo(
        f"Nothing was asked. Courses that a run would ask for: {len(plan.ask)}, "
        f"and skip: {len(plan.skipped)}."
    )
    if plan.unplaced:
        click.echo(f"Courses that would fail before they are asked for: {len(plan.unplaced)}.")
    output.print_table(
        ("would be asked", "source", "synced last"),
        [(entry.course_id, entry.source.name, entry.synced_at) for entry in plan.ask],
        empty="no course would be asked for",
    )
    if plan.not_asked:
        click.echo()
        _show_courses(plan.not_asked)


def _show_courses(courses: Sequence[CourseResult]) -> None:
    output.print_table(
        _COLUMNS,
        [
            (
                course.course_id,
                course.source,
                course.outcome,
                course.detail,
                course.since,
                course.next_step,
            )
            for course in courses
        ],
        empty="none",
    )


def _document(report: RunResult) -> dict[str, Any]:
    return {
        "run_id": report.run_id,
        "exit_code": report.exit_code,
        "stopped": report.stopped,
        "next_step": report.next_step,
        "counts": {outcome.value: report.count(outcome) for outcome in CourseOutcome},
        "scores": vars(report.written),
        "requests": report.requests,
        "gradebook_requests": report.gradebook_requests,
        "statements": report.statements,
        "seconds": report.seconds,
        "courses": [course.columns() for course in report.courses],
    }
