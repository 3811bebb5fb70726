"""Sign-in and sign-out."""

from datetime import UTC, datetime
from typing import Any

from flask import Blueprint, flash, redirect, render_template, request, url_for
from werkzeug.wrappers import Response

from foundation import logging
from foundation.pages import forms, sessions, throttle, users
from foundation.pages.errors import TooManyAttemptsError
from foundation.pages.guards import public, signed_in
from foundation.pages.models import User
from foundation.pages.redirects import local_path
from foundation.services import Services
from foundation.web.app import client_address
from foundation.web.errors import RequestMalformedError

sign_in = Blueprint("sign_in", __name__, template_folder="templates")
_log = logging.get_logger(__name__)
_ViewResponse = Response | str | tuple[str, int] | tuple[str, int, dict[str, str]]

_WRONG = "The name or the password is wrong."


class Credentials(forms.Form):
    """The fields of the sign-in form."""

    name: str
    password: str
    next: str = "/"


@sign_in.get("/sign-in")
@public
def show() -> _ViewResponse:
    """Show the form; redirect users who are already signed in."""
    next_path = local_path(request.args.get("next", "/"))
    if sessions.current_user() is not None:
        return redirect(next_path, 303)
    return _form(next=next_path)


@sign_in.post("/sign-in")
@public
def submit() -> _ViewResponse:
    """Sign a user in with name and password."""
    entered = forms.parse_form(Credentials)
    if not isinstance(entered, Credentials):
        raise RequestMalformedError(f"the form lacks {', '.join(entered)}")
    next_path = local_path(entered.next)
    try:
        user = _authenticate(entered.name.strip(), entered.password)
    except TooManyAttemptsError as refusal:
        until = refusal.facts["until"]
        _log.warning("sign-in throttled", address=client_address(), until=until)
        wait = max(1, round((until - datetime.now(UTC)).total_seconds()))
        page = _form(next=next_path, name=entered.name, refusal=refusal, until=until)
        return page, 429, {"Retry-After": str(wait)}
    if user is None:
        _log.warning("sign-in refused", address=client_address())
        return _form(next=next_path, name=entered.name, wrong=_WRONG), 422
    sessions.start(user, now=datetime.now(UTC))
    _log.info("signed in", user=user.name, address=client_address())
    return redirect(next_path, 303)


@sign_in.post("/sign-out")
@signed_in
def sign_out() -> Response:
    """End the session."""
    with Services.current().writing() as (session, now):
        sessions.end(session, now=now)
    flash("You are signed out.")
    return redirect(url_for("sign_in.show"), 303)


def _form(**facts: object) -> str:
    defaults = {"name": "", "wrong": None, "refusal": None, "until": None}
    return render_template("pages/sign_in.html", **{**defaults, **facts})


def _authenticate(name: str, password: str) -> User | None:
    """Return the user with this name and password, or None; hashes outside of transactions."""
    services: Services[Any] = Services.current()
    with services.writing() as (session, now):
        throttle.register_attempt(session, name, client_address(), now=now)
        user = users.find(session, name)
    if not users.is_password_of(user, password):
        return None
    with services.database.writing() as session:
        throttle.reset(session, name)
    return user
