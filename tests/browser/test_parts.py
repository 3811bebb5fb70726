"""What the script and the style of the pages do, on a page of every part."""

import re

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import NARROW, Open


@pytest.fixture
def page(open_signed_in: Open, sample_page: str) -> Page:
    return open_signed_in(sample_page, "/sample", permissions=["clipboard-read", "clipboard-write"])


def test_times_are_local_or_utc(page: Page) -> None:
    time = page.locator("time").first
    expect(time).to_have_text("22 Nov 2026, 10:00:00")
    expect(time).to_have_attribute("title", "2026-11-22 09:00:00.123456 UTC")
    expect(page.get_by_role("contentinfo")).to_contain_text("Times are in Europe/Berlin")

    page.get_by_role("button", name="Show UTC").click()
    expect(time).to_have_text("2026-11-22 09:00:00 UTC")
    page.reload()
    expect(time).to_have_text("2026-11-22 09:00:00 UTC")
    page.get_by_role("button", name="Show Europe/Berlin").click()
    expect(time).to_have_text("22 Nov 2026, 10:00:00")


def test_times_in_lists_are_relative_or_exact(page: Page) -> None:
    time = page.locator("time[data-ago]")
    expect(time).to_have_text("2 h ago")
    expect(time).to_have_attribute(
        "title", re.compile(r"^\d+ \w+ \d{4}, [\d:]{8} \(\d{4}-\d\d-\d\d [\d:.]{15} UTC\)$")
    )

    page.get_by_role("button", name="Show exact times").click()
    expect(time).to_have_text(re.compile(r"^\d+ \w+ \d{4}, [\d:]{8}$"))
    page.reload()
    page.get_by_role("button", name="Show relative times").click()
    expect(time).to_have_text("2 h ago")


@pytest.mark.parametrize("fragment", ["", "#%"], ids=["no fragment", "invalid fragment"])
def test_part_refreshes_itself(page: Page, fragment: str) -> None:
    page.goto(f"{page.url}{fragment}")
    page.reload()

    expect(page.locator("#now")).to_have_text(re.compile(r"look \d+"))
    first = page.locator("#now").inner_text()
    expect(page.locator("#now")).not_to_have_text(first)


def test_refresh_notices_the_end_of_the_session(page: Page, sample_page: str) -> None:
    page.context.clear_cookies()

    page.wait_for_url(f"{sample_page}/sign-in?next=/sample")


def test_confirmation_unfolds_and_gets_the_focus_by_keyboard(page: Page) -> None:
    button = page.get_by_role("button", name="Delete permanently")
    expect(button).to_be_hidden()

    page.locator("summary", has_text="Delete the course").focus()
    page.keyboard.press("Enter")
    expect(button).to_be_visible()
    page.keyboard.press("Tab")
    expect(button).to_be_focused()


def test_error_is_announced_with_its_field(page: Page) -> None:
    field = page.get_by_label("Course id")

    expect(field).to_have_attribute("aria-invalid", "true")
    expect(field).to_have_accessible_description("As in eAssessment. expected 1 to 255 characters")


def test_text_is_copied(page: Page) -> None:
    page.get_by_role("button", name="Copy").click()

    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == "whsec_example"


def test_folded_text_is_copied(page: Page) -> None:
    page.get_by_role("button", name="Take the bytes").click()

    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == '{"a": 1,\n "b": "ß"}'


def test_chart_is_an_image_with_a_description_and_a_table(page: Page) -> None:
    chart = page.get_by_role("img", name="Deliveries by hour")

    expect(chart).to_have_accessible_description(re.compile("From 00:00 to 23:00."))
    page.locator("summary", has_text="Deliveries by hour").click()
    expect(page.get_by_role("rowheader", name="00:00").first).to_be_visible()


def test_card_has_room_for_a_long_label(open_signed_in: Open, sample_page: str) -> None:
    cell = open_signed_in(sample_page, "/sample", width=NARROW).locator("td[data-label]").first
    height = "cell => cell.getBoundingClientRect().height"
    before = cell.evaluate(height)

    cell.evaluate("cell => { cell.dataset.label = 'Webhook secrets of this source' }")

    assert cell.evaluate(height) > before
