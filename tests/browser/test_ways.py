"""The ways that people go over both platforms, in a real browser, with a real worker between."""

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from demo.processes import Machines
from foundation.db.session import Database
from notifier.models import Delivery, Event
from notifier.webhooks.retry_policy import MAX_ATTEMPTS
from tests.browser.conftest import sign_in
from tests.browser.house import lived_in
from tests.foundation.pages.conftest import PASSWORD

TITLES = {
    "PHIL120-2026": "Ancient Philosophy",
    "STAT150-2026": "Statistics for Everybody",
    "LAW201-2026": "Public Law",
    "MUS115-2026": "Música y matemáticas",
    "BIO140-2026": "Cell Biology",
}
HEARD = 40_000
"""Milliseconds within which a page shows what a worker did, a pause of 15 s included."""


@pytest.fixture(scope="module")
def both(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    """Both platforms; each test has courses of its own."""
    with lived_in(tmp_path_factory.mktemp("both"), TITLES) as both:
        yield both


@pytest.fixture
def at(open_page: Callable[..., Page], signed_in_at: Callable[[str], Any]) -> Callable[..., Page]:
    """Return what opens a page of either platform, signed in."""

    def make(address: str, path: str = "/", **options: Any) -> Page:
        page = open_page(storage_state=signed_in_at(address), **options)
        page.goto(f"{address}{path}")
        return page

    return make


def test_a_course_deleted_on_a_page_is_heard_and_skipped(
    both: Machines, open_page: Callable[..., Page]
) -> None:
    page = open_page()
    sign_in(page, both.eassessment_url)
    go_to(page, "Courses", "PHIL120-2026")
    page.get_by_role("button", name="Delete course…").click()
    expect(heading(page)).to_have_text("Delete 1 course permanently?")
    page.get_by_role("button", name="Delete 1 course").click()
    expect(page.get_by_role("status")).to_contain_text("Deleted: PHIL120-2026")
    told = page.get_by_role("row").filter(has_text="course.deleted")
    expect(told).to_contain_text("delivered", timeout=HEARD)

    elms = open_page()
    sign_in(elms, both.elms_url)
    elms.get_by_role("link", name="course deleted").click()
    elms.get_by_role("link", name="PHIL120-2026").first.click()
    expect(elms.get_by_text("The grade sync skips this course.")).to_be_visible()
    expect(elms.get_by_role("heading", level=1)).to_have_text("PHIL120-2026")

    both.run("receiver", "sync-grades")
    elms.get_by_role("link", name="Runs").click()
    elms.get_by_role("rowheader").get_by_role("link").first.click()
    elms.get_by_role("navigation", name="Courses by outcome").get_by_text("skipped").click()
    skipped = elms.get_by_role("row").filter(has_text="PHIL120-2026")
    expect(skipped).to_contain_text("the course was deleted in eAssessment")


def test_a_regenerated_token_is_entered_and_the_course_is_active_again(
    both: Machines, at: Callable[..., Page]
) -> None:
    page = at(both.eassessment_url, permissions=["clipboard-read", "clipboard-write"])
    go_to(page, "Courses", "STAT150-2026")
    page.locator("summary", has_text="Regenerate token").click()
    page.get_by_role("button", name="Regenerate token").click()
    page.get_by_role("button", name="Copy").click()
    token = page.evaluate("navigator.clipboard.readText()")
    told = page.get_by_role("row").filter(has_text="token.regenerated")
    expect(told).to_contain_text("delivered", timeout=HEARD)

    elms = at(both.elms_url)
    elms.get_by_role("link", name="Enter token of STAT150-2026", exact=True).click()
    expect(elms.get_by_text("token invalid", exact=True).first).to_be_visible()
    elms.get_by_label("Course token").fill(token)
    elms.get_by_role("button", name="Save token").click()
    expect(elms.get_by_role("status")).to_contain_text("The course is active")
    expect(elms.get_by_role("status").filter(has_text="grade sync")).to_be_visible()

    both.run("receiver", "sync-grades")
    elms.reload()
    runs = elms.get_by_role("region", name="Recent runs").get_by_role("row")
    expect(runs.nth(1)).to_contain_text(re.compile("synced|unchanged"))


def test_what_died_while_elms_was_down_is_replayed(both: Machines, at: Callable[..., Page]) -> None:
    both.stop("elms")
    page = at(both.eassessment_url, "/courses?q=deleted")
    for course_id in ("LAW201-2026", "MUS115-2026"):
        delete(page, both, course_id)
    three_days_pass(both, "LAW201-2026", "MUS115-2026")
    page.goto(both.eassessment_url)
    needs = page.get_by_role("region", name=re.compile("Needs attention"))
    expect(needs).to_contain_text("2 deliveries", timeout=HEARD)
    expect(needs).to_contain_text(f"to {both.elms_url}")

    both.start("elms", "receiver", "serve")
    both.wait_until_answers("elms", both.elms_url)
    needs.get_by_role("link", name="2 deliveries").click()
    expect(page.get_by_role("row").filter(has_text="dead")).to_have_count(2)
    page.get_by_role("link", name="Replay results…").click()
    expect(heading(page)).to_have_text("Replay 2 deliveries?")
    page.get_by_role("button", name="Replay 2 deliveries").click()
    for course_id in ("LAW201-2026", "MUS115-2026"):
        replayed = page.get_by_role("row").filter(has_text=course_id)
        expect(replayed).to_contain_text("delivered", timeout=HEARD)

    page.get_by_role("link", name="Overview").click()
    expect(page.get_by_role("heading", name="All checks passed")).to_be_visible()
    elms = at(both.elms_url, "/?status=course_deleted")
    for course_id in ("LAW201-2026", "MUS115-2026"):
        expect(elms.get_by_role("row").filter(has_text=course_id)).to_contain_text("deleted")


def test_all_of_it_can_be_done_by_keyboard_alone(
    both: Machines, open_page: Callable[..., Page]
) -> None:
    page = open_page(permissions=["clipboard-read", "clipboard-write"])
    page.goto(both.eassessment_url)
    sign_in_by_keys(page)
    press_on(page, page.get_by_role("link", name="Courses", exact=True))
    press_on(page, page.get_by_role("link", name="BIO140-2026"))
    press_on(page, page.locator("summary", has_text="Regenerate token"))
    press_on(page, page.get_by_role("button", name="Regenerate token"))
    press_on(page, page.get_by_role("button", name="Copy"))
    token = page.evaluate("navigator.clipboard.readText()")
    told = page.get_by_role("row").filter(has_text="token.regenerated")
    expect(told).to_contain_text("delivered", timeout=HEARD)

    elms = open_page()
    elms.goto(both.elms_url)
    sign_in_by_keys(elms)
    press_on(elms, elms.get_by_role("link", name="Enter token of BIO140-2026", exact=True))
    walk_to(elms, elms.get_by_label("Course token"))
    elms.keyboard.type(token)
    elms.keyboard.press("Enter")
    expect(elms.get_by_role("status")).to_contain_text("The course is active")


def heading(page: Page) -> Locator:
    """Return a page's heading."""
    return page.get_by_role("heading", level=1)


def go_to(page: Page, place: str, name: str) -> None:
    """Go to one of the places, and there to what has this name."""
    page.get_by_role("link", name=place, exact=True).click()
    page.get_by_role("link", name=name).click()
    expect(heading(page)).to_contain_text(name)


def delete(page: Page, both: Machines, course_id: str) -> None:
    """Delete a course on its page, and wait until ELMS was found to be down."""
    page.goto(f"{both.eassessment_url}/courses/one?course_id={course_id}")
    page.get_by_role("button", name="Delete course…").click()
    page.get_by_role("button", name="Delete 1 course").click()
    told = page.get_by_role("row").filter(has_text="course.deleted")
    expect(told).to_contain_text("retry at", timeout=HEARD)


def three_days_pass(both: Machines, *course_ids: str) -> None:
    """Let the last attempt of the schedule be the next one, and be due.

    The schedule takes three days; all else, the last attempt too, is the worker's doing.
    """
    database = Database(f"sqlite:///{both.folder}/notifier.db")
    with database.writing() as session:
        about = Delivery.event.has(Event.course_id.in_(course_ids))
        for row in session.query(Delivery).where(about):
            row.attempts, row.due_at = MAX_ATTEMPTS - 1, datetime.now(UTC)
    database.dispose()


def sign_in_by_keys(page: Page) -> None:
    """Sign Ada in; the name has the focus as the page opens."""
    page.keyboard.type("ada")
    walk_to(page, page.get_by_label("Password"))
    page.keyboard.type(PASSWORD)
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Sign out")).to_be_visible()


def press_on(page: Page, target: Locator) -> None:
    """Walk to a link or button and press Enter on it."""
    walk_to(page, target)
    page.keyboard.press("Enter")


def walk_to(page: Page, target: Locator) -> None:
    """Press Tab until the focus is there; it has to show."""
    expect(target).to_be_visible()
    for _ in range(200):
        if target.evaluate("one => one === document.activeElement"):
            break
        page.keyboard.press("Tab")
    expect(target).to_be_focused()
    seen = target.evaluate("one => getComputedStyle(one).outlineStyle")
    assert seen != "none"
