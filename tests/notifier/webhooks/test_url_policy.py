"""The rules for endpoint URLs; no name is resolved."""

import socket

import pytest

from foundation.http.ssrf import Guard, parse_guard
from notifier.errors import EndpointUrlError
from notifier.webhooks import url_policy

STRICT = Guard()
DEVELOPMENT = Guard(loopback=True)
CAMPUS = parse_guard("intranet, elms.campus, 10.0.0.0/8, fd00::/8", loopback=False)

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
        pytest.param("https://elms.example.ac.uk/webhooks/eassessment", STRICT, id="a name"),
        pytest.param("https://elms.example.ac.uk", STRICT, id="no path"),
        pytest.param("https://elms.example.ac.uk:8443/w?site=1&x=%20@", STRICT, id="a query"),
        pytest.param("https://xn--gre-6ka8i.example/w", STRICT, id="an A-label"),
        pytest.param("https://8.8.8.8/w", STRICT, id="a global address"),
        pytest.param("https://[2001:4860:4860::8888]:8443/w", STRICT, id="a global IPv6 address"),
        pytest.param("http://127.0.0.1:8002/w", DEVELOPMENT, id="loopback over http"),
        pytest.param("http://[::1]:8002/w", DEVELOPMENT, id="IPv6 loopback over http"),
        pytest.param("http://localhost:8002/w", DEVELOPMENT, id="localhost over http"),
        pytest.param("https://intranet/w", CAMPUS, id="an allowed name without a dot"),
        pytest.param("https://10.1.2.3/w", CAMPUS, id="an allowed network"),
        pytest.param("https://[fd00::7]/w", CAMPUS, id="an allowed network of IPv6"),
    ],
)
def test_valid_url_is_accepted(monkeypatch: pytest.MonkeyPatch, url: str, guard: Guard) -> None:
    """https to a global or allowed host is valid, http to loopback if that is allowed.

    No name is resolved.
    """
    monkeypatch.delattr(socket, "getaddrinfo")

    url_policy.check(url, guard)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        pytest.param("", "'' is not an http or https URL with a host", id="empty"),
        pytest.param("elms.example/w", "is not an http or https URL with a host", id="no scheme"),
        pytest.param("https:///w", "is not an http or https URL with a host", id="no host"),
        pytest.param("ftp://elms.example/", "is not an http or https URL", id="ftp"),
        pytest.param("https://elms.example:0/w", "is not an http or https URL", id="port 0"),
        pytest.param("https://elms.example:65536/w", "Port out of range", id="port 65536"),
        pytest.param("https://elms.example:-1/w", "cannot be read", id="a negative port"),
        pytest.param("https://elms.example:٤٤٣/w", "cannot be read", id="Arabic digits"),
        pytest.param("https://[::1/w", "the URL cannot be read: ", id="half a bracket"),
        pytest.param("https://[127.0.0.1]/w", "cannot be read", id="IPv4 in brackets"),
        pytest.param("https://[v1.x]/w", "the URL is ambiguous", id="IPvFuture"),
        pytest.param("https://u:p@elms.example/w", "has user info", id="user and password"),
        pytest.param("https://elms.example/w#x", "or a fragment", id="a fragment"),
        pytest.param("https://elms.example/a b", "a space or a control character", id="a space"),
        pytest.param("https://elms.example/\r\nX: y", "a space or a control", id="a line break"),
        pytest.param("https://elms.example/\x00", "a space or a control", id="NUL"),
        pytest.param("https://elms.example/\u202ew", "a space or a control", id="right to left"),
        pytest.param("https://elms.example/\udc80", "a space or a control", id="a surrogate"),
        pytest.param("https://elms.example/a\\b", "has a backslash", id="a backslash"),
        pytest.param("https://a..example/", "is not a host name", id="an empty label"),
        pytest.param("https://a_.*.example/", "is not a host name", id="a wildcard"),
        pytest.param(f"https://{'a.' * 130}example/", "is longer than 253", id="a host too long"),
        pytest.param("https://elms%2eexample/", "is ambiguous", id="an escaped host"),
        pytest.param("https://[fe80::1%25eth0]/", "is ambiguous", id="an escaped zone"),
        pytest.param("https://[fe80::1%eth0]/", "contains a percent sign", id="a zone"),
        pytest.param("https://1.2.3.4.5/", "ends like an IPv4 address", id="five numbers"),
        pytest.param("https://256.0.0.1/", "ends like an IPv4 address", id="no address"),
        pytest.param(f"https://elms.example/{'y' * 2000}", "longer than 2000", id="too long"),
    ],
)
def test_invalid_url_is_refused(url: str, words: str) -> None:
    message, _ = refused(url)

    assert words in message


@pytest.mark.parametrize(
    ("url", "hosts"),
    [
        pytest.param("http://ok.example\\@127.0.0.1/", "127.0.0.1 or ok.example", id="a backslash"),
        pytest.param(
            "https://127.0.0.1\\@ok.example/", "ok.example or 127.0.0.1", id="the other way"
        ),
        pytest.param("https://ok.example\\.evil.example/", "or ok.example", id="a path to one"),
    ],
)
def test_ambiguous_url_is_refused(url: str, hosts: str) -> None:
    message, _ = refused(url, DEVELOPMENT)

    assert message.startswith("the URL is ambiguous: ")
    assert hosts in message


@pytest.mark.parametrize(
    ("host", "words"),
    [
        pytest.param("127.0.0.1", "127.0.0.1 is loopback (RFC 1122)", id="loopback"),
        pytest.param("169.254.169.254", "169.254.169.254 is link-local (RFC 3927)", id="metadata"),
        pytest.param("10.0.0.1", "10.0.0.1 is for private use (RFC 1918)", id="private"),
        pytest.param("0.0.0.0", "0.0.0.0 is this network (RFC 791)", id="this network"),
        pytest.param("[::1]", "::1 is loopback (RFC 4291)", id="IPv6 loopback"),
        pytest.param("[fd00::1]", "fd00::1 is unique local (RFC 4193)", id="unique local"),
        pytest.param("2130706433", "2130706433 means 127.0.0.1, which is loopback", id="dotless"),
        pytest.param("0x7f.1", "0x7f.1 means 127.0.0.1, which is loopback", id="hexadecimal"),
        pytest.param("①②⑦.0.0.1", "①②⑦.0.0.1 means 127.0.0.1, which is loopback", id="circled"),
        pytest.param(
            "[::ffff:169.254.169.254]", "means 169.254.169.254, which is link-local", id="mapped"
        ),
        pytest.param(
            "[64:ff9b::a9fe:a9fe]", "means 169.254.169.254, which is link-local", id="NAT64"
        ),
        pytest.param(
            "[2002:a9fe:a9fe::1]", "means 169.254.169.254, which is link-local", id="6to4"
        ),
        pytest.param(
            "[0:0:0:0:0:0:0:1]", "0:0:0:0:0:0:0:1 means ::1, which is loopback", id="long IPv6"
        ),
    ],
)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_address_is_judged_by_its_meaning(scheme: str, host: str, words: str) -> None:
    message, step = refused(f"{scheme}://{host}/w")

    assert words in message
    assert ALLOW in step


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
def test_refusal_of_loopback_names_the_setting(host: str) -> None:
    _, step = refused(f"https://{host}/w")

    assert step == f"{ALLOW} {DEVELOP}"


@pytest.mark.parametrize(
    ("host", "spelling"),
    [
        pytest.param("ELMS.example", "elms.example", id="capitals"),
        pytest.param("elms.example.", "elms.example", id="a last dot"),
        pytest.param("größe.example", "xn--gre-6ka8i.example", id="not ASCII"),
        pytest.param("134744072", "8.8.8.8", id="dotless"),
        pytest.param("8.8.2056", "8.8.8.8", id="short"),
        pytest.param("010.8.8.8", "8.8.8.8", id="octal"),
        pytest.param("[2001:4860:4860:0::8888]", "2001:4860:4860::8888", id="long IPv6"),
    ],
)
def test_other_spelling_is_refused_with_the_right_one(host: str, spelling: str) -> None:
    message, step = refused(f"https://{host}/w")

    assert message == f"the host {host.strip('[]')} is another spelling of {spelling}"
    assert step == f"Write {spelling}."


@pytest.mark.parametrize("host", ["127.1", "2130706433", "0x7f.1", "LOCALHOST", "localhost."])
def test_other_spelling_of_loopback_is_refused_where_loopback_is_allowed(host: str) -> None:
    message, _ = refused(f"http://{host}/w", DEVELOPMENT)

    assert "is another spelling of " in message


@pytest.mark.parametrize("host", ["intranet", "elms", "metadata"])
def test_name_without_a_dot_is_refused(host: str) -> None:
    message, step = refused(f"https://{host}/w")

    assert message == f"{host} has no dot, so it means a different host on every network"
    assert step == f"Give the full name of the host. {ALLOW}"


@pytest.mark.parametrize("host", ["localhost", "app.localhost", "LOCALHOST", "localho\u017ft"])
def test_localhost_is_loopback(host: str) -> None:
    message, step = refused(f"https://{host}/w")

    assert "is loopback (RFC 6761)" in message
    assert step == DEVELOP


@pytest.mark.parametrize("guard", [STRICT, DEVELOPMENT, CAMPUS])
@pytest.mark.parametrize("host", ["elms.example", "8.8.8.8"])
def test_plain_http_is_refused(guard: Guard, host: str) -> None:
    message, step = refused(f"http://{host}/w", guard)

    assert message == (
        f"http://{host}/w is not https: others on the network could read and change what is sent"
    )
    assert step.startswith("Give an https URL")


def test_plain_http_to_an_allowed_network_is_refused() -> None:
    message, _ = refused("http://10.1.2.3/w", CAMPUS)

    assert "is not https" in message


@pytest.mark.parametrize("url", ["https://me:hunter2@elms.example/w", "ftp://me:hunter2@x.example"])
def test_refusal_contains_no_password(url: str) -> None:
    message, step = refused(url)

    assert "hunter2" not in message + step
