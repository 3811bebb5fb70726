"""The client of eAssessment's grades API: one question, one typed outcome, never an exception."""

import re
import socket
import ssl
from dataclasses import dataclass
from datetime import datetime
from http.client import HTTPException
from typing import Any, Self
from urllib.parse import quote

import requests
from pydantic import BaseModel, ConfigDict, ValidationError
from urllib3.exceptions import HTTPError

from contract import json_text
from contract.events import CourseId, TokenId, Version, WireTime
from contract.grades import GradesAnswer
from contract.problems import STATUS, ProblemType, type_of
from contract.tokens import CourseToken
from foundation import deadline, outbound
from foundation.deadline import DeadlineError, HandshakeTimeoutError
from foundation.dial import ConnectTimeoutError, Dialler
from foundation.names import LookupTimeoutError, Resolve
from foundation.outbound import Kinds

MAX_ANSWER_BYTES = 16 * 1024 * 1024
_MAX_EXCHANGE_BYTES = 2 * MAX_ANSWER_BYTES
"""What a whole exchange may bring: heads and the frames of chunks beside the answer."""

_PIECE_BYTES = 64 * 1024
_MAX_DETAIL = 300
_ETAG = re.compile(r'(?:W/)?"[!#-~]{0,240}"', re.ASCII)


@dataclass(frozen=True)
class Question:
    """What is asked: a course's grades, by the bearer of its token, if they are not `etag`."""

    source_url: str
    course_id: str
    token: CourseToken
    etag: str | None = None

    @property
    def url(self) -> str:
        """Where the question goes; the course id is one path segment, whatever it holds."""
        return f"{self.source_url}/api/v1/courses/{quote(self.course_id, safe='')}/grades"


@dataclass(frozen=True)
class Grades:
    """The course's scores, its version and its present token."""

    answer: GradesAnswer
    etag: str | None


@dataclass(frozen=True)
class Unchanged:
    """The grades are those that `etag` named."""


@dataclass(frozen=True)
class CourseGone:
    """The course was deleted."""

    course_version: int
    deleted_at: datetime


@dataclass(frozen=True)
class TokenReplaced:
    """The token was good once; `token_id` is the present one."""

    course_version: int
    token_id: str
    regenerated_at: datetime


@dataclass(frozen=True)
class TokenRefused:
    """The token is not one of this course, and no present one was named."""

    problem: ProblemType
    detail: str


@dataclass(frozen=True)
class Misconfigured:
    """The far side answers as no eAssessment in order does; asking again does not help."""

    detail: str
    next_step: str


@dataclass(frozen=True)
class Transient:
    """No answer that tells anything about the course; the next run asks again."""

    detail: str
    next_step: str = "Nothing yet: the next run asks again. If it stays so, look at eAssessment."


Outcome = Grades | Unchanged | CourseGone | TokenReplaced | TokenRefused | Misconfigured | Transient


class Client:
    """Asks over connections that are kept; `requests` counts what was sent."""

    def __init__(
        self,
        *,
        connect_timeout: float,
        read_timeout: float,
        total: float,
        bundle: str = "",
        resolve: Resolve = socket.getaddrinfo,
    ) -> None:
        self._timeout = (min(connect_timeout, total), min(read_timeout, total))
        self._total = total
        self._adapter = outbound.Adapter(Dialler(resolve=resolve), bundle=bundle)
        self.requests = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._adapter.close()

    def ask(self, question: Question) -> Outcome:
        """Return what eAssessment answers, whatever that is, within the deadline."""
        self.requests += 1
        try:
            with deadline.within(
                self._total, silence=self._timeout[1], most_bytes=_MAX_EXCHANGE_BYTES
            ):
                return self._exchange(question)
        except requests.exceptions.InvalidURL as error:
            return Misconfigured(outbound.words(error, _MAX_DETAIL), _CHECK_URL)
        except (requests.RequestException, HTTPError, OSError, ValueError) as error:
            return Transient(self._failure(error))

    def _exchange(self, question: Question) -> Outcome:
        response = self._adapter.send(
            _prepared(question), stream=True, timeout=self._timeout, proxies={}
        )
        body = _body(response)
        if len(body) > MAX_ANSWER_BYTES:
            response.raw.close()
            return Misconfigured(f"the answer is larger than {MAX_ANSWER_BYTES} bytes", _CHECK_URL)
        return classify(question, response.status_code, response.headers.get("ETag"), body)

    def _failure(self, error: Exception) -> str:
        explained, cause = outbound.explain(error, _EXPLAINED)
        why = outbound.words(cause, _MAX_DETAIL)
        connect, silence = self._timeout
        return (explained or "no answer: {why}").format(
            why=why, connect=connect, silence=silence, total=self._total
        )


_EXPLAINED: dict[Kinds, str] = {
    DeadlineError: "no whole answer within {total:g} s",
    LookupTimeoutError: "its host's name was not resolved within {connect:g} s",
    ConnectTimeoutError: "the connection was not accepted within {connect:g} s",
    HandshakeTimeoutError: "no TLS handshake came about within {connect:g} s",
    TimeoutError: "silent for {silence:g} s",
    ssl.SSLCertVerificationError: "its certificate is refused: {why}; "
    "RECEIVER_CA_BUNDLE can name its authority",
    ConnectionError: "no answer: {why}",
    HTTPException: "what came is not HTTP, or broke off",
}
"""What went wrong, by what was raised; the first row of which something was raised counts."""


def _body(response: requests.Response) -> bytes:
    """Return the body as it came, or a byte more of it than may be; in pieces, as it is needed."""
    body = bytearray()
    while len(body) <= MAX_ANSWER_BYTES:
        piece = response.raw.read(_PIECE_BYTES, decode_content=False)
        if not piece:
            break
        body += piece
    return bytes(body)


def _prepared(question: Question) -> requests.PreparedRequest:
    headers = {
        "Authorization": f"Bearer {question.token.reveal()}",
        "Accept": "application/json",
        "Accept-Encoding": "identity",
        "User-Agent": outbound.USER_AGENT,
    }
    if question.etag:
        headers["If-None-Match"] = question.etag
    return requests.Request("GET", question.url, headers=headers).prepare()


_CHECK_URL = "Check the source's URL (`receiver sources list`) and what answers there."
_CHECK_COURSE = "Check the course id and the source's URL with the eAssessment administrator."
_BUSY = {408, 425, 429}
_TOKEN_PROBLEMS = {
    ProblemType.TOKEN_MALFORMED,
    ProblemType.TOKEN_UNKNOWN,
    ProblemType.TOKEN_WRONG_COURSE,
}


def classify(question: Question, status: int, etag: str | None, body: bytes) -> Outcome:
    """Return what an answer means; the problem's stable `type` decides, never its words."""
    if status == 200:
        return _grades(question, etag, body)
    if status == 304 and question.etag:
        return Unchanged()
    if 300 <= status < 400:
        return Misconfigured(f"answered {status}: a redirect, which is not followed", _CHECK_URL)
    if status < 400 or status >= 500 or status in _BUSY:
        return Transient(f"answered {status}")
    return _refusal(question, status, body)


class _Facts(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")

    course_id: CourseId
    course_version: Version


class _GoneFacts(_Facts):
    deleted_at: WireTime


class _ReplacedFacts(_Facts):
    token_id: TokenId
    regenerated_at: WireTime


def _grades(question: Question, etag: str | None, body: bytes) -> Outcome:
    try:
        json_text.load(body)
        answer = GradesAnswer.model_validate_json(body)
    except json_text.JsonTextError as error:
        return Transient(f"answered 200, but {error}")
    except ValidationError as error:
        return Transient(f"answered 200, but not with grades: {_first_fault(error)}")
    if (answer.course_id, answer.token_id) != (question.course_id, question.token.token_id):
        return Misconfigured("answered with another course, or for another token", _CHECK_URL)
    return Grades(answer, etag if etag and _ETAG.fullmatch(etag) else None)


def _refusal(question: Question, status: int, body: bytes) -> Outcome:
    document = _document(body)
    problem = type_of(document)
    if problem is None or STATUS[problem] != status:
        return Misconfigured(f"answered {status} with no reason that is known here", _CHECK_URL)
    try:
        if problem is ProblemType.COURSE_DELETED:
            return _gone(question, _GoneFacts.model_validate(document))
        if problem is ProblemType.TOKEN_REGENERATED:
            return _replaced(question, _ReplacedFacts.model_validate(document))
    except ValidationError as error:
        return Misconfigured(f"answered {problem}, but {_first_fault(error)}", _CHECK_URL)
    if problem in _TOKEN_PROBLEMS:
        return TokenRefused(problem, _said(document))
    return Misconfigured(f"answered {status} {problem}: {_said(document)}", _CHECK_COURSE)


def _gone(question: Question, facts: _GoneFacts) -> Outcome:
    if facts.course_id != question.course_id:
        return Misconfigured("answered that another course was deleted", _CHECK_URL)
    return CourseGone(facts.course_version, facts.deleted_at)


def _replaced(question: Question, facts: _ReplacedFacts) -> Outcome:
    if facts.course_id != question.course_id or facts.token_id == question.token.token_id:
        return Misconfigured(
            "answered that the token was replaced, but by itself or for another course", _CHECK_URL
        )
    return TokenReplaced(facts.course_version, facts.token_id, facts.regenerated_at)


def _document(body: bytes) -> dict[str, Any]:
    try:
        document = json_text.load(body)
    except json_text.JsonTextError:
        return {}
    return document if isinstance(document, dict) else {}


def _said(document: dict[str, Any]) -> str:
    detail = document.get("detail")
    return outbound.clean(detail, _MAX_DETAIL) if isinstance(detail, str) else "it did not say why"


def _first_fault(error: ValidationError) -> str:
    fault = error.errors(include_url=False, include_input=False, include_context=False)[0]
    pointer = "".join(f"/{part}" for part in fault["loc"])
    return outbound.clean(f"{pointer}: {fault['msg'].removeprefix('Value error, ')}", _MAX_DETAIL)
