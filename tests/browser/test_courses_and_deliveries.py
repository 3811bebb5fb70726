"""eAssessment's pages of courses and deliveries, in a real browser, on a house that is lived in."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect
from pydantic import SecretStr

from foundation.crypto import Vault
from foundation.db.migrations import Schema
from foundation.db.session import Database
from notifier.models import SCHEMA, Delivery, DeliveryStatus
from tests.browser.conftest import NARROW, WIDE, add_ada, commands, findings, overflow
from tests.browser.furnished import furnish
from tests.foundation.pages.conftest import KEY
from tests.integration.services import copied, serve

Open = Callable[..., Page]
PAGES = {
    "courses": "/courses",
    "no course found": "/courses?q=zzz",
    "a new course": "/courses/new",
    "a course": "/courses/one?course_id=CS101-2026",
    "a course with a long title": "/courses/one?course_id=LAW300-2026",
    "a course in a Moodle": "/courses/one?course_id=7731",
    "a deleted course": "/courses/one?course_id=MUS200-2026",
    "deliveries": "/deliveries",
    "a filter that cannot be": "/deliveries?since=yesterday",
    "a delivery that was replayed": "/deliveries/1",
    "a delivery that is held": "/deliveries/2",
    "a delivery that arrived": "/deliveries/4",
    "before a replay": "/deliveries/replay?status=dead",
}


@pytest.fixture(scope="module")
def house(
    browser: Browser,
    tmp_path_factory: pytest.TempPathFactory,
    sqlite_templates: Callable[[Schema], Path],
) -> Iterator[tuple[str, str]]:
    """The address of an eAssessment that has seen something of everything, and its database."""
    folder = tmp_path_factory.mktemp("house")
    url = copied(sqlite_templates(SCHEMA), folder)
    add_ada(url)
    furnish(url, Vault(SecretStr(KEY)))
    served = serve("notifier", SCHEMA, url, folder, ENCRYPTION_KEYS=KEY)
    yield f"http://127.0.0.1:{served.port}", url
    served.stop()


@pytest.fixture
def at(open_page: Open, house: tuple[str, str], signed_in_at: Callable[[str], Any]) -> Open:
    """Return what opens a page of the house, signed in."""
    address, _ = house

    def make(path: str, **options: object) -> Page:
        page = open_page(storage_state=signed_in_at(address), **options)
        page.goto(f"{address}{path}")
        return page

    return make


@pytest.mark.parametrize("path", PAGES.values(), ids=PAGES)
@pytest.mark.parametrize(
    ("scheme", "width"), [("light", WIDE), ("dark", NARROW)], ids=["light, wide", "dark, narrow"]
)
def test_every_page_is_for_everybody(at: Open, path: str, scheme: str, width: int) -> None:
    page = at(path, color_scheme=scheme, width=width, reduced_motion="reduce")

    folded = findings(page)
    page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true })")

    assert folded == []
    assert findings(page) == []
    assert commands(page) == []
    assert overflow(page) == 0


def test_chosen_courses_are_deleted_and_their_deliveries_change_by_themselves(
    at: Open, house: tuple[str, str]
) -> None:
    page = at("/courses?q=bio01")
    for course_id in ("BIO010-2026", "BIO011-2026"):
        page.get_by_label(f"Select {course_id}").check()
    page.get_by_role("button", name="Delete selected courses").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Delete 2 courses permanently?")
    assert findings(page) == []
    page.get_by_role("button", name="Delete 2 courses").click()
    expect(page.get_by_role("status")).to_contain_text("Deleted: 2 courses.")
    rows = page.get_by_role("row")
    expect(rows.filter(has_text="pending")).to_have_count(2)
    expect(rows.filter(has_text="held")).to_have_count(2)

    deliver(house[1])

    expect(rows.filter(has_text="delivered")).to_have_count(2, timeout=20_000)
    expect(rows.filter(has_text="pending")).to_have_count(0)


def deliver(url: str) -> None:
    """Do to what is pending as a worker whose receiver takes everything."""
    database = Database(url)
    with database.writing() as session:
        for row in session.query(Delivery).filter_by(status=DeliveryStatus.PENDING):
            row.status, row.settled_at = DeliveryStatus.DELIVERED, row.created_at
    database.dispose()


def test_new_token_is_shown_once_and_copied(at: Open) -> None:
    page = at("/courses/one?course_id=XSS<i>100", permissions=["clipboard-read", "clipboard-write"])
    page.locator("summary", has_text="Regenerate token").click()
    page.get_by_role("button", name="Regenerate token").click()
    page.get_by_role("button", name="Copy").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    token = page.evaluate("navigator.clipboard.readText()")
    assert re.fullmatch(r"eas_\w{8}_\w+", token)
    assert findings(page) == []

    page.reload()

    expect(page.get_by_role("heading", level=1)).to_have_text("Course changed")
    assert token not in page.content()


def test_courses_are_chosen_and_found_by_keyboard_alone(at: Open) -> None:
    page = at("/courses")

    page.get_by_label("Search").focus()
    page.keyboard.type("musica algebra")
    page.keyboard.press("Enter")
    expect(page.get_by_role("rowheader")).to_have_text("MUS200-2026")
    page.goto(page.url.replace("musica+algebra", "bio02"))
    box = page.get_by_role("checkbox").first
    box.focus()
    page.keyboard.press("Space")
    expect(box).to_be_checked()
    page.get_by_role("button", name="Delete selected courses").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Delete 1 course permanently?")


def test_pages_do_without_script(at: Open) -> None:
    page = at("/deliveries", java_script_enabled=False)

    page.get_by_label("Status", exact=True).select_option("held")
    page.get_by_role("button", name="Apply").click()
    expect(page.get_by_role("link", name="Replay results")).to_be_visible()
    assert "UTC" in page.locator("time").first.inner_text()
    page.get_by_role("link", name=re.compile("Delivery 2")).click()
    page.locator("summary", has_text="Request headers").first.click()
    expect(page.get_by_text("webhook-signature: v1,").first).to_be_visible()
