"""Redirects to paths of this site only, and the page that a form was sent from."""

from urllib.parse import urlsplit

from flask import current_app, request


def local_path(url: str) -> str:
    """Return the URL if it is a path of this site, or that of the start page."""
    start = f"{request.script_root}/"
    plain = url.isprintable() and "\\" not in url and len(url) <= 2000
    if not plain or not url.startswith(start) or url.startswith("//"):
        return start
    try:
        parts = urlsplit(url)
    except ValueError:
        return start
    return start if parts.scheme or parts.netloc else url


def referring_page() -> str | None:
    """Return the page of this site that a form was sent from, or None."""
    if request.method == "GET":
        return None
    try:
        came_from = urlsplit(request.headers.get("Referer", ""))
    except ValueError:
        return None
    path = came_from.path.removeprefix(request.script_root)
    is_page = current_app.url_map.bind("").test(path, "GET")
    if came_from.netloc != request.host or not is_page:
        return None
    query = f"?{came_from.query}" if came_from.query else ""
    return local_path(f"{came_from.path}{query}")
