"""Where a site may be: the URLs that ELMS can send requests to."""

from urllib.parse import urlsplit

_MAX_URL = 2000


def fault_of(url: str) -> str | None:
    """Return why no site can be at a URL, or None if one can; the URL is not repeated."""
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises for a port that is no number
    except ValueError as error:
        return f"the URL cannot be read: {error}"
    if parts.scheme not in {"http", "https"} or not parts.hostname or not url.isprintable():
        return "the URL is not an http or https URL with a host"
    if parts.username is not None or parts.query or parts.fragment or " " in url or "\\" in url:
        return "the URL has more than scheme, host, port and path"
    if len(url) > _MAX_URL:
        return f"the URL is longer than {_MAX_URL} characters"
    return None
