"""Calls of Moodle's web services: each returns a typed result, and never raises."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlencode

from contract.tokens import MoodleToken
from foundation.errors import Advice
from foundation.logging import REDACTED
from receiver.gradebook.base import SET_ACTIVITY, WriteFailure
from receiver.moodle.responses import (
    CHECK_URL,
    RAISE_TIMEOUT,
    TRY_LATER,
    TRY_SITE_LATER,
    AccessDenied,
    InvalidToken,
    Missing,
    MoodleResult,
    Success,
    check_service_advice,
    classify,
)
from receiver.sources.base import Misconfigured, SiteOutage, Transient
from receiver.sources.http_client import (
    TOO_LARGE,
    HttpClient,
    NotRetryableError,
    RequestFailedError,
    ResponseTooLargeError,
)

SITE_INFO = "core_webservice_get_site_info"

# The maximum seconds for the site info, which takes Moodle no time.
_SITE_INFO_SECONDS = 30.0

# A Moodle that asks for a longer wait is in maintenance mode. In seconds.
_MAX_RETRY_AFTER = 60.0

# The largest response accepted: a grade report of 1,500 people and 50 items, 0.6 kB each. Parsed,
# it takes four times as much memory.
MAX_BYTES = 48 * 1024 * 1024

_FORM = {"Content-Type": "application/x-www-form-urlencoded"}

# The parameters of a function: text and integers, in mappings and sequences.
Parameters = Mapping[str, Any]


def call(
    http_client: HttpClient,
    url: str,
    token: MoodleToken,
    function: str,
    parameters: Parameters | None = None,
) -> MoodleResult:
    """Return the result of a function of the Moodle at a URL; the token is in the body."""
    form = {
        "wstoken": token.reveal(),
        "wsfunction": function,
        "moodlewsrestformat": "json",
        "moodlewssettinglang": "en",
        **dict(_fields("", parameters or {})),
    }
    try:
        body = urlencode(form).encode("ascii")
        seconds = _SITE_INFO_SECONDS if function == SITE_INFO else float("inf")
        response = http_client.send("POST", endpoint_url(url), _FORM, body, max_seconds=seconds)
    except ResponseTooLargeError as error:
        return Misconfigured(str(error), TOO_LARGE)
    except NotRetryableError as error:
        return Misconfigured(str(error), CHECK_URL)
    except RequestFailedError as error:
        if error.timed_out:
            return Transient(str(error), RAISE_TIMEOUT, timed_out=True)
        return Transient(str(error), TRY_LATER, unreachable=error.unreachable)
    # A Moodle in debug mode may repeat what it was sent.
    body = response.body.replace(token.reveal().encode("ascii"), REDACTED.encode("ascii"))
    headers = response.headers
    result = classify(
        response.status, headers.get("Content-Type"), body, location=headers.get("Location")
    )
    if not isinstance(result, Transient):
        return result
    retry_after = response.retry_after
    if response.status == 503 and (retry_after or 0) > _MAX_RETRY_AFTER:
        return SiteOutage(f"responded 503 for the next {retry_after:g} s", TRY_SITE_LATER)
    return replace(result, retry_after=retry_after)


@dataclass(frozen=True)
class ElmsMoodle:
    """ELMS's Moodle; a failure says that it is this Moodle, and what to do about it."""

    http_client: HttpClient
    url: str
    token: MoodleToken
    functions: Sequence[str]

    @property
    def token_advice(self) -> Advice:
        """What to do about a token that cannot be used."""
        needed = ", ".join((SITE_INFO, *self.functions))
        return Advice(
            "Set RECEIVER_GRADEBOOK_TOKEN to a current token of ELMS's own Moodle, whose service "
            f"allows {needed}."
        )

    def call(self, function: str, parameters: Parameters) -> Success | WriteFailure:
        """Return the result of a function."""
        result = call(self.http_client, self.url, self.token, function, parameters)
        match result:
            case InvalidToken(detail):
                return SiteOutage(f"ELMS's own Moodle: {detail}", self.token_advice)
            case AccessDenied(detail):
                advice = check_service_advice((SITE_INFO, *self.functions))
                return SiteOutage(f"ELMS's own Moodle: {detail}", advice)
            case Missing(_, detail):
                return Misconfigured(f"ELMS's own Moodle: {detail}", SET_ACTIVITY)
            case Success():
                return result
            case _:
                return replace(result, detail=f"ELMS's own Moodle: {result.detail}")


def functions_of(site_info: Any) -> set[str] | None:
    """Return the functions that a token may use, from its site info; None if they are not in it."""
    listed = site_info.get("functions") if isinstance(site_info, dict) else None
    if not isinstance(listed, list):
        return None
    return {str(function.get("name")) for function in listed if isinstance(function, dict)}


def endpoint_url(url: str) -> str:
    """Return the URL of the web services of the Moodle at a URL."""
    return f"{url.rstrip('/')}/webservice/rest/server.php"


def _fields(name: str, value: Any) -> Iterator[tuple[str, str]]:
    """Yield form fields in PHP's notation: `options[ids][0]`."""
    if isinstance(value, Mapping):
        parts = [(str(key), part) for key, part in value.items()]
    elif isinstance(value, Sequence) and not isinstance(value, str):
        parts = [(str(index), part) for index, part in enumerate(value)]
    else:
        yield name, str(value)
        return
    for key, part in parts:
        yield from _fields(f"{name}[{key}]" if name else key, part)
