"""The way back: the page of ours that a form was sent from, as the browser says."""

from urllib.parse import urlsplit

from flask import current_app, request

from foundation.pages.paths import own_path


def page_before() -> str | None:
    """Return the page of ours that a form was sent from, or None; it can be opened again."""
    if request.method == "GET":
        return None
    try:
        came_from = urlsplit(request.headers.get("Referer", ""))
    except ValueError:
        return None
    is_page = current_app.url_map.bind("").test(came_from.path, "GET")
    if came_from.netloc != request.host or not is_page:
        return None
    asked = f"?{came_from.query}" if came_from.query else ""
    return own_path(f"{came_from.path}{asked}")
