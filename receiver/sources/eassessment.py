"""The client of eAssessment's grades API: for each query a typed outcome, never an exception."""

import re
import time
from collections.abc import Sequence
from dataclasses import replace
from email.utils import format_datetime
from typing import Any, Self
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, ValidationError

from contract import strict_json
from contract.events import CourseId, TokenId, Version, WireTime
from contract.grades import MAX_BATCH, GradesResponse
from contract.problems import STATUS, ProblemType, type_of
from foundation.http import client as http
from receiver.sources import eassessment_batch
from receiver.sources.base import (
    CourseGone,
    FetchOutcome,
    GradeQuery,
    Grades,
    Misconfigured,
    TokenRefused,
    TokenReplaced,
    Transient,
    Unchanged,
)
from receiver.sources.http_client import (
    MAX_DETAIL,
    TOO_LARGE,
    Answer,
    Exchange,
    ExchangeError,
    TooLargeError,
    UnsendableError,
)

_ETAG = re.compile(r'(?:W/)?"[!#-~]{0,240}"', re.ASCII)


class EAssessmentClient:
    """Asks eAssessments, each at its source's URL; a `GradeSource` that speaks our own API."""

    def __init__(self, exchange: Exchange, batch: int = MAX_BATCH) -> None:
        self._exchange = exchange
        self._single: set[str] = set()
        self.batch = batch

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._exchange.close()

    @property
    def requests(self) -> int:
        """How many requests were sent."""
        return self._exchange.requests

    @property
    def bytes_moved(self) -> int:
        """How many bytes of bodies went and came."""
        return self._exchange.sent + self._exchange.received

    def cancel(self) -> None:
        """End what is under way, and ask nothing from now on."""
        self._exchange.cancel()

    def url_of(self, query: GradeQuery) -> str:
        """Return where a query goes when it is asked by itself."""
        return url_of(query)

    def confirm_deleted(self, queries: Sequence[GradeQuery]) -> list[bool | None]:
        """Tell nothing: eAssessment says by itself what was deleted."""
        return [None for _ in queries]

    def fetch(self, queries: Sequence[GradeQuery]) -> list[FetchOutcome]:
        """Return what eAssessment answers to queries about courses of one site, in order.

        They go in one request, or in one each where the site has no batch; what a batch left
        unanswered is asked by itself.
        """
        site = queries[0].source_url
        if len(queries) == 1 or site in self._single:
            return self._ask_each(queries)
        outcomes = self._ask_at_once(queries)
        if outcomes is None:
            self._single.add(site)
            return self._ask_each(queries)
        pairs = zip(queries, outcomes, strict=True)
        alone = iter(self._ask_each([query for query, outcome in pairs if outcome is None]))
        return [outcome or next(alone) for outcome in outcomes]

    def _ask_each(self, queries: Sequence[GradeQuery]) -> list[FetchOutcome]:
        """Ask one after another, for as long as one request may take.

        What is left then, or when the site cannot be reached, is not asked: others wait too.
        """
        ends = time.monotonic() + self._exchange.total
        left: Transient | None = None
        outcomes: list[FetchOutcome] = []
        for query in queries:
            if left is None and outcomes and time.monotonic() >= ends:
                left = Transient("its turn did not come: the courses before it took all the time")
            outcome = left or self.fetch_one(query)
            if isinstance(outcome, Transient) and outcome.unreachable:
                left = outcome
            outcomes.append(outcome)
        return outcomes

    def fetch_one(self, query: GradeQuery) -> FetchOutcome:
        """Return what eAssessment answers, whatever that is, within the deadline."""
        try:
            answer = self._exchange.send("GET", url_of(query), _headers(query))
        except TooLargeError as error:
            return Misconfigured(str(error), TOO_LARGE)
        except UnsendableError as error:
            return Misconfigured(str(error), CHECK_URL)
        except ExchangeError as error:
            return Transient(str(error), unreachable=error.unreachable)
        outcome = classify(query, answer.status, answer.headers.get("ETag"), answer.body)
        return _patient(outcome, answer)

    def _ask_at_once(self, queries: Sequence[GradeQuery]) -> list[FetchOutcome | None] | None:
        """Return what a batch answers of each, or None if the site does not know of batches."""
        site = queries[0].source_url
        body = eassessment_batch.dump(queries)
        headers = {"Content-Type": "application/json"}
        try:
            answer = self._exchange.send("POST", f"{site}{eassessment_batch.PATH}", headers, body)
        except UnsendableError:
            return [None for _ in queries]
        except ExchangeError as error:
            return [Transient(str(error), unreachable=error.unreachable) for _ in queries]
        if answer.status in _NO_BATCH:
            return None
        if answer.status == 200:
            items = eassessment_batch.load(answer.body, queries)
            return [
                None if item is None else classify(query, item.status, item.etag, item.body)
                for query, item in zip(queries, items, strict=True)
            ]
        if answer.status >= 500 or answer.status in _BUSY:
            failed = _patient(Transient(f"answered {answer.status}"), answer)
            return [failed for _ in queries]
        return [None for _ in queries]


def url_of(query: GradeQuery) -> str:
    """Return where a query goes; the course id is one path segment, whatever it holds."""
    return f"{query.source_url}/api/v1/courses/{quote(query.course_id, safe='')}/grades"


def _headers(query: GradeQuery) -> dict[str, str]:
    headers = {"Authorization": f"Bearer {query.token.reveal()}"}
    if query.etag:
        headers["If-None-Match"] = query.etag
    elif query.modified_since:
        headers["If-Modified-Since"] = format_datetime(query.modified_since, usegmt=True)
    return headers


def _patient(outcome: FetchOutcome, answer: Answer) -> FetchOutcome:
    """Return the outcome with the seconds that the site asked to be left alone for."""
    return (
        replace(outcome, retry_after=answer.retry_after)
        if isinstance(outcome, Transient)
        else outcome
    )


CHECK_URL = "Check the source's URL (`receiver sources list`) and what answers there."
_CHECK_COURSE = "Check the course id and the source's URL with the eAssessment administrator."
_BUSY = {408, 425, 429}
_NO_BATCH = {404, 405, 501}
_TOKEN_PROBLEMS = {
    ProblemType.TOKEN_MALFORMED,
    ProblemType.TOKEN_UNKNOWN,
    ProblemType.TOKEN_WRONG_COURSE,
}


def classify(query: GradeQuery, status: int, etag: str | None, body: bytes) -> FetchOutcome:
    """Return what an answer means; the problem's stable `type` decides, never its words."""
    if status == 200:
        return _grades(query, etag, body)
    if status == 304 and (query.etag or query.modified_since):
        return Unchanged()
    if 300 <= status < 400:
        return Misconfigured(f"answered {status}: a redirect, which is not followed", CHECK_URL)
    if status < 400 or status >= 500 or status in _BUSY:
        return Transient(f"answered {status}")
    return _refusal(query, status, body)


class _Facts(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")

    course_id: CourseId
    course_version: Version


class _GoneFacts(_Facts):
    deleted_at: WireTime


class _ReplacedFacts(_Facts):
    token_id: TokenId
    regenerated_at: WireTime


def _grades(query: GradeQuery, etag: str | None, body: bytes) -> FetchOutcome:
    try:
        strict_json.load(body)
        answer = GradesResponse.model_validate_json(body)
    except strict_json.StrictJsonError as error:
        return Transient(f"answered 200, but {error}")
    except ValidationError as error:
        return Transient(f"answered 200, but not with grades: {_first_fault(error)}")
    if (answer.course_id, answer.token_id) != (query.course_id, query.token.token_id):
        return Misconfigured("answered with another course, or for another token", CHECK_URL)
    name = etag if etag and _ETAG.fullmatch(etag) else None
    return Grades(answer.scores, name, answer.course_version, answer.token_id)


def _refusal(query: GradeQuery, status: int, body: bytes) -> FetchOutcome:
    document = _document(body)
    problem = type_of(document)
    if problem is None or STATUS[problem] != status:
        return Misconfigured(f"answered {status} with no reason that is known here", CHECK_URL)
    try:
        if problem is ProblemType.COURSE_DELETED:
            return _gone(query, _GoneFacts.model_validate(document))
        if problem is ProblemType.TOKEN_REGENERATED:
            return _replaced(query, _ReplacedFacts.model_validate(document))
    except ValidationError as error:
        return Misconfigured(f"answered {problem}, but {_first_fault(error)}", CHECK_URL)
    if problem in _TOKEN_PROBLEMS:
        return TokenRefused(problem, _said(document))
    return Misconfigured(f"answered {status} {problem}: {_said(document)}", _CHECK_COURSE)


def _gone(query: GradeQuery, facts: _GoneFacts) -> FetchOutcome:
    if facts.course_id != query.course_id:
        return Misconfigured("answered that another course was deleted", CHECK_URL)
    return CourseGone(facts.course_version, facts.deleted_at)


def _replaced(query: GradeQuery, facts: _ReplacedFacts) -> FetchOutcome:
    if facts.course_id != query.course_id or facts.token_id == query.token.token_id:
        return Misconfigured(
            "answered that the token was replaced, but by itself or for another course", CHECK_URL
        )
    return TokenReplaced(facts.course_version, facts.token_id, facts.regenerated_at)


def _document(body: bytes) -> dict[str, Any]:
    try:
        document = strict_json.load(body)
    except strict_json.StrictJsonError:
        return {}
    return document if isinstance(document, dict) else {}


def _said(document: dict[str, Any]) -> str:
    detail = document.get("detail")
    return http.safe_line(detail, MAX_DETAIL) if isinstance(detail, str) else "it did not say why"


def _first_fault(error: ValidationError) -> str:
    fault = error.errors(include_url=False, include_input=False, include_context=False)[0]
    pointer = "".join(f"/{part}" for part in fault["loc"])
    return http.safe_line(f"{pointer}: {fault['msg'].removeprefix('Value error, ')}", MAX_DETAIL)
