"""Hosts as URLs spell them: the one good spelling of each, and the address it means, if any."""

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

import idna

_MAX_NAME = 253
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?", re.ASCII)
_NUMBER = re.compile(r"0x[0-9a-f]*|[0-9]+", re.ASCII)


class HostError(ValueError):
    """What stands in a host's place can be no host; `str()` says why."""


@dataclass(frozen=True)
class Host:
    """A host by its one good spelling; with the address, if it is one."""

    spelling: str
    address: IPv4Address | IPv6Address | None = None


def read(host: str) -> Host:
    """Return what a host means, however it is spelled, or raise HostError.

    What resolvers read as an address is one: octal, hexadecimal, short and dotless numbers
    (as `inet_aton` takes them), and the digits and dots of other scripts (UTS 46).
    """
    if "%" in host:
        raise HostError("holds a percent sign: an escape, or an interface of some machine")
    if ":" in host:
        return _ipv6(host)
    name = _mapped(host).removesuffix(".")
    labels = name.split(".")
    if _NUMBER.fullmatch(labels[-1]):
        address = _ipv4(labels)
        return Host(str(address), address)
    return Host(_encoded(name))


def is_localhost(host: str) -> bool:
    """Tell whether a name is one that always means loopback (RFC 6761, 6.3)."""
    return host.lower().rstrip(".").rpartition(".")[2] == "localhost"


def _ipv6(host: str) -> Host:
    try:
        address = IPv6Address(host)
    except ValueError:
        raise HostError("is no IPv6 address") from None
    return Host(str(address), address)


def _mapped(host: str) -> str:
    if host.isascii():
        return host.lower()
    try:
        return idna.uts46_remap(host, std3_rules=False)
    except idna.IDNAError:
        raise HostError("holds characters that no name has") from None


def _encoded(name: str) -> str:
    try:
        spelled = name if name.isascii() else idna.encode(name).decode("ascii")
    except idna.IDNAError:
        raise HostError("holds characters that no name has") from None
    if len(spelled) > _MAX_NAME:
        raise HostError(f"is longer than {_MAX_NAME} characters")
    if not all(_LABEL.fullmatch(label) for label in spelled.split(".")):
        raise HostError("is no name: letters, digits and hyphens between dots, 63 at the most")
    return spelled


def _ipv4(labels: list[str]) -> IPv4Address:
    """Return the address that one to four numbers mean, the last of them filling the rest."""
    try:
        *firsts, last = (_number(label) for label in labels)
        if len(firsts) > 3 or any(one > 255 for one in firsts) or last >= 256 ** (4 - len(firsts)):
            raise ValueError
    except ValueError:
        raise HostError("ends like an IPv4 address and is none") from None
    bits = last
    for place, one in enumerate(firsts):
        bits += one << 8 * (3 - place)
    return IPv4Address(bits)


def _number(label: str) -> int:
    if not _NUMBER.fullmatch(label):
        raise ValueError
    if label.startswith("0x"):
        return int(label[2:] or "0", 16)
    return int(label, 8 if label.startswith("0") else 10)
