"""The rules for endpoint URLs; no name is resolved.

`tests/foundation/http` tests how hosts are read and which addresses are blocked.
"""

import socket

import pytest

from foundation.http.ssrf import Guard, parse_guard
from notifier.errors import EndpointUrlError
from notifier.webhooks import url_policy

STRICT = Guard()
DEVELOPMENT = Guard(loopback=True)
CAMPUS = parse_guard("intranet, elms.campus, 10.0.0.0/8", loopback=False)

ALLOW = "If this receiver is yours, name its host or network in NOTIFIER_ALLOWED_HOSTS."
DEVELOP = "Only for development: set NOTIFIER_ALLOW_LOOPBACK=true."


def refused(url: str, guard: Guard = STRICT) -> tuple[str, str]:
    """Return the message and the advice that refuse a URL."""
    with pytest.raises(EndpointUrlError) as caught:
        url_policy.normalize(url, guard)
    return str(caught.value), caught.value.advice.text


@pytest.mark.parametrize(
    ("url", "guard"),
    [
        pytest.param("https://elms.example.ac.uk:8443/w?site=1&x=%20@", STRICT, id="name"),
        pytest.param("https://8.8.8.8/w", STRICT, id="global address"),
        pytest.param("https://[2001:4860:4860::8888]:8443/w", STRICT, id="global IPv6 address"),
        pytest.param("http://127.0.0.1:8002/w", DEVELOPMENT, id="loopback over http"),
        pytest.param("http://localhost:8002/w", DEVELOPMENT, id="localhost over http"),
        pytest.param("https://intranet/w", CAMPUS, id="allowed name without a dot"),
        pytest.param("https://10.1.2.3/w", CAMPUS, id="allowed network"),
    ],
)
def test_valid_url_is_accepted_without_resolving(
    monkeypatch: pytest.MonkeyPatch, url: str, guard: Guard
) -> None:
    monkeypatch.delattr(socket, "getaddrinfo")

    assert url_policy.normalize(url, guard) == url


@pytest.mark.parametrize(
    ("url", "guard", "normal"),
    [
        pytest.param(
            "HTTPS://ELMS.Example.:8443/W?a=%2f",
            STRICT,
            "https://elms.example:8443/W?a=%2f",
            id="capitals and last dot",
        ),
        pytest.param(
            "https://größe.example", STRICT, "https://xn--gre-6ka8i.example", id="not ASCII"
        ),
        pytest.param("https://0x8.8.8.8/?", STRICT, "https://8.8.8.8/?", id="hexadecimal"),
        pytest.param(
            "https://[::ffff:8.8.8.8]/w", STRICT, "https://8.8.8.8/w", id="mapped with dots"
        ),
        pytest.param("https://[::FFFF:808:808]/w", STRICT, "https://8.8.8.8/w", id="mapped"),
        pytest.param(
            "https://[2001:4860:4860:0::8888]:8443/w",
            STRICT,
            "https://[2001:4860:4860::8888]:8443/w",
            id="long IPv6 address",
        ),
        pytest.param("http://127.1:8002/w", DEVELOPMENT, "http://127.0.0.1:8002/w", id="loopback"),
        pytest.param(
            "http://[::ffff:7f00:1]/w",
            DEVELOPMENT,
            "http://127.0.0.1/w",
            id="mapped loopback",
        ),
    ],
)
def test_url_is_normalized(url: str, guard: Guard, normal: str) -> None:
    assert url_policy.normalize(url, guard) == normal
    assert url_policy.normalize(normal, guard) == normal


@pytest.mark.parametrize(
    ("url", "words"),
    [
        pytest.param("", "'' is not an http or https URL with a host", id="empty"),
        pytest.param("ftp://elms.example/", "is not an http or https URL", id="ftp"),
        pytest.param("https://elms.example:0/w", "is not an http or https URL", id="port 0"),
        pytest.param("https://[::1/w", "the URL cannot be read: ", id="half a bracket"),
        pytest.param("https://u:p@elms.example/w", "has user info", id="user and password"),
        pytest.param("https://elms.example/a b", "a space or a control character", id="space"),
        pytest.param("https://elms.example/\r\nX: y", "a space or a control", id="line break"),
        pytest.param("https://elms.example/\udc80", "a space or a control", id="surrogate"),
        pytest.param("https://elms.example/a\\b", "has a backslash", id="backslash"),
        pytest.param("https://a..example/", "is not a host name", id="not a host"),
        pytest.param(f"https://elms.example/{'y' * 2000}", "longer than 2000", id="too long"),
        pytest.param("https://[v1.x]/w", "the URL is ambiguous", id="IPvFuture"),
        pytest.param("https://elms%2eexample/", "is ambiguous", id="escaped host"),
        pytest.param(
            "http://ok.example\\@127.0.0.1/", "127.0.0.1 or ok.example", id="host in user info"
        ),
    ],
)
def test_invalid_url_is_refused(url: str, words: str) -> None:
    message, _ = refused(url)

    assert words in message


@pytest.mark.parametrize(
    ("url", "guard", "message", "step"),
    [
        pytest.param(
            "https://10.0.0.1/w",
            STRICT,
            "10.0.0.1 is a private address",
            ALLOW,
            id="blocked address",
        ),
        pytest.param(
            "https://[::ffff:169.254.169.254]/w",
            STRICT,
            "::ffff:169.254.169.254 means 169.254.169.254, which is link-local",
            ALLOW,
            id="mapped address",
        ),
        pytest.param(
            "https://[64:ff9b::a9fe:a9fe]/w",
            STRICT,
            "64:ff9b::a9fe:a9fe means 169.254.169.254, which is link-local",
            ALLOW,
            id="NAT64 address",
        ),
        pytest.param(
            "http://0x7f.1/w",
            STRICT,
            "0x7f.1 means 127.0.0.1, which is loopback",
            f"{ALLOW} {DEVELOP}",
            id="loopback",
        ),
        pytest.param(
            "https://app.localhost/w",
            STRICT,
            "app.localhost is loopback (RFC 6761)",
            DEVELOP,
            id="localhost",
        ),
        pytest.param(
            "https://intranet/w",
            STRICT,
            "intranet has no dot, so it means a different host on every network",
            f"Give the full name of the host. {ALLOW}",
            id="no dot",
        ),
    ],
)
def test_blocked_host_is_refused_with_the_next_step(
    url: str, guard: Guard, message: str, step: str
) -> None:
    assert refused(url, guard) == (message, step)


@pytest.mark.parametrize(
    ("host", "guard"),
    [
        pytest.param("elms.example", STRICT, id="strict"),
        pytest.param("elms.example", DEVELOPMENT, id="loopback allowed"),
        pytest.param("10.1.2.3", CAMPUS, id="allowed network"),
    ],
)
def test_plain_http_is_refused(host: str, guard: Guard) -> None:
    message, step = refused(f"http://{host}/w", guard)

    assert message == (
        f"http://{host}/w is not https: others on the network could read and change what is sent"
    )
    assert step.startswith("Give an https URL")


@pytest.mark.parametrize("url", ["https://me:hunter2@elms.example/w", "ftp://me:hunter2@x.example"])
def test_refusal_contains_no_password(url: str) -> None:
    assert "hunter2" not in "".join(refused(url))
