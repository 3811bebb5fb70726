"""Commands about past runs of the grade sync."""

from collections.abc import Sequence

import click

from foundation.cli import output
from foundation.cli.output import json_option
from foundation.db import session as db
from foundation.db.pagination import PageRequest
from receiver.cli import context
from receiver.cli.schemas import CourseResponse, RunDetails, RunResponse
from receiver.models import RunCourse
from receiver.runs import queries
from receiver.runs import store as runs
from receiver.runs.store import CourseOutcome, CourseResult

_MAX_ID = 2**31 - 1
_COLUMNS = (
    *("run", "started", "by", "courses"),
    *CourseOutcome,
    *("requests", "database queries", "seconds", "ended"),
)


@click.command("list")
@click.option(
    "--limit",
    type=click.IntRange(1, 1000),
    default=20,
    show_default=True,
    help="Maximum number of runs.",
)
@json_option
def list_(limit: int, as_json: bool) -> None:
    """List the runs, newest first."""
    with context.reading() as session:
        rows = queries.page(session, PageRequest(), limit=limit).rows
        statuses = runs.statuses(session, rows, now=db.now(session))
    if as_json:
        output.print_json([RunResponse.of_run(run, statuses[run.id]) for run in rows])
        return
    output.print_table(
        _COLUMNS,
        [
            (
                run.id,
                run.started_at,
                run.holder,
                "some" if run.partial else "all",
                *(getattr(run, outcome) for outcome in CourseOutcome),
                run.requests,
                run.statements,
                run.seconds,
                statuses[run.id],
            )
            for run in rows
        ],
        empty="No runs yet. Start one with `receiver sync-grades`.",
    )


@click.command()
@click.argument("number", type=click.IntRange(1, _MAX_ID), required=False)
@click.option(
    "--outcome",
    type=click.Choice([outcome.value for outcome in CourseOutcome]),
    help="Only courses with this result.",
)
@json_option
def show(number: int | None, outcome: str | None, as_json: bool) -> None:
    """Show run NUMBER, or the last run, with the result of each course."""
    with context.reading() as session:
        run = runs.get(session, number)
        status = runs.statuses(session, [run], now=db.now(session))[run.id]
        courses = runs.courses_of(session, run.id, CourseOutcome(outcome) if outcome else None)
    if as_json:
        details = CourseResponse.all_of(courses)
        output.print_json(RunDetails.of_run(run, status, courses=details))
        return
    output.print_facts((name.replace("_", " "), v) for name, v in RunResponse.of_run(run, status))
    click.echo()
    print_courses(courses)


def print_courses(courses: Sequence[CourseResult | RunCourse]) -> None:
    """Print the results of courses in a run."""
    output.print_table(
        ("course", "source", "result", "reason", "since", "next step"),
        [
            (
                course.course_id,
                course.source,
                course.outcome,
                course.detail or course.reason,
                course.since,
                output.next_step(course.advice),
            )
            for course in courses
        ],
        empty="No courses match.",
    )
