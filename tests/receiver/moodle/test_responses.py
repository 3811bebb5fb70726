"""The table from Moodle's answers to verdicts: the recorded ones, and what they might turn into."""

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
    """Return the verdict on a recorded answer."""
    recorded = RECORDED[name]
    return classify(recorded.status, recorded.content_type, recorded.body)


def on(body: bytes, status: int = 200, content_type: str | None = JSON) -> MoodleResult:
    """Return the verdict on a body."""
    return classify(status, content_type, body)


FINE = (
    "site_info",
    "grades",
    "grades_no_students",
    "get_courses_omits_missing",
    "get_courses_none",
    "update_grades_answer",
    "delete_courses",
    "delete_courses_again",
)


@pytest.mark.parametrize("name", FINE)
def test_a_success_brings_its_document(name: str) -> None:
    verdict = of(name)

    assert verdict == Success(json.loads(RECORDED[name].body, parse_float=Decimal))


def test_a_grade_is_never_a_float() -> None:
    verdict = of("grades")

    assert isinstance(verdict, Success)
    raw = verdict.document["usergrades"][0]["gradeitems"][0]["graderaw"]
    assert isinstance(raw, Decimal)
    assert raw == Decimal("72.5")


REFUSED = [
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


@pytest.mark.parametrize(("name", "kind", "words"), REFUSED)
def test_a_recorded_failure_has_its_verdict(
    name: str, kind: type[MoodleResult], words: str
) -> None:
    verdict = of(name)

    assert type(verdict) is kind
    assert not isinstance(verdict, Success)
    assert words in verdict.detail


def test_every_recording_is_classified_here() -> None:
    assert {*FINE, *(str(row.values[0]) for row in REFUSED)} == RECORDED.keys()


@pytest.mark.parametrize(
    ("name", "lost"),
    [
        pytest.param("course_deleted", MissingRecord.COURSE, id="the course"),
        pytest.param("course_deleted_debug", MissingRecord.COURSE, id="the course, with debuginfo"),
        pytest.param("course_deleted_own_token", MissingRecord.CONTEXT, id="the token's context"),
    ],
)
def test_the_missing_table_says_what_is_lost(name: str, lost: MissingRecord) -> None:
    verdict = of(name)

    assert isinstance(verdict, Missing)
    assert verdict.what is lost


@pytest.mark.parametrize(
    "message",
    [
        pytest.param("Der Datensatz wurde in der Tabelle »course« nicht gefunden", id="German"),
        pytest.param("No se puede encontrar el registro de la tabla course.", id="Spanish"),
        pytest.param("", id="nothing"),
        pytest.param("table course. Please ask somebody else", id="not at its end"),
    ],
)
def test_another_language_is_no_deletion_by_itself(message: str) -> None:
    verdict = on(failure(exception="x", errorcode="invalidrecord", message=message))

    assert isinstance(verdict, Missing)
    assert verdict.what is MissingRecord.UNCLEAR


@pytest.mark.parametrize(
    ("code", "message"),
    [
        pytest.param("invalidcourseid", "You are trying to use an invalid course ID", id="course"),
        pytest.param("invalidrecordunknown", "Can't find data record in database.", id="unnamed"),
    ],
)
def test_a_missing_record_that_is_not_named_is_unclear(code: str, message: str) -> None:
    verdict = on(failure(exception="dml_missing_record_exception", errorcode=code, message=message))

    assert isinstance(verdict, Missing)
    assert verdict.what is MissingRecord.UNCLEAR


def test_a_message_for_a_page_is_read_as_it_is_meant() -> None:
    message = "<p>Can&#039;t find data record in database table course.</p>"

    verdict = on(failure(exception="x", errorcode="invalidrecord", message=message))

    assert verdict == Missing(
        MissingRecord.COURSE, "invalidrecord: Can't find data record in database table course."
    )


def test_another_table_says_nothing_of_the_course() -> None:
    message = "Can't find data record in database table grade_items."

    verdict = on(failure(exception="x", errorcode="invalidrecord", message=message))

    assert isinstance(verdict, Transient)


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
def test_a_fault_of_the_account_is_the_whole_sites(code: str) -> None:
    verdict = on(failure(exception="moodle_exception", errorcode=code, message="Zugriff verwehrt"))

    assert isinstance(verdict, SiteOutage)
    assert "account" in verdict.next_step


@pytest.mark.parametrize(
    "keys",
    [
        pytest.param({"errorcode": "nopermissions"}, id="by its code"),
        pytest.param({"errorcode": "nopermissiontoviewgrades"}, id="the grades are closed"),
        pytest.param({"errorcode": "requireloginerror"}, id="a hidden course, or not enrolled"),
        pytest.param({"errorcode": "notingroup"}, id="separate groups"),
        pytest.param(
            {"errorcode": "new", "exception": "core\\required_capability_exception"},
            id="by its exception, where the code is unknown",
        ),
        pytest.param(
            {"errorcode": "new", "exception": "restricted_context_exception"},
            id="by an exception's old name",
        ),
    ],
)
def test_missing_rights_are_the_entrys(keys: dict[str, str]) -> None:
    verdict = on(failure(**keys, message="nein"))

    assert isinstance(verdict, Misconfigured)
    assert "token" in verdict.next_step


@pytest.mark.parametrize(
    "name", ["token_invalid", "token_expired_first_call", "course_deleted", "user_suspended"]
)
def test_without_an_errorcode_nothing_is_learnt(name: str) -> None:
    document = json.loads(RECORDED[name].body)
    del document["errorcode"]

    assert isinstance(on(json.dumps(document).encode()), Transient)


@pytest.mark.parametrize("name", [str(row.values[0]) for row in REFUSED[:11]])
def test_unknown_keys_change_nothing(name: str) -> None:
    document = {**json.loads(RECORDED[name].body), "debuginfo": "x", "backtrace": [1], "new": None}

    assert on(json.dumps(document).encode()) == of(name)


def test_an_unknown_code_is_named() -> None:
    verdict = on(failure(exception="moodle_exception", errorcode="brandnew", message="Hm"))

    assert isinstance(verdict, Transient)
    assert verdict.detail == "brandnew: Hm"


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
def test_what_is_not_json_is_transient(body: bytes, words: str) -> None:
    verdict = on(body, content_type="text/html")

    assert isinstance(verdict, Transient)
    assert words in verdict.detail


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
def test_a_status_that_moodle_does_not_use_is_somebody_elses(
    status: int, kind: type[MoodleResult]
) -> None:
    """A failure of Moodle is a 200; the body of another status is not believed.

    All of a site's courses are asked for at one URL, so that what is wrong with it is the site's.
    """
    assert type(on(RECORDED["token_invalid"].body, status=status)) is kind


def test_a_redirect_says_where_it_leads() -> None:
    verdict = classify(301, "text/html", b"", location="https://moodle.example/webservice/\n")

    assert isinstance(verdict, SiteOutage)
    assert verdict.detail.startswith("responded 301 to https://moodle.example/webservice/, which")


def test_html_and_long_messages_are_not_passed_on() -> None:
    message = "<b>Bad</b>\x1b[31m\n wstoken=0123456789abcdef0123456789abcdef " + "x" * 9000

    verdict = on(failure(exception="x", errorcode="brandnew", message=message))

    assert isinstance(verdict, Transient)
    assert "brandnew: Bad" in verdict.detail
    assert "0123456789abcdef" not in verdict.detail
    assert not {"<", "\x1b", "\n"} & set(verdict.detail)
    assert len(verdict.detail) <= MAX_DETAIL
