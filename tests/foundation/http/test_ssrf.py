"""Tests of the address guard."""

from ipaddress import ip_address

import pytest

from foundation.http.ssrf import Guard, parse_guard

SPECIAL = {
    "0.0.0.0": "this network",
    "0.1.2.3": "this network",
    "10.0.0.1": "private use",
    "100.64.0.1": "shared address space",
    "100.127.255.255": "shared address space",
    "127.0.0.1": "loopback",
    "127.255.255.254": "loopback",
    "169.254.169.254": "link-local",
    "172.16.0.1": "private use",
    "172.31.255.255": "private use",
    "192.0.0.1": "protocol assignments",
    "192.0.0.8": "protocol assignments",
    "192.0.0.9": "protocol assignments",
    "192.0.0.170": "protocol assignments",
    "192.0.2.1": "documentation",
    "192.31.196.1": "AS112",
    "192.52.193.1": "AMT",
    "192.88.99.1": "6to4",
    "192.88.99.2": "6a44",
    "192.168.1.1": "private use",
    "192.175.48.1": "AS112",
    "198.18.0.1": "benchmarking",
    "198.19.255.255": "benchmarking",
    "198.51.100.1": "documentation",
    "203.0.113.1": "documentation",
    "224.0.0.1": "multicast",
    "239.255.255.255": "multicast",
    "240.0.0.1": "reserved",
    "255.255.255.255": "broadcast",
    "::": "unspecified",
    "::1": "loopback",
    "64:ff9b:1::808:808": "NAT64 for local use",
    "100::1": "discard",
    "100:0:0:1::1": "dummy",
    "2001:1::1": "protocol assignments",
    "2001:2::1": "benchmarking",
    "2001:3::1": "AMT",
    "2001:4:112::1": "AS112",
    "2001:10::1": "ORCHID",
    "2001:20::1": "ORCHIDv2",
    "2001:30::1": "drone",
    "2001:1ff::1": "protocol assignments",
    "2001:db8::1": "documentation",
    "2620:4f:8000::1": "AS112",
    "3fff::1": "documentation",
    "5f00::1": "segment routing",
    "fc00::1": "unique local",
    "fd00:ec2::254": "unique local",
    "fe80::1": "link-local",
    "fec0::1": "site-local",
    "ff02::1": "multicast",
    "200::1": "not allocated",
    "4000::1": "not allocated",
    "e000::1": "not allocated",
}

EMBEDDING = {
    "mapped": "::ffff:{dotted}",
    "compatible": "::{dotted}",
    "translated": "::ffff:0:{dotted}",
    "NAT64": "64:ff9b::{dotted}",
    "NAT64 for local use": "64:ff9b:1::{dotted}",
    "6to4": "2002:{high}:{low}::1",
    "6to4 of 6to4": "2002:{high}:{low}:ffff:ffff:ffff:ffff:ffff",
    "Teredo server": "2001:0:{high}:{low}::f7f7:f7f7",
    "Teredo client": "2001:0:808:808::{not_high}:{not_low}",
    "ISATAP": "2606:4700:1:1:0:5efe:{dotted}",
    "ISATAP of a global IPv4": "2606:4700:1:1:200:5efe:{dotted}",
}

GLOBAL = [
    "1.1.1.1",
    "8.8.8.8",
    "100.63.255.255",
    "100.128.0.1",
    "172.15.255.255",
    "172.32.0.1",
    "192.0.1.1",
    "198.17.255.255",
    "198.20.0.1",
    "223.255.255.255",
    "2001:4860:4860::8888",
    "2001:200::1",
    "2606:4700::1111",
    "2a00::1",
    "3ffe::1",
    "64:ff9b::808:808",
    "::ffff:8.8.8.8",
    "2002:808:808::1",
    "2001:0:808:808::f7f7:f7f7",
    "2606:4700:1:1:0:5efe:8.8.8.8",
]


def embedded(form: str, dotted: str) -> str:
    """Return an IPv6 address that stands for an IPv4 one."""
    bits = int(ip_address(dotted))
    high, low = bits >> 16, bits & 0xFFFF
    return form.format(
        dotted=dotted,
        high=f"{high:x}",
        low=f"{low:x}",
        not_high=f"{high ^ 0xFFFF:x}",
        not_low=f"{low ^ 0xFFFF:x}",
    )


@pytest.mark.parametrize(("address", "what"), SPECIAL.items())
def test_special_address_is_blocked(address: str, what: str) -> None:
    why = Guard().blocked_reason("elms.example", ip_address(address))

    assert why is not None
    assert why.startswith(f"{ip_address(address)} ")
    assert what in why


@pytest.mark.parametrize("form", [pytest.param(one, id=name) for name, one in EMBEDDING.items()])
@pytest.mark.parametrize("inner", ["169.254.169.254", "127.0.0.1", "10.1.2.3", "0.0.0.0"])
def test_address_is_blocked_by_the_one_it_embeds(form: str, inner: str) -> None:
    address = ip_address(embedded(form, inner))

    why = Guard().blocked_reason("elms.example", address)

    if int(address) == 0:  # `::` itself, which is barred as such
        assert why == ":: is unspecified (RFC 4291)"
    else:
        assert why is not None
        assert why.startswith(f"{address} means {inner}, which is ")


@pytest.mark.parametrize("address", GLOBAL)
def test_global_address_passes(address: str) -> None:
    assert Guard().blocked_reason("elms.example", ip_address(address)) is None


def test_standard_library_lets_special_addresses_pass() -> None:
    every = [*SPECIAL, *(embedded(form, "169.254.169.254") for form in EMBEDDING.values())]

    passed = {one for one in every if ip_address(one).is_global}

    assert "64:ff9b::169.254.169.254" in passed
    assert len(passed) > 3


@pytest.mark.parametrize(
    ("allowed", "address"),
    [
        pytest.param("10.0.0.0/8", "10.1.2.3", id="a network"),
        pytest.param("192.168.7.9", "192.168.7.9", id="an address"),
        pytest.param("fd00::/8", "fd00::7", id="a network of IPv6"),
        pytest.param("2001:db8::7", "2001:db8::7", id="an address of IPv6"),
        pytest.param("10.0.0.0/8", "::ffff:10.1.2.3", id="mapped"),
        pytest.param("10.0.0.0/8", "64:ff9b::10.1.2.3", id="NAT64"),
        pytest.param("64:ff9b:1::/48", "64:ff9b:1::10.1.2.3", id="NAT64 for local use"),
        pytest.param("x.example, 10.0.0.0/8 ,", "10.1.2.3", id="one of several"),
        pytest.param("elms.example", "10.1.2.3", id="a name"),
        pytest.param("ELMS.example", "169.254.1.1", id="a name in capitals"),
    ],
)
def test_what_is_allowed_passes(allowed: str, address: str) -> None:
    guard = parse_guard(allowed, loopback=False)

    assert guard.blocked_reason("elms.example", ip_address(address)) is None


@pytest.mark.parametrize(
    ("allowed", "address"),
    [
        pytest.param("10.0.0.0/8", "11.0.0.1", id="global next to it"),
        pytest.param("10.0.0.0/8", "172.16.0.1", id="another private net"),
        pytest.param("example", "10.0.0.1", id="the end of a name"),
        pytest.param("elms.example.org", "10.0.0.1", id="a longer name"),
        pytest.param("10.0.0.0/8", "64:ff9b:1::10.1.2.3", id="wrapped in what is not allowed"),
        pytest.param("2001:0:a00::/40", "2002:a00:1::1", id="another wrapping"),
    ],
)
def test_what_is_not_named_is_not_allowed(allowed: str, address: str) -> None:
    why = parse_guard(allowed, loopback=False).blocked_reason("elms.example", ip_address(address))

    assert (why is None) == (address == "11.0.0.1")


@pytest.mark.parametrize(
    ("address", "passes"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("0.0.0.0", False),
        ("10.0.0.1", False),
        ("169.254.169.254", False),
        ("::", False),
    ],
)
def test_loopback_is_allowed_by_itself(address: str, passes: bool) -> None:
    why = Guard(loopback=True).blocked_reason("elms.example", ip_address(address))

    assert (why is None) is passes


@pytest.mark.parametrize(
    "entry",
    [
        pytest.param("10.1.2.3/8", id="bits below the mask"),
        pytest.param("10.0.0.0/33", id="a mask too long"),
        pytest.param("127.1", id="a short address"),
        pytest.param("2130706433", id="a dotless address"),
        pytest.param("*.example", id="a wildcard"),
        pytest.param("https://elms.example", id="a URL"),
        pytest.param("elms.example:443", id="a port"),
        pytest.param("größe.example", id="not ASCII"),
        pytest.param("elms example", id="a space"),
        pytest.param("fe80::1%eth0", id="a zone"),
    ],
)
def test_entry_that_names_nothing_is_refused(entry: str) -> None:
    with pytest.raises(ValueError, match="is not a host name, an address") as refused:
        parse_guard(f"elms.example,{entry}", loopback=False)

    assert repr(entry) in str(refused.value)
