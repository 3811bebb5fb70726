"""Hosts in URLs: the name in its normal form, or the address, that each of them means."""

import re
import socket
from ipaddress import IPv4Address, IPv6Address
from urllib.parse import urlsplit

import idna

Address = IPv4Address | IPv6Address

_MAX_URL = 2000
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?", re.ASCII)


class HostError(ValueError):
    """The text is not a host; `str()` continues a sentence that begins with it."""


def is_loopback(host: str | Address) -> bool:
    """Return True if a host always means this machine, as `localhost` does (RFC 6761, 6.3)."""
    if isinstance(host, str):
        return host.rpartition(".")[2] == "localhost"
    return host.is_loopback


def parse_host(host: str) -> str | Address:
    """Return the host that a text means, a name in its normal form or an address.

    Everything that resolvers read as an address is one: octal, hexadecimal, short and undotted
    numbers (as `inet_aton` reads them), and the digits and dots of other scripts (UTS 46). An
    IPv4-mapped IPv6 address is the IPv4 address. Raises HostError.
    """
    if "%" in host:
        raise HostError("contains a percent sign: an escape sequence or a network interface")
    if ":" in host:
        try:
            ipv6 = IPv6Address(host)
        except ValueError:
            raise HostError("is not an IPv6 address") from None
        return ipv6.ipv4_mapped or ipv6
    name = _ascii_name(host)
    if not re.fullmatch(r"[0-9]+|0x[0-9a-f]*", name.rpartition(".")[2]):
        return name
    try:
        return IPv4Address(socket.inet_aton(name))
    except OSError:
        raise HostError("ends like an IPv4 address but is not one") from None


def site_url_error(url: str) -> str | None:
    """Return why a URL cannot be that of a site, or None if it can; the URL is not repeated."""
    try:
        parts = urlsplit(url)
        if parts.port == 0:
            raise ValueError("Port 0 cannot be connected to")
    except ValueError as error:
        return f"the URL cannot be read: {error}"
    if parts.scheme not in {"http", "https"} or not parts.hostname or not url.isprintable():
        return "the URL is not an http or https URL with a host"
    if parts.username is not None or parts.query or parts.fragment or " " in url or "\\" in url:
        return "the URL has more than scheme, host, port and path"
    if len(url) > _MAX_URL:
        return f"the URL is longer than {_MAX_URL} characters"
    return None


def _ascii_name(host: str) -> str:
    try:
        name = host.lower() if host.isascii() else idna.encode(host, uts46=True).decode("ascii")
    except idna.IDNAError:
        raise HostError("contains characters that are not allowed in a host name") from None
    name = name.removesuffix(".")
    if len(name) > 253 or not all(_LABEL.fullmatch(label) for label in name.split(".")):
        raise HostError(
            "is not a host name: up to 253 letters, digits and hyphens, 63 between dots"
        )
    return name
