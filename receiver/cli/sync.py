"""The command `sync-grades`: the run, and its story."""

import signal
from collections.abc import Sequence
from datetime import timedelta
from types import FrameType
from typing import Any

import click
from flask.cli import with_appcontext

from foundation import terminal
from foundation.arguments import COURSE_ID
from foundation.terminal import json_option
from receiver import grade_sync
from receiver.cli import scope
from receiver.errors import RunInProgressError
from receiver.grade_sync import EXIT_LEASED, Options, Plan
from receiver.runs import CourseOutcome, CourseReport, Report
from receiver.services import Services

_COLUMNS = ("course", "source", "outcome", "why", "since", "what to do")


@click.command("sync-grades")
@click.option(
    "--course",
    "course_ids",
    type=COURSE_ID,
    multiple=True,
    help="Only this course; may be given several times.",
)
@click.option("--dry-run", is_flag=True, help="Say what would be asked and skipped; ask nothing.")
@json_option
@with_appcontext
def sync_grades(course_ids: tuple[str, ...], dry_run: bool, as_json: bool) -> None:
    """Fetch the grades of the linked courses; those known to be invalid are not asked for.

    Exit codes: 0 all went well (skips are well), 1 some course failed, 3 another run is at work,
    4 the registry cannot be read or the database is away.
    """
    here = scope.ready()
    if dry_run:
        _show_plan(grade_sync.plan(here.database, course_ids), as_json=as_json)
        return
    report = _run(here, course_ids)
    if as_json:
        terminal.print_json(_document(report))
    else:
        _show(report)
    raise click.exceptions.Exit(report.exit_code)


def _run(here: Services, course_ids: tuple[str, ...]) -> Report:
    options = Options(
        holder=terminal.who(),
        lease=timedelta(seconds=here.settings.sync_lease),
        course_ids=course_ids,
    )
    signal.signal(signal.SIGTERM, _leave)
    try:
        with scope.client_of(here) as client:
            return grade_sync.run(here.database, here.vault, client, options)
    except RunInProgressError as error:
        terminal.complain(str(error), error.advice)
        raise click.exceptions.Exit(EXIT_LEASED) from None


def _leave(number: int, _: FrameType | None) -> None:
    """End the run where it is, so that its lease is given back on the way out."""
    raise SystemExit(128 + number)


def _show(report: Report) -> None:
    for line in _story(report):
        click.echo(line)
    told = [
        course
        for course in report.courses
        if course.outcome in {CourseOutcome.SKIPPED, CourseOutcome.FAILED}
    ]
    if told:
        click.echo()
        _show_courses(told)


def _story(report: Report) -> list[str]:
    count = {outcome: report.count(outcome) for outcome in CourseOutcome}
    written = report.written
    return [
        f"Grade sync {report.run_id}: {len(report.courses)} courses, "
        f"{count[CourseOutcome.SKIPPED]} of them skipped before any request.",
        f"... fetched grades: {count[CourseOutcome.SYNCED]} courses, {written.added} scores new, "
        f"{written.changed} changed, {written.unchanged} as before",
        f"... unchanged since they were fetched last: {count[CourseOutcome.UNCHANGED]} courses",
        f"... failed: {count[CourseOutcome.FAILED]} courses",
        f"... used {report.requests} requests to eAssessment",
        f"... used {report.statements} dbqueries",
        f"... used {report.seconds} seconds",
        _ending(report),
    ]


def _ending(report: Report) -> str:
    if report.stopped:
        return f"Grade sync ended before its time: {terminal.printable(report.stopped)}"
    if report.count(CourseOutcome.FAILED):
        return "Grade sync complete, but not for every course; the table says what to do."
    return "Grade sync complete."


def _show_plan(plan: Plan, *, as_json: bool) -> None:
    if as_json:
        terminal.print_json(
            {
                "dry_run": True,
                "would_ask": [
                    {"source": entry.source.name, "course_id": entry.course_id}
                    for entry in plan.ask
                ],
                "would_skip": [course.columns() for course in plan.skipped],
            }
        )
        return
    click.echo(
        f"Nothing was asked. Courses that a run would ask for: {len(plan.ask)}, "
        f"and skip: {len(plan.skipped)}."
    )
    terminal.print_table(
        ("would be asked", "source", "synced last"),
        [(entry.course_id, entry.source.name, entry.synced_at) for entry in plan.ask],
        empty="no course would be asked for",
    )
    if plan.skipped:
        click.echo()
        _show_courses(plan.skipped)


def _show_courses(courses: Sequence[CourseReport]) -> None:
    terminal.print_table(
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


def _document(report: Report) -> dict[str, Any]:
    return {
        "run_id": report.run_id,
        "exit_code": report.exit_code,
        "stopped": report.stopped,
        "counts": {outcome.value: report.count(outcome) for outcome in CourseOutcome},
        "scores": vars(report.written),
        "requests": report.requests,
        "statements": report.statements,
        "seconds": report.seconds,
        "courses": [course.columns() for course in report.courses],
    }
