"""The address guard: special addresses, embedded ones, what is allowed."""

from ipaddress import ip_address

import pytest

from foundation.http.ssrf import Guard, parse_guard

# One address of each reserved network, the last one where the mask is not a whole byte.
BLOCKED = """
    0.0.0.0 10.0.0.1 100.64.0.1 100.127.255.255 127.0.0.1 127.255.255.254 169.254.169.254
    172.16.0.1 172.31.255.255 192.0.0.1 192.0.0.9 192.0.0.170 192.0.2.1 192.31.196.1 192.52.193.1
    192.88.99.1 192.168.1.1 192.175.48.1 198.18.0.1 198.19.255.255 198.51.100.1 203.0.113.1
    224.0.0.1 239.255.255.255 240.0.0.1 255.255.255.255
    :: ::1 64:ff9b:1::808:808 100::1 100:0:0:1::1 2001:1::1 2001:2::1 2001:3::1 2001:4:112::1
    2001:10::1 2001:20::1 2001:30::1 2001:1ff::1 2001:db8::1 2620:4f:8000::1 3fff::1 5f00::1 fc00::1
    fd00:ec2::254 fe80::1 fec0::1 ff02::1 ff0e::1 200::1 1fff::1 4000::1 7fff::1 8000::1 e000::1
"""
# The neighbours of those networks, and forms that mean a global IPv4 address.
GLOBAL = """
    1.1.1.1 8.8.8.8 100.63.255.255 100.128.0.1 172.15.255.255 172.32.0.1 192.0.1.1 198.17.255.255
    198.20.0.1 223.255.255.255
    2001:4860:4860::8888 2001:200::1 2001:db7::1 2003::1 2606:4700::1111 2a00::1 3ffe::1
    3fff:1000::1 64:ff9b::808:808 ::ffff:8.8.8.8
"""
# What embeds an IPv4 address is blocked, even a global one, unless everyone reaches IPv4 by it.
MEANING = {"mapped": "::ffff:{dotted}", "NAT64": "64:ff9b::{dotted}"}
EMBEDDING = {
    "compatible": "::{dotted}",
    "translated": "::ffff:0:{dotted}",
    "NAT64 for local use": "64:ff9b:1::{dotted}",
    "6to4": "2002:{high}:{low}::1",
    "6to4 of 6to4": "2002:{high}:{low}:ffff:ffff:ffff:ffff:ffff",
    "Teredo server": "2001:0:{high}:{low}::f7f7:f7f7",
    "Teredo client": "2001:0:808:808::{not_high}:{not_low}",
    "ISATAP": "2606:4700:1:1:0:5efe:{dotted}",
    "ISATAP of a global IPv4": "2606:4700:1:1:200:5efe:{dotted}",
}


def reason(guard: Guard, address: str) -> str | None:
    return guard.blocked_reason("elms.example", ip_address(address))


def embedded(form: str, dotted: str) -> str:
    """Return an IPv6 address that embeds an IPv4 one."""
    high, low = divmod(int(ip_address(dotted)), 0x10000)
    return form.format(
        dotted=dotted,
        high=f"{high:x}",
        low=f"{low:x}",
        not_high=f"{high ^ 0xFFFF:x}",
        not_low=f"{low ^ 0xFFFF:x}",
    )


@pytest.mark.parametrize("address", BLOCKED.split())
def test_special_address_is_blocked(address: str) -> None:
    why = reason(Guard(), address)

    assert why is not None
    assert why.startswith(f"{ip_address(address)} is ")


@pytest.mark.parametrize("form", [pytest.param(one, id=name) for name, one in MEANING.items()])
@pytest.mark.parametrize("inner", ["169.254.169.254", "10.1.2.3", "192.0.0.1", "224.0.0.1"])
def test_address_is_blocked_by_the_one_it_means(form: str, inner: str) -> None:
    why = reason(Guard(), embedded(form, inner))

    assert why is not None
    assert why.startswith(f"{inner} is ")


@pytest.mark.parametrize("form", [pytest.param(one, id=name) for name, one in EMBEDDING.items()])
@pytest.mark.parametrize("inner", ["169.254.169.254", "10.1.2.3", "8.8.8.8"])
def test_address_that_embeds_another_is_blocked(form: str, inner: str) -> None:
    assert reason(parse_guard("10.0.0.0/8", loopback=False), embedded(form, inner)) is not None


@pytest.mark.parametrize("address", GLOBAL.split())
def test_global_address_passes(address: str) -> None:
    assert reason(Guard(), address) is None


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("127.0.0.2", "loopback"),
        ("fe80::1", "link-local"),
        ("10.0.0.1", "a private address"),
        ("4000::1", "not a global address"),
    ],
)
def test_reason_names_the_kind_of_address(address: str, kind: str) -> None:
    assert reason(Guard(), address) == f"{address} is {kind}"


@pytest.mark.parametrize(
    ("allowed", "address"),
    [
        pytest.param("192.168.7.9", "192.168.7.9", id="address"),
        pytest.param("fd00::/8", "fd00::7", id="network"),
        pytest.param("10.0.0.0/8", "::ffff:10.1.2.3", id="mapped"),
        pytest.param("10.0.0.0/8", "64:ff9b::10.1.2.3", id="NAT64"),
        pytest.param("64:ff9b:1::/48", "64:ff9b:1::10.1.2.3", id="NAT64 for local use"),
        pytest.param("2002::/16", "2002:a00:1::1", id="6to4"),
        pytest.param("10.0.0.0/8", "11.0.0.1", id="global next to it"),
        pytest.param("x.example, 10.0.0.0/8 ,", "10.1.2.3", id="one of several"),
        pytest.param("ELMS.example", "169.254.1.1", id="name in capitals"),
    ],
)
def test_allowed_address_passes(allowed: str, address: str) -> None:
    assert reason(parse_guard(allowed, loopback=False), address) is None


@pytest.mark.parametrize(
    ("allowed", "address"),
    [
        pytest.param("10.0.0.0/8", "172.16.0.1", id="other private network"),
        pytest.param("example", "10.0.0.1", id="end of the name"),
        pytest.param("elms.example.org", "10.0.0.1", id="longer name"),
        pytest.param("10.0.0.0/8", "64:ff9b:1::10.1.2.3", id="embedded in what is not allowed"),
        pytest.param("2001:0:a00::/40", "2002:a00:1::1", id="other embedding"),
    ],
)
def test_other_address_is_blocked(allowed: str, address: str) -> None:
    assert reason(parse_guard(allowed, loopback=False), address) is not None


@pytest.mark.parametrize(
    ("address", "passes"),
    [("127.9.9.9", True), ("::1", True), ("::ffff:127.0.0.1", True), ("0.0.0.0", False)],
)
def test_loopback_can_be_allowed(address: str, passes: bool) -> None:
    assert (reason(Guard(loopback=True), address) is None) is passes


@pytest.mark.parametrize(
    "entry",
    [
        pytest.param("10.1.2.3/8", id="bits below the mask"),
        pytest.param("127.1", id="short address"),
        pytest.param("*.example", id="wildcard"),
        pytest.param("https://elms.example", id="URL"),
        pytest.param("größe.example", id="not ASCII"),
        pytest.param("fe80::1%eth0", id="zone"),
    ],
)
def test_invalid_entry_is_refused(entry: str) -> None:
    with pytest.raises(ValueError, match="is not a host name, an address") as refused:
        parse_guard(f"elms.example,{entry}", loopback=False)

    assert repr(entry) in str(refused.value)
