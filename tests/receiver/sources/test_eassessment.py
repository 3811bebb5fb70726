"""The client of the grades API: one outcome for every response."""

import json
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from contract.events import wire_time
from contract.problems import Problem, ProblemType
from contract.signatures import Secret
from contract.tokens import CourseToken
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
from receiver.sources.eassessment import (
    ClaimFailedError,
    EAssessmentClient,
    classify,
    url_of,
)
from receiver.sources.http_client import HttpClient, HttpResponse
from tests.receiver.conftest import FakeSite

TOKEN = CourseToken("k7Qx2mPa", "s" * 24)
WIRE_TIME = "2026-11-22T09:00:00.123456Z"
AT = datetime.fromisoformat(WIRE_TIME)
UNREACHABLE = Transient("no response: Connection refused", unreachable=True)


def about(course_id: str = "CS101", url: str = "http://x.example", **more: Any) -> GradeQuery:
    """Return a query about a course."""
    return GradeQuery(url, course_id, TOKEN, **more)


def grades(**overrides: Any) -> bytes:
    """Return the body of a valid response, with overrides."""
    document = {
        "course_id": "CS101",
        "course_version": 3,
        "token_id": TOKEN.token_id,
        "scores": [],
        **overrides,
    }
    return json.dumps(document).encode()


def overlapping(token_id: str) -> bytes:
    """Return the body of a response to a token that was replaced by this one."""
    return grades(
        overlap={"token_id": token_id, "regenerated_at": WIRE_TIME, "valid_until": WIRE_TIME}
    )


def refusal(kind: ProblemType, **facts: Any) -> bytes:
    """Return the body of a problem response."""
    return json.dumps(Problem(kind, "so it is", "Ask.", facts).document()).encode()


def deleted(**overrides: Any) -> bytes:
    """Return the body that says that CS101 was deleted, with overrides."""
    facts = {"course_id": "CS101", "course_version": 4, "deleted_at": WIRE_TIME}
    return refusal(ProblemType.COURSE_DELETED, **{**facts, **overrides})


def regenerated(**overrides: Any) -> bytes:
    """Return the body that says that the token of CS101 was regenerated, with overrides."""
    facts = {"course_id": "CS101", "course_version": 5, "token_id": "new"}
    return refusal(
        ProblemType.TOKEN_REGENERATED, **{**facts, "regenerated_at": WIRE_TIME, **overrides}
    )


def test_course_id_is_one_segment_and_token_is_not_in_the_url(
    fake_site: FakeSite, api_client: EAssessmentClient
) -> None:
    fake_site.grades("a/b ?#ü%2F", TOKEN)

    outcome = api_client.fetch_one(about("a/b ?#ü%2F", fake_site.url))

    assert isinstance(outcome, Grades)
    [request] = fake_site.requests
    assert request.headers["authorization"] == f"Bearer {TOKEN.reveal()}"
    assert request.headers["accept-encoding"] == "identity"
    assert TOKEN.secret not in url_of(about(url=fake_site.url))
    assert TOKEN.secret not in repr(about())


def test_scores_are_exact_and_sent_once(
    fake_site: FakeSite,
    api_client: EAssessmentClient,
    http_client: HttpClient,
    make_score: Callable[..., Any],
) -> None:
    fake_site.grades("CS101", TOKEN, make_score(given="0.1"), etag='W/"7"')

    first = api_client.fetch_one(about(url=fake_site.url))
    second = api_client.fetch_one(about(url=fake_site.url, etag='W/"7"'))

    assert isinstance(first, Grades)
    assert (first.scores[0].score_given, first.etag) == (Decimal("0.1"), 'W/"7"')
    assert second == Unchanged()
    assert (http_client.requests, fake_site.connections) == (2, 1)


def test_grades_in_an_overlap_name_the_current_token() -> None:
    outcome = classify(about(), 200, None, overlapping("new"))

    assert isinstance(outcome, Grades)
    assert outcome.replaced_by == TokenReplaced("new", AT, AT)


@dataclass
class Responses:
    """An HTTP client that returns prepared responses, and records the ids of the requests."""

    responses: list[HttpResponse]
    webhook_ids: list[str] = field(default_factory=list)

    def send(
        self, method: str, url: str, headers: dict[str, str], body: bytes, *, max_seconds: float
    ) -> HttpResponse:
        self.webhook_ids.append(headers["webhook-id"])
        return self.responses.pop(0)


def claim(status: int, body: bytes) -> dict[str, ClaimedToken | str]:
    """Claim the tokens of CS101 and CS102 from a site that responds like this."""
    return claim_over(Responses([HttpResponse(status, {}, body)]))


def claim_over(client: Any) -> dict[str, ClaimedToken | str]:
    """Claim the tokens of CS101 and CS102 over an HTTP client."""
    key = Secret.generate()
    return EAssessmentClient(client).claim("http://one", ["CS101", "CS102"], key, now=AT)


ANNOUNCED = TokenAnnounced(5, TOKEN.token_id, AT, AT + timedelta(hours=1))
STATED = {
    "course_version": 5,
    "regenerated_at": wire_time(AT),
    "valid_until": wire_time(AT + timedelta(hours=1)),
}


@pytest.mark.parametrize(
    ("stated", "announced"),
    [
        pytest.param(STATED, ANNOUNCED, id="with its announcement"),
        pytest.param({}, None, id="older release"),
    ],
)
def test_claim_returns_tokens_and_refusals(
    stated: dict[str, Any], announced: TokenAnnounced | None
) -> None:
    problem = Problem(ProblemType.TOKEN_NOT_CLAIMABLE, "used", "Ask.").document()
    answers = [
        {"course_id": "CS101", "status": 200, "token": TOKEN.reveal(), **stated},
        {"course_id": "CS102", "status": 409, "problem": problem},
        {"course_id": "CS103", "status": 200, "token": TOKEN.reveal()},
    ]

    claimed = claim(200, json.dumps({"answers": answers}).encode())

    assert claimed == {
        "CS101": ClaimedToken(TOKEN, announced),
        "CS102": ProblemType.TOKEN_NOT_CLAIMABLE,
    }


def test_claim_that_arrived_twice_is_sent_again_with_another_id() -> None:
    repeated = HttpResponse(409, {}, refusal(ProblemType.WEBHOOK_ID_REUSED))
    answers = [{"course_id": "CS101", "status": 200, "token": TOKEN.reveal()}]
    answered = HttpResponse(200, {}, json.dumps({"answers": answers}).encode())
    healed, refused = Responses([repeated, answered]), Responses([repeated, repeated])

    claimed = claim_over(healed)
    with pytest.raises(ClaimFailedError, match="responded 409 webhook-id-reused"):
        claim_over(refused)

    assert claimed == {"CS101": ClaimedToken(TOKEN, None)}
    assert len({*healed.webhook_ids, *refused.webhook_ids}) == 4


@pytest.mark.parametrize(
    ("status", "body", "detail"),
    [
        pytest.param(404, b"<html>", "responded 404", id="older release"),
        pytest.param(
            403,
            refusal(ProblemType.CLAIMS_NOT_ALLOWED),
            "responded 403 claims-not-allowed",
            id="not allowed",
        ),
        pytest.param(200, b"[]", "without valid answers", id="not an answer"),
        pytest.param(200, b'{"answers":1}', "without valid answers", id="invalid answers"),
    ],
)
def test_claim_that_fails_says_why(status: int, body: bytes, detail: str) -> None:
    with pytest.raises(ClaimFailedError, match=detail):
        claim(status, body)


def test_malformed_claimed_token_is_not_used() -> None:
    answer = {"course_id": "CS101", "status": 200, "token": "eas_nonsense"}

    claimed = claim(200, json.dumps({"answers": [answer]}).encode())

    assert isinstance(claimed["CS101"], str)


def test_redirects_are_not_followed(fake_site: FakeSite, api_client: EAssessmentClient) -> None:
    fake_site.grades("other", TOKEN)
    fake_site.answer("CS101", 307, Location=f"{fake_site.url}/api/v1/courses/other/grades")

    outcome = api_client.fetch_one(about(url=fake_site.url))

    assert isinstance(outcome, Misconfigured)
    assert outcome.detail == "responded 307: a redirect, which is not followed"
    assert [one.course_id for one in fake_site.requests] == ["CS101"]


def test_environment_and_cookies_are_ignored(
    fake_site: FakeSite,
    api_client: EAssessmentClient,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login planted password planted\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    fake_site.answer("CS101", 200, grades(), Set_Cookie="a=b; Path=/")

    outcomes = [api_client.fetch_one(about(url=fake_site.url)) for _ in range(2)]

    assert all(isinstance(outcome, Grades) for outcome in outcomes)
    assert all(one.headers["authorization"].startswith("Bearer ") for one in fake_site.requests)
    assert all("cookie" not in one.headers for one in fake_site.requests)


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        pytest.param(410, deleted(), DeletedOutcome(4, AT), id="course deleted"),
        pytest.param(401, regenerated(), RegeneratedOutcome(5, "new", AT), id="token regenerated"),
        *(
            pytest.param(kind.status, refusal(kind), RejectedOutcome(kind, "so it is"), id=kind)
            for kind in (
                ProblemType.TOKEN_UNKNOWN,
                ProblemType.TOKEN_MALFORMED,
                ProblemType.TOKEN_WRONG_COURSE,
            )
        ),
    ],
)
def test_type_of_a_problem_decides(status: int, body: bytes, expected: FetchOutcome) -> None:
    assert classify(about(), status, None, body) == expected


MISSING, UNKNOWN = refusal(ProblemType.TOKEN_MISSING), refusal(ProblemType.COURSE_UNKNOWN)
AWAY = refusal(ProblemType.DATABASE_UNAVAILABLE)


@pytest.mark.parametrize(
    ("status", "body", "kind", "detail"),
    [
        pytest.param(200, b"", Transient, "200, but the body is not JSON", id="empty"),
        pytest.param(200, b"[]", Transient, "without valid grades", id="array"),
        pytest.param(
            200, grades(scores=[{}]), Transient, "/scores/0/userId: is missing", id="score"
        ),
        pytest.param(200, grades(course_id="CS102"), Misconfigured, "another course", id="course"),
        pytest.param(200, grades(token_id="other"), Misconfigured, "another token", id="token"),
        pytest.param(
            200, overlapping(TOKEN.token_id), Misconfigured, "by itself", id="overlap with itself"
        ),
        pytest.param(204, b"", Transient, "responded 204", id="no content"),
        pytest.param(304, b"", Misconfigured, "responded 304", id="304 to an unconditional one"),
        pytest.param(429, b"", Transient, "responded 429", id="429"),
        pytest.param(503, AWAY, Transient, "responded 503", id="503"),
        pytest.param(401, MISSING, Misconfigured, "401 token-missing: so it is", id="no token"),
        pytest.param(404, UNKNOWN, Misconfigured, "404 course-unknown: so it is", id="no course"),
        pytest.param(401, b"<html>", Misconfigured, "without a known reason", id="login page"),
        pytest.param(500, deleted(), Transient, "responded 500", id="500 with the type of a 410"),
        pytest.param(401, deleted(), Misconfigured, "without a known reason", id="401 with it"),
        pytest.param(
            410,
            deleted(course_version=True),
            Misconfigured,
            "responded course-deleted, but /course_version: ",
            id="version true",
        ),
        pytest.param(
            410, deleted(course_id="CS102"), Misconfigured, "another course was", id="other course"
        ),
        pytest.param(
            401,
            regenerated(token_id=TOKEN.token_id),
            Misconfigured,
            "replaced, but by itself",
            id="replaced by itself",
        ),
    ],
)
def test_any_other_response_changes_nothing(
    status: int, body: bytes, kind: type[Transient | Misconfigured], detail: str
) -> None:
    outcome = classify(about(), status, None, body)

    assert isinstance(outcome, kind)
    assert detail in outcome.detail


def test_detail_of_a_refusal_is_sanitized() -> None:
    said = f"no \x1b[31m {TOKEN.reveal()} {'x' * 1000}"
    body = json.dumps(Problem(ProblemType.TOKEN_UNKNOWN, said, "Ask.").document()).encode()

    outcome = classify(about(), 401, None, body)

    assert isinstance(outcome, RejectedOutcome)
    assert TOKEN.secret not in outcome.detail
    assert outcome.detail.isprintable()
    assert len(outcome.detail) <= 300


@pytest.mark.parametrize("etag", ["unquoted", '"a b"', '"' + "x" * 300 + '"', '"ü"'])
def test_malformed_etag_is_ignored(etag: str) -> None:
    outcome = classify(about(), 200, etag, grades())

    assert isinstance(outcome, Grades)
    assert outcome.etag is None


def test_request_that_cannot_succeed_is_misconfigured(fake_site: FakeSite) -> None:
    fake_site.answer("CS101", 200, b" " * 200_001)
    http_client = HttpClient(connect_timeout=5, read_timeout=5, total=5, max_bytes=200_000)

    with closing(http_client):
        client = EAssessmentClient(http_client)
        too_large = client.fetch_one(about(url=fake_site.url))
        invalid_url = client.fetch_one(about(url="http://["))

    assert isinstance(too_large, Misconfigured)
    assert too_large.detail == "the response is larger than 200000 bytes"
    assert too_large.advice.text.startswith("The course has more people and grade items")
    assert isinstance(invalid_url, Misconfigured)
    assert invalid_url.advice.action == "sources list"


def test_single_requests_share_the_time_of_one_request(fake_site: FakeSite) -> None:
    fake_site.answers["CS101"] = lambda _: time.sleep(0.2)
    http_client = HttpClient(connect_timeout=5, read_timeout=5, total=0.1)

    with closing(http_client):
        client = EAssessmentClient(http_client, max_queries=1)
        outcomes = client.fetch([about(one, fake_site.url) for one in ("CS101", "CS102", "CS103")])

    left = Transient("not requested: the courses before it took all the time")
    assert outcomes[1:] == [left, left]
    assert [one.course_id for one in fake_site.requests] == ["CS101"]


def test_unreachable_site_is_tried_once(
    api_client: EAssessmentClient, http_client: HttpClient
) -> None:
    api_client._sites_without_batch.add("http://127.0.0.1:9")

    outcomes = api_client.fetch([about(one, "http://127.0.0.1:9") for one in ("A", "B", "C")])

    assert http_client.requests == 1
    assert outcomes == [UNREACHABLE] * 3
