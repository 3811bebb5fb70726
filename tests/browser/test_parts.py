"""The parts that pages are made of, in a real browser."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import NARROW, WIDE, findings, overflow

Open = Callable[..., Page]


@pytest.fixture
def open_specimen(open_page: Open, specimen: str, signed_in_at: Callable[[str], Any]) -> Open:
    """Return what opens the page of every part, signed in."""

    def make(**options: object) -> Page:
        page = open_page(storage_state=signed_in_at(specimen), **options)
        page.goto(f"{specimen}/specimen")
        return page

    return make


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_every_part_is_for_everybody(open_specimen: Open, scheme: str, width: int) -> None:
    page = open_specimen(color_scheme=scheme, width=width, reduced_motion="reduce")

    folded = findings(page)
    page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true })")

    assert folded == []
    assert findings(page) == []
    assert overflow(page) == 0


def test_times_are_the_viewers_with_utc_at_hand(open_specimen: Open) -> None:
    page = open_specimen()
    time = page.locator("time").first

    expect(time).to_have_text("22 Nov 2026, 10:00:00")
    expect(time).to_have_attribute("title", "2026-11-22 09:00:00.123456 UTC")
    expect(page.get_by_role("contentinfo")).to_contain_text("Times are in Europe/Berlin")
    page.get_by_role("button", name="Show UTC").click()
    expect(time).to_have_text("2026-11-22 09:00:00 UTC")
    page.reload()
    expect(page.locator("time").first).to_have_text("2026-11-22 09:00:00 UTC")
    page.get_by_role("button", name="Show Europe/Berlin").click()
    expect(page.locator("time").first).to_have_text("22 Nov 2026, 10:00:00")


@pytest.mark.parametrize("fragment", ["", "#%"], ids=["as it is", "a fragment that is no text"])
def test_a_part_that_refreshes_itself_is_new_by_itself(open_specimen: Open, fragment: str) -> None:
    page = open_specimen()
    page.goto(f"{page.url}{fragment}")
    page.reload()

    expect(page.locator("#now")).to_have_text(re.compile(r"look \d+"))
    first = page.locator("#now").inner_text()
    expect(page.locator("#now")).not_to_have_text(first)


def test_a_part_that_refreshes_itself_notices_the_end_of_the_session(
    open_specimen: Open, specimen: str
) -> None:
    page = open_specimen()

    page.context.clear_cookies()

    page.wait_for_url(f"{specimen}/sign-in?next=/specimen")


def test_what_cannot_be_taken_back_asks_once_more(open_specimen: Open) -> None:
    page = open_specimen()
    button = page.get_by_role("button", name="Delete it for good")
    expect(button).to_be_hidden()

    page.locator("summary", has_text="Delete the course").focus()
    page.keyboard.press("Enter")
    expect(button).to_be_visible()
    page.keyboard.press("Tab")
    expect(button).to_be_focused()


def test_a_fault_is_read_out_with_its_field(open_specimen: Open) -> None:
    page = open_specimen()

    field = page.get_by_label("Course id")

    expect(field).to_have_attribute("aria-invalid", "true")
    expect(field).to_have_accessible_description(
        "As it stands in eAssessment. expected 1 to 255 characters"
    )


def test_a_text_is_copied(open_specimen: Open) -> None:
    page = open_specimen(permissions=["clipboard-read", "clipboard-write"])

    page.get_by_role("button", name="Copy").click()

    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == "whsec_example"


def test_a_chart_is_a_picture_with_words_and_a_table(open_specimen: Open) -> None:
    page = open_specimen()

    chart = page.get_by_role("img", name="Deliveries by hour")

    expect(chart).to_have_accessible_description(re.compile("From 00:00 to 23:00."))
    page.locator("summary", has_text="Deliveries by hour").click()
    expect(page.get_by_role("rowheader", name="00:00").first).to_be_visible()
