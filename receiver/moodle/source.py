"""A Moodle as a source of grades: what its answers say of a course and its token."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from contract.tokens import MoodleToken
from receiver.errors import CourseIdError
from receiver.moodle import grade_report
from receiver.moodle.client import MoodleClient, door
from receiver.moodle.responses import LATER, Ambiguous, Fine, InvalidToken, Lost, Missing, Verdict
from receiver.sources.base import (
    FetchOutcome,
    GradeQuery,
    Grades,
    Misconfigured,
    SeemsGone,
    SiteOutage,
    TokenRefused,
    Transient,
    Unchanged,
)
from receiver.sources.http_client import Exchange
from receiver.sources.store import MOODLE_COURSE

SITE_INFO = "core_webservice_get_site_info"
COURSES = "core_course_get_courses"
MOST_IDS = 100
"""How many courses are confirmed by one request."""

_ALLOW = (
    f"Have that Moodle's administrator allow {grade_report.FUNCTION} and {SITE_INFO} in "
    "the token's service, and check what the service and the token are restricted to: "
    "users, addresses."
)


class MoodleGradeSource:
    """Asks a Moodle; `site_token` may look at every course of it, and is not asked for grades."""

    batch = 1

    def __init__(
        self, exchange: Exchange, *, site_token: MoodleToken | None, now: Callable[[], datetime]
    ) -> None:
        self._client = MoodleClient(exchange)
        self._site_token = site_token
        self._now = now

    @property
    def requests(self) -> int:
        """How many requests were sent."""
        return self._client.requests

    def break_off(self) -> None:
        """End what is under way, and ask nothing from now on."""
        self._client.break_off()

    def ask(self, questions: Sequence[GradeQuery]) -> list[FetchOutcome]:
        """Return one outcome for each question, in order; never raise."""
        return [self._ask(question) for question in questions]

    def confirm(self, questions: Sequence[GradeQuery]) -> list[bool | None]:
        """Tell of each course that seemed gone whether it is; None where that cannot be told.

        They are of one site, whose site-wide token sees every course that is there.
        """
        told: list[bool | None] = []
        for start in range(0, len(questions), MOST_IDS):
            told += self._confirm(questions[start : start + MOST_IDS])
        return told

    def url_of(self, question: GradeQuery) -> str:
        """Return where a question goes: one URL for all, without any secret."""
        return door(question.source_url)

    def _ask(self, question: GradeQuery) -> FetchOutcome:
        if not MOODLE_COURSE.fullmatch(question.course_id):
            return Misconfigured(
                "a course's id is a whole number in a Moodle", CourseIdError.next_step
            )
        verdict = self._call(question, grade_report.FUNCTION, {"courseid": question.course_id})
        match verdict:
            case Fine(document):
                return self._grades(question, document)
            case Ambiguous(detail):
                return self._probe(question, detail)
            case _:
                return _outcome(verdict)

    def _grades(self, question: GradeQuery, document: Any) -> FetchOutcome:
        try:
            read: Grades = grade_report.grades_of(document, now=self._now())
        except grade_report.ReportError as error:
            return Transient(str(error), LATER)
        return Unchanged() if read.etag and read.etag == question.etag else read

    def _probe(self, question: GradeQuery, detail: str) -> FetchOutcome:
        """Tell a token that is barred from one that has expired.

        Moodle removes a token at the call that finds it expired, so that a second one does not
        know it any more; to a token that is barred it says the same again.
        """
        verdict = self._call(question, SITE_INFO, {})
        if isinstance(verdict, Fine | Ambiguous):
            return Misconfigured(detail, _ALLOW)
        return _outcome(verdict)

    def _confirm(self, questions: Sequence[GradeQuery]) -> list[bool | None]:
        numbers = [one.course_id for one in questions if MOODLE_COURSE.fullmatch(one.course_id)]
        # Asked for none, Moodle would list every course.
        if self._site_token is None or not numbers:
            return [None] * len(questions)
        verdict = self._client.call(
            questions[0].source_url, self._site_token, COURSES, {"options": {"ids": numbers}}
        )
        there = _ids(verdict)
        if there is None:
            return [None] * len(questions)
        return [
            one.course_id not in there if MOODLE_COURSE.fullmatch(one.course_id) else None
            for one in questions
        ]

    def _call(self, question: GradeQuery, function: str, parameters: dict[str, Any]) -> Verdict:
        token = question.token
        if not isinstance(token, MoodleToken):
            return Misconfigured(
                "the token that is held is none of a Moodle's",
                "Enter the course's Moodle token with `receiver registry set-token COURSE_ID`.",
            )
        return self._client.call(question.source_url, token, function, parameters)


def _outcome(
    verdict: InvalidToken | Missing | Misconfigured | SiteOutage | Transient,
) -> FetchOutcome:
    match verdict:
        case InvalidToken(detail):
            return TokenRefused("invalidtoken", detail.removeprefix("invalidtoken: "))
        case Missing(what, detail):
            return SeemsGone(detail, certain=what is not Lost.UNCLEAR)
        case _:
            return verdict


def _ids(verdict: Verdict) -> set[str] | None:
    if not isinstance(verdict, Fine) or not isinstance(verdict.document, list):
        return None
    ids = [one.get("id") if isinstance(one, dict) else None for one in verdict.document]
    if not all(isinstance(number, int) for number in ids):
        return None
    return {str(number) for number in ids}
