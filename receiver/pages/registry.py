"""The registry: the courses in the grade sync, why some are skipped, adding one."""

from collections.abc import Mapping
from typing import Annotated

from flask import Blueprint, flash, redirect, render_template, request, url_for
from markupsafe import Markup
from pydantic import BaseModel, BeforeValidator, ConfigDict
from sqlalchemy.orm import Session
from werkzeug.wrappers import Response

from contract.events import CourseId
from foundation.db import session as db
from foundation.db.pagination import Page, PageRequest, Sort
from foundation.errors import Advice
from foundation.pages import downloads, forms, pagination, sessions
from foundation.pages.error_pages import render_refusal
from foundation.pages.forms import Faults
from foundation.pages.guards import signed_in
from foundation.web.app import takes
from receiver import services
from receiver.course_state import CourseStatus
from receiver.errors import (
    CourseIdError,
    EntryExistsError,
    SourceUnknownError,
    TokenMalformedError,
)
from receiver.monitoring import doctor
from receiver.pages.sources import find_criteria, source_choices
from receiver.registry import csv_files, listing
from receiver.registry import entries as registry
from receiver.registry.history import Actor
from receiver.registry.listing import EntryFilter, ListedEntry
from receiver.sources import store as sources

registry_pages = Blueprint("registry", __name__, template_folder="templates")

# The number of courses under "Needs attention".
_FIRST_FEW = 5
FILTERS = ("q", "status", "source", "since")
"""The parameters that say which courses are listed."""


def _parse_sort(text: object) -> Sort:
    return Sort.parse(str(text), listing.SORTS)


class RegistryParams(BaseModel):
    """The filter and the order of the list."""

    model_config = ConfigDict(arbitrary_types_allowed=True, frozen=True, str_strip_whitespace=True)

    q: forms.Search = ""
    status: Annotated[CourseStatus, forms.one_of(list(CourseStatus), "a status")] | None = None
    source: str | None = None
    since: forms.Time | None = None
    sort: Annotated[Sort, BeforeValidator(_parse_sort)] = listing.BY_COURSE

    def criteria(self, session: Session) -> EntryFilter:
        """Return which courses are listed, or raise SourceUnknownError."""
        source_id = sources.get(session, self.source).id if self.source else None
        return EntryFilter(self.status, source_id, self.q, self.since)


class NewEntry(BaseModel):
    """A course to add: its source, id and token."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)

    source: str
    course_id: CourseId
    token: str


@registry_pages.get("/")
@signed_in
@takes(RegistryParams, *forms.CURSORS)
def show() -> str:
    """Show a page of the courses in the grade sync, and first those that need attention."""
    params, current = forms.from_query(RegistryParams), services.current()
    sort = params.sort if isinstance(params, RegistryParams) else listing.BY_COURSE
    page_request = pagination.read(request.args, sort.kinds)
    page, total = Page[ListedEntry]([], None, None), 0
    with current.database.reading() as session:
        now = db.now(session)
        all_sources = sources.list_all(session)
        entry_filter, faults = find_criteria(params, session)
        needs_activity = current.settings.elms_is_moodle
        counts = listing.counts(session, now=now)
        is_search = entry_filter != EntryFilter()
        if entry_filter is not None:
            page = listing.page(
                session,
                entry_filter,
                page_request,
                sort=sort,
                needs_activity=needs_activity,
                now=now,
            )
            total = sum(counts.values())
            if is_search:
                total = listing.count(session, entry_filter, now=now)
        first = not is_search and page_request == PageRequest()
        waiting = (
            listing.page(
                session,
                EntryFilter(CourseStatus.TOKEN_INVALID),
                page_request,
                needs_activity=needs_activity,
                limit=_FIRST_FEW,
                now=now,
            ).rows
            if first and counts[CourseStatus.TOKEN_INVALID]
            else ()
        )
        # An empty registry shows its first steps instead of warnings.
        findings = doctor.quick_checks(session) if any(counts.values()) else []
    return render_template(
        "receiver/registry.html",
        faults=faults,
        page=page,
        counts=counts,
        total=total,
        waiting=waiting,
        findings=findings,
        sources=source_choices(all_sources),
        sort=sort,
        query=forms.entered(RegistryParams.model_fields),
        filters=forms.entered(FILTERS),
    )


@registry_pages.get("/registry.csv")
@signed_in
@takes(RegistryParams)
def export() -> Response:
    """Return all courses that match a filter as a CSV file, which can be imported again."""
    params = forms.require_valid(
        forms.from_query(RegistryParams), advice=Advice("Go back and change the filters.")
    )
    current = services.current()
    with current.database.reading() as session:
        entry_filter, now = params.criteria(session), db.now(session)
    rows = listing.export(
        current.database,
        entry_filter,
        sort=params.sort,
        needs_activity=current.settings.elms_is_moodle,
        now=now,
    )
    return downloads.csv_file("registry", csv_files.EXPORTED, rows)


@registry_pages.get("/entries/new")
@signed_in
@takes("course_id", "source")
def new() -> str:
    """Show the form that adds a course."""
    return _form(request.args, {})


@registry_pages.post("/entries/new")
@signed_in
def add() -> Response | tuple[str, int]:
    """Add a course with its token and redirect to its page."""
    form = forms.parse_form(NewEntry)
    if not isinstance(form, NewEntry):
        return _form(request.form, form), 422
    current = services.current()
    try:
        with current.database.writing() as session:
            source = sources.get(session, form.source)
            entry = registry.add(
                session,
                source,
                form.course_id,
                registry.parse_token(form.token, source.kind),
                vault=current.vault,
                actor=actor(),
                now=db.now(session),
            )
    except tuple(_FIELDS) as refusal:
        faults: Faults = {_FIELDS[type(refusal)]: render_refusal(refusal)}
        return _form(request.form, faults), 422
    message = Markup("{} was added with the token {}.")
    flash(message.format(form.course_id, entry.stored_token_id))
    return redirect(url_for("course.show_entry", entry_id=entry.id), 303)


_FIELDS = {
    TokenMalformedError: "token",
    CourseIdError: "course_id",
    EntryExistsError: "course_id",
    SourceUnknownError: "source",
}


def actor() -> Actor:
    """Return who is signed in, for the history."""
    return Actor.person(sessions.actor())


def _form(values: Mapping[str, str], faults: Faults) -> str:
    with services.current().database.reading() as session:
        all_sources = sources.list_all(session)
    return render_template(
        "receiver/new_entry.html",
        sources=source_choices(all_sources),
        course_id=values.get("course_id", ""),
        source=values.get("source", ""),
        faults=faults,
    )
