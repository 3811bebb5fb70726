"""The pages that no address leads to: what a form asks, shows once, or refuses."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from playwright.sync_api import Page

from tests.browser.university import Seen

Steps = Callable[[Page, Seen], None]


@dataclass(frozen=True)
class Way:
    """How a page is come to: of which service, from which path, by which steps."""

    service: str
    path: str | Callable[[Seen], str]
    steps: Steps

    def begins(self, seen: Seen) -> str:
        """Return the path that the steps begin at."""
        return self.path if isinstance(self.path, str) else self.path(seen)


def _press(*names: str) -> Steps:
    def steps(page: Page, _: Seen) -> None:
        for name in names:
            page.get_by_role("button", name=name).first.click()

    return steps


def _open(*labels: str) -> Steps:
    def steps(page: Page, _: Seen) -> None:
        for label in labels:
            page.locator("summary", has_text=label).click()

    return steps


def _then(*parts: Steps) -> Steps:
    def steps(page: Page, seen: Seen) -> None:
        for part in parts:
            part(page, seen)

    return steps


def _fill(**fields: str) -> Steps:
    """Fill fields by their names; what the browser would hold back goes to the service."""

    def steps(page: Page, _: Seen) -> None:
        page.evaluate("document.querySelectorAll('form').forEach(one => one.noValidate = true)")
        for name, text in fields.items():
            page.locator(f"[name={name}]").first.fill(text)

    return steps


def _tick(count: int) -> Steps:
    def steps(page: Page, _: Seen) -> None:
        for box in page.locator("td input[type=checkbox]").all()[:count]:
            box.check()

    return steps


def _add_course(page: Page, seen: Seen) -> None:
    course_id = page.evaluate("'NEW-' + Date.now()")
    _fill(course_id=course_id, title="Introduction to Everything")(page, seen)
    _press("Add course")(page, seen)


def _register(page: Page, seen: Seen) -> None:
    address = page.evaluate("'https://elms.example.ac.uk/webhooks/' + Date.now()")
    _fill(url=address)(page, seen)
    _press("Add and show")(page, seen)


def _replay(page: Page, _: Seen) -> None:
    page.locator("form[action$='/replay'] button").click()


def _newest_endpoint(page: Page, _: Seen) -> None:
    page.locator("tbody a").last.click()


def _entry(of: str) -> Callable[[Seen], str]:
    return lambda seen: f"/entries/{seen.entries[getattr(seen, of)]}"


def _course(seen: Seen) -> str:
    return f"/courses/one?course_id={seen.renewed}"


WAYS: Mapping[str, Way] = {
    "notifier-delete-one": Way("notifier", _course, _press("Delete course…")),
    "notifier-delete-many": Way(
        "notifier", "/courses", _then(_tick(12), _press("Delete selected courses…"))
    ),
    "notifier-delete-none": Way("notifier", "/courses", _press("Delete selected courses…")),
    "notifier-course-added": Way("notifier", "/courses/new", _add_course),
    "notifier-deleted": Way(
        "notifier",
        "/courses?q=NEW",
        _then(_tick(1), _press("Delete selected courses…", "Delete 1 course")),
    ),
    "notifier-course-refused": Way(
        "notifier",
        "/courses/new",
        _then(_fill(course_id="with a space ", title=""), _press("Add course")),
    ),
    "notifier-regenerate": Way("notifier", _course, _open("Regenerate token…")),
    "notifier-regenerated": Way(
        "notifier", _course, _then(_open("Regenerate token…"), _press("Regenerate token"))
    ),
    "notifier-endpoint-refused": Way(
        "notifier",
        "/endpoints/new",
        _then(_fill(url="http://elms.example.ac.uk/webhooks/eassessment"), _press("Add and show")),
    ),
    "notifier-endpoint-registered": Way("notifier", "/endpoints/new", _register),
    "notifier-endpoint-asks": Way(
        "notifier", "/endpoints/1", _open("Disable", "Rotate secret", "Change event types")
    ),
    "notifier-rotated": Way(
        "notifier",
        "/endpoints/1",
        _then(_open("Rotate secret"), _press("Rotate and show")),
    ),
    "notifier-endpoint-disabled": Way(
        "notifier",
        "/endpoints",
        _then(
            _newest_endpoint,
            _open("Disable"),
            _fill(reason="ELMS moves to a new machine on Saturday"),
            _press("Disable and hold"),
        ),
    ),
    "notifier-pinged": Way("notifier", "/endpoints/1", _press("Send test")),
    "notifier-replayed": Way("notifier", lambda seen: f"/deliveries/{seen.dead}", _replay),
    "receiver-entry-refused": Way(
        "receiver", "/entries/new", _then(_fill(course_id="", token="eas_"), _press("Link"))
    ),
    "receiver-token-refused": Way(
        "receiver", _entry("active"), _then(_fill(token="eas_no"), _press("Save token"))
    ),
    "receiver-place-refused": Way(
        "receiver",
        _entry("active"),
        _then(_fill(gradebook_course="seven"), _press("Save")),
    ),
    "receiver-take-out": Way("receiver", _entry("active"), _open("Remove from the grade sync")),
}
"""Every page behind a form, by a name."""
