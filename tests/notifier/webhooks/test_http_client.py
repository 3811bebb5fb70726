"""The HTTP client for webhooks against real servers."""

import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from foundation.http.ssrf import Guard
from notifier.webhooks.http_client import MAX_STORED_BYTES, Transport
from notifier.webhooks.retry_policy import Failure, WebhookResponse
from tests.faults.server import FINE, RawSink, says
from tests.notifier.conftest import Reply, Sink

HEADERS = {
    "webhook-id": "msg_1",
    "webhook-timestamp": "1795338000",
    "webhook-signature": "v1,c2lnbmF0dXJl",
}
BODY = '{"type":"course.deleted","data":{"course_id":"Größe"}}'.encode()

MakeTransport = Callable[..., Transport]
Post = Callable[[], WebhookResponse | Failure]


@pytest.fixture
def post(sink: Sink, make_transport: MakeTransport) -> Post:
    """Return a function that posts to the sink over one transport."""
    transport = make_transport()
    return lambda: transport.post(sink.url("/webhooks/site?x=1"), HEADERS, BODY)


def test_body_and_headers_arrive_as_they_were_given(sink: Sink, post: Post) -> None:
    assert post() == WebhookResponse(200, None, '{"outcome":"applied"}')

    (received,) = sink.received
    assert (received.method, received.path, received.body) == ("POST", "/webhooks/site?x=1", BODY)
    assert received.headers == {
        **HEADERS,
        "host": sink.url("").removeprefix("http://"),
        "content-type": "application/json",
        "content-length": str(len(BODY)),
        "user-agent": "course-webhooks/1",
        "accept": "application/json",
        "accept-encoding": "identity",
    }


def test_closed_connection_is_replaced(sink: Sink, post: Post) -> None:
    sink.answer(Reply(headers={"Connection": "close"}))

    responses = [post(), post()]

    assert responses == [WebhookResponse(200, None, '{"outcome":"applied"}')] * 2
    assert sink.connections == 2


def test_closing_of_a_kept_connection_costs_no_attempt(
    make_raw_sink: Callable[..., RawSink], make_transport: MakeTransport
) -> None:
    following = iter([says(FINE, b""), says(FINE)])
    raw = make_raw_sink(lambda *connection: next(following)(*connection))
    transport = make_transport()

    responses = [transport.post(raw.url(), HEADERS, BODY) for _ in range(2)]

    assert responses == [WebhookResponse(200, None, "well")] * 2
    assert raw.connections == 2


def test_long_body_ends_its_connection(sink: Sink, post: Post) -> None:
    sink.answer(Reply(500, body=b"y" * 100_000))

    first, second = post(), post()

    assert first == WebhookResponse(500, None, "y" * MAX_STORED_BYTES)
    assert second == WebhookResponse(200, None, '{"outcome":"applied"}')
    assert sink.connections == 2


@pytest.mark.parametrize(
    ("body", "excerpt"),
    [
        pytest.param("Größe 🎓".encode(), "Größe 🎓", id="UTF-8"),
        pytest.param(b"caf\xe9", "caf\ufffd", id="not UTF-8"),
        pytest.param(b"a\r\nb\tc\x1b[31m", r"a b c\x1b[31m", id="control characters"),
        pytest.param("a\u202eb".encode(), r"a\u202eb", id="right to left"),
        pytest.param(b"key whsec_c2VjcmV0 here", "key [redacted] here", id="webhook secret"),
        pytest.param(b"got eas_k7Qx2mPa_abc.", "got [redacted].", id="course token"),
    ],
)
def test_excerpt_is_safe_to_store_and_print(
    sink: Sink, post: Post, body: bytes, excerpt: str
) -> None:
    sink.answer(Reply(422, body=body))

    assert post() == WebhookResponse(422, None, excerpt)


@pytest.mark.parametrize(
    "character",
    [pytest.param("\U0010ffff", id="longest escape"), pytest.param("🎓", id="four bytes")],
)
def test_excerpt_is_bounded(sink: Sink, post: Post, character: str) -> None:
    sink.answer(Reply(422, body=character.encode() * 1024))

    response = post()

    assert isinstance(response, WebhookResponse)
    assert MAX_STORED_BYTES - 3 <= len(response.excerpt.encode()) <= MAX_STORED_BYTES
    assert response.excerpt.isprintable()
    assert "\ufffd" not in response.excerpt


def test_cookies_are_not_sent_back(sink: Sink, post: Post) -> None:
    sink.always(Reply(headers={"Set-Cookie": "session=1; Path=/"}))

    for _ in range(2):
        post()

    assert ["cookie" in received.headers for received in sink.received] == [False, False]


def test_proxies_and_netrc_of_the_environment_are_ignored(
    sink: Sink,
    make_sink: Callable[[], Sink],
    make_transport: MakeTransport,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    proxy, netrc = make_sink(), tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login ada password hunter2\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    for variable in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(variable, proxy.url(""))

    make_transport().post(sink.url(), HEADERS, BODY)

    assert (len(sink.received), proxy.connections) == (1, 0)
    assert "authorization" not in sink.received[0].headers


def test_each_post_has_its_own_deadline(sink: Sink, make_transport: MakeTransport) -> None:
    transport = make_transport(deadline=0.8)

    answers = []
    for _ in range(3):
        answers.append(transport.post(sink.url(), HEADERS, BODY))
        time.sleep(0.3)  # three of them outlast one deadline

    assert {type(one) for one in answers} == {WebhookResponse}
    assert sink.connections == 1


def test_closed_port_is_refused(make_transport: MakeTransport) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        where = f"127.0.0.1:{closed.getsockname()[1]}"

        answer = make_transport().post(f"http://{where}/", HEADERS, BODY)

    assert answer == Failure("refused", f"{where}: Connection refused")


@pytest.mark.parametrize(
    "url",
    [
        pytest.param("", id="empty"),
        pytest.param("http://[::1/", id="half a bracket"),
        pytest.param("http://elms:99999/", id="port"),
        pytest.param("http://" + "a" * 300 + ".invalid/", id="long label"),
        pytest.param("http://\udc80.invalid/", id="surrogate"),
        pytest.param("file:///etc/passwd", id="scheme"),
        pytest.param("http://127.0.0.1:0/", id="port 0"),
    ],
)
def test_invalid_url_is_a_failure(make_transport: MakeTransport, url: str) -> None:
    answer = make_transport().post(url, HEADERS, BODY)

    assert isinstance(answer, Failure)
    assert answer.kind in {"url", "dns", "refused", "connection-failed"}
    assert answer.detail


def test_failure_names_the_host_that_was_contacted(make_transport: MakeTransport) -> None:
    answer = make_transport(guard=Guard()).post("http://127.0.0.1:1\\@ok.example/", HEADERS, BODY)

    assert isinstance(answer, Failure)
    assert answer.kind == "blocked"
    assert answer.detail.startswith("127.0.0.1:1: 127.0.0.1 is loopback")
