"""Entering the tokens of many courses at once, pasted or from a CSV file."""

from flask import Blueprint, flash, redirect, render_template, url_for
from werkzeug.wrappers import Response

from foundation.csv_reader import CsvError
from foundation.pages import forms
from foundation.pages.error_pages import render_refusal
from foundation.pages.guards import signed_in
from foundation.text import count
from receiver import services
from receiver.errors import CourseLookupError
from receiver.pages.registry import actor
from receiver.registry import csv_files, id_numbers
from receiver.sources import store as sources
from receiver.sources.factory import ClientFactory
from receiver.sync.token_check import TokenCheck

token_pages = Blueprint("tokens", __name__, template_folder="templates")

# Seconds that a person waits for one response, and after which nothing more is requested.
_MAX_REQUEST_SECONDS = 20.0
_MAX_SECONDS = 60.0
# A page never holds tokens, so what was pasted is not in the form again.
_ENTER_AGAIN = (
    " Nothing was saved. Tokens are not shown again: paste them or choose the file again."
)


@token_pages.get("/entries/tokens")
@signed_in
def show() -> str:
    """Show the form for the tokens of many courses."""
    return _form(None)


@token_pages.post("/entries/tokens")
@signed_in
def enter() -> Response | str | tuple[str, int]:
    """Save the tokens that are valid, and show why the others are not."""
    current = services.current()
    try:
        text = forms.pasted_or_uploaded()
        with current.database.reading() as session:
            rows = csv_files.read(text, sources.list_all(session))
            session.expunge_all()
        with ClientFactory(
            current.settings, current.vault, max_seconds=_MAX_REQUEST_SECONDS
        ) as clients:
            rows = id_numbers.resolve(rows, clients)
            check = TokenCheck(current, clients, actor(), max_seconds=_MAX_SECONDS)
            entered, refused = check.enter_all(rows)
    except (CsvError, CourseLookupError) as refusal:
        return _form(render_refusal(refusal) + _ENTER_AGAIN), 422
    problems = [token for token in entered if token.reason is not None]
    if problems or refused or not entered:
        return render_template(
            "receiver/tokens_entered.html", entered=entered, problems=problems, refused=refused
        )
    saved = count(len(entered), "token")
    flash(f"{saved} saved. The next grade sync fetches the grades of these courses.")
    return redirect(url_for("registry.show"), 303)


def _form(fault: str | None) -> str:
    with services.current().database.reading() as session:
        names = [source.name for source in sources.list_all(session)]
    return render_template("receiver/tokens.html", sources=names, fault=fault)
