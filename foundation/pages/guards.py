"""Who may see a page: those who are signed in, or anyone."""

from datetime import UTC, datetime

from flask import g, request

from foundation.pages import forms, sessions
from foundation.pages.errors import SignInNeeded
from foundation.web.app import guarded

REFRESH = "X-Refresh"
"""The header by which a page that refreshes itself says that nobody asked."""


def _check_signed_in() -> None:
    g.person = sessions.person()
    if g.person is None:
        raise SignInNeeded("nobody is signed in")
    if REFRESH not in request.headers:
        sessions.prolong(now=datetime.now(UTC))
    forms.check()


signed_in = guarded("a signed-in user", _check_signed_in)
"""Mark a page's view: who is not signed in is sent to do so, and forms are checked."""

anyone = guarded("anybody", forms.check)
"""Mark a view that is there before one signs in; forms are checked all the same."""
