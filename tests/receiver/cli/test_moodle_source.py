"""The commands of an ELMS whose source is a Moodle."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from contract.tokens import MoodleToken
from receiver.models import MOODLE
from receiver.moodle.client import SITE_INFO
from receiver.moodle.grade_report import FUNCTION
from receiver.moodle.source import COURSES
from tests.receiver.cli.conftest import Receiver
from tests.receiver.conftest import Store
from tests.receiver.moodle.fake import FakeMoodle

TOKEN = MoodleToken("0123456789abcdef0123456789abcdef")
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

    listed = json.loads(receiver("registry", "list", "--json").stdout)
    assert (first.exit_code, second.exit_code) == (1, 0)
    assert moodle.functions() == [FUNCTION, SITE_INFO, COURSES]
    assert listed[0]["status"] == "course_deleted"
    assert listed[0]["reason"] == "the course was deleted in Moodle"


def test_run_reports_maintenance_of_a_moodle_once(
    receiver: Receiver, moodle: FakeMoodle, add_courses: AddCourses
) -> None:
    add_courses(*map(str, range(2, 12)))
    moodle.says(FUNCTION, "maintenance")

    result = receiver("sync-grades", "--concurrency", "1", "--json")

    document = json.loads(result.stdout)
    assert result.exit_code == 1
    assert moodle.functions() == [FUNCTION]
    assert document["counts"] == {"synced": 0, "unchanged": 0, "skipped": 9, "failed": 1}
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


def test_course_that_fails_is_not_listed_as_active(
    receiver: Receiver, moodle: FakeMoodle, add_courses: AddCourses
) -> None:
    add_courses("2")
    moodle.says(FUNCTION, "token_of_another_course")
    for _ in range(2):
        receiver("sync-grades")

    table = receiver("registry", "list").stdout
    (listed,) = json.loads(receiver("registry", "list", "--json").stdout)
    first, _ = runs_of(receiver)

    assert "failing" in table
    assert " active " not in table
    assert (listed["status"], listed["failing"]) == ("active", True)
    assert listed["reason"].startswith("the grade sync fails: restrictedcontextexception")
    assert listed["since"] == first["began_at"]


def runs_of(receiver: Receiver) -> list[dict[str, Any]]:
    """Return the runs, oldest first."""
    runs: list[dict[str, Any]] = json.loads(receiver("runs", "list", "--json").stdout)
    return runs[::-1]
