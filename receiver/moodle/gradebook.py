"""ELMS's Moodle as a gradebook: only what differs is written, and what was written is read back."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from contract.tokens import MoodleToken
from receiver.gradebook.base import CourseScores, Failure, Outage, WriteResult, unplaced
from receiver.gradebook.database import ScoreCounts
from receiver.moodle import grade_diff, grade_report, users
from receiver.moodle.client import MoodleClient
from receiver.moodle.grade_diff import CurrentGrade, GradeChange, GradeDiff
from receiver.moodle.responses import LATER, Ambiguous, Fine, InvalidToken, Missing
from receiver.moodle.users import Call, People
from receiver.sources.base import Misconfigured, SiteOutage, Transient
from receiver.sources.http_client import Exchange

UPDATE = "core_grades_update_grades"
SITE_INFO = "core_webservice_get_site_info"
NEEDED = (grade_report.FUNCTION, users.FUNCTION, UPDATE)
MOST_GRADES = 100
"""How many grades are written by one request."""

_SOURCE = "course-webhooks"
"""How Moodle's grade history names who wrote."""

_SET_ACTIVITY = "`receiver registry set-activity COURSE_ID --course N --activity N`"
_RENAME = f"Check the course and activity in ELMS's Moodle, and name them with {_SET_ACTIVITY}."
_UNLOCK = "Look at the activity in ELMS's Moodle: whether its grade item is locked, or no longer."
_TOKEN = (
    "Enter a present token of ELMS's own Moodle, whose service allows "
    f"{', '.join((SITE_INFO, *NEEDED))}."
)


class MoodleGradebook:
    """Writes into assignments of the Moodle at a URL, by the bearer of a token; for one run."""

    batch = 20
    places = True

    def __init__(self, exchange: Exchange, *, url: str, token: MoodleToken) -> None:
        self._client = MoodleClient(exchange)
        self._url = url
        self._token = token
        self._people = People()

    @property
    def requests(self) -> int:
        """How many requests were sent."""
        return self._client.requests

    def break_off(self) -> None:
        """End what is under way, and write nothing from now on."""
        self._client.break_off()

    def check(self) -> Outage | None:
        """Return why nothing can be written now, or None; by one request."""
        answer = self._call(SITE_INFO, {})
        match answer:
            case Fine(document):
                return _lacking(document)
            case Misconfigured(detail, next_step):
                return SiteOutage(detail, next_step)
            case _:
                return answer

    def write(
        self, courses: Sequence[CourseScores], *, beat: Callable[[], None]
    ) -> list[WriteResult]:
        """Write what differs; nothing is clamped, and nobody's problem is another's.

        After what keeps every course from being written nothing more is asked.
        """

        def call(function: str, parameters: dict[str, Any]) -> Fine | Failure:
            beat()
            return self._call(function, parameters)

        placed = [course for course in courses if course.course and course.activity]
        names = {score.user_id for course in placed for score in course.scores}
        failure = self._people.look_up(names, call)
        kept: list[WriteResult] = []
        for course in courses:
            kept.append(self._kept(course, failure, call))
            failure = failure or self._trouble_after(kept[-1].failure, beat)
        return kept

    def _trouble_after(self, failure: Failure | None, beat: Callable[[], None]) -> Outage | None:
        """Return what a course's failure says of the others; for now, it takes one more request."""
        match failure:
            case SiteOutage() | Transient(unreachable=True):
                return failure
            case Transient():
                beat()
                return self.check()
            case _:
                return None

    def _kept(self, course: CourseScores, failure: Failure | None, call: Call) -> WriteResult:
        if not (course.course and course.activity):
            failure = unplaced()
        if failure:
            return WriteResult(course.entry_id, ScoreCounts(), failure=failure)
        return self._write(course, str(course.course), str(course.activity), call)

    def _write(self, course: CourseScores, number: str, activity: str, call: Call) -> WriteResult:
        standing = _read(number, activity, call)
        if not isinstance(standing, dict):
            return WriteResult(course.entry_id, ScoreCounts(), failure=standing)
        planned = grade_diff.plan(course.scores, self._people.bearers, standing)
        failure: Failure | None = None
        if planned.steps:
            planned, failure = _carry_out(planned, number, activity, call)
        return WriteResult(course.entry_id, grade_diff.counted(planned), planned.problems, failure)

    def _call(self, function: str, parameters: dict[str, Any]) -> Fine | Failure:
        verdict = self._client.call(self._url, self._token, function, parameters)
        match verdict:
            case InvalidToken(detail) | Ambiguous(detail):
                return SiteOutage(f"ELMS's own Moodle: {detail}", _TOKEN)
            case Missing(_, detail):
                return Misconfigured(f"ELMS's own Moodle: {detail}", _RENAME)
            case Fine():
                return verdict
            case _:
                return replace(verdict, detail=f"ELMS's own Moodle: {verdict.detail}")


def _lacking(document: Any) -> Outage | None:
    listed = document.get("functions") if isinstance(document, dict) else None
    if not isinstance(listed, list):
        return Transient("ELMS's own Moodle answered 200, but not with what it is", LATER)
    allowed = {one.get("name") for one in listed if isinstance(one, dict)}
    lacking = [name for name in NEEDED if name not in allowed]
    if lacking:
        return SiteOutage(f"the service of ELMS's token lacks {', '.join(lacking)}", _TOKEN)
    return None


def _read(number: str, activity: str, call: Call) -> dict[int, CurrentGrade | None] | Failure:
    """Return how the grades of an activity stand, or why that cannot be told."""
    answer = call(grade_report.FUNCTION, {"courseid": number})
    if not isinstance(answer, Fine):
        return answer
    try:
        standing = grade_diff.standings(grade_report.report_of(answer.document), activity)
    except grade_report.ReportError as error:
        return Transient(f"ELMS's own Moodle {error}", LATER)
    if standing and not any(standing.values()):
        detail = f"the course {number} of ELMS's Moodle has no activity {activity} with points"
        return Misconfigured(detail, _RENAME)
    return standing


def _carry_out(
    planned: GradeDiff, number: str, activity: str, call: Call
) -> tuple[GradeDiff, Failure | None]:
    """Write the steps and return those that are found to be kept, and what stopped the others."""
    failure = None
    for start in range(0, len(planned.steps), MOST_GRADES):
        failure = _send(planned.steps[start : start + MOST_GRADES], number, activity, call)
        if failure:
            break
    standing = _read(number, activity, call)
    if isinstance(standing, dict):
        if not failure:
            return grade_diff.compare(planned, standing), None
        return replace(planned, steps=_found(planned.steps, standing)), failure
    return replace(planned, steps=()), failure or standing


def _found(
    steps: Sequence[GradeChange], standing: dict[int, CurrentGrade | None]
) -> tuple[GradeChange, ...]:
    """Return the steps that were written before something stopped the others."""
    now = {student: one.given for student, one in standing.items() if one}
    return tuple(step for step in steps if now.get(step.student) == step.grade)


def _send(steps: Sequence[GradeChange], number: str, activity: str, call: Call) -> Failure | None:
    answer = call(
        UPDATE,
        {
            "source": _SOURCE,
            "courseid": number,
            "component": "mod_assign",
            "activityid": activity,
            "itemnumber": 0,
            "grades": [
                {"studentid": step.student, "grade": format(step.grade, "f")} for step in steps
            ],
        },
    )
    if not isinstance(answer, Fine):
        return answer
    # Moodle's GRADE_UPDATE_OK; False and an exact 0.0 are equal to it, and are not it.
    if answer.document != 0 or type(answer.document) is not int:
        return Misconfigured("ELMS's Moodle did not take the grades", _UNLOCK)
    return None
