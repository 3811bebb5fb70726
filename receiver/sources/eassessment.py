"""The client of eAssessment's grades API, which returns an outcome for each query."""

import json
import re
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from email.utils import format_datetime
from typing import Any
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import from_json, to_json

from contract import signatures, strict_json
from contract.claims import ClaimRequest, ClaimResponse, ClaimResponseItem
from contract.events import CourseId, TokenId, Version, WireTime
from contract.grades import MAX_BATCH, BatchRequest, BatchRequestItem, GradesResponse
from contract.problems import ProblemType, type_of
from contract.signatures import Secret
from contract.tokens import CourseToken, MalformedTokenError
from contract.validation import validation_message
from foundation.errors import Advice
from foundation.http import client as http
from receiver.course_state import TokenAnnounced
from receiver.sources.base import (
    ClaimedToken,
    DeletedOutcome,
    FetchOutcome,
    GradeQuery,
    Grades,
    Misconfigured,
    RegeneratedOutcome,
    RejectedOutcome,
    TokenReplaced,
    Transient,
    Unchanged,
)
from receiver.sources.http_client import (
    MAX_DETAIL,
    TOO_LARGE,
    HttpClient,
    HttpResponse,
    NotRetryableError,
    RequestFailedError,
    ResponseTooLargeError,
    is_temporary,
)

_ETAG = re.compile(r'(?:W/)?"[!#-~]{0,240}"', re.ASCII)
# The maximum seconds for a claim, for which all sites wait; the next run claims again.
_CLAIM_SECONDS = 10.0


@dataclass(frozen=True)
class BatchItem:
    """The part of a batch response about one course, as a response of its own."""

    status: int
    etag: str | None
    body: bytes


class ClaimFailedError(Exception):
    """No token could be claimed from a site, and why; `problem` is the type of its response.

    `temporary`: the same claim may succeed later.
    """

    def __init__(
        self, detail: str, problem: ProblemType | None = None, *, temporary: bool = False
    ) -> None:
        super().__init__(detail)
        self.problem = problem
        self.temporary = temporary


class EAssessmentClient:
    """A `GradeSource` for all sources that have our own grades API."""

    def __init__(self, http_client: HttpClient, max_queries: int = MAX_BATCH) -> None:
        self._http_client = http_client
        self._sites_without_batch: set[str] = set()
        self.max_queries = max_queries

    def url_of(self, query: GradeQuery) -> str:
        """Return the URL of a query that is sent on its own."""
        return url_of(query)

    def fetch(self, queries: Sequence[GradeQuery]) -> list[FetchOutcome]:
        """Return an outcome for each query, in order; all are about one site.

        They are sent in one batch request, or one by one if the site does not support that. A
        query without an answer in the batch response is sent again on its own.
        """
        site = queries[0].source_url
        if len(queries) == 1 or site in self._sites_without_batch:
            return self._fetch_each(queries)
        outcomes = self._fetch_batch(queries)
        if outcomes is None:
            self._sites_without_batch.add(site)
            return self._fetch_each(queries)
        pairs = zip(queries, outcomes, strict=True)
        single = iter(self._fetch_each([query for query, outcome in pairs if outcome is None]))
        return [outcome or next(single) for outcome in outcomes]

    def _fetch_each(self, queries: Sequence[GradeQuery]) -> list[FetchOutcome]:
        # All of them get the time of one request, and stop when the site is unreachable, because
        # other sites are waiting too.
        ends = time.monotonic() + self._http_client.total
        skipped: Transient | None = None
        outcomes: list[FetchOutcome] = []
        for query in queries:
            if skipped is None and outcomes and time.monotonic() >= ends:
                skipped = Transient("not requested: the courses before it took all the time")
            outcome = skipped or self.fetch_one(query)
            if isinstance(outcome, Transient) and outcome.unreachable:
                skipped = outcome
            outcomes.append(outcome)
        return outcomes

    def fetch_one(self, query: GradeQuery) -> FetchOutcome:
        """Return the outcome of a query that is sent on its own."""
        headers = {"Authorization": f"Bearer {query.token.reveal()}"}
        if query.etag:
            headers["If-None-Match"] = query.etag
        elif query.modified_since:
            headers["If-Modified-Since"] = format_datetime(query.modified_since, usegmt=True)
        try:
            response = self._http_client.send("GET", url_of(query), headers)
        except ResponseTooLargeError as error:
            return Misconfigured(str(error), TOO_LARGE)
        except NotRetryableError as error:
            return Misconfigured(str(error), CHECK_URL)
        except RequestFailedError as error:
            return Transient(str(error), unreachable=error.unreachable)
        outcome = classify(query, response.status, response.headers.get("ETag"), response.body)
        return _with_retry_after(outcome, response)

    def claim(
        self, source_url: str, course_ids: Sequence[str], key: Secret, *, now: datetime
    ) -> dict[str, ClaimedToken | str]:
        """Return the current token of each course, or why it cannot be claimed.

        Raises ClaimFailedError if the site answered for none of them.
        """
        body = ClaimRequest(course_ids=tuple(course_ids)).model_dump_json().encode()
        response = self._send_claim(source_url, body, key, now=now)
        if response.status == ProblemType.WEBHOOK_ID_REUSED.status:
            # The HTTP client sent the request twice, because a kept connection ended, and the
            # site had received the first one. The claim of another id is a new one.
            response = self._send_claim(source_url, body, key, now=now)
        if response.status != 200:
            raise _claim_failed(response)
        try:
            strict_json.load(response.body)
            answers = ClaimResponse.model_validate_json(response.body).answers
        except ValueError:
            raise ClaimFailedError("responded 200, but without valid answers") from None
        return {
            answer.course_id: _claimed(answer)
            for answer in answers
            if answer.course_id in course_ids
        }

    def _send_claim(
        self, source_url: str, body: bytes, key: Secret, *, now: datetime
    ) -> HttpResponse:
        headers = signatures.sign([key], f"claim_{secrets.token_hex(16)}", body, now=now)
        headers["Content-Type"] = "application/json"
        try:
            return self._http_client.send(
                *("POST", f"{source_url}/api/v1/tokens/claim", headers, body),
                max_seconds=_CLAIM_SECONDS,
            )
        except RequestFailedError as error:
            raise ClaimFailedError(str(error), temporary=True) from None

    def _fetch_batch(self, queries: Sequence[GradeQuery]) -> list[FetchOutcome | None] | None:
        """Return an outcome for each query that has one, or None if the site has no batches."""
        batch = BatchRequest(
            courses=tuple(
                BatchRequestItem(
                    course_id=query.course_id,
                    token=query.token.reveal(),
                    if_none_match=query.etag,
                    if_modified_since=None if query.etag else query.modified_since,
                )
                for query in queries
            )
        )
        url = f"{queries[0].source_url}/api/v1/grades/batch"
        headers = {"Content-Type": "application/json"}
        body = batch.model_dump_json(exclude_none=True).encode()
        try:
            response = self._http_client.send("POST", url, headers, body)
        except NotRetryableError:
            return [None for _ in queries]
        except RequestFailedError as error:
            return [Transient(str(error), unreachable=error.unreachable) for _ in queries]
        if response.status in _NO_BATCH:
            return None
        if response.status == 200:
            items = load_batch(response.body, queries)
            return [
                None if item is None else classify(query, item.status, item.etag, item.body)
                for query, item in zip(queries, items, strict=True)
            ]
        if is_temporary(response.status):
            failed = _with_retry_after(Transient(f"responded {response.status}"), response)
            return [failed for _ in queries]
        return [None for _ in queries]


def load_batch(body: bytes, queries: Sequence[GradeQuery]) -> list[BatchItem | None]:
    """Return an item for each query; None if its part of the response is missing or invalid.

    Each item is checked on its own, so that an invalid one does not affect the others.
    """
    try:
        strict_json.check_size(body)
        document = from_json(body)
        _check_duplicate_keys(document, body)
        pairs = zip(queries, document["answers"], strict=True)
        return [_item(query, answer) for query, answer in pairs]
    except (ValueError, TypeError, KeyError):
        return [None for _ in queries]


def _check_duplicate_keys(document: Any, body: bytes) -> None:
    # `from_json` is fast, but takes the last of two keys. A document that is written as it was
    # read has no duplicate keys, and writing it is five times as fast as the strict parser.
    try:
        unchanged = to_json(document) == body
    except ValueError:
        unchanged = False
    if not unchanged:
        strict_json.check_duplicate_keys(body)


def _item(query: GradeQuery, answer: Any) -> BatchItem | None:
    if not isinstance(answer, dict) or answer.get("course_id") != query.course_id:
        return None
    status, etag = answer.get("status"), answer.get("etag")
    if not isinstance(status, int) or status not in range(200, 600):
        return None
    if status == ProblemType.BATCH_FULL.status:
        return None
    content = answer.get("grades" if status == 200 else "problem")
    body = b"" if content is None else json.dumps(content).encode()
    return BatchItem(status, etag if isinstance(etag, str) else None, body)


def _claimed(answer: ClaimResponseItem) -> ClaimedToken | str:
    if answer.token is None:
        return type_of(answer.problem) or "no token"
    try:
        token = CourseToken.parse(answer.token)
    except MalformedTokenError as error:
        return str(error)
    version, at = answer.course_version, answer.regenerated_at
    if version is None or at is None:
        return ClaimedToken(token, None)
    announced = TokenAnnounced(version, token.token_id, at, answer.valid_until)
    return ClaimedToken(token, announced)


def _claim_failed(response: HttpResponse) -> ClaimFailedError:
    try:
        document = strict_json.load(response.body)
    except strict_json.StrictJsonError:
        document = None
    if not isinstance(document, dict) or (problem := type_of(document)) is None:
        detail = f"responded {response.status} without a known reason"
        return ClaimFailedError(detail, temporary=is_temporary(response.status))
    detail = f"responded {response.status} {problem}: {_detail(document)}"
    return ClaimFailedError(detail, problem)


def url_of(query: GradeQuery) -> str:
    """Return the URL of a query; the course id is one path segment, whatever it contains."""
    return f"{query.source_url}/api/v1/courses/{quote(query.course_id, safe='')}/grades"


def _with_retry_after(outcome: FetchOutcome, response: HttpResponse) -> FetchOutcome:
    if isinstance(outcome, Transient):
        return replace(outcome, retry_after=response.retry_after)
    return outcome


CHECK_URL = Advice("Check the URL of the source and what responds there.", "sources list")
_CHECK_COURSE = Advice(
    "Check the course id and the URL of the source with the eAssessment administrator."
)
_NO_BATCH = {404, 405, 501}
_TOKEN_PROBLEMS = {
    ProblemType.TOKEN_MALFORMED,
    ProblemType.TOKEN_UNKNOWN,
    ProblemType.TOKEN_WRONG_COURSE,
}


def classify(query: GradeQuery, status: int, etag: str | None, body: bytes) -> FetchOutcome:
    """Return the meaning of a response; the `type` of a problem decides, never its text."""
    if status == 200:
        return _grades(query, etag, body)
    if status == 304 and (query.etag or query.modified_since):
        return Unchanged()
    if 300 <= status < 400:
        return Misconfigured(f"responded {status}: a redirect, which is not followed", CHECK_URL)
    if status < 400 or is_temporary(status):
        return Transient(f"responded {status}")
    return _refusal(query, status, body)


class _Facts(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")

    course_id: CourseId
    course_version: Version


class _DeletedFacts(_Facts):
    deleted_at: WireTime


class _RegeneratedFacts(_Facts):
    token_id: TokenId
    regenerated_at: WireTime


def _grades(query: GradeQuery, etag: str | None, body: bytes) -> FetchOutcome:
    try:
        strict_json.load(body)
        grades = GradesResponse.model_validate_json(body)
    except strict_json.StrictJsonError as error:
        return Transient(f"responded 200, but {error}")
    except ValidationError as error:
        return Transient(f"responded 200, but without valid grades: {_first_fault(error)}")
    if (grades.course_id, grades.token_id) != (query.course_id, query.token.token_id):
        return Misconfigured("responded about another course or another token", CHECK_URL)
    valid_etag = etag if etag and _ETAG.fullmatch(etag) else None
    replaced_by = None
    if (newer := grades.overlap) is not None:
        if newer.token_id == query.token.token_id:
            return Misconfigured("responded that the token was replaced by itself", CHECK_URL)
        replaced_by = TokenReplaced(newer.token_id, newer.regenerated_at, newer.valid_until)
    version, token_id = grades.course_version, grades.token_id
    return Grades(grades.scores, valid_etag, version, token_id, replaced_by)


def _refusal(query: GradeQuery, status: int, body: bytes) -> FetchOutcome:
    try:
        document = strict_json.load(body)
    except strict_json.StrictJsonError:
        document = None
    document = document if isinstance(document, dict) else {}
    problem = type_of(document)
    if problem is None or problem.status != status:
        return Misconfigured(f"responded {status} without a known reason", CHECK_URL)
    try:
        if problem is ProblemType.COURSE_DELETED:
            deleted = _DeletedFacts.model_validate(document)
            if deleted.course_id != query.course_id:
                return Misconfigured("responded that another course was deleted", CHECK_URL)
            return DeletedOutcome(deleted.course_version, deleted.deleted_at)
        if problem is ProblemType.TOKEN_REGENERATED:
            return _regenerated(query, _RegeneratedFacts.model_validate(document))
    except ValidationError as error:
        return Misconfigured(f"responded {problem}, but {_first_fault(error)}", CHECK_URL)
    if problem in _TOKEN_PROBLEMS:
        return RejectedOutcome(problem, _detail(document))
    return Misconfigured(f"responded {status} {problem}: {_detail(document)}", _CHECK_COURSE)


def _regenerated(query: GradeQuery, facts: _RegeneratedFacts) -> FetchOutcome:
    if facts.course_id != query.course_id or facts.token_id == query.token.token_id:
        return Misconfigured(
            "responded that the token was replaced, but by itself or for another course", CHECK_URL
        )
    return RegeneratedOutcome(facts.course_version, facts.token_id, facts.regenerated_at)


def _detail(document: dict[str, Any]) -> str:
    detail = document.get("detail")
    return http.safe_line(detail, MAX_DETAIL) if isinstance(detail, str) else "no reason given"


def _first_fault(error: ValidationError) -> str:
    fault = error.errors(include_url=False, include_input=False)[0]
    pointer = "".join(f"/{part}" for part in fault["loc"])
    return http.safe_line(f"{pointer}: {validation_message(fault)}", MAX_DETAIL)
