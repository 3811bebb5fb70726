"""Commands about past runs of the grade sync."""

from typing import Any

import click

from foundation.cli import output
from foundation.cli.output import json_option
from foundation.db import session as db
from foundation.db.pagination import PageRequest
from foundation.errors import fields_of
from receiver.cli import context
from receiver.models import Run, RunCourse
from receiver.runs import queries
from receiver.runs import store as runs
from receiver.runs.store import CourseOutcome, RunStatus

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
        every = queries.page(session, PageRequest(), limit=limit).rows
        statuses = runs.statuses(session, every, now=db.now(session))
    if as_json:
        output.print_json([_facts(run, statuses[run.id]) for run in every])
        return
    output.print_table(
        _COLUMNS,
        [_row(run, statuses[run.id]) for run in every],
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
    facts = _facts(run, status)
    if as_json:
        output.print_json({**facts, "courses": [_course(course) for course in courses]})
        return
    output.print_facts((name.replace("_", " "), value) for name, value in facts.items())
    click.echo()
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


def _facts(run: Run, status: RunStatus) -> dict[str, Any]:
    return {
        "run_id": run.id,
        "began_at": run.started_at,
        "ended_at": run.ended_at,
        "by": run.holder,
        "partial": run.partial,
        **{outcome.value: getattr(run, outcome.value) for outcome in CourseOutcome},
        "requests": run.requests,
        "database_queries": run.statements,
        "seconds": run.seconds,
        "status": status.value,
        "stopped": run.stopped,
        "exit_code": run.exit_code,
    }


def _row(run: Run, status: RunStatus) -> tuple[object, ...]:
    return (
        run.id,
        run.started_at,
        run.holder,
        "some" if run.partial else "all",
        *(getattr(run, outcome.value) for outcome in CourseOutcome),
        run.requests,
        run.statements,
        run.seconds,
        status.value,
    )


def _course(course: RunCourse) -> dict[str, Any]:
    return {
        "source": course.source,
        "course_id": course.course_id,
        "outcome": course.outcome,
        "reason": course.reason,
        "detail": course.detail,
        "since": course.since,
        **fields_of(course.advice),
    }
