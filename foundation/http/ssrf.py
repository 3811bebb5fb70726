"""The address guard: which addresses are special, what embedded forms mean, what is allowed."""

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_network,
)

from foundation.http import hosts

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_IPV4_SPECIAL = (
    ("0.0.0.0/8", "this network (RFC 791)"),
    ("10.0.0.0/8", "for private use (RFC 1918)"),
    ("100.64.0.0/10", "shared address space (RFC 6598)"),
    ("127.0.0.0/8", "loopback (RFC 1122)"),
    ("169.254.0.0/16", "link-local (RFC 3927)"),
    ("172.16.0.0/12", "for private use (RFC 1918)"),
    ("192.0.0.0/24", "for protocol assignments (RFC 6890)"),
    ("192.0.2.0/24", "for documentation (RFC 5737)"),
    ("192.31.196.0/24", "of AS112 (RFC 7535)"),
    ("192.52.193.0/24", "of AMT (RFC 7450)"),
    ("192.88.99.0/24", "of 6to4 and 6a44 relays (RFC 7526, RFC 6751)"),
    ("192.168.0.0/16", "for private use (RFC 1918)"),
    ("192.175.48.0/24", "of AS112 (RFC 7534)"),
    ("198.18.0.0/15", "for benchmarking (RFC 2544)"),
    ("198.51.100.0/24", "for documentation (RFC 5737)"),
    ("203.0.113.0/24", "for documentation (RFC 5737)"),
    ("224.0.0.0/4", "multicast (RFC 5771)"),
    ("255.255.255.255/32", "broadcast (RFC 919)"),
    ("240.0.0.0/4", "reserved (RFC 1112)"),
)
"""IANA's IPv4 Special-Purpose Address Registry (RFC 6890), and multicast.

Also what the registry calls globally reachable (AS112, AMT): no receiver of ours lives there.
"""

_IPV6_SPECIAL = (
    ("::/128", "unspecified (RFC 4291)"),
    ("::1/128", "loopback (RFC 4291)"),
    ("64:ff9b:1::/48", "NAT64 for local use (RFC 8215)"),
    ("100::/64", "for discard only (RFC 6666)"),
    ("100:0:0:1::/64", "a dummy prefix (RFC 9780)"),
    ("2001:2::/48", "for benchmarking (RFC 5180)"),
    ("2001:3::/32", "of AMT (RFC 7450)"),
    ("2001:4:112::/48", "of AS112 (RFC 7535)"),
    ("2001:10::/28", "of ORCHID (RFC 4843)"),
    ("2001:20::/28", "of ORCHIDv2 (RFC 7343)"),
    ("2001:30::/28", "of drone remote identification (RFC 9374)"),
    ("2001::/23", "for protocol assignments (RFC 2928)"),
    ("2001:db8::/32", "for documentation (RFC 3849)"),
    ("2620:4f:8000::/48", "of AS112 (RFC 7534)"),
    ("3fff::/20", "for documentation (RFC 9637)"),
    ("5f00::/16", "for segment routing (RFC 9602)"),
    ("fc00::/7", "unique local (RFC 4193)"),
    ("fe80::/10", "link-local (RFC 4291)"),
    ("fec0::/10", "site-local (RFC 3879)"),
    ("ff00::/8", "multicast (RFC 4291)"),
)
"""IANA's IPv6 Special-Purpose Address Registry (RFC 6890), site-local and multicast addresses.

Without the forms that stand for an IPv4 address: those are judged by it.
"""

_SPECIAL: tuple[tuple[Network, str], ...] = tuple(
    (ip_network(network), what) for network, what in _IPV4_SPECIAL + _IPV6_SPECIAL
)
_GLOBAL_UNICAST = IPv6Network("2000::/3")
_UNALLOCATED = "not allocated for use (RFC 4291)"

_WRAPPED_AT_THE_END = tuple(
    IPv6Network(network)
    for network in (
        "::ffff:0:0/96",  # mapped (RFC 4291)
        "::/96",  # compatible (RFC 4291)
        "::ffff:0:0:0/96",  # translated (RFC 2765)
        "64:ff9b::/96",  # NAT64 (RFC 6052)
    )
)
_6TO4 = IPv6Network("2002::/16")  # RFC 3056
_TEREDO = IPv6Network("2001::/32")  # RFC 4380
_NAT64_LOCAL = IPv6Network("64:ff9b:1::/48")  # RFC 8215
_ISATAP = frozenset({0x0000_5EFE, 0x0200_5EFE})  # RFC 5214
_NO_IPV4 = frozenset({IPv6Address("::"), IPv6Address("::1")})
_LOW = 0xFFFF_FFFF


def special(address: Address) -> str | None:
    """Return what an address is reserved for, or None if it is global and stands for itself."""
    for network, what in _SPECIAL:
        if address in network:
            return what
    if isinstance(address, IPv6Address) and address not in _GLOBAL_UNICAST:
        return _UNALLOCATED
    return None


def meant(address: Address) -> Iterator[Address]:
    """Yield where a packet to an address may end: itself, or the IPv4 addresses it stands for."""
    if isinstance(address, IPv4Address):
        yield address
        return
    bits = int(address)
    if address in _6TO4:
        yield IPv4Address(bits >> 80 & _LOW)
    elif address in _TEREDO:
        yield IPv4Address(bits >> 64 & _LOW)
        yield IPv4Address(bits & _LOW ^ _LOW)
    elif address not in _NO_IPV4 and any(address in one for one in _WRAPPED_AT_THE_END):
        yield IPv4Address(bits & _LOW)
    else:
        if address in _NAT64_LOCAL or bits >> 32 & _LOW in _ISATAP:
            yield IPv4Address(bits & _LOW)
        yield IPv6Address(bits)


@dataclass(frozen=True)
class Guard:
    """Which addresses may be connected to: what is allowed by name or network, and what is global.

    A network of NAT64 that its operator chose freely (RFC 6052) cannot be told from others.
    """

    hosts: frozenset[str] = frozenset()
    networks: tuple[Network, ...] = ()
    loopback: bool = False

    def why_barred(self, host: str, address: Address) -> str | None:
        """Return why a host's address must not be connected to, or None if it may."""
        if self.names(host) or self._allows(address):
            return None
        for one in meant(address):
            what = special(one)
            if what is not None and not self._allows(one):
                stands_for = "" if one == address else f" means {one}, which"
                return f"{address}{stands_for} is {what}"
        return None

    def names(self, host: str) -> bool:
        """Tell whether a host is allowed by its name, whatever it resolves to."""
        return host.lower() in self.hosts

    def _allows(self, address: Address) -> bool:
        if self.loopback and address.is_loopback:
            return True
        return any(address in network for network in self.networks)


def parse_guard(allowed: str, *, loopback: bool) -> Guard:
    """Return the guard that lets pass what is listed, comma-separated; ValueError names a fault."""
    entries = [part.strip() for part in allowed.split(",") if part.strip()]
    networks = {entry: _network(entry) for entry in entries}
    return Guard(
        hosts=frozenset(_name(entry) for entry, network in networks.items() if network is None),
        networks=tuple(network for network in networks.values() if network is not None),
        loopback=loopback,
    )


def _network(entry: str) -> Network | None:
    try:
        return None if "%" in entry else ip_network(entry)
    except ValueError:
        return None


def _name(entry: str) -> str:
    try:
        found = hosts.read(entry)
    except hosts.HostError:
        found = None
    if found is None or found.address is not None or found.spelling != entry.lower():
        raise ValueError(f"{entry!r} is neither a host name nor an address nor a network in CIDR")
    return found.spelling
