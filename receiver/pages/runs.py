"""Runs: the schedule, the duration of each grade sync, and what needs attention in it."""

import math
from collections.abc import Callable, Sequence
from typing import Annotated, Any, TypeVar

from flask import Blueprint, flash, g, redirect, render_template, request, url_for
from pydantic import AfterValidator, BaseModel, ConfigDict
from werkzeug.wrappers import Response

from foundation.db import audit
from foundation.db import session as db
from foundation.db.pagination import Page, PageRequest
from foundation.errors import Advice
from foundation.pages import charts, downloads, forms, pagination, sessions
from foundation.pages.charts import Chart, Series
from foundation.pages.filters import milliseconds
from foundation.pages.guards import signed_in
from foundation.text import printable
from foundation.web.app import takes
from receiver import services
from receiver.models import Run
from receiver.runs import groups, queries, schedule, summary
from receiver.runs import store as runs
from receiver.runs.queries import ResultFilter, RunFilter
from receiver.runs.store import CourseOutcome, RunStatus
from receiver.sync import process

run_pages = Blueprint("runs", __name__, template_folder="templates")

_Model = TypeVar("_Model", bound=BaseModel)
_RUN = "/runs/<int(max=2147483647):run_id>"
_CURSOR_TYPES, _COURSE_CURSOR_TYPES, _PEOPLE_CURSOR_TYPES = (int,), (str, int), (str, str, int)


def _check_outcome(outcome: CourseOutcome) -> CourseOutcome:
    if outcome not in queries.LISTED:
        raise ValueError("unchanged courses are counted, not listed")
    return outcome


def _check_reason(reason: str) -> str:
    if reason not in groups.LABELS:
        raise ValueError(f"{printable(reason[:40])!r} is not a reason")
    return reason


class RunParams(BaseModel):
    """The filter of the list of runs."""

    model_config = ConfigDict(frozen=True, str_strip_whitespace=True)

    since: forms.Time | None = None
    until: forms.Until | None = None


class ResultParams(BaseModel):
    """The filter of the courses of a run."""

    model_config = ConfigDict(frozen=True, str_strip_whitespace=True)

    outcome: Annotated[CourseOutcome, AfterValidator(_check_outcome)] | None = None
    reason: Annotated[str, AfterValidator(_check_reason)] | None = None
    source: str | None = None


@run_pages.get("/runs")
@signed_in
@takes(RunParams, *forms.CURSORS)
def show() -> str:
    """Show the schedule and a page of the runs, newest first."""
    params = forms.from_query(RunParams)
    faults = params if isinstance(params, dict) else {}
    page_request = pagination.read(request.args, _CURSOR_TYPES)
    page, total, run_filter = Page[Run]([], None, None), 0, None
    with services.current().database.reading() as session:
        now = db.now(session)
        if isinstance(params, RunParams):
            run_filter = RunFilter(params.since, params.until)
            page = queries.page(session, page_request, run_filter)
            total = queries.count(session, run_filter)
        statuses = runs.statuses(session, page.rows, now=now)
        counts = queries.counts(session, page.rows)
        pause = schedule.get_pause(session)
        known = schedule.read(session)
    return render_template(
        "receiver/runs.html",
        faults=faults,
        is_first_page=page_request == PageRequest() and run_filter == RunFilter(),
        pause=pause,
        schedule=known,
        is_overdue=known.is_overdue(now=now),
        is_running=RunStatus.RUNNING in statuses.values(),
        page=page,
        total=total,
        query=forms.entered(RunParams.model_fields),
        statuses=statuses,
        counts=counts,
        charts=_charts(page.rows[::-1]),
    )


@run_pages.get("/runs.csv")
@signed_in
@takes(RunParams)
def export() -> Response:
    """Return all runs that match a filter as a CSV file."""
    chosen = _read(RunParams)
    rows = queries.export(services.current().database, RunFilter(chosen.since, chosen.until))
    return downloads.csv_file("runs", queries.COLUMNS, rows)


@run_pages.post("/runs/start")
@signed_in
def start() -> Response:
    """Start a run now, in a process of its own."""
    with services.current().database.reading() as session:
        is_running = runs.is_running(session, now=db.now(session))
    if is_running:
        flash("A run is in progress. Wait until it ends.", "error")
    else:
        with services.current().writing() as (session, now):
            audit.record(session, sessions.actor(), "sync.start", "", now=now)
        process.start(g.current_user.name)
        flash("The run was started. It is listed here in a few seconds; reload the page.")
    return redirect(url_for("runs.show"), 303)


@run_pages.post("/runs/pause")
@signed_in
def pause() -> Response:
    """Pause the schedule."""
    with services.current().writing() as (session, now):
        schedule.pause(session, g.current_user.name, now=now)
        audit.record(session, sessions.actor(), "sync.pause", "", now=now)
    flash("The grade sync is paused. A run in progress continues.")
    return redirect(url_for("runs.show"), 303)


@run_pages.post("/runs/resume")
@signed_in
def resume() -> Response:
    """Resume the schedule after a pause."""
    with services.current().writing() as (session, now):
        schedule.resume(session, now=now)
        audit.record(session, sessions.actor(), "sync.resume", "", now=now)
    flash("The grade sync runs as scheduled.")
    return redirect(url_for("runs.show"), 303)


@run_pages.get(_RUN)
@signed_in
@takes(ResultParams, *forms.CURSORS)
def show_run(run_id: int) -> str:
    """Show one run: what needs attention by reason, or the courses of an outcome or reason."""
    page_request = pagination.read(request.args, _COURSE_CURSOR_TYPES)
    chosen = _result_filter()
    listed = bool(chosen.outcome or chosen.reason)
    with services.current().database.reading() as session:
        run = runs.get(session, run_id)
        [status] = runs.statuses(session, [run], now=db.now(session)).values()
        [counts] = queries.counts(session, [run]).values()
        page = queries.page_of_courses(session, run.id, chosen, page_request) if listed else None
        found = [] if listed else queries.result_groups(session, run.id)
        entry_ids = queries.entry_ids(session, found)
        not_recorded = queries.not_recorded(session, run)
        people_count = queries.people_count(session, run.id)
    return render_template(
        "receiver/run.html",
        run=run,
        status=status,
        counts=counts,
        groups=found,
        entry_ids=entry_ids,
        chosen=chosen,
        page=page,
        not_recorded=not_recorded,
        people_count=people_count,
        summary=summary.of_run(run) if run.ended_at else (),
    )


@run_pages.get(f"{_RUN}/courses.csv")
@signed_in
@takes(ResultParams)
def export_courses(run_id: int) -> Response:
    """Return the courses of a run, of an outcome or reason, as a CSV file."""
    chosen, database = _result_filter(), services.current().database
    with database.reading() as session:
        runs.get(session, run_id)
    rows = queries.export_courses(database, run_id, chosen)
    return downloads.csv_file(f"run-{run_id}-courses", queries.COURSE_COLUMNS, rows)


@run_pages.get(f"{_RUN}/people.csv")
@signed_in
def export_people(run_id: int) -> Response:
    """Return the people whose scores a run did not import as a CSV file."""
    database = services.current().database
    with database.reading() as session:
        runs.get(session, run_id)
    rows = queries.export_people(database, run_id)
    return downloads.csv_file(f"run-{run_id}-people", queries.PEOPLE_COLUMNS, rows)


@run_pages.get(f"{_RUN}/people")
@signed_in
@takes(*forms.CURSORS)
def show_people(run_id: int) -> str:
    """Show the people whose scores a run did not import."""
    page_request = pagination.read(request.args, _PEOPLE_CURSOR_TYPES)
    with services.current().database.reading() as session:
        run = runs.get(session, run_id)
        page = queries.page_of_people(session, run.id, page_request)
        count = queries.people_count(session, run.id)
    return render_template("receiver/run_people.html", run=run, page=page, count=count)


def _read(model: type[_Model]) -> _Model:
    return forms.require_valid(
        forms.from_query(model), advice=Advice("Go back and change the filters.")
    )


def _result_filter() -> ResultFilter:
    params = _read(ResultParams)
    return ResultFilter(params.outcome, params.reason, params.source)


def _charts(recent: Sequence[Run]) -> list[Chart]:
    ended = [run for run in recent if run.seconds is not None]
    if len(ended) < 2:
        return []
    return [
        _chart(
            "duration",
            "Duration",
            ended,
            lambda run: (run.seconds or 0) * 1000,
            format_value=milliseconds,
            ticks=charts.duration_ticks,
        ),
        _chart("requests", "Requests to eAssessment", ended, lambda run: run.requests),
    ]


def _chart(
    name: str, title: str, runs: Sequence[Run], value: Callable[[Run], float], **options: Any
) -> Chart:
    """Return a chart of the runs of all courses, and apart from them those of some courses."""
    full = [math.nan if run.partial else value(run) for run in runs]
    some = [value(run) if run.partial else math.nan for run in runs]
    series = [
        Series("all courses", "wait", full, joined="all"),
        Series("some courses", "calm", some, joined="none"),
    ]
    return Chart(
        name,
        title,
        [f"{run.started_at:%d %b %Y, %H:%M}: run {run.id}" for run in runs],
        [one for one in series if one.known],
        step_name="Started (UTC)",
        labels=[f"{run.started_at:%H:%M}\n{run.started_at:%d %b}" for run in runs],
        **options,
    )
