"""The table from Moodle's responses to results: the recorded ones, and variations of them."""

import json
import re
from decimal import Decimal
from typing import Any

import pytest

from receiver.moodle.responses import (
    AccessDenied,
    InvalidToken,
    Missing,
    MissingRecord,
    MoodleResult,
    Success,
    classify,
)
from receiver.sources.base import Misconfigured, SiteOutage, Transient
from receiver.sources.http_client import MAX_DETAIL
from tests.receiver.moodle.recordings import RECORDED, failure


def of(name: str, **changes: Any) -> MoodleResult:
    """Return the result of a recorded response, with changed keys; None removes one."""
    recorded = RECORDED[name]
    body = recorded.body
    if changes:
        document = {**json.loads(body), **changes}
        body = failure(**{key: value for key, value in document.items() if value is not None})
    return classify(recorded.status, recorded.content_type, body)


def on(body: bytes, status: int = 200) -> MoodleResult:
    """Return the result of a body."""
    return classify(status, "application/json", body)


def meaning(result: MoodleResult) -> object:
    """Return the record that is missing, or the type of another result."""
    return result.what if isinstance(result, Missing) else type(result)


SUCCESSES = (
    "site_info",
    "grades",
    "grades_no_students",
    "get_courses_omits_missing",
    "get_courses_none",
    "update_grades_answer",
    "delete_courses",
    "delete_courses_again",
)


@pytest.mark.parametrize("name", SUCCESSES)
def test_recorded_success_has_its_document(name: str) -> None:
    result = of(name)

    assert result == Success(json.loads(RECORDED[name].body, parse_float=Decimal))


def test_grade_is_never_a_float() -> None:
    result = of("grades")

    assert isinstance(result, Success)
    raw = result.document["usergrades"][0]["gradeitems"][0]["graderaw"]
    assert (type(raw), raw) == (Decimal, Decimal("72.5"))


FAILURES: dict[str, tuple[object, str]] = {
    "token_invalid": (InvalidToken, "invalidtoken: Invalid token"),
    "token_expired_first_call": (AccessDenied, "accessexception: Access"),
    "course_deleted": (MissingRecord.COURSE, "table course."),
    "course_deleted_debug": (MissingRecord.COURSE, "table course."),
    "course_deleted_own_token": (MissingRecord.CONTEXT, "table context."),
    "record_missing": (MissingRecord.UNCLEAR, "invalidrecordunknown"),
    "unknown_function": (Misconfigured, "external_functions"),
    "token_of_another_course": (Misconfigured, "restrictedcontext"),
    "batch_context_error": (Misconfigured, "errorcoursecontext"),
    "missing_parameter": (Misconfigured, "invalidparameter"),
    "update_grades_no_activity": (Misconfigured, "invalidcoursemodule"),
    "user_suspended": (SiteOutage, "wsaccessusersuspended"),
    "web_services_off": (SiteOutage, "web services are disabled"),
    "maintenance": (SiteOutage, "sitemaintenance"),
    "database_down": (SiteOutage, "dbconnectionfailed: Error: Database"),
    "courses_by_field_ids_crash": (Transient, "Error: Attempt"),
    "unknown_user": (Transient, "invaliduser"),
    "token_invalid_xml": (Transient, "application/xml"),
}


@pytest.mark.parametrize("name", FAILURES)
def test_recorded_failure_has_its_result(name: str) -> None:
    expected, words = FAILURES[name]

    result = of(name)

    assert meaning(result) == expected
    assert words in getattr(result, "detail", "")


def test_every_recording_is_classified() -> None:
    assert {*SUCCESSES, *FAILURES} == RECORDED.keys()


@pytest.mark.parametrize("name", ["token_invalid", "token_expired_first_call", "course_deleted"])
def test_unknown_keys_change_nothing(name: str) -> None:
    assert of(name, debuginfo="x", backtrace=[1]) == of(name)


@pytest.mark.parametrize(
    "name",
    ["token_invalid", "token_expired_first_call", "course_deleted", "token_of_another_course"],
)
def test_failure_without_an_error_code_is_transient(name: str) -> None:
    assert meaning(of(name, errorcode=None)) == Transient


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        pytest.param("<p>Can&#039;t find it in table course.</p>", MissingRecord.COURSE, id="HTML"),
        pytest.param("Keiner in der Tabelle »course«.", MissingRecord.UNCLEAR, id="German"),
        pytest.param("No hay en la tabla course.", MissingRecord.UNCLEAR, id="Spanish"),
        pytest.param("table course. Or not?", MissingRecord.UNCLEAR, id="not at its end"),
        pytest.param("Not in table grade_items.", Transient, id="another table"),
    ],
)
def test_missing_record_is_the_one_that_is_named_in_english(message: str, expected: object) -> None:
    assert meaning(of("course_deleted", message=message)) == expected


@pytest.mark.parametrize(
    ("code", "expected", "advice"),
    [
        pytest.param("invalidcourseid", MissingRecord.UNCLEAR, "", id="course"),
        pytest.param("upgraderunning", SiteOutage, "upgrade", id="upgrade"),
        pytest.param("wsaccessusersuspended", SiteOutage, "account", id="suspended"),
        pytest.param("wsaccessuserexpired", SiteOutage, "account", id="expired"),
        pytest.param("wsaccessusernologin", SiteOutage, "account", id="no log-in"),
        pytest.param("wsaccessuserdeleted", SiteOutage, "account", id="deleted"),
        pytest.param("wsaccessuserunconfirmed", SiteOutage, "account", id="unconfirmed"),
        pytest.param("usernotconfirmed", SiteOutage, "account", id="not confirmed"),
        pytest.param("passwordisexpired", SiteOutage, "account", id="password expired"),
        pytest.param("forcepasswordchangenotice", SiteOutage, "account", id="password to change"),
        pytest.param("nopasswordchangeforced", SiteOutage, "account", id="password not to change"),
        pytest.param("usernotfullysetup", SiteOutage, "account", id="profile"),
        pytest.param("sitepolicynotagreed", SiteOutage, "account", id="site policy"),
        pytest.param("nopermissions", Misconfigured, "gradereport/user:view", id="rights"),
        pytest.param(
            "nopermissiontoviewgrades", Misconfigured, "moodle/grade:viewall", id="grades"
        ),
        pytest.param("requireloginerror", Misconfigured, "moodle/course:view", id="not enrolled"),
        pytest.param("notingroup", Misconfigured, "moodle/site:accessallgroups", id="groups"),
    ],
)
def test_error_code_decides(code: str, expected: object, advice: str) -> None:
    result = on(failure(exception="moodle_exception", errorcode=code, message="Zugriff verwehrt"))

    assert meaning(result) == expected
    assert advice in repr(getattr(result, "advice", ""))


@pytest.mark.parametrize(
    ("name", "right"),
    [
        ("View user report", "gradereport/user:view"),
        ("View grades of other users", "moodle/grade:viewall"),
    ],
)
def test_right_that_the_message_names_is_the_only_one_advised(name: str, right: str) -> None:
    message = f"Sorry, but you do not currently have permissions to do that ({name})."
    code = {"exception": "required_capability_exception", "errorcode": "nopermissions"}

    result = on(failure(**code, message=message))

    assert isinstance(result, Misconfigured)
    assert re.findall(r"[a-z]+/[a-z]+:[a-z]+", result.advice.text) == [right]


@pytest.mark.parametrize(
    "exception", ["core\\required_capability_exception", "restricted_context_exception"]
)
def test_exception_of_an_unknown_code_decides(exception: str) -> None:
    result = on(failure(exception=exception, errorcode="brandnew", message="nein"))

    assert meaning(result) == Misconfigured


NOTICE = (
    b"<br />\n<b>Notice</b>:  Undefined variable: a{b} in <b>/lib.php</b> on line <b>2</b><br />\n"
)
MEMORY = b"<br />\n<b>Fatal error</b>:  Allowed memory size exhausted in <b>/lib.php</b>"


@pytest.mark.parametrize(
    "before",
    [
        pytest.param(b"\xef\xbb\xbf", id="byte order mark"),
        pytest.param(b"\n\n", id="empty lines"),
        pytest.param(NOTICE, id="PHP notice as HTML"),
        pytest.param(b"PHP Warning:  [x] in /lib.php on line 2\n", id="PHP warning as text"),
    ],
)
@pytest.mark.parametrize("body", [b'{"a":[{"b":1}]}', b"[]", b"0"])
def test_document_after_something_else_is_read(before: bytes, body: bytes) -> None:
    assert on(before + body) == Success(json.loads(body))


@pytest.mark.parametrize(
    ("body", "expected", "words"),
    [
        pytest.param(b"", Transient, "is not JSON", id="nothing"),
        pytest.param(b'"\xff"', Transient, "not UTF-8", id="not UTF-8"),
        pytest.param(MEMORY, Transient, "Fatal error : Allowed memory size", id="PHP error"),
        pytest.param(b'{"a":\n{"exception":"x"}', Transient, "is not JSON", id="incomplete"),
        pytest.param(
            b"<!DOCTYPE html><title>Log in</title><p>Welcome</p>", SiteOutage, "'Log in'", id="page"
        ),
        pytest.param(NOTICE + b"<html><p>Welcome</p>", SiteOutage, "Notice", id="notice and page"),
    ],
)
def test_no_document_is_shown(body: bytes, expected: type[MoodleResult], words: str) -> None:
    result = on(body + b" " * 9000)

    assert type(result) is expected
    assert words in getattr(result, "detail", "")


def test_integer_of_60_digits_is_exact() -> None:
    assert on(b'{"a":' + b"9" * 60 + b"}") == Success({"a": Decimal("9" * 60)})


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        pytest.param(204, Transient, id="no content"),
        pytest.param(302, SiteOutage, id="a redirect"),
        pytest.param(403, SiteOutage, id="403 with a page"),
        pytest.param(404, SiteOutage, id="not found"),
        pytest.param(429, Transient, id="too many"),
        pytest.param(503, Transient, id="503"),
        pytest.param(504, Transient, id="504"),
    ],
)
def test_status_that_moodle_does_not_use(status: int, kind: type[MoodleResult]) -> None:
    """A failure of Moodle is a 200; the body of another status is ignored.

    All courses of a site have one URL, so that a problem with it concerns the whole site.
    """
    assert type(on(RECORDED["token_invalid"].body, status)) is kind


def test_message_is_cleaned_and_cut() -> None:
    message = "<b>Bad</b>\x1b[31m\n wstoken=0123456789abcdef0123456789abcdef " + "x" * 9000

    result = on(failure(exception="x", errorcode="brandnew", message=message))

    assert isinstance(result, Transient)
    assert "brandnew: Bad" in result.detail
    assert "0123456789abcdef" not in result.detail
    assert not {"<", "\x1b", "\n"} & set(result.detail)
    assert len(result.detail) <= MAX_DETAIL
