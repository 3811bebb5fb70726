"""The transport against real listeners: exact bytes out, an answer or a failure in time."""

import gzip
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from notifier.retry import Answer, Failure
from notifier.transport import MAX_KEPT_CHARACTERS, Transport
from tests.notifier.conftest import RawSink, Reply, Sink

HEADERS = {
    "webhook-id": "msg_1",
    "webhook-timestamp": "1795338000",
    "webhook-signature": "v1,c2lnbmF0dXJl",
}
BODY = '{"type":"course.deleted","data":{"course_id":"Größe"}}'.encode()

MakeTransport = Callable[..., Transport]
MakeRawSink = Callable[..., RawSink]
Behaviour = Callable[[socket.socket, threading.Event], None]


def ask(connection: socket.socket) -> None:
    """Read a request to the end of its body."""
    seen = b""
    while not seen.endswith(BODY):
        some = connection.recv(65536)
        if not some:
            raise ConnectionResetError
        seen += some


def says(*parts: bytes, pause: float = 0.0) -> Behaviour:
    """Return a behaviour: hear one request, answer these bytes with pauses between, close."""

    def behave(connection: socket.socket, stopped: threading.Event) -> None:
        ask(connection)
        for part in parts:
            connection.sendall(part)
            stopped.wait(pause)

    return behave


def drips(head: bytes) -> Behaviour:
    """Return a behaviour: after the head, a byte every twentieth of a second, without end."""

    def behave(connection: socket.socket, stopped: threading.Event) -> None:
        ask(connection)
        connection.sendall(head)
        while not stopped.wait(0.05):
            connection.sendall(b"x")

    return behave


def test_body_and_headers_arrive_as_they_were_given(
    sink: Sink, make_transport: MakeTransport
) -> None:
    """On the wire are the exact bytes, the signature's headers, and no header that betrays more."""
    answer = make_transport().post(sink.url("/webhooks/site?x=1"), HEADERS, BODY)

    assert answer == Answer(200, None, '{"outcome":"applied"}')
    (heard,) = sink.heard
    assert (heard.method, heard.path, heard.body) == ("POST", "/webhooks/site?x=1", BODY)
    assert heard.headers == {
        **HEADERS,
        "host": sink.url("").removeprefix("http://"),
        "content-type": "application/json",
        "content-length": str(len(BODY)),
        "user-agent": "course-webhooks/1",
        "accept": "application/json",
        "accept-encoding": "identity",
    }


def test_connection_is_kept(sink: Sink, make_transport: MakeTransport) -> None:
    """Posts one after another go over one connection, whatever was answered."""
    transport = make_transport()
    sink.answer(
        *(Reply(status, {"Location": "/elsewhere"}) for status in (200, 302, 404, 500)),
        Reply(204, body=b""),
        Reply(200, body=b"x" * 4000),
    )

    statuses = [transport.post(sink.url(), HEADERS, BODY) for _ in range(7)]

    assert [one.status for one in statuses if isinstance(one, Answer)] == [
        *(200, 302, 404, 500, 204, 200, 200)
    ]
    assert sink.connections == 1


def test_connection_that_the_other_side_closed_is_opened_anew(
    sink: Sink, make_transport: MakeTransport
) -> None:
    """A kept connection that was closed meanwhile costs no delivery."""
    transport = make_transport()
    sink.answer(Reply(headers={"Connection": "close"}))

    answers = [transport.post(sink.url(), HEADERS, BODY) for _ in range(2)]

    assert [one.status for one in answers if isinstance(one, Answer)] == [200, 200]
    assert sink.connections == 2


def test_threads_share_the_connections(sink: Sink, make_transport: MakeTransport) -> None:
    """Threads that post at the same time each get their own answer, over kept connections."""
    transport = make_transport(connections=4)
    sink.always(Reply(body=b"slow"), "/slow")
    answers: dict[str, list[Answer | Failure]] = {"/slow": [], "/fast": []}

    def post(path: str) -> None:
        for _ in range(10):
            answers[path].append(transport.post(sink.url(path), HEADERS, BODY))

    threads = [threading.Thread(target=post, args=(path,)) for path in answers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert set(answers["/slow"]) == {Answer(200, None, "slow")}
    assert set(answers["/fast"]) == {Answer(200, None, '{"outcome":"applied"}')}
    assert sink.connections == 2


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirect_is_an_answer_and_never_followed(
    sink: Sink, make_sink: Callable[[], Sink], make_transport: MakeTransport, status: int
) -> None:
    """A redirect is returned as it came; the other server sees no connection (F13)."""
    other = make_sink()
    sink.answer(Reply(status, {"Location": other.url()}, b"moved"))

    answer = make_transport().post(sink.url(), HEADERS, BODY)

    assert answer == Answer(status, None, "moved")
    assert (len(sink.heard), other.connections) == (1, 0)


@pytest.mark.parametrize("location", ["http://[::1/", "//", "\x00", "ftp://elms/", "?" * 9000])
def test_location_that_is_no_url_is_nobodys_concern(
    sink: Sink, make_transport: MakeTransport, location: str
) -> None:
    """Whatever a redirect names, it is an answer with its status."""
    sink.answer(Reply(302, {"Location": location}, b"moved"))

    assert make_transport().post(sink.url(), HEADERS, BODY) == Answer(302, None, "moved")


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(b"HTTP/1.1 200 OK\r\n", id="200"),
        pytest.param(b"HTTP/1.1 500 Oops\r\n", id="500"),
        pytest.param(b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\n", id="302"),
        pytest.param(b"HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Encoding: gzip\r\n", id="gzip"),
    ],
)
def test_endless_answer_is_not_read_on(
    make_raw_sink: MakeRawSink, make_transport: MakeTransport, head: bytes
) -> None:
    """Of an answer without end the beginning is read, and the connection ended, at once (F15)."""
    sent = []

    def behave(connection: socket.socket, stopped: threading.Event) -> None:
        ask(connection)
        connection.sendall(head + b"Content-Length: 1000000000\r\n\r\n")
        while not stopped.is_set() and len(sent) < 1000:
            connection.sendall(b"x" * 100_000)
            sent.append(1)

    started = time.monotonic()
    answer = make_transport(deadline=10).post(make_raw_sink(behave).url(), HEADERS, BODY)

    assert isinstance(answer, Answer)
    assert answer.said == "x" * MAX_KEPT_CHARACTERS
    assert time.monotonic() - started < 5
    assert len(sent) < 200


def test_long_answer_ends_its_connection(sink: Sink, make_transport: MakeTransport) -> None:
    """After an answer of more than 4 kB the next post goes over a new connection, and well."""
    transport = make_transport()
    sink.answer(Reply(500, body=b"y" * 100_000))

    first = transport.post(sink.url(), HEADERS, BODY)
    second = transport.post(sink.url(), HEADERS, BODY)

    assert first == Answer(500, None, "y" * MAX_KEPT_CHARACTERS)
    assert second == Answer(200, None, '{"outcome":"applied"}')
    assert sink.connections == 2


@pytest.mark.parametrize(
    ("body", "said"),
    [
        pytest.param(b"", "", id="nothing"),
        pytest.param("Größe 🎓".encode(), "Größe 🎓", id="UTF-8"),
        pytest.param(b"caf\xe9", "caf\ufffd", id="not UTF-8"),
        pytest.param(b"a\r\nb\tc\x1b[31m", r"a\r\nb\tc\x1b[31m", id="control characters"),
        pytest.param("a\u202eb".encode(), r"a\u202eb", id="right to left"),
        pytest.param(b"key whsec_c2VjcmV0 here", "key [redacted] here", id="a webhook secret"),
        pytest.param(b"got eas_k7Qx2mPa_abc.", "got [redacted].", id="a course token"),
    ],
)
def test_said_is_fit_for_a_row_and_a_terminal(
    sink: Sink, make_transport: MakeTransport, body: bytes, said: str
) -> None:
    """What was said is kept as text in which nothing acts and no secret stands."""
    sink.answer(Reply(422, body=body))

    assert make_transport().post(sink.url(), HEADERS, BODY) == Answer(422, None, said)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"x" * 4096, id="letters"),
        pytest.param(b"\x00" * 4096, id="NUL"),
        pytest.param("\U0010ffff".encode() * 1024, id="what is spelled longest"),
        pytest.param("🎓".encode() * 1024, id="four bytes each"),
    ],
)
def test_said_is_bounded(sink: Sink, make_transport: MakeTransport, body: bytes) -> None:
    """At most a thousand characters of an answer are kept, spelled out or not."""
    sink.answer(Reply(422, body=body))

    answer = make_transport().post(sink.url(), HEADERS, BODY)

    assert isinstance(answer, Answer)
    assert len(answer.said) == MAX_KEPT_CHARACTERS


def test_retry_after_is_handed_on_as_it_came(sink: Sink, make_transport: MakeTransport) -> None:
    """`Retry-After` is the decision's to read, not the transport's."""
    sink.answer(Reply(503, {"Retry-After": "1e300"}, b""))

    assert make_transport().post(sink.url(), HEADERS, BODY) == Answer(503, "1e300", "")


def test_gzip_is_not_unpacked(sink: Sink, make_transport: MakeTransport) -> None:
    """A packed answer is not asked for and not unpacked: a bomb stays small (F15)."""
    bomb = gzip.compress(b"boom" * 1_000_000)
    sink.answer(Reply(200, {"Content-Encoding": "gzip"}, bomb))

    answer = make_transport().post(sink.url(), HEADERS, BODY)

    assert isinstance(answer, Answer)
    assert answer.status == 200
    assert "boomboom" not in answer.said


def test_cookies_are_not_sent_back(sink: Sink, make_transport: MakeTransport) -> None:
    """A cookie that an answer sets is forgotten."""
    transport = make_transport()
    sink.always(Reply(headers={"Set-Cookie": "session=1; Path=/"}))

    for _ in range(2):
        transport.post(sink.url(), HEADERS, BODY)

    assert ["cookie" in heard.headers for heard in sink.heard] == [False, False]


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"])
def test_proxy_of_the_environment_is_not_asked(
    sink: Sink,
    make_sink: Callable[[], Sink],
    make_transport: MakeTransport,
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
) -> None:
    """A proxy that the environment names sees no connection."""
    proxy = make_sink()
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv(variable, proxy.url(""))

    make_transport().post(sink.url(), HEADERS, BODY)

    assert (len(sink.heard), proxy.connections) == (1, 0)


def test_netrc_is_not_read(
    sink: Sink, make_transport: MakeTransport, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A password that .netrc has for the host does not leak into a delivery."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login ada password hunter2\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))

    make_transport().post(sink.url(), HEADERS, BODY)

    assert "authorization" not in sink.heard[0].headers


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"HTTP/1.1 200 OK\r\nX-", id="headers"),
        pytest.param(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 100 Continue\r\nX-", id="100"),
    ],
)
def test_dripping_server_cannot_stretch_the_deadline(
    make_raw_sink: MakeRawSink, make_transport: MakeTransport, head: bytes
) -> None:
    """An attempt ends with its deadline, however lively the other side drips (I6, F15)."""
    started = time.monotonic()
    answer = make_transport(deadline=0.4).post(make_raw_sink(drips(head)).url(), HEADERS, BODY)

    assert answer == Failure("deadline", "no answer within 0.4 s")
    assert 0.4 <= time.monotonic() - started < 1.4


def test_dripping_body_leaves_the_status(
    make_raw_sink: MakeRawSink, make_transport: MakeTransport
) -> None:
    """A 2xx counts though its body drips; the attempt ends with its deadline all the same."""
    raw = make_raw_sink(drips(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"))

    started = time.monotonic()
    answer = make_transport(deadline=0.4).post(raw.url(), HEADERS, BODY)

    assert isinstance(answer, Answer)
    assert answer.status == 200
    assert time.monotonic() - started < 1.4


def test_deadline_begins_anew_with_each_post(sink: Sink, make_transport: MakeTransport) -> None:
    """A kept connection carries no deadline from the post before."""
    transport = make_transport(deadline=0.8)

    answers = []
    for _ in range(3):
        answers.append(transport.post(sink.url(), HEADERS, BODY))
        time.sleep(0.3)  # three of them outlast one deadline

    assert {type(one) for one in answers} == {Answer}
    assert sink.connections == 1


def test_silent_server_costs_the_deadline(
    make_raw_sink: MakeRawSink, make_transport: MakeTransport
) -> None:
    """A server that takes the request and says nothing is a failure at the deadline."""
    raw = make_raw_sink(lambda _, stopped: stopped.wait(10))

    answer = make_transport(deadline=0.2).post(raw.url(), HEADERS, BODY)

    assert answer == Failure("deadline", "no answer within 0.2 s")


def test_server_that_does_not_accept_costs_the_connect_timeout(
    make_transport: MakeTransport,
) -> None:
    """Where the connection is not accepted the attempt ends with the shorter time-out."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(full.getsockname())

        started = time.monotonic()
        url = f"http://127.0.0.1:{full.getsockname()[1]}/"
        answer = make_transport(connect_timeout=0.2).post(url, HEADERS, BODY)
        elapsed = time.monotonic() - started

        for one in waiting:
            one.close()
    assert answer == Failure("connect-timeout", "the connection was not accepted in time")
    assert elapsed < 1.2


def test_port_that_nobody_listens_on_is_refused(make_transport: MakeTransport) -> None:
    """Where nobody listens the failure says so."""
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unheard.getsockname()[1]}/"

        answer = make_transport().post(url, HEADERS, BODY)

    assert answer == Failure("refused", "nobody listens there")


def test_name_that_does_not_resolve_is_told_from_a_server(make_transport: MakeTransport) -> None:
    """A host without an address is a failure of its name (F17)."""
    answer = make_transport().post("http://elms.invalid/w", HEADERS, BODY)

    assert isinstance(answer, Failure)
    assert answer.kind == "dns"
    assert answer.detail.startswith("the host's name cannot be resolved: ")


def reset(connection: socket.socket, _: threading.Event) -> None:
    """Hear the request and reset the connection."""
    ask(connection)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00" + b"\x00" * 4)
    connection.close()


@pytest.mark.parametrize(
    ("behave", "kind"),
    [
        pytest.param(reset, "reset", id="RST"),
        pytest.param(says(), "reset", id="closed without a word"),
        pytest.param(says(b"\x00\xff\r\n\r\n"), "protocol", id="garbage"),
        pytest.param(says(b"SSH-2.0-OpenSSH_9.2\r\n"), "protocol", id="another protocol"),
        pytest.param(says(b"HTTP/1.1 abc OK\r\n\r\n"), "protocol", id="no status"),
        pytest.param(says(b"HTTP/1.1 20"), "protocol", id="cut in the status"),
        pytest.param(
            says(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000 + b"\r\n\r\n"),
            "protocol",
            id="a header without end",
        ),
        pytest.param(
            says(b"HTTP/1.1 200 OK\r\n" + b"X: x\r\n" * 101 + b"\r\n"),
            "protocol",
            id="headers without end",
        ),
    ],
)
def test_what_is_not_http_is_a_failure(
    make_raw_sink: MakeRawSink, make_transport: MakeTransport, behave: Behaviour, kind: str
) -> None:
    """Whatever comes instead of HTTP is a failure with a stable kind and words (F15)."""
    answer = make_transport().post(make_raw_sink(behave).url(), HEADERS, BODY)

    assert isinstance(answer, Failure)
    assert answer.kind == kind
    assert 0 < len(answer.detail) <= MAX_KEPT_CHARACTERS
    assert answer.detail.isprintable()


@pytest.mark.parametrize(
    ("answered", "said"),
    [
        pytest.param(b"Content-Length: 100\r\n\r\npart", "part", id="cut short"),
        pytest.param(b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", "", id="a bad chunk"),
        pytest.param(
            b"Transfer-Encoding: chunked\r\n\r\n4\r\nwell\r\n0\r\n\r\n", "well", id="chunks"
        ),
        pytest.param(b"Content-Length: nonsense\r\n\r\nwell", "well", id="a bad length"),
        pytest.param(b"Content-Length: -5\r\n\r\nwell", "well", id="a negative length"),
        pytest.param(b"\r\nwell", "well", id="until the connection ends"),
        pytest.param(b"X: caf\xe9\x01\r\n\r\nwell", "well", id="a header that is not ASCII"),
        pytest.param(b"Content-Length: 4\r\n\r\nwell and more", "well", id="more than it says"),
    ],
)
def test_status_counts_whatever_becomes_of_the_body(
    make_raw_sink: MakeRawSink, make_transport: MakeTransport, answered: bytes, said: str
) -> None:
    """A 2xx was heard though its body is broken: the receiver has the event."""
    raw = make_raw_sink(says(b"HTTP/1.1 202 Accepted\r\n" + answered))

    answer = make_transport().post(raw.url(), HEADERS, BODY)

    assert isinstance(answer, Answer)
    assert (answer.status, answer.said) in {(202, said), (202, "")}


@pytest.mark.parametrize(
    "url",
    [
        "",
        "elms",
        "http://",
        "http://[::1/",
        "http://elms:99999/",
        "http://a..b/",
        "http://" + "a" * 300 + ".invalid/",
        "http://\udc80.invalid/",
        "ftp://elms.invalid/",
        "file:///etc/passwd",
        "http://127.0.0.1:0/",
    ],
)
def test_no_url_raises(make_transport: MakeTransport, url: str) -> None:
    """A URL that nothing can be sent to is a failure, not an exception in a worker's thread."""
    answer = make_transport().post(url, HEADERS, BODY)

    assert isinstance(answer, Failure)
    assert answer.detail


@pytest.fixture
def certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., ssl.SSLContext]:
    """Return what makes a server's TLS context; `trusted` makes its certificate an authority."""

    def make(address: str = "127.0.0.1", days: int = 1, *, trusted: bool = True) -> ssl.SSLContext:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ELMS")])
        until = datetime.now(UTC) + timedelta(days=days)
        signed = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(1)
            .not_valid_before(until - timedelta(days=30))
            .not_valid_after(until)
            .add_extension(
                x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))]),
                critical=False,
            )
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(key, hashes.SHA256())
        )
        path = tmp_path / "server.pem"
        private = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        path.write_bytes(private + signed.public_bytes(serialization.Encoding.PEM))
        if trusted:
            monkeypatch.setenv("SSL_CERT_FILE", str(path))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
        return context

    return make


@pytest.fixture
def make_tls_sink(make_raw_sink: MakeRawSink) -> Callable[..., RawSink]:
    """Return what opens a TLS listener with a behaviour, and keeps what it read in the clear."""

    def make(context: ssl.SSLContext, behave: Behaviour, heard: list[bytes]) -> RawSink:
        def wrapped(connection: socket.socket, stopped: threading.Event) -> None:
            with context.wrap_socket(connection, server_side=True) as tls:
                heard.append(b"handshake")
                behave(tls, stopped)

        return make_raw_sink(wrapped)

    return make


def test_tls_carries_the_delivery(
    certificate: Callable[..., ssl.SSLContext],
    make_tls_sink: Callable[..., RawSink],
    make_transport: MakeTransport,
) -> None:
    """Over TLS with a certificate that the system trusts a delivery arrives as without it."""
    raw = make_tls_sink(
        certificate(), says(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nwell"), []
    )

    answer = make_transport().post(raw.url("https"), HEADERS, BODY)

    assert answer == Answer(200, None, "well")


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        pytest.param({"trusted": False}, "self-signed certificate", id="self-signed"),
        pytest.param({"days": -1}, "certificate has expired", id="expired"),
        pytest.param({"address": "127.0.0.9"}, "not valid for '127.0.0.1'", id="wrong host"),
    ],
)
def test_tls_that_cannot_be_trusted_is_refused(
    certificate: Callable[..., ssl.SSLContext],
    make_tls_sink: Callable[..., RawSink],
    make_transport: MakeTransport,
    overrides: dict[str, object],
    words: str,
) -> None:
    """A certificate that is not good is named, and nothing of the body is sent (F16)."""
    heard: list[bytes] = []

    def behave(connection: socket.socket, _: threading.Event) -> None:
        heard.append(connection.recv(65536))

    raw = make_tls_sink(certificate(**overrides), behave, heard)

    answer = make_transport().post(raw.url("https"), HEADERS, BODY)

    assert isinstance(answer, Failure)
    assert answer.kind == "tls"
    assert words in answer.detail
    assert b"".join(heard).removeprefix(b"handshake") == b""


def test_plain_server_behind_an_https_url_is_a_failure_of_tls(
    sink: Sink, make_transport: MakeTransport
) -> None:
    """Where an https URL leads to a plain server, the failure is of TLS, and nothing is heard."""
    answer = make_transport().post(sink.url().replace("http:", "https:"), HEADERS, BODY)

    assert isinstance(answer, Failure)
    assert answer.kind == "tls"
    assert sink.heard == []


def test_handshake_that_stalls_costs_the_connect_timeout(
    make_raw_sink: MakeRawSink, make_transport: MakeTransport
) -> None:
    """A server that accepts and never shakes hands is not given the whole deadline."""
    raw = make_raw_sink(lambda _, stopped: stopped.wait(10))

    started = time.monotonic()
    answer = make_transport(connect_timeout=0.2).post(raw.url("https"), HEADERS, BODY)

    assert answer == Failure("connect-timeout", "the connection was not accepted in time")
    assert time.monotonic() - started < 1.2


def test_dripping_over_tls_cannot_stretch_the_deadline(
    certificate: Callable[..., ssl.SSLContext],
    make_tls_sink: Callable[..., RawSink],
    make_transport: MakeTransport,
) -> None:
    """TLS keeps the total deadline as plain HTTP does."""
    raw = make_tls_sink(certificate(), drips(b"HTTP/1.1 200 OK\r\nX-"), [])

    started = time.monotonic()
    answer = make_transport(deadline=0.5).post(raw.url("https"), HEADERS, BODY)

    assert answer == Failure("deadline", "no answer within 0.5 s")
    assert time.monotonic() - started < 1.5
