"""Signing in with a real browser: keyboard, focus, without script, accessible."""

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import NARROW, WIDE, Open, faults_of
from tests.browser.university import University
from tests.foundation.pages.conftest import PASSWORD

SERVICES = [pytest.param("notifier", "Overview"), pytest.param("receiver", "Registry")]


@pytest.mark.parametrize(
    ("scheme", "width"),
    [pytest.param("light", WIDE, id="light, wide"), pytest.param("dark", NARROW, id="dark")],
)
def test_wrong_password_is_announced_and_entered_again(
    open_page: Open, campus: University, scheme: str, width: int
) -> None:
    page = open_page(color_scheme=scheme, width=width)
    page.goto(campus.addresses["receiver"])
    faults = faults_of(page)
    page.get_by_label("Name").fill("Ada")
    page.get_by_label("Password").fill("not the password")
    page.get_by_role("button", name="Sign in").click()

    expect(page.get_by_role("alert")).to_contain_text("The name or the password is wrong.")
    expect(page.get_by_label("Name")).to_have_value("Ada")
    expect(page.get_by_label("Password")).to_be_focused()
    expect(page.get_by_label("Password")).to_have_value("")
    assert faults + faults_of(page) == []


@pytest.mark.parametrize(("service", "heading"), SERVICES)
def test_keyboard_is_enough(
    open_page: Open, campus: University, service: str, heading: str
) -> None:
    page = open_page()
    page.goto(campus.addresses[service])

    expect(page.get_by_label("Name")).to_be_focused()
    page.keyboard.type("Ada")
    page.keyboard.press("Tab")
    page.keyboard.type(PASSWORD)
    page.keyboard.press("Enter")

    expect(page.get_by_role("heading", level=1)).to_have_text(heading)
    page.keyboard.press("Tab")
    skip = page.get_by_role("link", name="Skip to content")
    expect(skip).to_be_focused()
    expect(skip).to_be_in_viewport()
    page.keyboard.press("Tab")
    expect(page.get_by_role("banner").get_by_role("link").first).to_be_focused()
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
