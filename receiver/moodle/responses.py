"""What an answer of Moodle's web services means: the one table from answers to verdicts."""

import html
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from contract import strict_json
from foundation.http import client as http
from receiver.sources.base import Misconfigured, SiteOutage, Transient
from receiver.sources.http_client import MAX_DETAIL


class Lost(StrEnum):
    """What Moodle does not find: the course, the context of the course's own token, or neither."""

    COURSE = "course"
    CONTEXT = "context"
    UNCLEAR = "unclear"


@dataclass(frozen=True)
class Fine:
    """The function did its work, and answered with this; its numbers are exact."""

    document: Any


@dataclass(frozen=True)
class InvalidToken:
    """Moodle does not know the token: it was regenerated, removed, or has expired."""

    detail: str


@dataclass(frozen=True)
class Ambiguous:
    """The token has just expired, or is barred from this function, service or address."""

    detail: str


@dataclass(frozen=True)
class Missing:
    """Moodle misses a record; UNCLEAR where it does not say in English which."""

    what: Lost
    detail: str


Verdict = Fine | InvalidToken | Ambiguous | Missing | Misconfigured | SiteOutage | Transient

LATER = "Nothing yet: the next run asks again. If it stays so, look at that Moodle."
CHECK_URL = (
    "Check the URL of that Moodle, and what answers at its /webservice/rest/server.php "
    "(`receiver sources list` shows a source's URL)."
)
_ACCOUNT = (
    "Have that Moodle's administrator mend the account that the tokens belong to: neither "
    "suspended nor expired, confirmed, allowed to log in, its password not expired nor to be "
    "changed, its profile complete, the site policy agreed to."
)
_RIGHTS = (
    "Check that the token is of this course, and that its user may see the course and its grades "
    "(gradereport/user:view, moodle/grade:viewall; moodle/course:view and viewhiddencourses where "
    "it is not enrolled; moodle/site:accessallgroups where there are groups), and edit them in "
    "ELMS (moodle/grade:edit)."
)
_SERVICE = (
    "Have that Moodle's administrator add the function to the service that the token belongs to."
)
_ACTIVITY = (
    "Name an activity that is there with `receiver registry set-activity COURSE_ID --course N "
    "--activity N`."
)
_WEB_SERVICES = (
    "Have that Moodle's administrator switch on web services and the REST protocol "
    "(Site administration > Server > Web services)."
)
_REPORT = "Check which release that Moodle is of; 4.3 and later are known to answer."

_SITE_CODES = {
    "wsaccessusersuspended",
    "wsaccessuserexpired",
    "wsaccessusernologin",
    "wsaccessuserdeleted",
    "wsaccessuserunconfirmed",
    "passwordisexpired",
    "usernotconfirmed",
    # What Moodle asks of everybody who opens a course.
    "forcepasswordchangenotice",
    "nopasswordchangeforced",
    "usernotfullysetup",
    "sitepolicynotagreed",
}
_ENTRY_CODES = {
    "restrictedcontextexception": _RIGHTS,
    "errorcoursecontextnotvalid": _RIGHTS,
    "nopermissions": _RIGHTS,
    "nopermissiontoviewgrades": _RIGHTS,  # so too where it may not be edited
    "requireloginerror": _RIGHTS,
    "notingroup": _RIGHTS,
    "invalidcoursemodule": _ACTIVITY,
    "invalidparameter": _REPORT,
}
_ENTRY_EXCEPTIONS = {
    "restricted_context_exception": _RIGHTS,
    "required_capability_exception": _RIGHTS,
}
_MISSING_CODES = {"invalidrecord", "invalidrecordunknown", "invalidcourseid"}
_BUSY = {408, 425, 429}
_TABLE = re.compile(r"\btable ([a-z0-9_]+)\.?\s*\Z", re.ASCII)


def classify(
    status: int, content_type: str | None, body: bytes, *, location: str | None = None
) -> Verdict:
    """Return what an answer means; nothing that is not known here is ever held against a token.

    `location` is where a redirect leads, which is told and not followed.
    """
    if status >= 500 or status in _BUSY:
        return Transient(f"answered {status}", LATER)
    if status == 403 and not body.strip():
        return SiteOutage("answered 403 and nothing else: web services are off", _WEB_SERVICES)
    if 300 <= status < 500:
        to = f" to {http.clean(location, MAX_DETAIL)}" if location else ""
        return SiteOutage(f"answered {status}{to}, as no Moodle's web service does", CHECK_URL)
    if status != 200:
        return Transient(f"answered {status}", LATER)
    try:
        document = strict_json.load(body, exact=True)
    except strict_json.StrictJsonError as error:
        return Transient(f"answered {_kind(content_type)}, and {error}", LATER)
    if isinstance(document, dict) and document.keys() & {"exception", "errorcode"}:
        return _failure(document)
    return Fine(document)


def _kind(content_type: str | None) -> str:
    return http.clean(content_type or "", MAX_DETAIL) or "without a content type"


def _failure(document: dict[str, Any]) -> Verdict:
    code, detail = _text(document, "errorcode"), _said(document)
    if code == "invalidtoken":
        return InvalidToken(detail)
    if code == "accessexception":
        return Ambiguous(detail)
    if code in _MISSING_CODES:
        return _missing(_message(document), detail)
    if code in _SITE_CODES:
        return SiteOutage(detail, _ACCOUNT)
    # Without an errorcode it is a crash inside Moodle, whatever its class.
    exception = _text(document, "exception").rpartition("\\")[2] if code else ""
    step = _ENTRY_CODES.get(code) or _ENTRY_EXCEPTIONS.get(exception)
    return Misconfigured(detail, step) if step else Transient(detail, LATER)


def _missing(message: str, detail: str) -> Verdict:
    named = _TABLE.search(message)
    match named and named.group(1):
        case None:
            return Missing(Lost.UNCLEAR, detail)
        case "course":
            return Missing(Lost.COURSE, detail)
        case "context":
            return Missing(Lost.CONTEXT, detail)
        case "external_functions":
            return Misconfigured(detail, _SERVICE)
        case _:
            return Transient(detail, LATER)


def _text(document: dict[str, Any], key: str) -> str:
    value = document.get(key)
    return value if isinstance(value, str) else ""


def _message(document: dict[str, Any]) -> str:
    """Return the message as it is meant to be read: Moodle writes for pages."""
    return html.unescape(re.sub(r"<[^>]*>", " ", _text(document, "message")))


def _said(document: dict[str, Any]) -> str:
    code = _text(document, "errorcode") or _text(document, "exception") or "an error without a name"
    message = _message(document)
    return http.clean(f"{code}: {message}" if message.strip() else code, MAX_DETAIL)
