"""The commands of an ELMS whose gradebook is in a Moodle."""

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from contract.tokens import CourseToken
from receiver.moodle import users as people
from receiver.moodle.client import SITE_INFO
from receiver.moodle.grade_report import FUNCTION
from receiver.sources.http_client import MAX_RESPONSE_BYTES
from tests.receiver.cli.conftest import Receiver, new_token
from tests.receiver.conftest import FakeSite, Store
from tests.receiver.moodle.elms import ACTIVITY, COURSE, Elms
from tests.receiver.moodle.fake import FakeMoodle, Form
from tests.receiver.moodle.recordings import Recorded

TOKEN = "0123456789abcdef0123456789abcdef"
TARGET = ("--course", COURSE, "--activity", ACTIVITY)
NO_ACTIVITY = "no activity in ELMS's Moodle is set for its grades"
ACTION = "registry set-activity CS101 --course N --activity N"


@pytest.fixture
def elms(environment: pytest.MonkeyPatch, moodle: FakeMoodle) -> Elms:
    """ELMS's Moodle with one student, named in the settings."""
    elms = Elms(moodle)
    elms.enrol(14, "ada")
    environment.setenv("RECEIVER_GRADEBOOK_URL", moodle.url)
    environment.setenv("RECEIVER_GRADEBOOK_TOKEN", TOKEN)
    return elms


@pytest.fixture
def course(store: Store, site: FakeSite, make_score: Callable[..., Any]) -> None:
    """A course with a grade, and without an activity that receives it."""
    token = CourseToken.generate()
    site.grades("CS101", token, make_score("ada"))
    store.add_course("CS101", token=token)


def test_run_counts_requests_to_the_gradebook(elms: Elms, course: None, receiver: Receiver) -> None:
    receiver("registry", "set-activity", "CS101", *TARGET)

    result = receiver("sync-grades")

    assert (result.exit_code, elms.grades) == (0, {14: Decimal(75)})
    assert result.stdout.splitlines()[4:6] == [
        "... used 1 request to eAssessment",
        "... used 5 requests to ELMS's Moodle",
    ]
    assert {called.form["wstoken"] for called in elms.moodle.called} == {TOKEN}


def test_gradebook_outage_stops_the_run_with_advice(
    elms: Elms, course: None, receiver: Receiver, site: FakeSite
) -> None:
    receiver("registry", "set-activity", "CS101", *TARGET)
    elms.moodle.says(SITE_INFO, "token_invalid")

    text, document = receiver("sync-grades"), receiver("sync-grades", "--json")

    report = json.loads(document.stdout)
    assert (text.exit_code, document.exit_code, site.connections) == (1, 1, 0)
    assert "Grade sync stopped early: ELMS's own Moodle: invalidtoken" in text.stdout
    assert " next: Set RECEIVER_GRADEBOOK_TOKEN to a current token" in text.stdout
    assert (report["requests"], report["gradebook_requests"]) == (0, 1)
    assert report["courses"][0]["reason"] == "gradebook_trouble"
    assert report["next_step"].startswith("Set RECEIVER_GRADEBOOK_TOKEN")
    assert TOKEN not in text.output + document.output


def test_missing_activity_is_shown_before_a_run(
    elms: Elms, course: None, receiver: Receiver
) -> None:
    added = receiver("registry", "add", "CS102", stdin=new_token())
    [listed, _] = json.loads(receiver("registry", "list", "--json").stdout)["courses"]
    [exported, _] = csv.DictReader(receiver("registry", "export").stdout.splitlines())
    shown = json.loads(receiver("registry", "show", "CS101", "--json").stdout)
    text = receiver("sync-grades", "--dry-run").stdout
    document = json.loads(receiver("sync-grades", "--dry-run", "--json").stdout)
    findings = json.loads(receiver("doctor", "--json").stdout)["findings"]

    assert added.exit_code == 0
    assert f"CS102 is active, but {NO_ACTIVITY}\n next: " in added.stdout
    assert (shown["status"], shown["detail"], shown["action"]) == ("active", NO_ACTIVITY, ACTION)
    assert (listed["detail"], exported["detail"]) == (NO_ACTIVITY, NO_ACTIVITY)
    assert exported["action"] == ACTION
    assert "2 would fail, because they have no Moodle activity." in text
    assert (document["would_fetch"], document["would_skip"]) == ([], [])
    assert document["would_fail"][0]["action"] == ACTION
    [finding] = [one for one in findings if one["check"] == "gradebook"]
    assert (finding["ok"], finding["action"]) == (False, ACTION)
    assert elms.moodle.functions() == [SITE_INFO]


def test_doctor_names_the_right_that_is_missing(
    elms: Elms, course: None, receiver: Receiver
) -> None:
    receiver("registry", "set-activity", "CS101", *TARGET)
    elms.moodle.says(people.FUNCTION, "get_courses_none")

    findings = json.loads(receiver("doctor", "--json").stdout)["findings"]

    [finding] = [one for one in findings if one["check"] == "gradebook"]
    assert not finding["ok"]
    assert finding["detail"] == "ELMS's own Moodle finds none of 1 person by ID number"
    assert "moodle/user:viewalldetails" in finding["next_step"]


def test_large_grade_report_is_read_on_both_sides(elms: Elms, receiver: Receiver) -> None:
    respond = elms.moodle.answers[FUNCTION]

    def pad(form: Form) -> Recorded:
        report = respond(form)
        return replace(report, body=report.body.ljust(MAX_RESPONSE_BYTES + 1))

    elms.enrol(15, "bob", grade="50")
    elms.moodle.answers[FUNCTION] = pad
    receiver("sources", "add", "moodle", "--kind", "moodle", "--url", elms.moodle.url)
    receiver("registry", "add", COURSE, stdin=TOKEN)
    receiver("registry", "set-activity", COURSE, *TARGET)

    result = receiver("sync-grades")

    assert (result.exit_code, result.stdout.splitlines()[1]) == (
        0,
        "... fetched grades: 1 course, 0 scores added, 0 changed, 2 unchanged",
    )
