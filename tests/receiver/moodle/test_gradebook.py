"""ELMS's Moodle as a gradebook."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from contract.grades import Score
from contract.tokens import MoodleToken
from receiver.gradebook.base import CourseScores, ScoreCounts, WriteResult
from receiver.moodle import grade_diff, users
from receiver.moodle.client import SITE_INFO
from receiver.moodle.grade_diff import CurrentGrade
from receiver.moodle.grade_report import FUNCTION, UserGrades
from receiver.moodle.gradebook import NO_STUDENTS, UPDATE, MoodleGradebook
from receiver.sources.base import Misconfigured, PersonProblem, SiteOutage, Transient
from receiver.sources.http_client import HttpClient
from tests.receiver.moodle.elms import ACTIVITY, COURSE, Elms
from tests.receiver.moodle.fake import FakeMoodle
from tests.receiver.moodle.recordings import RECORDED, Recorded, failure

NINE = datetime(2026, 11, 22, 9, tzinfo=UTC)
TOKEN = MoodleToken("0123456789abcdef0123456789abcdef")
WITHOUT_UPDATE = RECORDED["site_info"].body.replace(UPDATE.encode(), b"core_other")
# What Moodle shows as the range of an item, its minimum, and whether it has points.
RANGES = {
    "numbers": ("0&ndash;3", 0, True),
    "decimals": ("0.00&ndash;3.00", 0, True),
    "percentages": ("0 %&ndash;100 %", 0, True),
    "not shown": (None, 0, True),
    "negative minimum": ("-3&ndash;3", -3, True),
    "words": ("Fail&ndash;Merit", 1, False),
    "scale shown in numbers": ("1&ndash;3", 1, False),
    "letters": ("F&ndash;A", 0, False),
    "no number as its minimum": ("0&ndash;3", "0", False),
}
Write = Callable[..., WriteResult]


@pytest.fixture
def elms(moodle: FakeMoodle) -> Elms:
    """ELMS with two students, of whom one is graded."""
    there = Elms(moodle)
    there.enrol(14, "S1001")
    there.enrol(15, "S1002", "50")
    return there


@pytest.fixture
def gradebook(http_client: HttpClient, elms: Elms) -> MoodleGradebook:
    """ELMS's gradebook."""
    return MoodleGradebook(http_client, url=elms.moodle.url, token=TOKEN)


def score(user_id: str = "S1001", given: str | None = "72.5", maximum: str = "100") -> Score:
    """Return a score."""
    return Score(
        user_id=user_id,
        score_given=None if given is None else Decimal(given),
        score_maximum=Decimal(maximum),
        timestamp=NINE,
    )


def course(
    *scores: Score, number: str | None = COURSE, activity: str | None = ACTIVITY, entry_id: int = 1
) -> CourseScores:
    """Return what is to be written of a course."""
    return CourseScores(entry_id, number, activity, scores)


def denied(code: str) -> Recorded:
    """Return a failure with an error code."""
    return responds(failure(exception="moodle_exception", errorcode=code, message="No."))


def responds(body: bytes) -> Recorded:
    """Return a response with a JSON document."""
    return Recorded(200, "application/json", body)


@pytest.fixture
def write(gradebook: MoodleGradebook) -> Write:
    """Return a function that writes scores of one course."""

    def one(*scores: Score, **more: str | None) -> WriteResult:
        (result,) = gradebook.write([course(*scores, **more)])
        return result

    return one


def test_only_differences_are_written_and_read_back(elms: Elms, write: Write) -> None:
    first, second = (write(score(), score("S1002", "50.00")) for _ in range(2))

    form = next(one.form for one in elms.moodle.called if one.function == UPDATE)
    assert first == WriteResult(1, ScoreCounts(added=1, unchanged=1))
    assert second == WriteResult(1, ScoreCounts(unchanged=2))
    assert elms.grades == {14: Decimal("72.5"), 15: Decimal(50)}
    assert elms.moodle.functions() == [users.FUNCTION, FUNCTION, UPDATE, FUNCTION, FUNCTION]
    assert {key: form[key] for key in form if not key.startswith("ws")} == {
        "moodlewsrestformat": "json",
        "moodlewssettinglang": "en",
        "source": "course-webhooks",
        "courseid": COURSE,
        "component": "mod_assign",
        "activityid": ACTIVITY,
        "itemnumber": "0",
        "grades[0][studentid]": "14",
        "grades[0][grade]": "72.50000",
    }


@pytest.mark.parametrize(
    ("given", "maximum", "expected"),
    [
        pytest.param("7.25", "10", "72.5", id="of ten"),
        pytest.param("1", "3", "33.33333", id="to five decimal places"),
        pytest.param("33.33333", "100", "33.33333", id="equal maxima"),
        pytest.param("0", "10", "0", id="zero"),
    ],
)
def test_points_are_rescaled_to_the_activity(
    elms: Elms, write: Write, given: str, maximum: str, expected: str
) -> None:
    elms.outcomes = 1  # of the activity, and no grade of it

    result = write(score(given=given, maximum=maximum))

    assert result == WriteResult(1, ScoreCounts(added=1))
    assert elms.grades[14] == Decimal(expected)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        pytest.param(score("S9"), "no users of ELMS have this ID number", id="no one"),
        pytest.param(score("s1001"), "no users of ELMS have this ID number", id="another case"),
        pytest.param(score("TWIN"), "2 users of ELMS have this ID number", id="two people"),
        pytest.param(score("GUEST"), "not a student of the course", id="not enrolled"),
        pytest.param(
            score(given="101"),
            "101 of 100 is outside the activity's range of 0 to 100",
            id="too much",
        ),
        pytest.param(score("S1002", None), "but ELMS has 50", id="grade removed"),
        pytest.param(score("LOCKED"), "72.5 was written, but ELMS has no grade", id="not stored"),
    ],
)
def test_problem_concerns_one_person(elms: Elms, write: Write, given: Score, words: str) -> None:
    elms.users.update({20: "TWIN", 21: "TWIN", 22: "GUEST"})
    elms.enrol(16, "LOCKED")
    elms.enrol(17, "S1003")
    elms.locked.add(16)
    elms.shows_locks = False  # as to a user without moodle/grade:viewall

    result = write(given, score("S1003"))

    (problem,) = result.problems
    assert problem.user_id == given.user_id
    assert words in problem.detail
    assert (result.scores, result.failure) == (ScoreCounts(added=1), None)
    assert elms.grades == {14: None, 15: Decimal(50), 16: None, 17: Decimal("72.5")}


def test_activity_that_changes_what_is_written_is_misconfigured(elms: Elms, write: Write) -> None:
    elms.enrol(14, "S1001")
    elms.enrol(15, "S1002")
    elms.multiplier = 2

    result = write(score("S1001", "5"), score("S1002", "6"))

    assert isinstance(result.failure, Misconfigured)
    assert "multiplier" in result.failure.advice.text
    assert [problem.user_id for problem in result.problems] == ["S1001", "S1002"]
    assert result.scores == ScoreCounts()


def test_no_grade_on_either_side_is_unchanged(write: Write) -> None:
    assert write(score(given=None)) == WriteResult(1, ScoreCounts(unchanged=1))


@pytest.mark.parametrize(
    ("target", "scale", "words", "requests"),
    [
        pytest.param({"number": None}, False, "", 0, id="course not set"),
        pytest.param({"activity": None}, False, "", 0, id="activity not set"),
        pytest.param({"number": "8"}, False, "table course.", 2, id="no such course"),
        pytest.param({"activity": "43"}, False, "no activity 43 is shown", 2, id="no activity"),
        pytest.param({}, True, "is graded by a scale, not by points", 2, id="scale"),
    ],
)
def test_course_without_an_activity_with_points_is_misconfigured(
    elms: Elms,
    write: Write,
    target: dict[str, str | None],
    scale: bool,
    words: str,
    requests: int,
) -> None:
    elms.scale = scale

    result = write(score(), **target)

    assert isinstance(result.failure, Misconfigured)
    assert words in result.failure.detail
    assert result.failure.advice.action == "registry set-activity"
    assert elms.moodle.functions() == [users.FUNCTION, FUNCTION][:requests]


@pytest.mark.parametrize("item", [pytest.param(name, id=name) for name in RANGES])
def test_numbers_are_written_into_items_with_points_only(item: str) -> None:
    shown, minimum, is_points = RANGES[item]
    user = UserGrades(
        14,
        "S1001",
        (
            {
                "itemtype": "mod",
                "cmid": 42,
                "scaleid": None,
                "grademin": minimum,
                "grademax": 3,
                "rangeformatted": shown,
            },
        ),
    )

    (current,) = grade_diff.current_grades([user], ACTIVITY).values()

    assert isinstance(current, CurrentGrade) is is_points


@pytest.mark.parametrize(
    ("setting", "reason"),
    [
        pytest.param("locked", "ELMS has no grade, locked there", id="locked"),
        pytest.param("overridden", "ELMS has no grade, overridden there", id="overridden"),
    ],
)
def test_kept_grade_is_named_and_everyone_else_is_graded(
    elms: Elms, write: Write, setting: str, reason: str
) -> None:
    for number in range(101):
        elms.enrol(1000 + number, f"T{number:03}")
    getattr(elms, setting).add(1000)

    result = write(*(score(f"T{number:03}") for number in range(101)))

    assert result.problems == (PersonProblem("T000", reason, kept=True),)
    assert (result.scores, result.failure) == (ScoreCounts(added=100), None)


def test_grade_that_is_locked_meanwhile_is_named(elms: Elms, write: Write) -> None:
    elms.moodle.during(UPDATE, lambda: elms.locked.add(14))

    result = write(score(), score("S1002", "60"))

    assert result.problems == (
        PersonProblem("S1001", "ELMS has no grade, locked there", kept=True),
    )
    assert (result.scores, result.failure) == (ScoreCounts(changed=1), None)


def test_locked_item_keeps_every_grade(elms: Elms, write: Write) -> None:
    elms.item_locked = True

    result = write(score(), score("S1002", "50"))

    assert [(one.user_id, one.kept) for one in result.problems] == [("S1001", True)]
    assert (result.scores, result.failure) == (ScoreCounts(unchanged=1), None)
    assert UPDATE not in elms.moodle.functions()


def test_item_that_is_locked_meanwhile_keeps_every_grade(elms: Elms, write: Write) -> None:
    elms.moodle.during(UPDATE, lambda: setattr(elms, "item_locked", True))

    result = write(score())

    assert [(one.user_id, one.kept) for one in result.problems] == [("S1001", True)]
    assert result.failure is None


def test_no_one_found_is_a_missing_right(elms: Elms, write: Write) -> None:
    elms.moodle.sends(users.FUNCTION, Recorded(200, "application/json", b"[]"))

    alone, several = write(score("S9")), write(score("S8"), score("S9"))

    assert (len(alone.problems), alone.failure) == (1, None)
    assert isinstance(several.failure, Misconfigured)
    assert "none of 2 people" in several.failure.detail
    assert "moodle/user:viewalldetails" in several.failure.advice.text


def test_course_without_any_activities_names_the_right(elms: Elms, write: Write) -> None:
    elms.moodle.sends(FUNCTION, _report({"itemtype": "course"}))

    result = write(score())

    assert isinstance(result.failure, Misconfigured)
    assert "mod/assign:view" in result.failure.advice.text


def _report(*items: dict[str, Any]) -> Recorded:
    user = {"userid": 14, "useridnumber": "S1001", "gradeitems": items}
    return Recorded(200, "application/json", json.dumps({"usergrades": [user]}).encode())


@pytest.mark.parametrize(
    ("function", "answer", "kind"),
    [
        pytest.param(users.FUNCTION, RECORDED["token_invalid"], SiteOutage, id="token invalid"),
        pytest.param(users.FUNCTION, RECORDED["maintenance"], SiteOutage, id="maintenance"),
        pytest.param(users.FUNCTION, RECORDED["grades"], Transient, id="no users"),
        pytest.param(FUNCTION, RECORDED["courses_by_field_ids_crash"], Transient, id="a crash"),
        pytest.param(FUNCTION, RECORDED["web_services_off"], SiteOutage, id="switched off"),
        pytest.param(FUNCTION, RECORDED["get_courses_none"], Transient, id="no report"),
        pytest.param(UPDATE, RECORDED["token_expired_first_call"], SiteOutage, id="denied"),
        pytest.param(
            UPDATE, RECORDED["update_grades_no_activity"], Misconfigured, id="no activity"
        ),
        # Only an integer zero is a success.
        pytest.param(UPDATE, RECORDED["grades_no_students"], Misconfigured, id="an object"),
        pytest.param(UPDATE, responds(b"2"), Misconfigured, id="several items"),
        pytest.param(UPDATE, responds(b"3"), Misconfigured, id="item removed"),
        pytest.param(UPDATE, responds(b"false"), Misconfigured, id="false"),
        pytest.param(UPDATE, responds(b"null"), Misconfigured, id="null"),
        pytest.param(UPDATE, responds(b'"0"'), Misconfigured, id="text"),
        pytest.param(UPDATE, responds(b"0.0"), Misconfigured, id="a float"),
    ],
)
def test_failure_of_any_call_is_the_courses(
    elms: Elms, write: Write, function: str, answer: Recorded, kind: type
) -> None:
    elms.moodle.sends(function, answer)

    result = write(score())

    assert type(result.failure) is kind
    assert result.failure is not None
    assert "ELMS's" in result.failure.detail
    assert (result.scores, result.problems) == (ScoreCounts(), ())
    assert TOKEN.reveal() not in repr(result)


def test_outage_of_the_moodle_costs_no_more_requests(
    elms: Elms, gradebook: MoodleGradebook
) -> None:
    elms.moodle.says(FUNCTION, "token_invalid")

    result = gradebook.write([course(score(), entry_id=number) for number in (1, 2, 3)])

    assert [type(one.failure) for one in result] == [SiteOutage] * 3
    assert elms.moodle.functions() == [users.FUNCTION, FUNCTION]


def test_grades_written_before_a_failure_count(elms: Elms, write: Write) -> None:
    for number in range(101):
        elms.enrol(1000 + number, f"T{number:03}")
    elms.moodle.during(UPDATE, lambda: elms.moodle.says(UPDATE, "maintenance"))

    result = write(*(score(f"T{number:03}") for number in range(101)))

    assert isinstance(result.failure, SiteOutage)
    assert result.scores == ScoreCounts(added=100)


def test_grades_that_cannot_be_read_back_do_not_count(elms: Elms, write: Write) -> None:
    elms.moodle.during(UPDATE, lambda: elms.moodle.says(FUNCTION, "database_down"))

    result = write(score(), score("S1002", "50"))

    assert isinstance(result.failure, SiteOutage)
    assert result.scores == ScoreCounts(unchanged=1)


def test_users_are_looked_up_once_in_batches(elms: Elms, gradebook: MoodleGradebook) -> None:
    for number in range(101):
        elms.enrol(1000 + number, f"T{number:03}", "72.5")
    scores = [score(f"T{number:03}") for number in range(101)]
    courses = [course(*scores[:60], entry_id=1), course(*scores[60:], entry_id=2)]

    gradebook.write(courses)
    gradebook.write(courses)

    assert elms.moodle.functions().count(users.FUNCTION) == 2
    assert gradebook.requests == len(elms.moodle.called)


def test_hidden_id_numbers_are_a_site_outage(elms: Elms, write: Write) -> None:
    elms.moodle.sends(users.FUNCTION, responds(b'[{"id":14}]'))

    failure = write(score()).failure

    assert isinstance(failure, SiteOutage)
    assert "moodle/user:viewalldetails" in failure.advice.text


def test_cancelled_gradebook_is_not_written(
    elms: Elms, gradebook: MoodleGradebook, write: Write
) -> None:
    gradebook.cancel()

    result = write(score())

    assert isinstance(result.failure, Transient)
    assert elms.moodle.called == []


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        pytest.param(RECORDED["token_invalid"], SiteOutage, "invalidtoken", id="token invalid"),
        pytest.param(RECORDED["web_services_off"], SiteOutage, "are disabled", id="switched off"),
        pytest.param(
            RECORDED["unknown_function"], SiteOutage, "external_functions", id="no function"
        ),
        pytest.param(
            responds(WITHOUT_UPDATE),
            SiteOutage,
            UPDATE,
            id="a function not allowed",
        ),
        pytest.param(RECORDED["maintenance"], SiteOutage, "sitemaintenance", id="maintenance"),
        pytest.param(RECORDED["get_courses_none"], Transient, "without its functions", id="a list"),
    ],
)
def test_check_returns_the_outage(
    elms: Elms, gradebook: MoodleGradebook, answer: Recorded, kind: type, words: str
) -> None:
    before = gradebook.check()
    elms.moodle.sends(SITE_INFO, answer)

    outage = gradebook.check()

    assert before is None
    assert type(outage) is kind
    assert outage is not None
    assert words in outage.detail
    assert elms.moodle.functions() == [SITE_INFO] * 2


def test_course_that_can_be_written_passes_the_check(
    elms: Elms, gradebook: MoodleGradebook
) -> None:
    before = dict(elms.grades)

    assert gradebook.check_course(COURSE, ACTIVITY) is None
    assert elms.moodle.functions() == [FUNCTION, users.FUNCTION, UPDATE]
    assert elms.moodle.called[-1].form["grades[0][studentid]"] == "0"
    assert elms.grades == before


def test_check_of_a_course_without_students_sends_no_grade(
    elms: Elms, gradebook: MoodleGradebook
) -> None:
    elms.grades.clear()

    failure = gradebook.check_course(COURSE, ACTIVITY)

    assert isinstance(failure, Misconfigured)
    assert failure.advice == NO_STUDENTS
    assert UPDATE not in elms.moodle.functions()


@pytest.mark.parametrize(
    ("break_it", "right"),
    [
        pytest.param(
            lambda elms: elms.moodle.sends(FUNCTION, _report({"itemtype": "course"})),
            "mod/assign:view",
            id="no activities",
        ),
        pytest.param(
            lambda elms: elms.moodle.sends(FUNCTION, _report({"itemtype": "mod", "cmid": 1})),
            "moodle/grade:viewhidden",
            id="activity not shown",
        ),
        pytest.param(
            lambda elms: setattr(elms, "shows_locks", False), "moodle/grade:viewall", id="no locks"
        ),
        pytest.param(
            lambda elms: elms.moodle.sends(users.FUNCTION, responds(b"[]")),
            "moodle/user:viewdetails and moodle/user:viewalldetails",
            id="no ID numbers",
        ),
        pytest.param(
            lambda elms: elms.moodle.sends(FUNCTION, denied("nopermissiontoviewgrades")),
            "moodle/grade:viewall",
            id="no grades",
        ),
        pytest.param(
            lambda elms: elms.moodle.sends(FUNCTION, denied("accessexception")),
            "webservice/rest:use",
            id="nothing",
        ),
        pytest.param(
            lambda elms: elms.moodle.sends(UPDATE, denied("nopermissiontoviewgrades")),
            "moodle/grade:edit",
            id="no writing",
        ),
    ],
)
def test_check_of_a_course_names_the_missing_right(
    elms: Elms, gradebook: MoodleGradebook, break_it: Callable[[Elms], object], right: str
) -> None:
    break_it(elms)

    failure = gradebook.check_course(COURSE, ACTIVITY)

    assert failure is not None
    assert right in failure.advice.text
