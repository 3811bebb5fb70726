"""The sources: the eAssessment sites, their URLs and secrets, last webhook and last request."""

from collections.abc import Sequence
from typing import Annotated, Literal, Protocol, TypeVar

from flask import Blueprint, current_app, flash, redirect, render_template, request, url_for
from pydantic import BeforeValidator, ConfigDict
from sqlalchemy.orm import Session
from werkzeug.wrappers import Response

from contract.signatures import Secret
from contract.tokens import MoodleToken
from foundation.db import audit
from foundation.db import session as db
from foundation.errors import Advice
from foundation.pages import downloads, forms
from foundation.pages.error_pages import render_refusal
from foundation.pages.filters import sentence
from foundation.pages.forms import Faults
from foundation.pages.guards import signed_in
from foundation.pages.sessions import actor
from receiver import services
from receiver.errors import (
    LastSecretError,
    ReceiverError,
    RunInProgressError,
    SecretExistsError,
    SecretUnknownError,
    SourceExistsError,
    SourceInUseError,
    SourceInvalidError,
    SourceKindError,
    SourceUnknownError,
)
from receiver.models import Source
from receiver.sources import store as sources
from receiver.webhooks.refusals import RefusedWebhooks

source_pages = Blueprint("sources", __name__, template_folder="templates")

_Criteria = TypeVar("_Criteria", covariant=True)

_SOURCE = "/sources/<name>"
_NewSecret = Annotated[Secret, BeforeValidator(Secret.parse)]
_FirstSecret = Annotated[
    Secret | None, BeforeValidator(lambda text: Secret.parse(text) if text else None)
]
_SiteToken = Annotated[MoodleToken, BeforeValidator(lambda text: MoodleToken.parse(text.strip()))]


class ListParams(Protocol[_Criteria]):
    """The parameters of a list that can be filtered by source."""

    def criteria(self, session: Session) -> _Criteria:
        """Return which rows are listed, or raise SourceUnknownError."""


class NewSourceForm(forms.Form):
    """A source to add, with the first of its secrets unless there is none yet."""

    model_config = ConfigDict(str_strip_whitespace=True)

    name: str
    url: str
    kind: Literal["api", "moodle"]
    secret: _FirstSecret = None


class UrlForm(forms.Form):
    """The URL that a source should have."""

    model_config = ConfigDict(str_strip_whitespace=True)

    url: str


class SecretForm(forms.Form):
    """A webhook secret to add."""

    secret: _NewSecret


class RemoveSecretForm(forms.Form):
    """Whether the secret is removed if it is the last one."""

    even_last: bool = False


class SiteTokenForm(forms.Form):
    """The site-wide token of a Moodle."""

    site_token: _SiteToken


@source_pages.get("/sources")
@signed_in
def show() -> str:
    """Show the sources."""
    refusals = RefusedWebhooks.of(current_app)
    with services.current().database.reading() as session:
        all_sources, now = sources.list_all(session), db.now(session)
        received = sources.receptions(session)
    return render_template(
        "receiver/sources.html",
        sources=all_sources,
        received=received,
        refused={name: refusals.last(name, one) for name, one in received.items()},
        now=now,
    )


# Not below /sources, where any name can be that of a source.
@source_pages.get("/new-source")
@signed_in
def new() -> str:
    """Show the form that adds a source."""
    return _form({})


@source_pages.post("/new-source")
@signed_in
def add() -> Response | tuple[str, int]:
    """Add a source, with its secret if one is given."""
    form, current = forms.parse_form(NewSourceForm), services.current()
    if not isinstance(form, NewSourceForm):
        return _form(form), 422
    try:
        with current.writing() as (session, now):
            source = sources.add(session, form.name, form.url, form.kind, now=now)
            if form.secret:
                sources.add_secret(session, source, form.secret, vault=current.vault, now=now)
            audit.record(session, actor(), "source.add", form.name, source.url, now=now)
    except (SourceInvalidError, SourceExistsError) as refusal:
        return _form({"": render_refusal(refusal)}), 422
    return _done(form.name, "Source added.")


@source_pages.get("/sources.csv")
@signed_in
def export() -> Response:
    """Return the sources as a CSV file."""
    with services.current().database.reading() as session:
        rows = sources.export(session, now=db.now(session))
    return downloads.csv_file("sources", sources.COLUMNS, [rows])


@source_pages.get(_SOURCE)
@signed_in
def show_source(name: str) -> str:
    """Show one source and its actions."""
    return _page(name, {})


@source_pages.post(f"{_SOURCE}/url")
@signed_in
def set_url(name: str) -> Response | tuple[str, int]:
    """Change the URL of a source."""
    form = forms.parse_form(UrlForm)
    if not isinstance(form, UrlForm):
        return _page(name, form), 422
    try:
        with services.current().writing() as (session, now):
            source = sources.get(session, name)
            sources.set_url(session, source, form.url, now=now)
            audit.record(session, actor(), "source.set-url", name, source.url, now=now)
    except (SourceInvalidError, RunInProgressError) as refusal:
        return _page(name, {"url": render_refusal(refusal)}), 422
    return _done(name, "URL saved. The next grade sync fetches all grades from it.")


@source_pages.post(f"{_SOURCE}/secrets")
@signed_in
def add_secret(name: str) -> Response | tuple[str, int]:
    """Add a webhook secret to those of a source."""
    form, current = forms.parse_form(SecretForm), services.current()
    if not isinstance(form, SecretForm):
        return _page(name, form), 422
    try:
        with current.writing() as (session, now):
            source = sources.get(session, name)
            row = sources.add_secret(session, source, form.secret, vault=current.vault, now=now)
            audit.record(session, actor(), "source.add-secret", name, f"secret {row.id}", now=now)
    except SecretExistsError as refusal:
        return _page(name, {"secret": render_refusal(refusal)}), 422
    return _done(name, f"Secret {row.id} added.")


@source_pages.post(f"{_SOURCE}/secrets/<int(max=2147483647):secret_id>/remove")
@signed_in
def remove_secret(name: str, secret_id: int) -> Response:
    """Remove a webhook secret; the last one only if the form named it so."""
    advice = Advice("Go back to the page of the source and try again.")
    form = forms.require_valid(forms.parse_form(RemoveSecretForm), advice=advice)
    try:
        with services.current().writing() as (session, now):
            source = sources.get(session, name)
            sources.remove_secret(session, source, secret_id, even_last=form.even_last)
            detail = f"secret {secret_id}"
            audit.record(session, actor(), "source.remove-secret", name, detail, now=now)
    except (LastSecretError, SecretUnknownError) as refusal:
        return _refused(name, refusal)
    return _done(name, f"Secret {secret_id} removed.")


@source_pages.post(f"{_SOURCE}/site-token")
@signed_in
def set_site_token(name: str) -> Response | tuple[str, int]:
    """Set the site-wide token of a Moodle."""
    form, current = forms.parse_form(SiteTokenForm), services.current()
    if not isinstance(form, SiteTokenForm):
        return _page(name, form), 422
    try:
        with current.writing() as (session, now):
            source = sources.get(session, name)
            sources.set_site_token(session, source, form.site_token, vault=current.vault)
            audit.record(session, actor(), "source.set-site-token", name, now=now)
    except SourceKindError as refusal:
        return _refused(name, refusal)
    return _done(name, "Site token saved.")


@source_pages.post(f"{_SOURCE}/remove")
@signed_in
def remove(name: str) -> Response:
    """Remove a source that has no courses and no grades."""
    try:
        with services.current().writing() as (session, now):
            source = sources.get(session, name)
            sources.remove(session, source)
            audit.record(session, actor(), "source.remove", name, source.url, now=now)
    except SourceInUseError as refusal:
        return _refused(name, refusal)
    flash(f"The source {name} was removed.")
    return redirect(url_for("sources.show"), 303)


def _form(faults: Faults) -> str:
    return render_template("receiver/new_source.html", given=request.form, faults=faults)


def _page(name: str, faults: Faults) -> str:
    with services.current().database.reading() as session:
        source = sources.get(session, name)
        reception, now = sources.receptions(session)[name], db.now(session)
        changes = audit.about(session, "source", name)
    return render_template(
        "receiver/source.html",
        source=source,
        reception=reception,
        is_silent=reception.is_silent(now),
        refused=RefusedWebhooks.of(current_app).last(name, reception),
        changes=changes,
        # As it is, or as it was sent and refused.
        url=request.form.get("url", source.url),
        faults=faults,
    )


def _done(name: str, message: str) -> Response:
    flash(message)
    return _to(name)


def _refused(name: str, refusal: ReceiverError) -> Response:
    flash(render_refusal(refusal), "error")
    return _to(name)


def _to(name: str) -> Response:
    return redirect(url_for("sources.show_source", name=name), 303)


def find_criteria(
    params: ListParams[_Criteria] | Faults, session: Session
) -> tuple[_Criteria | None, Faults]:
    """Return which rows a list shows, or None and the error messages of its filter."""
    if isinstance(params, dict):
        return None, params
    try:
        return params.criteria(session), {}
    except SourceUnknownError as refusal:
        return None, {"source": sentence(str(refusal))}


def source_choices(all_sources: Sequence[Source]) -> list[tuple[str, str]]:
    """Return the names of sources as the options of a form."""
    return [(source.name, source.name) for source in all_sources]
