"""Addresses of our own, told from those that lead elsewhere."""

from urllib.parse import urlsplit


def own_path(address: str) -> str:
    """Return the address if it is a path of this site, or the first page."""
    plain = address.isprintable() and "\\" not in address and len(address) <= 2000
    if not plain or not address.startswith("/") or address.startswith("//"):
        return "/"
    try:
        parts = urlsplit(address)
    except ValueError:
        return "/"
    return "/" if parts.scheme or parts.netloc else address
