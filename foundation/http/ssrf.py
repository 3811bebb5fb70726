"""The address guard against server-side request forgery: which addresses may be connected to."""

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

# IANA's IPv4 Special-Purpose Address Registry (RFC 6890) and multicast. Also the networks that the
# registry calls globally reachable (AS112, AMT): receivers are not hosted there.
_IPV4_SPECIAL = (
    ("0.0.0.0/8", "this network (RFC 791)"),
    ("10.0.0.0/8", "for private use (RFC 1918)"),
    ("100.64.0.0/10", "shared address space (RFC 6598)"),
    ("127.0.0.0/8", "loopback (RFC 1122)"),
    ("169.254.0.0/16", "link-local (RFC 3927)"),
    ("172.16.0.0/12", "for private use (RFC 1918)"),
    ("192.0.0.0/24", "for protocol assignments (RFC 6890)"),
    ("192.0.2.0/24", "for documentation (RFC 5737)"),
    ("192.31.196.0/24", "for AS112 (RFC 7535)"),
    ("192.52.193.0/24", "for AMT (RFC 7450)"),
    ("192.88.99.0/24", "for 6to4 and 6a44 relays (RFC 7526, RFC 6751)"),
    ("192.168.0.0/16", "for private use (RFC 1918)"),
    ("192.175.48.0/24", "for AS112 (RFC 7534)"),
    ("198.18.0.0/15", "for benchmarking (RFC 2544)"),
    ("198.51.100.0/24", "for documentation (RFC 5737)"),
    ("203.0.113.0/24", "for documentation (RFC 5737)"),
    ("224.0.0.0/4", "multicast (RFC 5771)"),
    ("255.255.255.255/32", "broadcast (RFC 919)"),
    ("240.0.0.0/4", "reserved (RFC 1112)"),
)

# IANA's IPv6 Special-Purpose Address Registry (RFC 6890), site-local and multicast. Without the
# forms of which only the embedded IPv4 address counts (`destinations`).
_IPV6_SPECIAL = (
    ("::/128", "unspecified (RFC 4291)"),
    ("::1/128", "loopback (RFC 4291)"),
    ("64:ff9b:1::/48", "NAT64 for local use (RFC 8215)"),
    ("100::/64", "for discard only (RFC 6666)"),
    ("100:0:0:1::/64", "a dummy prefix (RFC 9780)"),
    ("2001:2::/48", "for benchmarking (RFC 5180)"),
    ("2001:3::/32", "for AMT (RFC 7450)"),
    ("2001:4:112::/48", "for AS112 (RFC 7535)"),
    ("2001:10::/28", "for ORCHID (RFC 4843)"),
    ("2001:20::/28", "for ORCHIDv2 (RFC 7343)"),
    ("2001:30::/28", "for drone remote identification (RFC 9374)"),
    ("2001::/23", "for protocol assignments (RFC 2928)"),
    ("2001:db8::/32", "for documentation (RFC 3849)"),
    ("2620:4f:8000::/48", "for AS112 (RFC 7534)"),
    ("3fff::/20", "for documentation (RFC 9637)"),
    ("5f00::/16", "for segment routing (RFC 9602)"),
    ("fc00::/7", "unique local (RFC 4193)"),
    ("fe80::/10", "link-local (RFC 4291)"),
    ("fec0::/10", "site-local (RFC 3879)"),
    ("ff00::/8", "multicast (RFC 4291)"),
)

_SPECIAL: tuple[tuple[Network, str], ...] = tuple(
    (ip_network(network), use) for network, use in _IPV4_SPECIAL + _IPV6_SPECIAL
)
_GLOBAL_UNICAST = IPv6Network("2000::/3")
_UNALLOCATED = "not allocated for use (RFC 4291)"

_EMBEDS_IPV4 = tuple(
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
_NOT_EMBEDDED = frozenset({IPv6Address("::"), IPv6Address("::1")})
_LOW_32_BITS = 0xFFFF_FFFF


def special_use(address: Address) -> str | None:
    """Return what an address is reserved for, or None if it is a global address."""
    for network, use in _SPECIAL:
        if address in network:
            return use
    if isinstance(address, IPv6Address) and address not in _GLOBAL_UNICAST:
        return _UNALLOCATED
    return None


def destinations(address: Address) -> Iterator[Address]:
    """Yield where a packet to an address may end: there, or at the IPv4 addresses it embeds."""
    if isinstance(address, IPv4Address):
        yield address
        return
    bits = int(address)
    if address in _6TO4:
        yield IPv4Address(bits >> 80 & _LOW_32_BITS)
    elif address in _TEREDO:
        yield IPv4Address(bits >> 64 & _LOW_32_BITS)
        yield IPv4Address(bits & _LOW_32_BITS ^ _LOW_32_BITS)
    elif address not in _NOT_EMBEDDED and any(address in one for one in _EMBEDS_IPV4):
        yield IPv4Address(bits & _LOW_32_BITS)
    else:
        if address in _NAT64_LOCAL or bits >> 32 & _LOW_32_BITS in _ISATAP:
            yield IPv4Address(bits & _LOW_32_BITS)
        yield IPv6Address(bits)


@dataclass(frozen=True)
class Guard:
    """The addresses that may be connected to: global ones, and those allowed by name or network.

    A NAT64 network with a prefix of the operator's own (RFC 6052) cannot be recognised.
    """

    hosts: frozenset[str] = frozenset()
    networks: tuple[Network, ...] = ()
    loopback: bool = False

    def blocked_reason(self, host: str, address: Address) -> str | None:
        """Return why a host's address must not be connected to, or None if it may."""
        if self.allows_name(host) or self._allows(address):
            return None
        for one in destinations(address):
            use = special_use(one)
            if use is not None and not self._allows(one):
                embedded = "" if one == address else f" means {one}, which"
                return f"{hosts.address_text(address)}{embedded} is {use}"
        return None

    def allows_name(self, host: str) -> bool:
        """Return True if a host is allowed by name, whatever it resolves to."""
        return host.lower() in self.hosts

    def _allows(self, address: Address) -> bool:
        if self.loopback and address.is_loopback:
            return True
        return any(address in network for network in self.networks)


def parse_guard(allowed: str, *, loopback: bool) -> Guard:
    """Return the guard that allows comma-separated hosts and networks, or raise ValueError."""
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
        host = hosts.parse_host(entry)
    except hosts.HostError:
        host = None
    if host is None or host.address is not None or host.name != entry.lower():
        raise ValueError(f"{entry!r} is not a host name, an address or a CIDR network")
    return host.name
