"""The meaning of responses of Moodle's web services: a table from error codes to results."""

import codecs
import html
import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from typing import Any

from contract import strict_json
from foundation.errors import Advice
from foundation.http import client as http
from receiver.gradebook.base import SET_ACTIVITY
from receiver.sources.base import Misconfigured, SiteOutage, Transient
from receiver.sources.http_client import MAX_DETAIL, is_temporary


class MissingRecord(StrEnum):
    """The record that Moodle does not find: a course, the context of a course's token, or other."""

    COURSE = "course"
    CONTEXT = "context"
    UNCLEAR = "unclear"


@dataclass(frozen=True)
class Success:
    """The function succeeded and returned this document; its numbers are exact."""

    document: Any


@dataclass(frozen=True)
class InvalidToken:
    """Moodle does not know the token: it was regenerated or removed, or it has expired."""

    detail: str


@dataclass(frozen=True)
class AccessDenied:
    """The token has just expired, or may not use this function, service or address."""

    detail: str


@dataclass(frozen=True)
class Missing:
    """Moodle does not find a record; UNCLEAR if it does not say in English which one."""

    what: MissingRecord
    detail: str


MoodleFailure = InvalidToken | AccessDenied | Missing | Misconfigured | SiteOutage | Transient
MoodleResult = Success | MoodleFailure

TRY_LATER = Advice(
    "No action needed yet: the next run tries again. If this persists, check that Moodle."
)
TRY_SITE_LATER = Advice(
    "No action needed if this is planned: the next run tries again. If it persists, check that "
    "Moodle: its maintenance mode, a started upgrade, its database."
)
RAISE_TIMEOUT = Advice(
    "The next run tries again. If this persists, set RECEIVER_MOODLE_TIMEOUT to more seconds, or "
    "find out why that Moodle takes so long."
)
_RAISE_GATEWAY_TIMEOUT = Advice(
    "Have that Moodle's administrator raise the time-out of its web server and of the proxies in "
    "front of it (nginx: fastcgi_read_timeout, proxy_read_timeout; Apache: ProxyTimeout)."
)
CHECK_URL = Advice(
    "Check the URL of that Moodle, and what responds at its /webservice/rest/server.php.",
    "sources list",
)
_FIX_ACCOUNT = Advice(
    "Have that Moodle's administrator fix the account that the tokens belong to: it must be "
    "confirmed and allowed to log in, neither suspended nor expired, its password current, its "
    "profile complete, and the site policy accepted."
)
CHECK_RIGHTS = Advice(
    "Check that the token belongs to this course, and that its user may see the course and its "
    "grades (gradereport/user:view, moodle/grade:viewall; moodle/course:view and viewhiddencourses "
    "if not enrolled; moodle/site:accessallgroups if there are groups) and, in ELMS, edit them "
    "(moodle/grade:edit)."
)
_USE_WIDER_TOKEN = Advice(
    "The token is valid for another course only: enter one for this course or for the whole site."
)
_OPEN_COURSE = Advice(
    "Have that Moodle's administrator give the token's user moodle/course:view, or enrol it in the "
    "course, and, if the course is hidden, moodle/course:viewhiddencourses."
)


def _give(right: str) -> Advice:
    return Advice(f"Have that Moodle's administrator give the token's user {right} in the course.")


# Moodle says the same of grades that the token's user may not view and not edit.
VIEW_GRADES = _give("moodle/grade:viewall")
EDIT_GRADES = _give("moodle/grade:edit")

# The rights by the names that Moodle shows of them in English.
_RIGHTS = {
    "(View user report)": _give("gradereport/user:view"),
    "(View grades of other users)": VIEW_GRADES,
}
_ADD_FUNCTION = Advice(
    "Have that Moodle's administrator add the function to the service that the token belongs to."
)
_ENABLE_WEB_SERVICES = Advice(
    "Have that Moodle's administrator enable web services and the REST protocol "
    "(Site administration > Server > Web services)."
)
_CHECK_RELEASE = Advice("Check the release of that Moodle; 4.3 and later are known to work.")

_ACCOUNT_CODES = {
    "wsaccessusersuspended",
    "wsaccessuserexpired",
    "wsaccessusernologin",
    "wsaccessuserdeleted",
    "wsaccessuserunconfirmed",
    "passwordisexpired",
    "usernotconfirmed",
    # Moodle requires these of everyone who opens a course.
    "forcepasswordchangenotice",
    "nopasswordchangeforced",
    "usernotfullysetup",
    "sitepolicynotagreed",
}
# Moodle responds with these to every request while the trouble lasts.
_SITE_CODES = {"sitemaintenance", "upgraderunning", "dbconnectionfailed"}
_ENTRY_CODES = {
    "restrictedcontextexception": _USE_WIDER_TOKEN,
    "errorcoursecontextnotvalid": CHECK_RIGHTS,
    "nopermissions": CHECK_RIGHTS,
    "nopermissiontoviewgrades": VIEW_GRADES,
    "requireloginerror": _OPEN_COURSE,
    "notingroup": _give("moodle/site:accessallgroups"),
    "invalidcoursemodule": SET_ACTIVITY,
    "invalidparameter": _CHECK_RELEASE,
}
_ENTRY_EXCEPTIONS = {
    "restricted_context_exception": _USE_WIDER_TOKEN,
    "required_capability_exception": CHECK_RIGHTS,
}
_MISSING_CODES = {"invalidrecord", "invalidrecordunknown", "invalidcourseid"}
_TABLE = re.compile(r"\btable ([a-z0-9_]+)\.?\s*\Z", re.ASCII)

# Where a document may begin after a message of PHP, and how much of a response is searched for it.
# The one that is not an object or a list is the status of a write, such as 0.
_DOCUMENT = re.compile(rb"[>\n]\s*([{\[]|[0-9]\s*\Z)")
_MAX_MESSAGES_BYTES = 64 * 1024
_MAX_STARTS = 10

_PAGE = re.compile(r"<(?:!doctype\s+html|html|head|body|title)\b", re.IGNORECASE)
_TITLE = re.compile(r"<title[^>]*>([^<]*)", re.IGNORECASE)
# How much of a body that is no document is shown, in bytes.
_MAX_SHOWN = 120


def check_service_advice(functions: Iterable[str]) -> Advice:
    """Return what to do about a token that may not use any of its functions."""
    return Advice(
        "Have that Moodle's administrator check that the token's user has the capability "
        f"webservice/rest:use, that the token's service is enabled and allows "
        f"{', '.join(functions)}, and the users, addresses and dates that the service and the "
        "token are restricted to."
    )


def classify(
    status: int, content_type: str | None, body: bytes, *, location: str | None = None
) -> MoodleResult:
    """Return the meaning of a response; an unknown one never says that a token is invalid.

    `location` is the target of a redirect, which is reported and not followed.
    """
    if status == 504:
        return Transient(
            "responded 504: its web server stopped waiting", _RAISE_GATEWAY_TIMEOUT, timed_out=True
        )
    if is_temporary(status):
        return Transient(f"responded {status}", TRY_LATER)
    if status == 403 and not body.strip():
        return SiteOutage(
            "responded 403 without a body: web services are disabled", _ENABLE_WEB_SERVICES
        )
    if 300 <= status < 500:
        to = f" to {http.safe_line(location, MAX_DETAIL)}" if location else ""
        return SiteOutage(
            f"responded {status}{to}, which Moodle's web services never do", CHECK_URL
        )
    if status != 200:
        return Transient(f"responded {status}", TRY_LATER)
    try:
        document = _load(body)
    except strict_json.StrictJsonError as error:
        return _no_document(content_type, body, error)
    if isinstance(document, dict) and document.keys() & {"exception", "errorcode"}:
        return _failure(document)
    return Success(document)


def _load(body: bytes) -> Any:
    """Return the document in a body, or raise StrictJsonError.

    A byte order mark, and messages that PHP displays before the document, are skipped.
    """
    body = body.removeprefix(codecs.BOM_UTF8).lstrip()
    try:
        return strict_json.load(body, exact=True)
    except strict_json.StrictJsonError as error:
        # A body that begins with a document is incomplete: a part of it is not the document.
        if not body.startswith((b"{", b"[")):
            starts = _DOCUMENT.finditer(body, 0, _MAX_MESSAGES_BYTES)
            for start in islice(starts, _MAX_STARTS):
                with suppress(strict_json.StrictJsonError):
                    return strict_json.load(body[start.start(1) :], exact=True)
        raise error from None


def _no_document(content_type: str | None, body: bytes, error: Exception) -> MoodleResult:
    """Return the meaning of a body that is not JSON, with its beginning."""
    text = body[:_MAX_MESSAGES_BYTES].decode("utf-8", errors="replace")
    title = _TITLE.search(text)
    shown = http.safe_line(_plain(title[1] if title else text), _MAX_SHOWN)
    kind = http.safe_line(content_type or "", _MAX_SHOWN) or "without a content type"
    if _PAGE.search(text):
        # The web services of a Moodle never respond with a page: another program did.
        return SiteOutage(f"responded {kind}, a page instead of JSON: {shown!r}", CHECK_URL)
    return Transient(f"responded {kind}, and {error}: {shown!r}", TRY_LATER)


def _plain(text: str) -> str:
    return html.unescape(re.sub(r"<[^>]*>", " ", text))


def _failure(document: dict[str, Any]) -> MoodleResult:
    code = _text(document, "errorcode")
    # Moodle writes HTML.
    message = _plain(_text(document, "message"))
    name = code or _text(document, "exception") or "an error without a code"
    detail = http.safe_line(f"{name}: {message}" if message.strip() else name, MAX_DETAIL)
    if code == "invalidtoken":
        return InvalidToken(detail)
    if code == "accessexception":
        return AccessDenied(detail)
    if code in _MISSING_CODES:
        return _missing(message, detail)
    if code in _ACCOUNT_CODES:
        return SiteOutage(detail, _FIX_ACCOUNT)
    if code in _SITE_CODES:
        return SiteOutage(detail, TRY_SITE_LATER)
    # Without an error code it is a crash in Moodle, whatever its class.
    exception = _text(document, "exception").rpartition("\\")[2] if code else ""
    named = next((advice for name, advice in _RIGHTS.items() if name in message), None)
    step = named or _ENTRY_CODES.get(code) or _ENTRY_EXCEPTIONS.get(exception)
    return Misconfigured(detail, step) if step else Transient(detail, TRY_LATER)


def _missing(message: str, detail: str) -> MoodleResult:
    table = _TABLE.search(message)
    match table and table.group(1):
        case None:
            return Missing(MissingRecord.UNCLEAR, detail)
        case "course":
            return Missing(MissingRecord.COURSE, detail)
        case "context":
            return Missing(MissingRecord.CONTEXT, detail)
        case "external_functions":
            return Misconfigured(detail, _ADD_FUNCTION)
        case _:
            return Transient(detail, TRY_LATER)


def _text(document: dict[str, Any], key: str) -> str:
    value = document.get(key)
    return value if isinstance(value, str) else ""
