"""The pages of ELMS's grade sync: their navigation, and which page does what an advice names."""

from flask import url_for

from foundation.errors import Advice
from foundation.pages.audit import audit_pages
from foundation.pages.site import Link, NavItem, Site
from receiver.models import ACTIONS
from receiver.pages import labels
from receiver.pages.course import course_pages
from receiver.pages.inbox import inbox_pages
from receiver.pages.registry import registry_pages
from receiver.pages.removal import removal_pages
from receiver.pages.runs import run_pages
from receiver.pages.sources import source_pages
from receiver.pages.tokens import token_pages

# The pages where actions are done, by label and endpoint.
_PAGES = {
    "registry list": ("Registry", "registry.show"),
    "registry add": ("Add a course", "registry.new"),
    "sources list": ("Sources", "sources.show"),
    "sources add": ("Add a source", "sources.new"),
    "runs list": ("Runs", "runs.show"),
    "runs resume": ("Runs", "runs.show"),
    "sync-grades": ("Run now", "runs.show"),
}


def link_for(advice: Advice, about: str | None = None) -> Link | None:
    """Return the link to the page where an advice's action is done, or None if there is none.

    `about` is the URL of the course's own page if it is known; "" on that page itself.
    """
    match advice.action, advice.args:
        case "registry set-token", ["--from-file", _]:
            return Link("Enter tokens", url_for("tokens.show"))
        case "registry set-token", args:
            return _form("Enter a token", "enter-token", args, about)
        case "registry set-activity", args:
            return _form("Choose the activity", "activity", args, about)
        case "registry remove", ["--all", "--source", name]:
            return Link(f"Courses of {name}", url_for("registry.show", source=name))
        case "sources add-secret", [name]:
            return Link(f"Source {name}", url_for("sources.show_source", name=name))
        case "runs show", [number]:
            return Link(f"Run {number}", url_for("runs.show_run", run_id=int(number)))
    if advice.action not in _PAGES:
        return None
    label, endpoint = _PAGES[advice.action]
    return Link(label, url_for(endpoint))


def _form(label: str, anchor: str, args: tuple[str, ...], about: str | None) -> Link:
    if about is not None:
        return Link(label, f"{about}#{anchor}")
    course_id = args[0] if args and args[0] != "COURSE_ID" else None
    return Link("Registry", url_for("registry.show", q=course_id))


def url_of(kind: str, object_id: str) -> str | None:
    """Return the URL of the page where a course or a source is listed."""
    match kind:
        case "entry" if object_id:
            return url_for("registry.show", q=object_id)
        case "source":
            return url_for("sources.show_source", name=object_id)
        case _:
            return None


SITE = Site(
    "ELMS grade sync",
    "receiver",
    (
        NavItem("registry.show", "Registry", ("course", "removal", "tokens")),
        NavItem("runs.show", "Runs"),
        NavItem("inbox.show", "Inbox"),
        NavItem("sources.show", "Sources"),
        NavItem("audit.listed", "Audit"),
    ),
    (
        registry_pages,
        course_pages,
        removal_pages,
        token_pages,
        run_pages,
        inbox_pages,
        source_pages,
        audit_pages,
    ),
    ACTIONS,
    link_for,
    url_of,
    labels.GLOBALS,
)
