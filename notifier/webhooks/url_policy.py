"""The normal form of endpoint URLs, and their rules: https, one host, no blocked address."""

from ipaddress import IPv6Address
from urllib.parse import SplitResult, urlsplit

from urllib3.exceptions import LocationParseError
from urllib3.util import parse_url

from foundation.errors import Advice
from foundation.http import hosts
from foundation.http.hosts import Address, HostError
from foundation.http.ssrf import Guard
from foundation.logging import redact
from notifier.errors import EndpointUrlError
from notifier.models import MAX_URL

_HOSTS_STEP = "If this receiver is yours, name its host or network in NOTIFIER_ALLOWED_HOSTS."
_LOOPBACK_STEP = "Only for development: set NOTIFIER_ALLOW_LOOPBACK=true."


def normalize(url: str, guard: Guard) -> str:
    """Return a URL with its scheme and host in their normal form, or raise EndpointUrlError.

    The rules apply to the normal form. Names are not resolved here: the address is checked on
    every connection.
    """
    _check_length(url)
    # Some parsers drop these silently, and then see a different URL.
    if not url.isprintable() or " " in url:
        raise EndpointUrlError("the URL has a space or a control character")
    parts = _split(url)
    if parts.username is not None or parts.password is not None or "#" in url:
        raise EndpointUrlError("the URL has user info or a fragment, which is never sent")
    written = _written_host(parts)
    try:
        host = hosts.parse_host(written)
    except HostError as error:
        raise EndpointUrlError(f"the host {written} {error}") from None
    is_loopback = hosts.is_loopback(host)
    _check_blocked(written, host, guard)
    if parts.scheme != "https" and not (guard.loopback and is_loopback):
        raise EndpointUrlError(
            f"{url} is not https: others on the network could read and change what is sent",
            advice=Advice(f"Give an https URL. {_LOOPBACK_STEP}") if is_loopback else None,
        )
    name = f"[{host}]" if isinstance(host, IPv6Address) else str(host)
    port = "" if parts.port is None else f":{parts.port}"
    # The path and the query stay as they are, byte for byte.
    rest = url[len(f"{parts.scheme}://{parts.netloc}") :]
    normal = f"{parts.scheme}://{name}{port}{rest}"
    _check_length(normal)
    return normal


def _check_length(url: str) -> None:
    if len(url) > MAX_URL:
        raise EndpointUrlError(f"the URL is longer than {MAX_URL} characters")


def _split(url: str) -> SplitResult:
    """Return a URL's parts if two parsers find the same host and port in it."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise EndpointUrlError(f"the URL cannot be read: {error}") from None
    if parts.scheme not in {"http", "https"} or not parts.hostname or port == 0:
        raise EndpointUrlError(f"{redact(url)!r} is not an http or https URL with a host")
    other = _other_host(url)
    if parts.hostname.isascii() and other != (parts.hostname, port):
        raise EndpointUrlError(
            f"the URL is ambiguous: its host is {parts.hostname} or {other[0] or 'none'}"
        )
    if "\\" in url:
        raise EndpointUrlError("the URL has a backslash, which some parsers read as a slash")
    return parts


def _other_host(url: str) -> tuple[str | None, int | None]:
    """Return host and port as urllib3, which connects, reads them."""
    try:
        read = parse_url(url)
    except LocationParseError:
        return None, None
    return (read.host or "").strip("[]"), read.port


def _written_host(parts: SplitResult) -> str:
    """Return the host as it is written, without brackets."""
    if parts.netloc.startswith("["):
        return parts.netloc[1:].partition("]")[0]
    return parts.netloc.partition(":")[0]


def _check_blocked(written: str, host: str | Address, guard: Guard) -> None:
    is_loopback = hosts.is_loopback(host)
    if not isinstance(host, str):
        why = guard.blocked_reason(str(host), host)
        if why is not None:
            if not why.startswith(f"{written} "):
                why = f"{written} means {why.replace(' ', ', which ', 1)}"
            step = f"{_HOSTS_STEP} {_LOOPBACK_STEP}" if is_loopback else _HOSTS_STEP
            raise EndpointUrlError(why, advice=Advice(step))
    elif is_loopback:
        if not guard.loopback:
            raise EndpointUrlError(f"{host} is loopback (RFC 6761)", advice=Advice(_LOOPBACK_STEP))
    elif "." not in host and host not in guard.hosts:
        raise EndpointUrlError(
            f"{host} has no dot, so it means a different host on every network",
            advice=Advice(f"Give the full name of the host. {_HOSTS_STEP}"),
        )
