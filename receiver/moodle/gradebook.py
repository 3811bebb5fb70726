"""ELMS's Moodle as the gradebook: only grades that differ are written, and then read back."""

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal

from contract.tokens import MoodleToken
from foundation.errors import Advice
from foundation.text import count
from receiver.gradebook.base import (
    SET_ACTIVITY,
    SET_ACTIVITY_COMMAND,
    CourseScores,
    Outage,
    ScoreCounts,
    WriteFailure,
    WriteResult,
    missing_activity,
)
from receiver.moodle import client, grade_diff, grade_report, users
from receiver.moodle.client import SITE_INFO, ElmsMoodle
from receiver.moodle.grade_diff import Current, GradeChange, GradeDiff, UnwritableReason
from receiver.moodle.grade_report import UserGrades
from receiver.moodle.responses import EDIT_GRADES, TRY_LATER, VIEW_GRADES, Success
from receiver.moodle.users import UserDirectory
from receiver.sources.base import Misconfigured, SiteOutage, Transient
from receiver.sources.http_client import HttpClient

UPDATE = "core_grades_update_grades"
NEEDED = (grade_report.FUNCTION, users.FUNCTION, UPDATE)

# How many grades one request writes.
MAX_GRADES = 100

# The name of the writer in Moodle's grade history.
_SOURCE = "course-webhooks"

# The statuses after which reading back shows what was written: GRADE_UPDATE_OK,
# GRADE_UPDATE_FAILED (perhaps only one grade of the batch was locked), GRADE_UPDATE_ITEM_LOCKED.
_STATUSES_TO_VERIFY = {0, 1, 4}

# Moodle checks the right to edit grades first, and then ignores a grade of the user 0.
_RIGHTS_PROBE = GradeChange(0, "", Decimal(0), None)

_CHECK_GRADE_ITEM = Advice("Check in ELMS's Moodle whether the activity's grade item was removed.")
_ACCEPT_AS_WRITTEN = Advice(
    "Check the activity's grade item in ELMS's Moodle: it must not be calculated or locked, and "
    "must have the multiplier 1 and the offset 0."
)
_USE_POINTS = Advice(
    "Set the grade type of this assignment to Point in ELMS's Moodle, or choose another one.",
    *SET_ACTIVITY_COMMAND,
)
_SHOW_ACTIVITY = Advice(
    "Check the number of the activity. If it is right, the activity or its grade may be hidden: "
    "give the token's user moodle/course:viewhiddenactivities and moodle/grade:viewhidden in "
    "ELMS's Moodle.",
    *SET_ACTIVITY_COMMAND,
)
NO_STUDENTS = Advice(
    "Enrol a student in a course whose grades are written, so that reading and writing can be "
    "tried; or let the token's user see the students (moodle/site:accessallgroups)."
)
_SHOW_LOCKS = Advice("Give the token's user moodle/grade:viewall in ELMS's Moodle.")
_SHOW_ACTIVITIES = Advice(
    "Give the token's user mod/assign:view in ELMS's Moodle (and, for hidden activities, "
    "moodle/course:viewhiddenactivities and moodle/grade:viewhidden), or add an assignment."
)


class MoodleGradebook:
    """Writes into assignments of the Moodle at a URL with a token; for one run."""

    max_courses = 20
    needs_activity = True

    def __init__(self, http_client: HttpClient, *, url: str, token: MoodleToken) -> None:
        self._http_client = http_client
        self._moodle = ElmsMoodle(http_client, url, token, NEEDED)
        self._users = UserDirectory(self._moodle)

    @property
    def requests(self) -> int:
        """The number of requests sent."""
        return self._http_client.requests

    def cancel(self) -> None:
        """Cancel the requests in progress, from any thread, and write no more."""
        self._http_client.cancel()

    def check(self) -> Outage | None:
        """Return why nothing can be written now, or None; sends one request."""
        result = self._moodle.call(SITE_INFO, {})
        if isinstance(result, Misconfigured):
            return SiteOutage(result.detail, result.advice)
        if not isinstance(result, Success):
            return result
        allowed = client.functions_of(result.document)
        if allowed is None:
            return Transient(
                "ELMS's own Moodle responded 200, but without its functions", TRY_LATER
            )
        missing = [name for name in NEEDED if name not in allowed]
        if missing:
            detail = f"the service of ELMS's token does not allow {', '.join(missing)}"
            return SiteOutage(detail, self._moodle.token_advice)
        return None

    def check_course(self, course: str, activity: str) -> WriteFailure | None:
        """Return why grades could not be written into an activity, or None; writes nothing."""
        report = self._report(course)
        if not isinstance(report, list):
            return report
        if not report:
            # Nor is it known whether the activity has a grade item: a write would create one.
            return Misconfigured(f"no students are shown of the course {course}", NO_STUDENTS)
        current = _current(report, course, activity)
        if not isinstance(current, dict):
            return current
        shown = [item for user in report for item in user.items if "gradeislocked" in item]
        if shown and all(item["gradeislocked"] is None for item in shown):
            detail = f"locked and overridden grades of the course {course} are not shown"
            return Misconfigured(f"{detail} by ELMS's Moodle", _SHOW_LOCKS)
        id_numbers = {user.id_number for user in report if user.id_number.strip()}
        failure = self._users.look_up(sorted(id_numbers)[: users.MAX_USERS])
        if failure:
            return failure
        if not self._users.knows_any(id_numbers):
            people = count(len(report), "person", "people")
            detail = f"ELMS's own Moodle finds none of {people} by ID number"
            return Misconfigured(detail, users.SHOW_ID_NUMBERS)
        return self._send([_RIGHTS_PROBE], course, activity)

    def write(self, courses: Sequence[CourseScores]) -> list[WriteResult]:
        """Write the grades that differ; one person's problem does not affect another's grade.

        After a failure that concerns every course nothing more is requested.
        """
        user_ids = {
            score.user_id
            for course in courses
            if course.course and course.activity
            for score in course.scores
        }
        failure = self._users.look_up(user_ids)
        outage = self._outage_after(failure)
        written: list[WriteResult] = []
        for course in courses:
            result = self._write(course, failure or outage)
            if failure is None and outage is None:
                outage = self._outage_after(result.failure)
            written.append(replace(result, outage=outage))
        return written

    def _outage_after(self, failure: WriteFailure | None) -> Outage | None:
        """Return why the other courses cannot be written either, or None.

        A transient failure may concern one course only, so that the Moodle is checked after it.
        """
        match failure:
            case SiteOutage():
                return failure
            case Transient():
                return self.check()
            case _:
                return None

    def _write(self, course: CourseScores, failure: WriteFailure | None) -> WriteResult:
        if not (course.course and course.activity):
            return WriteResult(course.entry_id, ScoreCounts(), failure=missing_activity())
        if failure:
            return WriteResult(course.entry_id, ScoreCounts(), failure=failure)
        user_ids = {score.user_id for score in course.scores}
        if len(user_ids) > 1 and not self._users.knows_any(user_ids):
            detail = f"ELMS's own Moodle finds none of {len(user_ids)} people by ID number"
            failure = Misconfigured(detail, users.SHOW_ID_NUMBERS)
            return WriteResult(course.entry_id, ScoreCounts(), failure=failure)
        current = self._read(course.course, course.activity)
        if not isinstance(current, dict):
            return WriteResult(course.entry_id, ScoreCounts(), failure=current)
        diff = grade_diff.compare(course.scores, self._users, current)
        if diff.changes:
            diff, failure = self._apply(diff, course.course, course.activity)
        return WriteResult(course.entry_id, grade_diff.counts(diff), diff.problems, failure)

    def _read(self, course: str, activity: str) -> Current | WriteFailure:
        """Return the current grades of an activity by student, or why none can be written."""
        report = self._report(course)
        return _current(report, course, activity) if isinstance(report, list) else report

    def _report(self, course: str) -> list[UserGrades] | WriteFailure:
        result = self._moodle.call(grade_report.FUNCTION, {"courseid": course})
        if not isinstance(result, Success):
            return result
        try:
            return grade_report.report_of(result.document)
        except grade_report.ReportError as error:
            return Transient(f"ELMS's own Moodle {error}", TRY_LATER)

    def _apply(
        self, diff: GradeDiff, course: str, activity: str
    ) -> tuple[GradeDiff, WriteFailure | None]:
        """Write the changes; return the diff with those found afterwards, and the failure if any.

        Without a failure, a change that is not found is a problem of its person. If none of
        several is found, the activity changes what is written.
        """
        failure = None
        for start in range(0, len(diff.changes), MAX_GRADES):
            failure = self._send(diff.changes[start : start + MAX_GRADES], course, activity)
            if failure:
                break
        current = self._read(course, activity)
        if not isinstance(current, dict):
            return replace(diff, changes=()), failure or current
        verified = grade_diff.verify(diff, current)
        if failure:
            return replace(verified, problems=diff.problems), failure
        lost = [one for one in verified.problems[len(diff.problems) :] if not one.kept]
        if 1 < len(lost) == len(diff.changes):
            detail = f"none of the {len(lost)} grades written into the activity {activity} is there"
            return verified, Misconfigured(f"{detail} in ELMS's Moodle", _ACCEPT_AS_WRITTEN)
        return verified, None

    def _send(
        self, changes: Sequence[GradeChange], course: str, activity: str
    ) -> WriteFailure | None:
        result = self._moodle.call(
            UPDATE,
            {
                "source": _SOURCE,
                "courseid": course,
                "component": "mod_assign",
                "activityid": activity,
                "itemnumber": 0,
                "grades": [
                    {"studentid": change.moodle_user_id, "grade": format(change.grade, "f")}
                    for change in changes
                ],
            },
        )
        if isinstance(result, Misconfigured) and result.advice is VIEW_GRADES:
            return replace(result, advice=EDIT_GRADES)
        if not isinstance(result, Success):
            return result
        # Python takes False and 0.0 for equal to 0, but neither is a status.
        if type(result.document) is int and result.document in _STATUSES_TO_VERIFY:
            return None
        return Misconfigured("ELMS's Moodle rejected the grades", _CHECK_GRADE_ITEM)


def _current(report: Sequence[UserGrades], course: str, activity: str) -> Current | Misconfigured:
    """Return the current grades of an activity by student, or why none can be written."""
    current = grade_diff.current_grades(report, activity)
    reasons = set(current.values()) if current else set()
    where = f"of the course {course} of ELMS's Moodle"
    if UnwritableReason.SCALE in reasons:
        detail = f"the activity {activity} {where} is graded by a scale, not by points"
        return Misconfigured(detail, _USE_POINTS)
    if reasons == {UnwritableReason.NO_ITEM}:
        if any(item.get("itemtype") == "mod" for user in report for item in user.items):
            detail = f"no activity {activity} is shown {where}"
            return Misconfigured(detail, _SHOW_ACTIVITY)
        return Misconfigured(f"no activities are shown {where}", _SHOW_ACTIVITIES)
    if reasons == {UnwritableReason.UNREADABLE}:
        return Misconfigured(f"the activity {activity} {where} has no points", SET_ACTIVITY)
    return current
