"""The command `sync-grades`."""

import gc
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from foundation import logging, tracing
from foundation.cli import output, signals
from foundation.cli.output import json_option
from foundation.cli.params import COURSE_ID, DURATION, TIMESTAMP, whole_number
from foundation.db import session as db
from foundation.errors import Advice, Refusal
from foundation.text import printable
from receiver.cli import context
from receiver.cli.runs import print_groups
from receiver.cli.schemas import DryRunResponse, PauseResponse, SyncResponse
from receiver.errors import RunInProgressError, SyncPausedError
from receiver.runs import summary
from receiver.runs.groups import group_results
from receiver.services import Services
from receiver.sources import store as sources
from receiver.sources.factory import ClientFactory, open_gradebook
from receiver.sync import reporter
from receiver.sync.fetcher import RETRY_WAITS, FetchLimits
from receiver.sync.planner import Plan, Planner
from receiver.sync.run import EXIT_LEASED, SyncOptions, SyncRun

_log = logging.get_logger(__name__)


@click.command("sync-grades")
@click.option(
    "--course",
    "course_ids",
    type=COURSE_ID,
    multiple=True,
    help="Only this course; may be repeated.",
)
@click.option("--source", "names", multiple=True, help="Only this source; may be repeated.")
@click.option(
    "--changed-since",
    type=TIMESTAMP,
    help="Fetch grades that changed after this time, as 2026-11-22T09:00 (UTC), instead of "
    "those that changed since the last sync. A Moodle always sends all grades.",
)
@click.option(
    "--concurrency",
    type=whole_number(1, 32),
    help="Number of concurrent requests [default: RECEIVER_SYNC_CONCURRENCY].",
)
@click.option(
    "--every",
    type=DURATION,
    help="Keep running, and start a sync at this interval, for example 15m.",
)
@click.option("--dry-run", is_flag=True, help="Only list what would be fetched and skipped.")
@click.option("--even-if-paused", is_flag=True, help="Run also while the grade sync is paused.")
@click.option("--requested-by", hidden=True, help="Who requested the run on a page.")
@json_option
def sync_grades(
    course_ids: tuple[str, ...],
    names: tuple[str, ...],
    changed_since: datetime | None,
    concurrency: int | None,
    every: timedelta | None,
    dry_run: bool,
    even_if_paused: bool,
    requested_by: str | None,
    as_json: bool,
) -> None:
    """Fetch the grades of all courses in the registry; invalid courses are skipped.

    What needs attention is printed by reason, then a summary. SIGTERM stops the run and reports
    what was done; a second SIGTERM stops it at once. Exit codes: 0 success (also if deleted courses
    were skipped, or the grade sync is paused), 1 a course failed or has an invalid token, 3 another
    run is in progress, 4 the database is unusable, 143 stopped by SIGTERM (0 with --every).
    """
    services: Services = context.checked_services()
    services.warn_of_unknown_variables()
    gc.freeze()  # the collector need not visit what stays loaded
    with services.database.reading() as session:
        for name in names:
            sources.get(session, name)
    if dry_run:
        planner = Planner(services.database, course_ids, names, services.settings.elms_is_moodle)
        with services.database.reading() as session:
            planned = planner.plan(session, now=db.now(session))
        _show_plan(planned, as_json=as_json)
        if not (planned.to_fetch or planned.not_fetched):
            _explain_empty_run(services)
        return
    options = SyncOptions(
        holder=requested_by or output.current_user(),
        # Cron and a timer cannot be told from a script.
        unattended=every is not None or not (requested_by or sys.stdin.isatty()),
        even_if_paused=even_if_paused,
        lease=timedelta(seconds=services.settings.sync_lease),
        course_ids=course_ids,
        sources=names,
        limits=FetchLimits(
            concurrency=concurrency or services.settings.sync_concurrency,
            retry_waits=RETRY_WAITS[: services.settings.sync_retries],
        ),
        deadline=timedelta(seconds=services.settings.sync_deadline),
        modified_since=changed_since,
    )
    # The run stops after the requests in progress.
    signals.on_stop(lambda _: options.stop.set(), signals=(signal.SIGTERM,))
    if every is None:
        raise click.exceptions.Exit(_run_once(services, options, as_json=as_json))
    _run_every(services, options, every, as_json=as_json)


def _run_every(
    services: Services, options: SyncOptions, every: timedelta, *, as_json: bool
) -> None:
    """Run until stopped; a run that fails does not prevent the next."""
    while not options.stop.is_set():
        began = time.monotonic()
        try:
            _run_once(services, options, as_json=as_json)
        except (Refusal, *db.UNUSABLE) as error:
            output.report_error(error, as_json=as_json)
        options.stop.wait(max(0.0, began + every.total_seconds() - time.monotonic()))


def _run_once(services: Services, options: SyncOptions, *, as_json: bool) -> int:
    try:
        with tracing.use(tracing.new_span()):
            with (
                ClientFactory(services.settings, services.vault) as clients,
                open_gradebook(services.settings) as gradebook,
                _progress() as progress,
            ):
                options = replace(options, progress=progress)
                report = SyncRun(
                    services.database, services.vault, clients, options, gradebook
                ).execute()
            # On a terminal the reasons are printed instead.
            reporter.log_end(report, with_reasons=as_json or not sys.stderr.isatty())
    except RunInProgressError as error:
        message = output.ErrorMessage.of(error)
        output.print_error(message, exit_code=EXIT_LEASED, as_json=as_json)
        return EXIT_LEASED
    except SyncPausedError as error:
        output.print_result(
            PauseResponse(paused=True, **error.facts),
            f"{error}; nothing was requested",
            f" next: {output.next_step(error.advice)}",
            as_json=as_json,
        )
        return 0
    if as_json:
        output.print_json(SyncResponse.of_result(report))
    else:
        print_groups(group_results(report.courses), report.run_id)
        for line in summary.of_result(report):
            click.echo(printable(line))
    if not (report.courses or report.stopped):
        _explain_empty_run(services)
    return report.exit_code


def _explain_empty_run(services: Services) -> None:
    """Print why there was nothing to sync, which is no failure."""
    with services.database.reading() as session:
        has_sources = bool(sources.list_all(session))
    why, advice = "there are no sources", sources.FIRST_STEP
    if has_sources:
        why = "the registry has no courses"
        advice = Advice("Add a course.", "registry add", ("COURSE_ID",))
    click.echo(f"nothing to sync: {why}\n next: {output.next_step(advice)}", err=True)


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None]]:
    """Yield the function that shows progress: a bar on a terminal, elsewhere log lines."""
    if not sys.stderr.isatty():
        yield _progress_lines()
        return
    console = Console(stderr=True)
    with Progress(
        TextColumn("grade sync"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        console=console, transient=True,
    ) as bar:  # fmt: skip
        task = bar.add_task("", total=None)
        yield lambda done, courses: bar.update(task, completed=done, total=courses)


def _progress_lines() -> Callable[[int, int], None]:
    shown_at = time.monotonic()

    def show(done: int, courses: int) -> None:
        nonlocal shown_at
        if time.monotonic() - shown_at >= output.LINE_SECONDS:
            shown_at = time.monotonic()
            _log.info("grade sync in progress", done=done, courses=courses)

    return show


def _show_plan(plan: Plan, *, as_json: bool) -> None:
    if as_json:
        output.print_json(DryRunResponse.of_plan(plan))
        return
    output.print_table(
        ("would be fetched", "source", "last synced"),
        [(entry.course_id, entry.source.name, entry.synced_at) for entry in plan.to_fetch],
        empty="No course would be fetched.",
    )
    click.echo()
    print_groups(group_results(plan.skipped + plan.without_activity), None)
    skipped = len(plan.deleted) + len(plan.skipped)
    click.echo(f"Dry run: {len(plan.to_fetch):,} courses would be fetched, {skipped:,} skipped.")
    if plan.deleted:
        click.echo(f"... {len(plan.deleted):,} skipped: course deleted; no action needed")
    if plan.without_activity:
        click.echo(
            f"{len(plan.without_activity):,} would fail, because they have no Moodle activity."
        )
