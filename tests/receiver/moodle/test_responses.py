"""The table from Moodle's responses to results: the recorded ones, and variations of them."""

import json
from decimal import Decimal

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

JSON = "application/json"


def of(name: str) -> MoodleResult:
    """Return the result of a recorded response."""
    recorded = RECORDED[name]
    return classify(recorded.status, recorded.content_type, recorded.body)


def on(body: bytes, status: int = 200, content_type: str | None = JSON) -> MoodleResult:
    """Return the result of a body."""
    return classify(status, content_type, body)


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
    assert isinstance(raw, Decimal)
    assert raw == Decimal("72.5")


FAILURES = [
    pytest.param("token_invalid", InvalidToken, "invalidtoken: Invalid token", id="invalid token"),
    pytest.param(
        "token_expired_first_call", AccessDenied, "accessexception: Access", id="ambiguous"
    ),
    pytest.param("course_deleted", Missing, "table course.", id="course deleted"),
    pytest.param("course_deleted_debug", Missing, "table course.", id="deleted, debugging on"),
    pytest.param("course_deleted_own_token", Missing, "table context.", id="own token"),
    pytest.param("unknown_function", Misconfigured, "external_functions", id="no such function"),
    pytest.param("token_of_another_course", Misconfigured, "restrictedcontext", id="other course"),
    pytest.param("batch_context_error", Misconfigured, "errorcoursecontext", id="course context"),
    pytest.param("missing_parameter", Misconfigured, "invalidparameter", id="parameter"),
    pytest.param("update_grades_no_activity", Misconfigured, "invalidcoursemodule", id="activity"),
    pytest.param("user_suspended", SiteOutage, "wsaccessusersuspended", id="suspended"),
    pytest.param("web_services_off", SiteOutage, "web services are disabled", id="switched off"),
    pytest.param("maintenance", Transient, "sitemaintenance", id="maintenance"),
    pytest.param("database_down", Transient, "dbconnectionfailed: Error: Database", id="database"),
    pytest.param("courses_by_field_ids_crash", Transient, "Error: Attempt", id="no errorcode"),
    pytest.param("unknown_user", Transient, "invaliduser", id="unknown code"),
    pytest.param("token_invalid_xml", Transient, "application/xml", id="XML"),
]


@pytest.mark.parametrize(("name", "kind", "words"), FAILURES)
def test_recorded_failure_has_its_result(name: str, kind: type[MoodleResult], words: str) -> None:
    result = of(name)

    assert type(result) is kind
    assert not isinstance(result, Success)
    assert words in result.detail


def test_every_recording_is_classified() -> None:
    assert {*SUCCESSES, *(str(row.values[0]) for row in FAILURES)} == RECORDED.keys()


@pytest.mark.parametrize(
    ("name", "record"),
    [
        pytest.param("course_deleted", MissingRecord.COURSE, id="the course"),
        pytest.param("course_deleted_debug", MissingRecord.COURSE, id="the course, with debuginfo"),
        pytest.param("course_deleted_own_token", MissingRecord.CONTEXT, id="the token's context"),
    ],
)
def test_missing_table_names_the_record(name: str, record: MissingRecord) -> None:
    result = of(name)

    assert isinstance(result, Missing)
    assert result.what is record


@pytest.mark.parametrize(
    "message",
    [
        pytest.param("Der Datensatz wurde in der Tabelle »course« nicht gefunden", id="German"),
        pytest.param("No se puede encontrar el registro de la tabla course.", id="Spanish"),
        pytest.param("", id="nothing"),
        pytest.param("table course. Please ask somebody else", id="not at its end"),
    ],
)
def test_other_language_is_unclear(message: str) -> None:
    result = on(failure(exception="x", errorcode="invalidrecord", message=message))

    assert isinstance(result, Missing)
    assert result.what is MissingRecord.UNCLEAR


@pytest.mark.parametrize(
    ("code", "message"),
    [
        pytest.param("invalidcourseid", "You are trying to use an invalid course ID", id="course"),
        pytest.param("invalidrecordunknown", "Can't find data record in database.", id="unnamed"),
    ],
)
def test_unnamed_missing_record_is_unclear(code: str, message: str) -> None:
    result = on(failure(exception="dml_missing_record_exception", errorcode=code, message=message))

    assert isinstance(result, Missing)
    assert result.what is MissingRecord.UNCLEAR


def test_html_message_is_read_as_text() -> None:
    message = "<p>Can&#039;t find data record in database table course.</p>"

    result = on(failure(exception="x", errorcode="invalidrecord", message=message))

    assert result == Missing(
        MissingRecord.COURSE, "invalidrecord: Can't find data record in database table course."
    )


def test_other_missing_table_is_transient() -> None:
    message = "Can't find data record in database table grade_items."

    result = on(failure(exception="x", errorcode="invalidrecord", message=message))

    assert isinstance(result, Transient)


@pytest.mark.parametrize(
    "code",
    [
        "wsaccessusersuspended",
        "wsaccessuserexpired",
        "wsaccessusernologin",
        "wsaccessuserdeleted",
        "wsaccessuserunconfirmed",
        "passwordisexpired",
        "usernotconfirmed",
        "forcepasswordchangenotice",
        "nopasswordchangeforced",
        "usernotfullysetup",
        "sitepolicynotagreed",
    ],
)
def test_account_problem_is_a_site_outage(code: str) -> None:
    result = on(failure(exception="moodle_exception", errorcode=code, message="Zugriff verwehrt"))

    assert isinstance(result, SiteOutage)
    assert "account" in result.advice.text


@pytest.mark.parametrize(
    "keys",
    [
        pytest.param({"errorcode": "nopermissions"}, id="code"),
        pytest.param({"errorcode": "nopermissiontoviewgrades"}, id="grades"),
        pytest.param({"errorcode": "requireloginerror"}, id="hidden course or not enrolled"),
        pytest.param({"errorcode": "notingroup"}, id="separate groups"),
        pytest.param(
            {"errorcode": "new", "exception": "core\\required_capability_exception"},
            id="exception of an unknown code",
        ),
        pytest.param(
            {"errorcode": "new", "exception": "restricted_context_exception"},
            id="exception's old name",
        ),
    ],
)
def test_missing_permission_is_misconfigured(keys: dict[str, str]) -> None:
    result = on(failure(**keys, message="nein"))

    assert isinstance(result, Misconfigured)
    assert "token" in result.advice.text


@pytest.mark.parametrize(
    "name", ["token_invalid", "token_expired_first_call", "course_deleted", "user_suspended"]
)
def test_without_an_error_code_it_is_transient(name: str) -> None:
    document = json.loads(RECORDED[name].body)
    del document["errorcode"]

    assert isinstance(on(json.dumps(document).encode()), Transient)


@pytest.mark.parametrize("name", [str(row.values[0]) for row in FAILURES[:3]])
def test_unknown_keys_change_nothing(name: str) -> None:
    document = {**json.loads(RECORDED[name].body), "debuginfo": "x", "backtrace": [1], "new": None}

    assert on(json.dumps(document).encode()) == of(name)


def test_unknown_code_is_transient_and_named() -> None:
    result = on(failure(exception="moodle_exception", errorcode="brandnew", message="Hm"))

    assert isinstance(result, Transient)
    assert result.detail == "brandnew: Hm"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        pytest.param(b"", "is not JSON", id="nothing"),
        pytest.param(b"\xef\xbb\xbf[]", "is not JSON", id="byte order mark"),
        pytest.param(RECORDED["grades"].body[:700], "is not JSON", id="cut off"),
        pytest.param(b"<!DOCTYPE html><p>Error</p>", "is not JSON", id="HTML"),
        pytest.param(b'"\xff"', "not UTF-8", id="not UTF-8"),
        pytest.param(b"[" * 100_000, "deeper", id="too deep"),
    ],
)
def test_not_json_is_transient(body: bytes, words: str) -> None:
    result = on(body, content_type="text/html")

    assert isinstance(result, Transient)
    assert words in result.detail


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        pytest.param(204, Transient, id="no content"),
        pytest.param(302, SiteOutage, id="a redirect"),
        pytest.param(403, SiteOutage, id="403 with a page"),
        pytest.param(404, SiteOutage, id="not found"),
        pytest.param(429, Transient, id="too many"),
        pytest.param(500, Transient, id="500"),
        pytest.param(503, Transient, id="503"),
    ],
)
def test_status_that_moodle_does_not_use(status: int, kind: type[MoodleResult]) -> None:
    """A failure of Moodle is a 200; the body of another status is ignored.

    All courses of a site have one URL, so that a problem with it concerns the whole site.
    """
    assert type(on(RECORDED["token_invalid"].body, status=status)) is kind


def test_message_is_cleaned_and_cut() -> None:
    message = "<b>Bad</b>\x1b[31m\n wstoken=0123456789abcdef0123456789abcdef " + "x" * 9000

    result = on(failure(exception="x", errorcode="brandnew", message=message))

    assert isinstance(result, Transient)
    assert "brandnew: Bad" in result.detail
    assert "0123456789abcdef" not in result.detail
    assert not {"<", "\x1b", "\n"} & set(result.detail)
    assert len(result.detail) <= MAX_DETAIL
