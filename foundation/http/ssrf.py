"""The address guard against server-side request forgery: which addresses may be connected to."""

import contextlib
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_network

from foundation.http.hosts import Address, parse_host

Network = IPv4Network | IPv6Network

# Blocked whatever `ipaddress` says, which differs between versions of Python. Among them are forms
# of IPv6 that embed an IPv4 address, because some networks forward to it.
_BLOCKED: tuple[Network, ...] = (
    IPv4Network("192.0.0.0/24"),  # protocol assignments (RFC 6890)
    IPv4Network("192.31.196.0/24"),  # AS112 (RFC 7535), which may be in the own network
    IPv4Network("192.52.193.0/24"),  # AMT relays (RFC 7450), likewise
    IPv4Network("192.88.99.0/24"),  # 6to4 relays (RFC 7526), likewise
    IPv4Network("192.175.48.0/24"),  # AS112 (RFC 7534)
    IPv6Network("::/3"),  # all that is not global unicast (RFC 4291), with the next two
    IPv6Network("4000::/2"),
    IPv6Network("8000::/1"),
    IPv6Network("2001::/23"),  # protocol assignments (RFC 2928), Teredo (RFC 4380)
    IPv6Network("2002::/16"),  # 6to4 (RFC 3056)
    IPv6Network("2620:4f:8000::/48"),  # AS112 (RFC 7534)
    IPv6Network("3fff::/20"),  # documentation (RFC 9637)
)
# Prefixes of IPv4 addresses, which are judged instead: mapped (RFC 4291) and NAT64 (RFC 6052), by
# which a network without IPv4 reaches IPv4 hosts.
_IPV4_PREFIXES = (IPv6Network("::ffff:0:0/96"), IPv6Network("64:ff9b::/96"))


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
        meant = address
        if any(address in prefix for prefix in _IPV4_PREFIXES):
            meant = IPv4Address(int(address) & 0xFFFF_FFFF)
        if (
            _is_global(meant)
            or host.lower() in self.hosts
            or (self.loopback and meant.is_loopback)
            or any(one in network for network in self.networks for one in (address, meant))
        ):
            return None
        return f"{meant} is {_kind(meant)}"


def parse_guard(allowed: str, *, loopback: bool) -> Guard:
    """Return the guard that allows comma-separated hosts and networks, or raise ValueError."""
    entries = [_parse_entry(entry.strip()) for entry in allowed.split(",") if entry.strip()]
    return Guard(
        hosts=frozenset(entry for entry in entries if isinstance(entry, str)),
        networks=tuple(entry for entry in entries if not isinstance(entry, str)),
        loopback=loopback,
    )


def _parse_entry(entry: str) -> str | Network:
    with contextlib.suppress(ValueError):
        host = parse_host(entry.partition("/")[0])
        if not isinstance(host, str):
            return ip_network(entry)
        if host == entry.lower():
            return host
    raise ValueError(f"{entry!r} is not a host name, an address or a CIDR network")


def _is_global(address: Address) -> bool:
    is_isatap = int(address) >> 32 & 0xFDFF_FFFF == 0x5EFE  # embeds IPv4 in any network (RFC 5214)
    special = address.is_multicast or any(address in network for network in _BLOCKED)
    return address.is_global and not special and not is_isatap


def _kind(address: Address) -> str:
    if address.is_loopback:
        return "loopback"
    if address.is_link_local:
        return "link-local"
    return "a private address" if address.is_private else "not a global address"
