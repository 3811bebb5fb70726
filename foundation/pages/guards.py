"""Access to pages: signed-in users only, or everyone."""

from datetime import UTC, datetime
from functools import partial

from flask import request

from foundation.pages import forms, sessions
from foundation.pages.errors import SignInRequiredError
from foundation.web.app import guarded

# The header of a request that a page sends to refresh itself; such requests do not renew a session.
REFRESH = "X-Refresh"


def _check_signed_in(max_bytes: int = forms.MAX_BYTES) -> None:
    if sessions.current_user() is None:
        raise SignInRequiredError("not signed in")
    if REFRESH not in request.headers:
        sessions.renew(now=datetime.now(UTC))
    forms.check(max_bytes=max_bytes)


# Marks a view for signed-in users: others are sent to the sign-in page, and forms are checked.
signed_in = guarded("a signed-in user", _check_signed_in, strict=True)

# The same, for a form with a file or a long list.
signed_in_file = guarded(
    "a signed-in user", partial(_check_signed_in, forms.MAX_FILE_BYTES), strict=True
)

# Marks a view that needs no sign-in; forms are checked all the same.
public = guarded("anybody", forms.check)
