"""The client of the grades API: one outcome for every response, in time."""

import gzip
import json
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from contract.problems import Problem, ProblemType
from contract.tokens import CourseToken
from receiver.sources.base import (
    CourseGone,
    GradeQuery,
    Grades,
    Misconfigured,
    TokenRefused,
    TokenReplaced,
    Transient,
    Unchanged,
)
from receiver.sources.eassessment import EAssessmentClient, classify, url_of
from receiver.sources.http_client import MAX_RESPONSE_BYTES, HttpClient
from tests.faults.authority import Authority
from tests.faults.server import RawSink, over_tls, says

TOKEN = CourseToken("k7Qx2mPa", "s" * 24)
AT = "2026-11-22T09:00:00.123456Z"


def make_client(**overrides: Any) -> EAssessmentClient:
    """Return a client with short time-outs."""
    times = {"connect_timeout": 0.5, "read_timeout": 0.5, "total": 1.0}
    return EAssessmentClient(HttpClient(**{**times, **overrides}))


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


def refusal(kind: ProblemType, **facts: Any) -> bytes:
    """Return the body of a problem response."""
    return json.dumps(Problem(kind, "so it is", "Ask.", facts).document()).encode()


def test_course_id_is_one_segment_and_token_is_not_in_the_url(
    fake_site: Any, api_client: EAssessmentClient
) -> None:
    fake_site.grades("a/b ?#ü%2F", TOKEN)

    outcome = api_client.fetch_one(about("a/b ?#ü%2F", fake_site.url))

    assert isinstance(outcome, Grades)
    (asked,) = fake_site.asked
    assert asked.headers["authorization"] == f"Bearer {TOKEN.reveal()}"
    assert asked.headers["accept-encoding"] == "identity"
    assert TOKEN.secret not in url_of(about(url=fake_site.url))
    assert TOKEN.secret not in repr(about())


def test_scores_are_exact(
    fake_site: Any, api_client: EAssessmentClient, make_score: Callable[..., Any]
) -> None:
    fake_site.grades("CS101", TOKEN, make_score(given="0.1"), etag='W/"7"')

    outcome = api_client.fetch_one(about(url=fake_site.url))

    assert isinstance(outcome, Grades)
    assert outcome.scores[0].score_given == Decimal("0.1")
    assert outcome.etag == 'W/"7"'


def test_unchanged_grades_are_recognized(fake_site: Any, api_client: EAssessmentClient) -> None:
    fake_site.grades("CS101", TOKEN, etag='"7"')

    outcome = api_client.fetch_one(about(url=fake_site.url, etag='"7"'))

    assert outcome == Unchanged()


def test_connections_are_reused(fake_site: Any, api_client: EAssessmentClient) -> None:
    fake_site.grades("CS101", TOKEN)

    for _ in range(5):
        api_client.fetch_one(about(url=fake_site.url))

    assert (api_client.requests, len(fake_site.asked), fake_site.connections) == (5, 5, 1)


def test_redirects_are_not_followed(fake_site: Any, api_client: EAssessmentClient) -> None:
    fake_site.grades("other", TOKEN)
    fake_site.answer("CS101", 307, Location=f"{fake_site.url}/api/v1/courses/other/grades")

    outcome = api_client.fetch_one(about(url=fake_site.url))

    assert isinstance(outcome, Misconfigured)
    assert outcome.detail == "responded 307: a redirect, which is not followed"
    assert [asked.course_id for asked in fake_site.asked] == ["CS101"]


def test_proxies_and_netrc_of_the_environment_are_ignored(
    fake_site: Any, api_client: EAssessmentClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login planted password planted\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    fake_site.grades("CS101", TOKEN)

    outcome = api_client.fetch_one(about(url=fake_site.url))

    assert isinstance(outcome, Grades)
    assert fake_site.asked[0].headers["authorization"].startswith("Bearer ")


def test_cookies_are_not_kept(fake_site: Any, api_client: EAssessmentClient) -> None:
    fake_site.answer("CS101", 200, grades(), Set_Cookie="a=b; Path=/")

    for _ in range(2):
        api_client.fetch_one(about(url=fake_site.url))

    assert all("cookie" not in asked.headers for asked in fake_site.asked)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        pytest.param(
            refusal(ProblemType.COURSE_DELETED, course_id="CS101", course_version=4, deleted_at=AT),
            CourseGone,
            id="410 course-deleted",
        ),
        pytest.param(
            refusal(
                ProblemType.TOKEN_REGENERATED,
                course_id="CS101",
                course_version=5,
                token_id="new",
                regenerated_at=AT,
            ),
            TokenReplaced,
            id="401 token-regenerated",
        ),
        pytest.param(refusal(ProblemType.TOKEN_UNKNOWN), TokenRefused, id="401 token-unknown"),
        pytest.param(refusal(ProblemType.TOKEN_MALFORMED), TokenRefused, id="401 token-malformed"),
        pytest.param(
            refusal(ProblemType.TOKEN_WRONG_COURSE), TokenRefused, id="403 token-wrong-course"
        ),
        pytest.param(refusal(ProblemType.TOKEN_MISSING), Misconfigured, id="401 token-missing"),
        pytest.param(refusal(ProblemType.COURSE_UNKNOWN), Misconfigured, id="404 course-unknown"),
        pytest.param(
            refusal(ProblemType.DATABASE_UNAVAILABLE), Transient, id="503 database-unavailable"
        ),
        pytest.param(refusal(ProblemType.INTERNAL_ERROR), Transient, id="500 internal-error"),
    ],
)
def test_type_of_a_problem_decides(answer: bytes, expected: type) -> None:
    status = json.loads(answer)["status"]

    outcome = classify(about(), status, None, answer)

    assert isinstance(outcome, expected)


@pytest.mark.parametrize(
    ("status", "body", "expected", "detail"),
    [
        pytest.param(200, b"", Transient, "responded 200, but the body is not JSON", id="empty"),
        pytest.param(200, b"<html>", Transient, "but the body is not JSON", id="HTML"),
        pytest.param(200, b"[" * 5000, Transient, "nested deeper", id="nested"),
        pytest.param(200, b"[]", Transient, "without valid grades", id="array"),
        pytest.param(
            200, grades(scores=[{}]), Transient, "/scores/0/userId: Field", id="invalid score"
        ),
        pytest.param(
            200, grades(course_id="CS102"), Misconfigured, "another course", id="another course"
        ),
        pytest.param(
            200, grades(token_id="other"), Misconfigured, "another token", id="another token"
        ),
        pytest.param(204, b"", Transient, "responded 204", id="no content"),
        pytest.param(
            304, b"", Misconfigured, "responded 304", id="304 to an unconditional request"
        ),
        pytest.param(429, b"", Transient, "responded 429", id="429"),
        pytest.param(502, b"<html>", Transient, "responded 502", id="502 from a proxy"),
        pytest.param(
            500,
            refusal(ProblemType.COURSE_DELETED),
            Transient,
            "responded 500",
            id="type with another status",
        ),
        pytest.param(401, b"<html>", Misconfigured, "without a known reason", id="login page"),
        pytest.param(410, b"{}", Misconfigured, "without a known reason", id="unknown 410"),
        pytest.param(
            401,
            refusal(ProblemType.COURSE_DELETED),
            Misconfigured,
            "without a known reason",
            id="401 with a type for 410",
        ),
        pytest.param(
            410,
            refusal(ProblemType.COURSE_DELETED),
            Misconfigured,
            "responded course-deleted, but /course_id: Field required",
            id="missing facts",
        ),
        pytest.param(
            410,
            refusal(
                ProblemType.COURSE_DELETED, course_id="CS101", course_version=True, deleted_at=AT
            ),
            Misconfigured,
            "/course_version",
            id="version true",
        ),
        pytest.param(
            410,
            refusal(ProblemType.COURSE_DELETED, course_id="CS102", course_version=4, deleted_at=AT),
            Misconfigured,
            "another course was deleted",
            id="another course's deletion",
        ),
        pytest.param(
            401,
            refusal(
                ProblemType.TOKEN_REGENERATED,
                course_id="CS101",
                course_version=5,
                token_id=TOKEN.token_id,
                regenerated_at=AT,
            ),
            Misconfigured,
            "replaced, but by itself",
            id="replaced by itself",
        ),
    ],
)
def test_invalid_response_changes_nothing(
    status: int, body: bytes, expected: type, detail: str
) -> None:
    outcome = classify(about(), status, None, body)

    assert isinstance(outcome, Transient | Misconfigured)
    assert isinstance(outcome, expected)
    assert detail in outcome.detail


def test_detail_of_a_refusal_is_sanitized() -> None:
    said = f"no \x1b[31m {TOKEN.reveal()} {'x' * 1000}"
    body = json.dumps(Problem(ProblemType.TOKEN_UNKNOWN, said, "Ask.").document()).encode()

    outcome = classify(about(), 401, None, body)

    assert isinstance(outcome, TokenRefused)
    assert TOKEN.secret not in outcome.detail
    assert outcome.detail.isprintable()
    assert len(outcome.detail) <= 300


@pytest.mark.parametrize("etag", ["unquoted", '"a b"', '"' + "x" * 300 + '"', '"ü"'])
def test_malformed_etag_is_ignored(etag: str) -> None:
    outcome = classify(about(), 200, etag, grades())

    assert isinstance(outcome, Grades)
    assert outcome.etag is None


def test_refused_connection_is_transient(api_client: EAssessmentClient) -> None:
    outcome = api_client.fetch_one(about(url="http://127.0.0.1:9"))

    assert outcome == Transient("no response: Connection refused", unreachable=True)


@pytest.mark.parametrize("url", ["http://", "http://[", "nonsense"])
def test_invalid_url_does_not_raise(api_client: EAssessmentClient, url: str) -> None:
    assert isinstance(api_client.fetch_one(about(url=url)), Misconfigured | Transient)


class Hostile:
    """A server that treats each connection as `behave` says."""

    def __init__(self, behave: Callable[[socket.socket], None]) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._behave = behave
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        with suppress(OSError):
            connection, _ = self._listener.accept()
            with connection, suppress(OSError):
                connection.recv(65536)
                self._behave(connection)

    def stop(self) -> None:
        """Close the listener and wait for the connection to end."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()


def drip(piece: bytes, head: bytes = b"") -> Callable[[socket.socket], None]:
    """Return a behaviour that sends a piece every 20 ms, for ever."""

    def behave(connection: socket.socket) -> None:
        connection.sendall(head)
        while True:
            connection.sendall(piece)
            time.sleep(0.02)

    return behave


def silence(connection: socket.socket) -> None:
    """Send nothing until the client gives up."""
    connection.recv(1)


HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"


@pytest.mark.parametrize(
    ("behave", "detail"),
    [
        pytest.param(silence, "no data for 0.5 s", id="black hole"),
        pytest.param(drip(b"x"), "no complete response within 1 s", id="slow status line"),
        pytest.param(
            drip(b"a: b\r\n", b"HTTP/1.1 200 OK\r\n"),
            "no complete response within 1 s",
            id="slow headers",
        ),
        pytest.param(drip(b"x", HEAD), "no complete response within 1 s", id="slow body"),
        pytest.param(lambda c: c.sendall(b"\x00\xff" * 50), "not valid HTTP", id="garbage"),
        pytest.param(lambda c: None, "no response", id="closed at once"),
        pytest.param(lambda c: c.sendall(HEAD + b"half"), "incomplete", id="cut off"),
        pytest.param(
            lambda c: c.sendall(
                b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nConnection: close\r\n\r\n"
                + gzip.compress(b" " * 10_000_000)
            ),
            "responded 200, but the body is not UTF-8",
            id="gzip that was not requested",
        ),
    ],
)
def test_hostile_server_costs_no_more_than_the_deadline(
    api_client: EAssessmentClient, behave: Callable[[socket.socket], None], detail: str
) -> None:
    hostile = Hostile(behave)
    started = time.monotonic()

    outcome = api_client.fetch_one(about(url=hostile.url))

    seconds = time.monotonic() - started
    hostile.stop()
    assert isinstance(outcome, Transient)
    assert detail in outcome.detail
    assert seconds < 2


def test_endless_body_is_refused() -> None:  # F15
    def flood(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
        while True:
            connection.sendall(b" " * 1_000_000)

    hostile = Hostile(flood)

    with make_client(connect_timeout=5, read_timeout=5, total=20) as client:
        outcome = client.fetch_one(about(url=hostile.url))

    hostile.stop()
    assert isinstance(outcome, Misconfigured)
    assert outcome.detail == f"the response is larger than {MAX_RESPONSE_BYTES} bytes"
    assert outcome.advice.text.startswith("The course has more people and grade items")


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        pytest.param(
            {"starts": timedelta(days=-2), "ends": timedelta(days=-1)},
            "certificate has expired",
            id="expired",
        ),
        pytest.param({"self_signed": True}, "self-signed certificate", id="self-signed"),
        pytest.param({"host": "127.0.0.9"}, "not valid for '127.0.0.1'", id="wrong host"),
    ],
)
def test_invalid_certificate_is_refused(tmp_path: Path, fault: dict[str, Any], words: str) -> None:
    authority, log = Authority(tmp_path), list[bytes]()
    there = RawSink(over_tls(authority.server(**fault), says(b""), log))

    with make_client(bundle=str(authority.bundle)) as client:
        outcome = client.fetch_one(about(url=there.url("https")))

    there.stop()
    assert isinstance(outcome, Transient)
    assert outcome.detail.startswith("the certificate is not valid: ")
    assert words in outcome.detail
    assert log == [b"handshake refused"]


def test_configured_authority_is_trusted(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    answer = b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    there = RawSink(over_tls(authority.server(), says(answer), []))

    with make_client(bundle=str(authority.bundle)) as client:
        trusting = client.fetch_one(about(url=there.url("https")))
    with make_client() as client:
        doubting = client.fetch_one(about(url=there.url("https")))

    there.stop()
    assert trusting == Transient("responded 503")
    assert doubting == Transient(
        "the certificate is not valid: unable to get local issuer certificate; "
        "set RECEIVER_CA_BUNDLE to trust its authority",
        unreachable=True,
    )


def test_slow_name_service_times_out() -> None:
    over = threading.Event()

    def resolve(*_: Any, **__: Any) -> list[Any]:
        over.wait(30)
        return []

    started = time.monotonic()
    with make_client(resolve=resolve) as client:
        outcome = client.fetch_one(about())
    seconds = time.monotonic() - started

    over.set()
    assert outcome == Transient("the host name was not resolved within 0.5 s", unreachable=True)
    assert seconds < 1.5


def test_single_requests_share_the_time_of_one_request(
    fake_site: Any,
) -> None:
    fake_site.answers["CS101"] = lambda _: time.sleep(0.5)
    with make_client(total=0.3) as client:
        outcomes = client.fetch([about(one, fake_site.url) for one in ("CS101", "CS102", "CS103")])

    left = Transient("not requested: the courses before it took all the time")
    assert outcomes[1:] == [left, left]
    assert [one.course_id for one in fake_site.asked] == ["CS101"]


def test_unreachable_site_is_tried_once() -> None:
    with make_client() as client:
        client._sites_without_batch.add("http://127.0.0.1:9")

        outcomes = client.fetch([about(one, "http://127.0.0.1:9") for one in ("A", "B", "C")])

    assert client.requests == 1
    assert outcomes == [Transient("no response: Connection refused", unreachable=True)] * 3
