"""A Moodle as a source of grades."""

from collections.abc import Callable, Sequence
from datetime import datetime

from contract.tokens import MoodleToken
from foundation.errors import Advice
from receiver.errors import CourseIdError
from receiver.moodle import client, grade_report
from receiver.moodle.client import SITE_INFO, endpoint_url
from receiver.moodle.responses import (
    LATER,
    AccessDenied,
    InvalidToken,
    Missing,
    MissingRecord,
    Success,
)
from receiver.sources.base import (
    FetchOutcome,
    GradeQuery,
    Misconfigured,
    NotFoundUnconfirmed,
    TokenRefused,
    Transient,
    Unchanged,
)
from receiver.sources.http_client import HttpClient
from receiver.sources.store import MOODLE_COURSE

COURSES = "core_course_get_courses"

# How many courses one request confirms.
MAX_IDS = 100

_ALLOW = Advice(
    f"Have that Moodle's administrator allow {grade_report.FUNCTION} and {SITE_INFO} in "
    "the token's service, and check the users and addresses that the service and the token are "
    "restricted to."
)
_ENTER_TOKEN = Advice("Enter the course's Moodle token.", "registry set-token", ("COURSE_ID",))


class MoodleGradeSource:
    """The client of a Moodle; `site_token` sees every course, and is not used to fetch grades."""

    batch = 1

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

    def fetch(self, queries: Sequence[GradeQuery]) -> list[FetchOutcome]:
        """Return an outcome for each query, in order; never raise."""
        return [self._fetch(query) for query in queries]

    def confirm_deleted(self, queries: Sequence[GradeQuery]) -> list[bool | None]:
        """Return for each course that was not found whether it is deleted; None if unknown.

        The site-wide token of their site sees every course that exists.
        """
        confirmed: list[bool | None] = []
        for start in range(0, len(queries), MAX_IDS):
            confirmed += self._confirm(queries[start : start + MAX_IDS])
        return confirmed

    def url_of(self, query: GradeQuery) -> str:
        """Return the URL of a query: one for all, without any secret."""
        return endpoint_url(query.source_url)

    def _fetch(self, query: GradeQuery) -> FetchOutcome:
        url, token = query.source_url, query.token
        if not MOODLE_COURSE.fullmatch(query.course_id):
            return Misconfigured("a course id must be an integer in a Moodle", CourseIdError.advice)
        if not isinstance(token, MoodleToken):
            return Misconfigured("the stored token is not a Moodle token", _ENTER_TOKEN)
        parameters = {"courseid": query.course_id}
        result = client.call(self._http_client, url, token, grade_report.FUNCTION, parameters)
        if isinstance(result, AccessDenied):
            # Moodle removes a token in the call that finds it expired, and does not know it in a
            # second call; a restricted token is denied again.
            probe = client.call(self._http_client, url, token, SITE_INFO)
            if isinstance(probe, Success | AccessDenied):
                return Misconfigured(result.detail, _ALLOW)
            result = probe
        match result:
            case Success(document):
                try:
                    grades = grade_report.grades_of(document, now=self._now())
                except grade_report.ReportError as error:
                    return Transient(str(error), LATER)
                return Unchanged() if grades.etag and grades.etag == query.etag else grades
            case InvalidToken(detail):
                return TokenRefused("invalidtoken", detail.removeprefix("invalidtoken: "))
            case Missing(what, detail):
                return NotFoundUnconfirmed(detail, certain=what is not MissingRecord.UNCLEAR)
            case _:
                return result

    def _confirm(self, queries: Sequence[GradeQuery]) -> list[bool | None]:
        ids = [query.course_id for query in queries]
        numbers = [course_id for course_id in ids if MOODLE_COURSE.fullmatch(course_id)]
        # Without ids, Moodle would list every course.
        if self._site_token is None or not numbers:
            return [None] * len(queries)
        options = {"options": {"ids": numbers}}
        result = client.call(
            self._http_client, queries[0].source_url, self._site_token, COURSES, options
        )
        listed = result.document if isinstance(result, Success) else None
        if not isinstance(listed, list):
            return [None] * len(queries)
        existing = [course.get("id") if isinstance(course, dict) else None for course in listed]
        if not all(isinstance(number, int) for number in existing):
            return [None] * len(queries)
        found = set(map(str, existing))
        return [course_id not in found if course_id in numbers else None for course_id in ids]
