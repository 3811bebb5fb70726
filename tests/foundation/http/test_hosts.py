"""Tests of the normal form of hosts."""

import socket
from ipaddress import ip_address

import pytest

from foundation.http import hosts
from foundation.http.hosts import Host, HostError

LOOPBACK = Host("127.0.0.1", ip_address("127.0.0.1"))
SPELLINGS = [
    "127.0.0.1",
    "127.1",
    "127.0.1",
    "2130706433",
    "017700000001",
    "0x7f000001",
    "0x7F.1",
    "0x7f.0.0.0x1",
    "0177.0.0.1",
    "0000000177.00.0x0.01",
]
FOREIGN = [
    pytest.param("①②⑦.0.0.1", id="circled digits"),
    pytest.param("１２７.０.０.１", id="fullwidth digits"),
    pytest.param("127。0．0｡1", id="dots of other scripts"),
    pytest.param("𝟏𝟐𝟕.0.0.1", id="mathematical digits"),
    pytest.param("127\u00ad.0.0.1", id="a soft hyphen"),
    pytest.param("127\u200b.0.0.1", id="a space of no width"),
    pytest.param("0ⅹ7f.1", id="a Roman ten for the x"),
]


@pytest.mark.parametrize("spelled", [*SPELLINGS, "127.0.0.1."])
def test_number_is_the_address_that_resolvers_make_of_it(spelled: str) -> None:
    assert hosts.parse_host(spelled) == LOOPBACK


@pytest.mark.parametrize("spelled", SPELLINGS)
def test_resolver_of_this_machine_reads_numbers_alike(spelled: str) -> None:
    flags = socket.AI_NUMERICHOST

    (row, *_) = socket.getaddrinfo(spelled, 80, family=socket.AF_INET, flags=flags)

    assert row[4][0] == hosts.parse_host(spelled).name


@pytest.mark.parametrize("spelled", FOREIGN)
def test_digits_and_dots_of_other_scripts_are_digits_and_dots(spelled: str) -> None:
    assert hosts.parse_host(spelled) == LOOPBACK


@pytest.mark.parametrize(
    ("written", "name"),
    [
        pytest.param("elms.example", "elms.example", id="as it should be"),
        pytest.param("ELMS.Example", "elms.example", id="capitals"),
        pytest.param("elms.example.", "elms.example", id="a last dot"),
        pytest.param("größe.example", "xn--gre-6ka8i.example", id="not ASCII"),
        pytest.param("ｅｌｍｓ.example", "elms.example", id="fullwidth"),
        pytest.param("localhoſt", "localhost", id="a long s"),
        pytest.param("ⓛocalhost", "localhost", id="a circled letter"),
        pytest.param("my_host.example", "my_host.example", id="an underscore"),
        pytest.param("1.2.3.example", "1.2.3.example", id="numbers before a name"),
        pytest.param("intranet", "intranet", id="no dot"),
    ],
)
def test_name_has_one_normal_form(written: str, name: str) -> None:
    assert hosts.parse_host(written) == Host(name)


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("::1", "::1"),
        ("0:0:0:0:0:0:0:1", "::1"),
        ("2001:4860:4860:0:0:0:0:8888", "2001:4860:4860::8888"),
        ("2001:4860:4860::ABCD", "2001:4860:4860::abcd"),
        ("::ffff:127.0.0.1", "::ffff:7f00:1"),
    ],
)
def test_ipv6_address_has_one_normal_form(written: str, name: str) -> None:
    assert hosts.parse_host(written) == Host(name, ip_address(name))


@pytest.mark.parametrize(
    ("spelled", "why"),
    [
        pytest.param("", "is not a host name", id="nothing"),
        pytest.param(".", "is not a host name", id="a dot"),
        pytest.param("a..example", "is not a host name", id="an empty label"),
        pytest.param(".example", "is not a host name", id="a dot first"),
        pytest.param("-a.example", "is not a host name", id="a hyphen first"),
        pytest.param("a b.example", "is not a host name", id="a space"),
        pytest.param("a;b.example", "is not a host name", id="a semicolon"),
        pytest.param("a" * 64 + ".example", "is not a host name", id="a label too long"),
        pytest.param("a." * 127 + "example", "is longer than 253 characters", id="too long"),
        pytest.param("elms%2eexample", "contains a percent sign", id="an escape"),
        pytest.param("fe80::1%eth0", "contains a percent sign", id="a zone"),
        pytest.param("fe80::1%25eth0", "contains a percent sign", id="an escaped zone"),
        pytest.param("1::2::3", "is not an IPv6 address", id="no IPv6 address"),
        pytest.param("::ffff:127.1", "is not an IPv6 address", id="a short IPv4 in IPv6"),
        pytest.param("1.2.3.4.5", "ends like an IPv4 address but is not one", id="five numbers"),
        pytest.param("256.0.0.1", "ends like an IPv4 address but is not one", id="256"),
        pytest.param(
            "127.16777216", "ends like an IPv4 address but is not one", id="a number too far"
        ),
        pytest.param("4294967296", "ends like an IPv4 address but is not one", id="2^32"),
        pytest.param("9" * 240, "ends like an IPv4 address but is not one", id="240 digits"),
        pytest.param("08.1", "ends like an IPv4 address but is not one", id="an octal eight"),
        pytest.param("1_0.1", "ends like an IPv4 address but is not one", id="a number for Python"),
        pytest.param("+1.1", "ends like an IPv4 address but is not one", id="a sign"),
        pytest.param(
            "elms.1", "ends like an IPv4 address but is not one", id="a name and a number"
        ),
        pytest.param(
            "a\u202eb.example", "contains characters that are not allowed", id="right to left"
        ),
        pytest.param(
            "a\udc80.example", "contains characters that are not allowed", id="a surrogate"
        ),
    ],
)
def test_what_is_no_host_is_refused(spelled: str, why: str) -> None:
    with pytest.raises(HostError) as refused:
        hosts.parse_host(spelled)

    assert str(refused.value).startswith(why)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("localhost", True),
        ("LOCALHOST", True),
        ("app.localhost", True),
        ("localhost.", True),
        ("localhost.example", False),
        ("notlocalhost", False),
    ],
)
def test_localhost_is_known_by_its_name(name: str, expected: bool) -> None:
    assert hosts.is_localhost(name) is expected
