"""The commands of an ELMS whose gradebook is in a Moodle."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from click.testing import Result

from contract.signatures import Secret
from contract.tokens import CourseToken
from receiver.models import Entry, Source
from receiver.moodle.client import SITE_INFO
from receiver.moodle.grade_report import FUNCTION
from tests.receiver.conftest import FakeSite
from tests.receiver.moodle.elms import ACTIVITY, COURSE, Elms
from tests.receiver.moodle.fake import serving
from tests.receiver.moodle.recordings import Recorded

TOKEN = "0123456789abcdef0123456789abcdef"
UNPLACED = "no activity in ELMS's Moodle is set for its grades"
ACTION = "registry set-activity CS101 --course N --activity N"

Receiver = Callable[..., Result]


@pytest.fixture
def elms(environment: pytest.MonkeyPatch) -> Iterator[Elms]:
    """ELMS's Moodle with one student, named in the settings."""
    with serving() as moodle:
        there = Elms(moodle)
        there.enrol(14, "ada")
        environment.setenv("RECEIVER_GRADEBOOK_URL", moodle.url)
        environment.setenv("RECEIVER_GRADEBOOK_TOKEN", TOKEN)
        yield there


@pytest.fixture
def source(make_source: Callable[..., Source], fake_site: FakeSite) -> Source:
    """The far side, as ELMS knows it."""
    return make_source("one", fake_site.url, secrets=(Secret.generate(),))


@pytest.fixture
def course(
    source: Source,
    make_entry: Callable[..., Entry],
    fake_site: FakeSite,
    make_score: Callable[..., Any],
) -> Entry:
    """A course with grades of one person, of which it is not said where they go."""
    token = CourseToken.generate()
    fake_site.grades("CS101", token, make_score("ada"))
    return make_entry(source, "CS101", token=token)


@pytest.fixture
def placed(course: Entry, receiver: Receiver) -> Entry:
    """The course, with its place."""
    place = ("--course", COURSE, "--activity", ACTIVITY)
    assert receiver("registry", "set-activity", "CS101", *place).exit_code == 0
    return course


def test_run_counts_requests_to_the_gradebook(
    elms: Elms, placed: Entry, receiver: Receiver
) -> None:
    result = receiver("sync-grades")

    assert (result.exit_code, elms.grades) == (0, {14: Decimal(75)})
    assert result.stdout.splitlines()[4:6] == [
        "... used 1 request to eAssessment",
        "... used 5 requests to ELMS's Moodle",
    ]
    assert {called.form["wstoken"] for called in elms.moodle.called} == {TOKEN}


def test_run_without_gradebook_mentions_no_moodle(
    placed: Entry, environment: pytest.MonkeyPatch, receiver: Receiver
) -> None:
    result = receiver("sync-grades")

    assert result.exit_code == 0
    assert "Moodle" not in result.stdout


def test_refusing_gradebook_stops_the_run_with_advice(
    elms: Elms, placed: Entry, receiver: Receiver, fake_site: FakeSite
) -> None:
    elms.moodle.says(SITE_INFO, "token_invalid")

    told, document = receiver("sync-grades"), receiver("sync-grades", "--json")

    report = json.loads(document.stdout)
    assert (told.exit_code, document.exit_code, fake_site.connections) == (1, 1, 0)
    assert "Grade sync stopped early: ELMS's own Moodle: invalidtoken" in told.stdout
    assert " next: Enter a current token of ELMS's own Moodle" in told.stdout
    assert (report["requests"], report["gradebook_requests"]) == (0, 1)
    assert report["courses"][0]["reason"] == "gradebook_trouble"
    assert report["next_step"].startswith("Enter a current token")
    assert TOKEN not in told.output + document.output


def test_run_lists_users_unknown_to_the_gradebook(
    elms: Elms, placed: Entry, receiver: Receiver
) -> None:
    elms.users[14] = "another"

    told = json.loads(receiver("sync-grades", "--json").stdout)["courses"][0]
    kept = json.loads(receiver("runs", "show", "--json").stdout)["courses"][0]

    assert (told["outcome"], told["reason"]) == ("synced", "people_left_out")
    assert told["detail"].startswith("left out 1: ada: no users of ELMS have this ID number")
    assert kept == told


def test_course_without_activity_is_shown_before_a_run(
    elms: Elms, course: Entry, receiver: Receiver
) -> None:
    shown = json.loads(receiver("registry", "show", "CS101", "--json").stdout)
    listed = json.loads(receiver("registry", "list", "--json").stdout)[0]
    dry = receiver("sync-grades", "--dry-run")
    document = json.loads(receiver("sync-grades", "--dry-run", "--json").stdout)

    for facts in (shown, listed):
        assert (facts["status"], facts["reason"], facts["action"]) == ("active", UNPLACED, ACTION)
    assert "1 would fail, because they have no Moodle activity." in dry.stdout
    assert (document["would_fetch"], document["would_skip"]) == ([], [])
    assert document["would_fail"][0]["action"] == ACTION
    assert elms.moodle.called == []


def test_add_says_that_the_activity_is_missing(
    elms: Elms, source: Source, receiver: Receiver
) -> None:
    result = receiver("registry", "add", "CS101", stdin=CourseToken.generate().reveal())

    assert result.exit_code == 0
    assert f"CS101 is active, but {UNPLACED}\n next: " in result.stdout


@pytest.mark.parametrize(
    ("answer", "well", "found"),
    [
        pytest.param(None, True, "ELMS's own Moodle accepts grades", id="well"),
        pytest.param("token_invalid", False, "ELMS's own Moodle: invalidtoken", id="refused"),
    ],
)
def test_doctor_checks_the_gradebook(
    elms: Elms, placed: Entry, receiver: Receiver, answer: str | None, well: bool, found: str
) -> None:
    if answer:
        elms.moodle.says(SITE_INFO, answer)

    findings = json.loads(receiver("doctor", "--json").stdout)["findings"]

    (finding,) = [one for one in findings if one["check"] == "gradebook"]
    assert (finding["ok"], finding["found"].startswith(found)) == (well, True)


def test_doctor_counts_courses_without_activity(
    elms: Elms, course: Entry, receiver: Receiver
) -> None:
    findings = json.loads(receiver("doctor", "--json").stdout)["findings"]

    (finding,) = [one for one in findings if one["check"] == "gradebook"]
    assert (finding["ok"], finding["found"]) == (
        False,
        "1 course has no gradebook activity",
    )
    assert finding["action"] == ACTION


def test_large_grade_report_is_read_on_both_sides(elms: Elms, receiver: Receiver) -> None:
    elms.enrol(15, "bob", grade="50")
    report = elms.moodle.answers[FUNCTION]
    elms.moodle.answers[FUNCTION] = lambda form: padded(report(form), 33_000_000)
    kind = ("--kind", "moodle", "--url", elms.moodle.url)
    place = ("--course", COURSE, "--activity", ACTIVITY)
    receiver("sources", "add", "moodle", *kind, stdin=Secret.generate().reveal())
    receiver("registry", "add", COURSE, stdin=TOKEN)
    receiver("registry", "set-activity", COURSE, *place)

    result = receiver("sync-grades")

    assert (result.exit_code, result.stdout.splitlines()[1]) == (
        0,
        "... fetched grades: 1 course, 0 scores added, 0 changed, 2 unchanged",
    )


def padded(answer: Recorded, size: int) -> Recorded:
    """Return an answer that means the same, and is so many bytes long."""
    return replace(answer, body=answer.body.ljust(size))
