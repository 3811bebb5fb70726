"""Commands about past runs of the grade sync."""

from collections.abc import Sequence
from datetime import datetime

import click

from foundation.cli import output
from foundation.cli.output import csv_option, json_option
from foundation.cli.params import limit_option, time_options, whole_number
from foundation.db import audit
from foundation.db import session as db
from foundation.db.pagination import PageRequest
from foundation.text import count, printable
from receiver.cli import context
from receiver.cli.schemas import (
    CourseResultResponse,
    PauseResponse,
    People,
    PersonResponse,
    ResultGroupResponse,
    RunDetails,
    RunResponse,
    Runs,
)
from receiver.models import RunCourse
from receiver.runs import queries, schedule
from receiver.runs import store as runs
from receiver.runs.groups import LABELS, ResultGroup, needs_attention
from receiver.runs.queries import ResultFilter, RunFilter
from receiver.runs.store import CourseOutcome, CourseResult

_RUN_ID = whole_number(1, 2**31 - 1)  # PostgreSQL refuses to compare with larger ids
_COUNTS = ("synced", "unchanged", "skipped", "deleted", "failed")
_COLUMNS = (
    *("run", "started", "by", "courses"),
    *_COUNTS,
    *("requests", "database queries", "seconds", "ended"),
)


@click.command("list")
@time_options("runs that started")
@click.option("--before", type=_RUN_ID, help="Start before this run (next page).")
@limit_option("runs", default=20, maximum=1000)
@csv_option
@json_option
def list_(
    since: datetime | None,
    until: datetime | None,
    before: int | None,
    limit: int,
    as_csv: bool,
    as_json: bool,
) -> None:
    """List the runs, newest first."""
    database = context.checked_services().database
    chosen = RunFilter(since, until)
    if as_csv:
        output.print_csv(queries.COLUMNS, queries.export(database, chosen), as_json=as_json)
        return
    with database.reading() as session:
        page_request = PageRequest(after=(before,) if before else None)
        page = queries.page(session, page_request, chosen, limit=limit)
        total = queries.count(session, chosen)
        rows = page.rows
        statuses = runs.statuses(session, rows, now=db.now(session))
    following = str(rows[-1].id) if page.after else None
    if as_json:
        found = [RunResponse.of_run(run, statuses[run.id]) for run in rows]
        output.print_json(Runs(runs=found, next=following))
        return
    output.print_table(
        _COLUMNS,
        [
            (
                run.id,
                run.started_at,
                run.holder,
                "some" if run.partial else "all",
                *(getattr(run, name) for name in _COUNTS),
                run.requests,
                run.statements,
                run.seconds,
                statuses[run.id].label,
            )
            for run in rows
        ],
        empty="No runs match."
        if before or chosen != queries.ALL_RUNS
        else "No runs yet. Start one with `receiver sync-grades`.",
    )
    output.print_total(len(rows), total, "run", more=f"--before {following}" if following else "")


@click.command()
@click.argument("number", type=_RUN_ID, required=False)
@click.option(
    "--outcome",
    type=click.Choice([outcome.value for outcome in queries.LISTED]),
    help="List the courses with this result.",
)
@click.option(
    "--reason",
    type=click.Choice([str(reason) for reason in LABELS]),
    help="List the courses of this reason.",
)
@click.option("--source", help="With --outcome, --reason or --all: only courses of this source.")
@click.option("--all", "every", is_flag=True, help="List all courses but the unchanged ones.")
@click.option("--people", is_flag=True, help="The people whose scores were not imported, instead.")
@csv_option
@json_option
def show(
    number: int | None,
    outcome: str | None,
    reason: str | None,
    source: str | None,
    every: bool,
    people: bool,
    as_csv: bool,
    as_json: bool,
) -> None:
    """Show run NUMBER, or the last run, with what needs attention, by reason.

    With --outcome, --reason, --all or --csv, the courses are listed one by one. Courses that were
    unchanged, or known to be deleted when the run started, are only counted.
    """
    listed = every or as_csv or outcome is not None or reason is not None
    if source and not listed:
        raise click.UsageError("--source needs --outcome, --reason, --all or --csv")
    chosen = ResultFilter(CourseOutcome(outcome) if outcome else None, reason, source)
    if as_csv:
        _print_csv(number, chosen, people=people, as_json=as_json)
        return
    if people:
        _show_people(number, as_json=as_json)
        return
    with context.reading() as session:
        run = runs.get(session, number)
        status = runs.statuses(session, [run], now=db.now(session))[run.id]
        groups = queries.result_groups(session, run.id)
        courses = queries.courses(session, run.id, chosen) if listed or as_json else []
    if as_json:
        if not listed:
            courses = [course for course in courses if needs_attention(course.reason)]
        details = RunDetails.of_run(
            run,
            status,
            groups=ResultGroupResponse.all_of(groups, run.id),
            courses=CourseResultResponse.all_of(courses),
        )
        output.print_json(details)
        return
    output.print_facts(RunResponse.of_run(run, status))
    click.echo()
    if listed:
        print_courses(courses)
        if every and run.unchanged:
            unchanged = count(run.unchanged, "unchanged course is", "unchanged courses are")
            click.echo(f"{unchanged} counted, not listed.")
    else:
        print_groups(groups, run.id)


@click.command()
@json_option
def pause(as_json: bool) -> None:
    """Pause the grade sync: `sync-grades` does nothing until it is resumed.

    A run in progress continues.
    """
    with context.writing() as (session, now):
        schedule.pause(session, context.auditor().name, now=now)
        audit.record(session, context.auditor(), "sync.pause", "", now=now)
        paused = schedule.get_pause(session)
        response = PauseResponse.of(paused, paused=True)
    sentence = "The grade sync is paused. Resume it with `receiver runs resume`."
    output.print_result(response, sentence, as_json=as_json)


@click.command()
@json_option
def resume(as_json: bool) -> None:
    """Resume the grade sync after a pause."""
    with context.writing() as (session, now):
        schedule.resume(session, now=now)
        audit.record(session, context.auditor(), "sync.resume", "", now=now)
    response = PauseResponse(paused=False)
    output.print_result(response, "The grade sync runs as scheduled.", as_json=as_json)


def _print_csv(number: int | None, chosen: ResultFilter, *, people: bool, as_json: bool) -> None:
    database = context.checked_services().database
    with database.reading() as session:
        run_id = runs.get(session, number).id
    if people:
        batches = queries.export_people(database, run_id)
        output.print_csv(queries.PEOPLE_COLUMNS, batches, as_json=as_json)
        return
    batches = queries.export_courses(database, run_id, chosen)
    output.print_csv(queries.COURSE_COLUMNS, batches, as_json=as_json)


def _show_people(number: int | None, *, as_json: bool) -> None:
    with context.reading() as session:
        rows = runs.people_of(session, runs.get(session, number).id)
        people = [PersonResponse.of(row) for row in rows]
    if as_json:
        output.print_json(People(people=people))
    else:
        output.print_table(
            ("course", "source", "user", "grade", "reason"),
            [
                (
                    person.course_id,
                    person.source,
                    person.user_id,
                    "kept in ELMS" if person.kept else "left out",
                    person.detail,
                )
                for person in people
            ],
            empty="No one was left out.",
        )


def print_groups(groups: Sequence[ResultGroup], run_id: int | None) -> None:
    """Print what needs attention, by reason; `run_id`: the recorded run that lists all of it."""
    waiting = sum(group.courses for group in groups if group.needs_attention)
    if waiting:
        click.echo(f"{count(waiting, 'course needs', 'courses need')} attention\n")
    for group in groups:
        title = f"{count(group.courses, 'course')} of {group.source}: {group.label}"
        if not group.needs_attention:
            click.echo(f"{printable(title)}; no action needed\n")
            continue
        facts = [
            ("courses", group.names),
            ("why", group.example),
            ("next step", output.next_step(group.advice)),
        ]
        if run_id is not None and group.courses > 1:
            facts.append(("list all", output.with_program(group.list_command(run_id))))
        click.echo(printable(title))
        output.print_facts(facts)
        click.echo()


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
