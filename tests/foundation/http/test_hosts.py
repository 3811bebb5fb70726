"""The normal form of hosts."""

import socket
from ipaddress import ip_address

import pytest

from foundation.http import hosts
from foundation.http.hosts import HostError

# 127.0.0.1 as resolvers accept it, and in characters of other scripts.
NUMBERS = """
    127.0.0.1 127.1 127.0.1 2130706433 017700000001 0x7f000001 0x7F.1 0x7f.0.0.0x1 0177.0.0.1
    0000000177.00.0x0.01
"""
OTHER_SCRIPTS = """
    ①②⑦.0.0.1 １２７.０.０.１ 127。0．0｡1 𝟏𝟐𝟕.0.0.1 127\u00ad.0.0.1 127\u200b.0.0.1 0ⅹ7f.1
"""
NOT_IPV4 = "ends like an IPv4 address but is not one"
NOT_ALLOWED = "contains characters that are not allowed"
PERCENT = "contains a percent sign"


@pytest.mark.parametrize("written", [*NUMBERS.split(), *OTHER_SCRIPTS.split(), "127.0.0.1."])
def test_number_is_an_address(written: str) -> None:
    assert hosts.parse_host(written) == ip_address("127.0.0.1")


@pytest.mark.parametrize("written", NUMBERS.split())
def test_resolver_of_this_machine_reads_numbers_alike(written: str) -> None:
    flags = socket.AI_NUMERICHOST

    (row, *_) = socket.getaddrinfo(written, 80, family=socket.AF_INET, flags=flags)

    assert row[4][0] == str(hosts.parse_host(written))


@pytest.mark.parametrize(
    ("written", "name"),
    [
        pytest.param("ELMS.Example.", "elms.example", id="capitals and last dot"),
        pytest.param("größe.example", "xn--gre-6ka8i.example", id="not ASCII"),
        pytest.param("ｅｌｍｓ.example", "elms.example", id="full-width"),
        pytest.param("localhoſt", "localhost", id="long s"),
        pytest.param("my_host.example", "my_host.example", id="underscore"),
        pytest.param("1.2.3.example", "1.2.3.example", id="numbers before a name"),
        pytest.param("intranet", "intranet", id="no dot"),
    ],
)
def test_name_has_one_normal_form(written: str, name: str) -> None:
    assert hosts.parse_host(written) == name


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("0:0:0:0:0:0:0:1", "::1"),
        ("2001:4860:4860::ABCD", "2001:4860:4860::abcd"),
        pytest.param("::ffff:7f00:1", "127.0.0.1", id="mapped"),
        pytest.param("::FFFF:127.0.0.1", "127.0.0.1", id="mapped with dots"),
        pytest.param("64:FF9B::127.0.0.1", "64:ff9b::7f00:1", id="NAT64"),
    ],
)
def test_ipv6_address_has_one_normal_form(written: str, name: str) -> None:
    assert hosts.parse_host(written) == ip_address(name)


@pytest.mark.parametrize(
    ("written", "why"),
    [
        pytest.param("", "is not a host name", id="empty"),
        pytest.param("a..example", "is not a host name", id="empty label"),
        pytest.param("-a.example", "is not a host name", id="leading hyphen"),
        pytest.param("a;b.example", "is not a host name", id="semicolon"),
        pytest.param("a" * 64 + ".example", "is not a host name", id="long label"),
        pytest.param("a." * 127 + "example", "is not a host name", id="too long"),
        pytest.param("elms%2eexample", PERCENT, id="escape sequence"),
        pytest.param("fe80::1%eth0", PERCENT, id="zone"),
        pytest.param("1::2::3", "is not an IPv6 address", id="not IPv6"),
        pytest.param("::ffff:127.1", "is not an IPv6 address", id="short IPv4 in IPv6"),
        pytest.param("1.2.3.4.5", NOT_IPV4, id="five numbers"),
        pytest.param("256.0.0.1", NOT_IPV4, id="256"),
        pytest.param("4294967296", NOT_IPV4, id="2^32"),
        pytest.param("9" * 63, NOT_IPV4, id="63 digits"),
        pytest.param("0x", NOT_IPV4, id="no hexadecimal digit"),
        pytest.param("-1", "is not a host name", id="negative"),
        pytest.param("8.8.8.8 .1", "is not a host name", id="space that inet_aton accepts"),
        pytest.param("8\x00.1", "is not a host name", id="NUL"),
        pytest.param("08.1", NOT_IPV4, id="octal eight"),
        pytest.param("1_0.1", NOT_IPV4, id="underscore in a number"),
        pytest.param("elms.1", NOT_IPV4, id="name and number"),
        pytest.param("a\u202eb.example", NOT_ALLOWED, id="right to left"),
        pytest.param("a\udc80.example", NOT_ALLOWED, id="surrogate"),
    ],
)
def test_invalid_host_is_refused(written: str, why: str) -> None:
    with pytest.raises(HostError, match=f"^{why}"):
        hosts.parse_host(written)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("LOCALHOST", True),
        ("app.localhost.", True),
        ("notlocalhost", False),
        ("127.1", True),
        ("::1", True),
        ("8.8.8.8", False),
    ],
)
def test_loopback_is_known_without_a_lookup(written: str, expected: bool) -> None:
    assert hosts.is_loopback(hosts.parse_host(written)) is expected
