"""The meaning of responses of Moodle's web services: a table from error codes to results."""

import html
import re
from dataclasses import dataclass
from enum import StrEnum
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


MoodleResult = (
    Success | InvalidToken | AccessDenied | Missing | Misconfigured | SiteOutage | Transient
)

LATER = Advice(
    "No action needed yet: the next run tries again. If this persists, check that Moodle."
)
CHECK_URL = Advice(
    "Check the URL of that Moodle, and what responds at its /webservice/rest/server.php.",
    "sources list",
)
_ACCOUNT = Advice(
    "Have that Moodle's administrator fix the account that the tokens belong to: it must be "
    "confirmed and allowed to log in, neither suspended nor expired, its password current, its "
    "profile complete, and the site policy accepted."
)
_RIGHTS = Advice(
    "Check that the token belongs to this course, and that its user may see the course and its "
    "grades (gradereport/user:view, moodle/grade:viewall; moodle/course:view and viewhiddencourses "
    "if not enrolled; moodle/site:accessallgroups if there are groups) and, in ELMS, edit them "
    "(moodle/grade:edit)."
)
_SERVICE = Advice(
    "Have that Moodle's administrator add the function to the service that the token belongs to."
)
_WEB_SERVICES = Advice(
    "Have that Moodle's administrator enable web services and the REST protocol "
    "(Site administration > Server > Web services)."
)
_REPORT = Advice("Check the release of that Moodle; 4.3 and later are known to work.")

_SITE_CODES = {
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
_ENTRY_CODES = {
    "restrictedcontextexception": _RIGHTS,
    "errorcoursecontextnotvalid": _RIGHTS,
    "nopermissions": _RIGHTS,
    "nopermissiontoviewgrades": _RIGHTS,  # also if the grades may not be edited
    "requireloginerror": _RIGHTS,
    "notingroup": _RIGHTS,
    "invalidcoursemodule": SET_ACTIVITY,
    "invalidparameter": _REPORT,
}
_ENTRY_EXCEPTIONS = {
    "restricted_context_exception": _RIGHTS,
    "required_capability_exception": _RIGHTS,
}
_MISSING_CODES = {"invalidrecord", "invalidrecordunknown", "invalidcourseid"}
_TABLE = re.compile(r"\btable ([a-z0-9_]+)\.?\s*\Z", re.ASCII)


def classify(
    status: int, content_type: str | None, body: bytes, *, location: str | None = None
) -> MoodleResult:
    """Return the meaning of a response; an unknown one never says that a token is invalid.

    `location` is the target of a redirect, which is reported and not followed.
    """
    if is_temporary(status):
        return Transient(f"responded {status}", LATER)
    if status == 403 and not body.strip():
        return SiteOutage("responded 403 without a body: web services are disabled", _WEB_SERVICES)
    if 300 <= status < 500:
        to = f" to {http.safe_line(location, MAX_DETAIL)}" if location else ""
        return SiteOutage(
            f"responded {status}{to}, which Moodle's web services never do", CHECK_URL
        )
    if status != 200:
        return Transient(f"responded {status}", LATER)
    try:
        document = strict_json.load(body, exact=True)
    except strict_json.StrictJsonError as error:
        kind = http.safe_line(content_type or "", MAX_DETAIL) or "without a content type"
        return Transient(f"responded {kind}, and {error}", LATER)
    if isinstance(document, dict) and document.keys() & {"exception", "errorcode"}:
        return _failure(document)
    return Success(document)


def _failure(document: dict[str, Any]) -> MoodleResult:
    code = _text(document, "errorcode")
    # Moodle writes HTML.
    message = html.unescape(re.sub(r"<[^>]*>", " ", _text(document, "message")))
    name = code or _text(document, "exception") or "an error without a code"
    detail = http.safe_line(f"{name}: {message}" if message.strip() else name, MAX_DETAIL)
    if code == "invalidtoken":
        return InvalidToken(detail)
    if code == "accessexception":
        return AccessDenied(detail)
    if code in _MISSING_CODES:
        return _missing(message, detail)
    if code in _SITE_CODES:
        return SiteOutage(detail, _ACCOUNT)
    # Without an error code it is a crash in Moodle, whatever its class.
    exception = _text(document, "exception").rpartition("\\")[2] if code else ""
    step = _ENTRY_CODES.get(code) or _ENTRY_EXCEPTIONS.get(exception)
    return Misconfigured(detail, step) if step else Transient(detail, LATER)


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
            return Misconfigured(detail, _SERVICE)
        case _:
            return Transient(detail, LATER)


def _text(document: dict[str, Any], key: str) -> str:
    value = document.get(key)
    return value if isinstance(value, str) else ""
