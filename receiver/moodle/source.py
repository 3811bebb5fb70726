"""A Moodle as a source of grades."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime

from contract.tokens import MoodleToken
from foundation.errors import Advice
from foundation.text import count
from receiver.errors import CourseIdError
from receiver.moodle import client, grade_report
from receiver.moodle.client import SITE_INFO, Parameters, endpoint_url
from receiver.moodle.responses import (
    CHECK_RIGHTS,
    TRY_LATER,
    TRY_SITE_LATER,
    AccessDenied,
    InvalidToken,
    Missing,
    MissingRecord,
    MoodleFailure,
    MoodleResult,
    Success,
    check_service_advice,
)
from receiver.sources.base import (
    DeletedOutcome,
    FetchOutcome,
    GradeQuery,
    Grades,
    Misconfigured,
    RejectedOutcome,
    SiteOutage,
    Transient,
    Unchanged,
)
from receiver.sources.http_client import HttpClient
from receiver.sources.store import MOODLE_COURSE

COURSES = "core_course_get_courses"
COURSES_BY_FIELD = "core_course_get_courses_by_field"

_ALLOW_GRADES, _ALLOW_SITE_INFO = (
    Advice(f"Have that Moodle's administrator allow {function} in the token's service.")
    for function in (grade_report.FUNCTION, SITE_INFO)
)
_CHECK_RESTRICTIONS = check_service_advice([grade_report.FUNCTION, SITE_INFO, COURSES])
_ALLOW_COURSE_LIST = Advice(
    f"Have that Moodle's administrator allow {COURSES} in the service of the course's token, or "
    "enter a site-wide token whose service allows it.",
    "sources set-site-token",
    ("SOURCE",),
)
_ID_NUMBERS = Advice(
    "Enter the people's ID numbers in that Moodle, and check that the token's user may see the "
    "course total (moodle/grade:viewhidden if it is hidden)."
)
_SEE_COURSES = Advice(
    "Give the user of the site-wide token moodle/course:view and moodle/course:viewhiddencourses "
    "in that Moodle."
)
_ENTER_TOKEN = Advice("Enter the course's Moodle token.", "registry set-token", ("COURSE_ID",))


class MoodleGradeSource:
    """The client of a Moodle for one run.

    `site_token` sees every course; it confirms deletions, and is not used to fetch grades.
    """

    max_queries = 1

    def __init__(
        self,
        http_client: HttpClient,
        *,
        site_token: MoodleToken | None,
        now: Callable[[], datetime],
    ) -> None:
        self._http_client = http_client
        self._site_token = site_token
        self._now = now
        self._lock = threading.Lock()
        self._accepted = False
        self._denied = 0

    def fetch(self, queries: Sequence[GradeQuery]) -> list[FetchOutcome]:
        """Return an outcome for each query, in order; never raise."""
        return [self._fetch(query) for query in queries]

    def url_of(self, query: GradeQuery) -> str:
        """Return the URL of a query: one for all, without any secret."""
        return endpoint_url(query.source_url)

    def course_exists(self, query: GradeQuery, token: MoodleToken) -> bool | MoodleFailure:
        """Return whether a token sees the course of a query in the list of courses, or a failure.

        The list leaves out courses that do not exist; a course that the token may not see is a
        failure.
        """
        options = {"options": {"ids": [query.course_id]}}
        result = self._call(query, token, COURSES, options)
        if not isinstance(result, Success):
            return result
        courses = result.document
        if not isinstance(courses, list) or not all(isinstance(one, dict) for one in courses):
            return Transient("responded 200, but not with courses", TRY_LATER)
        return any(str(course.get("id")) == query.course_id for course in courses)

    def check_course(self, query: GradeQuery) -> FetchOutcome | None:
        """Return what a run could not do with one course, or None; by trying all requests."""
        outcome = self._fetch(query)
        if not isinstance(outcome, Grades | Unchanged):
            return outcome
        if isinstance(outcome, Grades) and outcome.is_mostly_left_out:
            people = count(len(outcome.left_out), "person", "people")
            detail = f"the grades of none of {people} can be read: {outcome.left_out[0].detail}"
            return Misconfigured(detail, _ID_NUMBERS)
        token = query.token
        if not isinstance(token, MoodleToken):
            return None
        probe = self._call(query, token, SITE_INFO)
        if isinstance(probe, AccessDenied):
            return Misconfigured(f"{SITE_INFO}: {probe.detail}", _ALLOW_SITE_INFO)
        if not isinstance(probe, Success):
            return _outcome(probe)
        exists = self.course_exists(query, self._site_token or token)
        match exists:
            case True:
                return None
            case False:
                return Misconfigured("the site-wide token does not see the course", _SEE_COURSES)
            case Transient() | SiteOutage():
                return exists
            case _:
                detail = f"it cannot be decided whether a course was deleted: {exists.detail}"
                return Misconfigured(detail, _ALLOW_COURSE_LIST)

    def courses_with_id_number(
        self, source_url: str, id_number: str
    ) -> list[str] | MoodleFailure | None:
        """Return the ids of the courses with an ID number, or None without a site-wide token."""
        if self._site_token is None:
            return None
        parameters = {"field": "idnumber", "value": id_number}
        result = client.call(
            self._http_client, source_url, self._site_token, COURSES_BY_FIELD, parameters
        )
        if not isinstance(result, Success):
            return result
        courses = result.document.get("courses") if isinstance(result.document, dict) else None
        if not isinstance(courses, list) or not all(isinstance(one, dict) for one in courses):
            return Transient("responded 200, but not with courses", TRY_LATER)
        # Moodle's database may ignore case, and the ID number is shown only to some users.
        return [
            str(course.get("id"))
            for course in courses
            if course.get("idnumber", id_number) == id_number
        ]

    def _fetch(self, query: GradeQuery) -> FetchOutcome:
        if not MOODLE_COURSE.fullmatch(query.course_id):
            return Misconfigured("a course id must be an integer in a Moodle", CourseIdError.advice)
        token = query.token
        if not isinstance(token, MoodleToken):
            return Misconfigured("the stored token is not a Moodle token", _ENTER_TOKEN)
        result = self._call(query, token, grade_report.FUNCTION, {"courseid": query.course_id})
        match result:
            case Success(document):
                try:
                    grades = grade_report.grades_of(document, now=self._now())
                except grade_report.ReportError as error:
                    return Transient(str(error), TRY_LATER)
                return Unchanged() if grades.etag and grades.etag == query.etag else grades
            case AccessDenied(detail):
                return self._denied_outcome(query, token, detail)
            case Missing():
                return self._missing_outcome(query, token, result)
            case Transient(timed_out=True):
                return self._timed_out_outcome(query, token, result)
            case _:
                return _outcome(result)

    def _call(
        self,
        query: GradeQuery,
        token: MoodleToken,
        function: str,
        parameters: Parameters | None = None,
    ) -> MoodleResult:
        result = client.call(self._http_client, query.source_url, token, function, parameters)
        if isinstance(result, Success):
            self._accepted = True
        return result

    def _denied_outcome(self, query: GradeQuery, token: MoodleToken, detail: str) -> FetchOutcome:
        """Return the outcome of a request that was denied.

        A second call tells why: Moodle has removed a token that it found expired, so it no longer
        knows it, but denies a restricted token again. If a second course is denied every function
        too, and no call succeeded in this run, the whole site cannot be used.
        """
        # One after another, so that courses that are requested at once do not probe once each.
        with self._lock:
            if self._denied < 2 or self._accepted:
                probe = self._call(query, token, SITE_INFO)
                if isinstance(probe, Success):
                    return Misconfigured(detail, _ALLOW_GRADES)
                if not isinstance(probe, AccessDenied):
                    return _outcome(probe)
                self._denied += 1
                if self._denied == 1 or self._accepted:
                    return Misconfigured(f"{detail}, for every function", _CHECK_RESTRICTIONS)
            return SiteOutage(f"{detail}, for every function and course", _CHECK_RESTRICTIONS)

    def _missing_outcome(
        self, query: GradeQuery, token: MoodleToken, missing: Missing
    ) -> FetchOutcome:
        """Return whether the course was deleted, or what the missing record is otherwise.

        If Moodle does not say which record is missing, a second function is called. If a record is
        missing for it too, it is the context of the token, which is the course. Otherwise the token
        is valid for the site, and the list of courses tells whether the course exists.
        A token that several courses have is no course's own: then that Moodle is broken.
        """
        if missing.what is not MissingRecord.UNCLEAR:
            return self._deletion(query, missing, own_token=None)
        probe = self._call(query, token, SITE_INFO)
        match probe:
            case Missing() if query.token_is_shared:
                detail = f"{missing.detail}, for every function, with a token of several courses"
                return SiteOutage(detail, TRY_SITE_LATER)
            case Missing():
                return self._deletion(query, missing, own_token=None)
            case Success(document):
                allowed = client.functions_of(document)
                if allowed is not None and grade_report.FUNCTION not in allowed:
                    return Misconfigured(missing.detail, _ALLOW_GRADES)
                return self._deletion(query, missing, own_token=token)
            case AccessDenied():
                return self._deletion(query, missing, own_token=token)
            case _:
                return _outcome(probe)

    def _deletion(
        self, query: GradeQuery, missing: Missing, *, own_token: MoodleToken | None
    ) -> FetchOutcome:
        """Return whether the site-wide token, or else the course's own, sees the course.

        Without `own_token` the deletion is certain unless the site-wide token sees the course.
        """
        failure: MoodleFailure | None = None
        for token in filter(None, (self._site_token, own_token)):
            exists = self.course_exists(query, token)
            if exists is True:
                return Misconfigured(f"{missing.detail}, although the course exists", CHECK_RIGHTS)
            if exists is False:
                return DeletedOutcome(0, self._now())
            failure = exists
        if own_token is None or failure is None:
            return DeletedOutcome(0, self._now())
        unclear = f"{missing.detail}; whether the course was deleted is not certain: "
        if isinstance(failure, Transient | SiteOutage):
            return replace(failure, detail=f"{unclear}{failure.detail}")
        return Misconfigured(f"{unclear}{COURSES}: {failure.detail}", _ALLOW_COURSE_LIST)

    def _timed_out_outcome(
        self, query: GradeQuery, token: MoodleToken, failure: Transient
    ) -> FetchOutcome:
        """Return that the course takes long or, if the site info takes long too, the site."""
        probe = self._call(query, token, SITE_INFO)
        if isinstance(probe, Transient):
            return SiteOutage(
                f"{failure.detail}, and to a small request: {probe.detail}", TRY_LATER
            )
        return replace(failure, detail=f"{failure.detail} (other requests are answered)")


def _outcome(result: InvalidToken | AccessDenied | Missing | FetchOutcome) -> FetchOutcome:
    match result:
        case InvalidToken(detail):
            return RejectedOutcome("invalidtoken", detail.removeprefix("invalidtoken: "))
        case AccessDenied(detail):
            return Misconfigured(detail, _CHECK_RESTRICTIONS)
        case Missing(_, detail):
            return Transient(detail, TRY_LATER)
        case _:
            return result
