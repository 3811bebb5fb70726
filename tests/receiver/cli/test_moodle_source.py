"""The commands of an ELMS whose source is a Moodle."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from contract.tokens import MoodleToken
from receiver.models import MOODLE, Entry
from receiver.moodle.client import SITE_INFO
from receiver.moodle.grade_report import FUNCTION
from receiver.moodle.source import COURSES, COURSES_BY_FIELD
from tests.receiver.cli.conftest import Receiver
from tests.receiver.conftest import Store
from tests.receiver.moodle.fake import FakeMoodle
from tests.receiver.moodle.recordings import Recorded

TOKEN = MoodleToken("0123456789abcdef0123456789abcdef")
SITE_TOKEN = "fedcba9876543210fedcba9876543210"
AddCourses = Callable[..., None]


@pytest.fixture
def add_courses(store: Store, moodle: FakeMoodle, environment: pytest.MonkeyPatch) -> AddCourses:
    """Return a function that adds courses of a Moodle with one token for all."""
    environment.setenv("RECEIVER_SYNC_RETRIES", "1")
    store.add_source("moodle", moodle.url, kind=MOODLE)

    def add(*numbers: str) -> None:
        for number in numbers:
            store.add_course(number, source="moodle", token=TOKEN)

    return add


def test_run_learns_a_deletion_without_a_site_wide_token(
    receiver: Receiver, moodle: FakeMoodle, add_courses: AddCourses
) -> None:
    add_courses("3")
    moodle.says(FUNCTION, "record_missing")
    moodle.says(SITE_INFO, "site_info")
    moodle.says(COURSES, "get_courses_omits_missing")

    first, second = receiver("sync-grades"), receiver("sync-grades")

    listed = json.loads(receiver("registry", "list", "--json").stdout)["courses"]
    assert (first.exit_code, second.exit_code) == (0, 0)
    assert moodle.functions() == [FUNCTION, SITE_INFO, COURSES]
    assert listed[0]["status"] == "course_deleted"
    assert listed[0]["detail"] == "the course was deleted in Moodle"


def test_undecided_deletion_says_what_to_set_up(
    receiver: Receiver, moodle: FakeMoodle, add_courses: AddCourses
) -> None:
    add_courses("3")
    moodle.says(FUNCTION, "record_missing")
    moodle.says(SITE_INFO, "site_info")
    moodle.says(COURSES, "token_expired_first_call")

    result = receiver("sync-grades", "--json")

    (course,) = json.loads(result.stdout)["courses"]
    assert (course["outcome"], course["reason"]) == ("failed", "misconfigured")
    assert COURSES in course["next_step"]
    assert course["action"] == "sources set-site-token moodle"


def test_broken_moodle_deletes_no_courses(
    receiver: Receiver, moodle: FakeMoodle, add_courses: AddCourses
) -> None:
    add_courses("2", "3")
    moodle.says(FUNCTION, "record_missing")
    moodle.says(SITE_INFO, "record_missing")

    receiver("sync-grades")

    listed = json.loads(receiver("registry", "list", "--json").stdout)["courses"]
    assert [course["status"] for course in listed] == ["active", "active"]


def test_run_reports_maintenance_of_a_moodle_once(
    receiver: Receiver, moodle: FakeMoodle, add_courses: AddCourses
) -> None:
    add_courses(*map(str, range(2, 12)))
    moodle.says(FUNCTION, "maintenance")

    result = receiver("sync-grades", "--concurrency", "1", "--json")

    document = json.loads(result.stdout)
    assert result.exit_code == 1
    assert moodle.functions() == [FUNCTION]
    assert {
        "synced": 0,
        "unchanged": 0,
        "skipped": 9,
        "failed": 1,
    }.items() <= document.items()
    assert {course["reason"] for course in document["courses"]} == {"site_trouble"}


def test_slow_course_names_the_setting_and_is_requested_once(
    receiver: Receiver,
    moodle: FakeMoodle,
    add_courses: AddCourses,
    environment: pytest.MonkeyPatch,
) -> None:
    environment.setenv("RECEIVER_MOODLE_TIMEOUT", "0.3")
    add_courses("2")
    moodle.says(FUNCTION, "grades")
    moodle.says(SITE_INFO, "site_info")
    moodle.slow = {FUNCTION}

    result = receiver("sync-grades", "--json")

    (course,) = json.loads(result.stdout)["courses"]
    assert moodle.functions() == [FUNCTION, SITE_INFO]
    assert course["reason"] == "transient"
    assert course["detail"].startswith("no complete response within 0.3 s")
    assert "RECEIVER_MOODLE_TIMEOUT" in course["next_step"]


BY_ID_NUMBER = f"course_idnumber,token\nCS-1,{TOKEN.reveal()}\nCS-2,{TOKEN.reveal()}\n"


@pytest.fixture
def with_site_token(receiver: Receiver, add_courses: AddCourses) -> None:
    """The Moodle has a site-wide token."""
    receiver("sources", "set-site-token", "moodle", stdin=SITE_TOKEN)


def courses(*found: dict[str, Any]) -> Recorded:
    """Return a response with these courses."""
    document = {"courses": found, "warnings": []}
    return Recorded(200, "application/json", json.dumps(document).encode())


def test_import_finds_courses_by_their_id_number(
    receiver: Receiver, moodle: FakeMoodle, store: Store, with_site_token: None
) -> None:
    # The ID number is shown only to some users; a database may ignore its case.
    moodle.sends(
        COURSES_BY_FIELD,
        courses({"id": 7}),
        courses({"id": 8, "idnumber": "cs-2"}, {"id": 9, "idnumber": "CS-2"}),
    )

    result = receiver("registry", "import", "-", stdin=BY_ID_NUMBER)

    assert result.stdout == "2 new, 0 changed, 0 unchanged\n"
    assert [entry.course_id for entry in store.rows(Entry)] == ["7", "9"]
    assert [one.form["value"] for one in moodle.called] == ["CS-1", "CS-2"]
    assert {one.form["field"] for one in moodle.called} == {"idnumber"}
    assert {one.form["wstoken"] for one in moodle.called} == {SITE_TOKEN}


@pytest.mark.parametrize(
    ("found", "words"),
    [
        pytest.param(
            [], "line 2: course_idnumber: the site-wide token of moodle sees no courses", id="none"
        ),
        pytest.param([{"id": 7}, {"id": 8}], "sees 2 courses with this ID number", id="several"),
        pytest.param([{"id": 7}], "line 3: the course is the same as in line 2", id="the same"),
    ],
)
def test_import_refuses_id_number_that_is_not_of_one_course(
    receiver: Receiver,
    moodle: FakeMoodle,
    store: Store,
    with_site_token: None,
    found: list[dict[str, Any]],
    words: str,
) -> None:
    moodle.sends(COURSES_BY_FIELD, courses(*found))

    result = receiver("registry", "import", "-", stdin=BY_ID_NUMBER)

    assert result.exit_code == 1
    assert words in result.stderr
    assert store.rows(Entry) == []


def test_import_by_id_number_needs_a_site_wide_token(
    receiver: Receiver, add_courses: AddCourses
) -> None:
    result = receiver("registry", "import", "-", stdin=BY_ID_NUMBER)

    assert result.exit_code == 1
    assert "moodle has no site-wide token" in result.stderr
    assert "receiver sources set-site-token moodle" in result.stderr


def test_import_by_id_number_says_what_the_site_wide_token_lacks(
    receiver: Receiver, moodle: FakeMoodle, with_site_token: None
) -> None:
    moodle.says(COURSES_BY_FIELD, "token_expired_first_call")

    result = receiver("registry", "import", "-", stdin=BY_ID_NUMBER)

    assert result.exit_code == 1
    assert "cannot be found by ID number: accessexception" in result.stderr
    assert COURSES_BY_FIELD in result.stderr


def test_course_that_fails_is_not_listed_as_active(
    receiver: Receiver, moodle: FakeMoodle, add_courses: AddCourses
) -> None:
    add_courses("2")
    moodle.says(FUNCTION, "token_of_another_course")
    for _ in range(2):
        receiver("sync-grades")

    table = receiver("registry", "list").stdout
    (listed,) = json.loads(receiver("registry", "list", "--json").stdout)["courses"]
    first, _ = runs_of(receiver)

    assert "failing" in table
    assert " active " not in table
    assert (listed["status"], listed["failing"]) == ("active", True)
    assert listed["detail"].startswith("the grade sync fails: restrictedcontextexception")
    assert listed["since"] == first["started_at"]


def runs_of(receiver: Receiver) -> list[dict[str, Any]]:
    """Return the runs, oldest first."""
    runs: list[dict[str, Any]] = json.loads(receiver("runs", "list", "--json").stdout)["runs"]
    return runs[::-1]


@pytest.mark.parametrize(
    ("report", "probe", "ok", "words"),
    [
        pytest.param("grades", "site_info", True, "the course 2 can be fetched", id="ok"),
        pytest.param(
            "token_expired_first_call",
            "token_expired_first_call",
            False,
            "accessexception: Access control exception, for every function",
            id="nothing allowed",
        ),
        pytest.param("token_invalid", "token_invalid", False, "invalidtoken", id="token"),
        pytest.param("record_missing", "record_missing", False, "2 was deleted", id="deleted"),
    ],
)
def test_doctor_tries_one_course_of_each_moodle(
    receiver: Receiver,
    moodle: FakeMoodle,
    add_courses: AddCourses,
    report: str,
    probe: str,
    ok: bool,
    words: str,
) -> None:
    add_courses("1", "2")
    moodle.says(FUNCTION, report)
    moodle.says(SITE_INFO, probe)
    moodle.says(COURSES, "get_courses_omits_missing")

    findings = json.loads(receiver("doctor", "--json").stdout)["findings"]

    (found,) = (finding for finding in findings if finding["check"] == "source")
    assert (found["ok"], words in found["detail"]) == (ok, True)
    assert found["detail"].startswith("moodle: ")
    assert bool(found["next_step"]) is not ok
