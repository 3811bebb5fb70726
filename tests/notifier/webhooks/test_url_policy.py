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
        url_policy.check(url, guard)
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

    url_policy.check(url, guard)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        pytest.param("", "'' is not an http or https URL with a host", id="empty"),
        pytest.param("https:///w", "is not an http or https URL with a host", id="no host"),
        pytest.param("ftp://elms.example/", "is not an http or https URL", id="ftp"),
        pytest.param("https://elms.example:0/w", "is not an http or https URL", id="port 0"),
        pytest.param("https://elms.example:65536/w", "Port out of range", id="port 65536"),
        pytest.param("https://[::1/w", "the URL cannot be read: ", id="half a bracket"),
        pytest.param("https://u:p@elms.example/w", "has user info", id="user and password"),
        pytest.param("https://elms.example/w#x", "or a fragment", id="fragment"),
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
        pytest.param(
            "https://127.0.0.1\\@ok.example/", "ok.example or 127.0.0.1", id="address in user info"
        ),
    ],
)
def test_invalid_url_is_refused(url: str, words: str) -> None:
    message, _ = refused(url)

    assert words in message


@pytest.mark.parametrize(
    ("host", "message"),
    [
        pytest.param("10.0.0.1", "10.0.0.1 is for private use (RFC 1918)", id="as written"),
        pytest.param(
            "[::ffff:a9fe:a9fe]",
            "::ffff:a9fe:a9fe means 169.254.169.254, which is link-local (RFC 3927)",
            id="mapped",
        ),
    ],
)
def test_blocked_address_is_refused_by_its_meaning(host: str, message: str) -> None:
    assert refused(f"https://{host}/w") == (message, ALLOW)


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "0x7f.1", "①②⑦.0.0.1"])
def test_refusal_of_loopback_names_the_setting(host: str) -> None:
    message, step = refused(f"http://{host}/w")

    assert "is loopback" in message
    assert step == f"{ALLOW} {DEVELOP}"


@pytest.mark.parametrize(
    ("host", "guard", "spelling"),
    [
        pytest.param("ELMS.example", STRICT, "elms.example", id="name"),
        pytest.param("8.8.2056", STRICT, "8.8.8.8", id="address"),
        pytest.param("[2001:4860:4860:0::8888]", STRICT, "2001:4860:4860::8888", id="IPv6"),
        pytest.param("127.1", DEVELOPMENT, "127.0.0.1", id="loopback where it is allowed"),
    ],
)
def test_other_spelling_is_refused_with_the_right_one(
    host: str, guard: Guard, spelling: str
) -> None:
    message, step = refused(f"https://{host}/w", guard)

    assert message == f"the host {host.strip('[]')} is another spelling of {spelling}"
    assert step == f"Write {spelling}."


def test_name_without_a_dot_is_refused() -> None:
    message, step = refused("https://intranet/w")

    assert message == "intranet has no dot, so it means a different host on every network"
    assert step == f"Give the full name of the host. {ALLOW}"


@pytest.mark.parametrize("host", ["localhost", "app.localhost", "localho\u017ft"])
def test_localhost_is_loopback(host: str) -> None:
    message, step = refused(f"https://{host}/w")

    assert "is loopback (RFC 6761)" in message
    assert step == DEVELOP


@pytest.mark.parametrize("guard", [STRICT, DEVELOPMENT, CAMPUS], ids=["strict", "dev", "campus"])
def test_plain_http_is_refused(guard: Guard) -> None:
    message, step = refused("http://elms.example/w", guard)

    assert message == (
        "http://elms.example/w is not https: "
        "others on the network could read and change what is sent"
    )
    assert step.startswith("Give an https URL")


def test_plain_http_to_an_allowed_network_is_refused() -> None:
    message, _ = refused("http://10.1.2.3/w", CAMPUS)

    assert "is not https" in message


@pytest.mark.parametrize("url", ["https://me:hunter2@elms.example/w", "ftp://me:hunter2@x.example"])
def test_refusal_contains_no_password(url: str) -> None:
    assert "hunter2" not in "".join(refused(url))
