"""The registry: the courses in the grade sync, why some are skipped, adding one."""

from collections.abc import Mapping

from flask import Blueprint, flash, redirect, render_template, request, url_for
from markupsafe import Markup
from pydantic import BaseModel, ConfigDict
from werkzeug.wrappers import Response

from contract.events import CourseId
from foundation.db import session as db
from foundation.db.pagination import PageRequest
from foundation.pages import forms, pagination, sessions
from foundation.pages.error_pages import render_refusal
from foundation.pages.forms import Faults
from foundation.pages.guards import signed_in
from receiver import services
from receiver.course_state import CourseStatus
from receiver.errors import (
    CourseIdError,
    EntryExistsError,
    SourceUnknownError,
    TokenMalformedError,
)
from receiver.monitoring import doctor
from receiver.pages.sources import chosen_source_id, source_choices
from receiver.registry import entries as registry
from receiver.registry import listing
from receiver.registry.history import Actor
from receiver.registry.listing import EntryFilter
from receiver.sources import store as sources

registry_pages = Blueprint("registry", __name__, template_folder="templates")

_CURSOR_TYPES = (str, int)
# The number of courses under "Needs attention".
_FIRST_FEW = 5


class NewEntry(BaseModel):
    """A course to add: its source, id and token."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)

    source: str
    course_id: CourseId
    token: str


@registry_pages.get("/")
@signed_in
def show() -> str:
    """Show a page of the courses in the grade sync, and first those that need attention."""
    page_request = pagination.read(request.args, _CURSOR_TYPES)
    current = services.current()
    with current.database.reading() as session:
        all_sources = sources.list_all(session)
        status = request.args.get("status", "")
        entry_filter = EntryFilter(
            CourseStatus(status) if status in set(CourseStatus) else None,
            chosen_source_id(all_sources),
            request.args.get("begins", "").strip(),
        )
        needs_activity = current.settings.elms_is_moodle
        page = listing.page(session, entry_filter, page_request, needs_activity=needs_activity)
        counts = listing.counts(session)
        found = listing.count(session, entry_filter) if entry_filter != EntryFilter() else 0
        first = entry_filter == EntryFilter() and page_request == PageRequest()
        waiting = (
            listing.page(
                session,
                EntryFilter(CourseStatus.TOKEN_INVALID),
                page_request,
                needs_activity=needs_activity,
                limit=_FIRST_FEW,
            ).rows
            if first and counts[CourseStatus.TOKEN_INVALID]
            else ()
        )
        # An empty registry shows its first steps instead of warnings.
        findings = doctor.quick_checks(session) if any(counts.values()) else []
    # The filter as query parameters, for the links to other pages.
    chosen = {
        "status": entry_filter.status,
        "source": request.args.get("source", "").strip(),
        "begins": entry_filter.prefix,
    }
    return render_template(
        "receiver/registry.html",
        page=page,
        counts=counts,
        found=found,
        waiting=waiting,
        findings=findings,
        sources=source_choices(all_sources),
        entry_filter=entry_filter,
        chosen={name: str(value) for name, value in chosen.items() if value},
    )


@registry_pages.get("/entries/new")
@signed_in
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
