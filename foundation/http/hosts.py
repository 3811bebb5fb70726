"""Hosts in URLs: the normal form of each, and the address that it means, if it is one."""

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from urllib.parse import urlsplit

import idna

_MAX_NAME = 253
_MAX_URL = 2000
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?", re.ASCII)
_NUMBER = re.compile(r"0x[0-9a-f]*|[0-9]+", re.ASCII)


class HostError(ValueError):
    """The text is not a host; `str()` continues a sentence that begins with it."""


@dataclass(frozen=True)
class Host:
    """A host in its normal form; `address` is set if the host is an address."""

    name: str
    address: IPv4Address | IPv6Address | None = None


def parse_host(host: str) -> Host:
    """Return the host that a text means, or raise HostError.

    Everything that resolvers read as an address is one: octal, hexadecimal, short and undotted
    numbers (as `inet_aton` reads them), and the digits and dots of other scripts (UTS 46).
    """
    if "%" in host:
        raise HostError("contains a percent sign: an escape sequence or a network interface")
    if ":" in host:
        try:
            address = IPv6Address(host)
        except ValueError:
            raise HostError("is not an IPv6 address") from None
        return Host(address_text(address), address)
    name = _mapped(host).removesuffix(".")
    labels = name.split(".")
    if _NUMBER.fullmatch(labels[-1]):
        ipv4 = _ipv4(labels)
        return Host(str(ipv4), ipv4)
    return Host(_encoded(name))


def address_text(address: IPv4Address | IPv6Address) -> str:
    """Return the normal form of an address (RFC 5952), on every version of Python.

    `str` writes an IPv4-mapped address with dots since Python 3.13 only.
    """
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        return f"::ffff:{address.ipv4_mapped}"
    return str(address)


def is_localhost(host: str) -> bool:
    """Return True if a name always means loopback (RFC 6761, 6.3)."""
    return host.lower().rstrip(".").rpartition(".")[2] == "localhost"


def site_url_error(url: str) -> str | None:
    """Return why a URL cannot be that of a site, or None if it can; the URL is not repeated."""
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises ValueError for a port that is not a number
    except ValueError as error:
        return f"the URL cannot be read: {error}"
    if parts.scheme not in {"http", "https"} or not parts.hostname or not url.isprintable():
        return "the URL is not an http or https URL with a host"
    if parts.username is not None or parts.query or parts.fragment or " " in url or "\\" in url:
        return "the URL has more than scheme, host, port and path"
    if len(url) > _MAX_URL:
        return f"the URL is longer than {_MAX_URL} characters"
    return None


def _mapped(host: str) -> str:
    if host.isascii():
        return host.lower()
    try:
        return idna.uts46_remap(host, std3_rules=False)
    except idna.IDNAError:
        raise HostError("contains characters that are not allowed in a host name") from None


def _encoded(name: str) -> str:
    try:
        encoded = name if name.isascii() else idna.encode(name).decode("ascii")
    except idna.IDNAError:
        raise HostError("contains characters that are not allowed in a host name") from None
    if len(encoded) > _MAX_NAME:
        raise HostError(f"is longer than {_MAX_NAME} characters")
    if not all(_LABEL.fullmatch(label) for label in encoded.split(".")):
        raise HostError("is not a host name: up to 63 letters, digits and hyphens between two dots")
    return encoded


def _ipv4(labels: list[str]) -> IPv4Address:
    """Return the address of one to four numbers, of which the last fills the remaining bytes."""
    try:
        *first, last = (_number(label) for label in labels)
        if len(first) > 3 or any(one > 255 for one in first) or last >= 256 ** (4 - len(first)):
            raise ValueError
    except ValueError:
        raise HostError("ends like an IPv4 address but is not one") from None
    bits = last
    for index, one in enumerate(first):
        bits += one << 8 * (3 - index)
    return IPv4Address(bits)


def _number(label: str) -> int:
    if not _NUMBER.fullmatch(label):
        raise ValueError
    if label.startswith("0x"):
        return int(label[2:] or "0", 16)
    return int(label, 8 if label.startswith("0") else 10)
