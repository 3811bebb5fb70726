"""Signing in with a real browser, at both services."""

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import NARROW, WIDE, address_of, findings, overflow, sign_in
from tests.foundation.pages.conftest import PASSWORD
from tests.integration.services import Served

Open = Callable[..., Page]
HEADINGS = {"notifier": "Overview", "receiver": "Registry"}


def heading_of(service: Served) -> str:
    """Return the heading of a service's first page."""
    return HEADINGS[service.schema.service]


def test_a_user_signs_in_and_out(open_page: Open, service: Served) -> None:
    page = open_page()

    sign_in(page, address_of(service))

    expect(page.get_by_role("heading", level=1)).to_have_text(heading_of(service))
    expect(page.get_by_role("banner")).to_contain_text("Signed in as Ada")
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("status")).to_have_text("You are signed out.")
    page.goto(address_of(service))
    assert page.url.endswith("/sign-in?next=/")


def test_both_services_are_signed_in_to_side_by_side(
    open_page: Open, served: dict[str, Served]
) -> None:
    page = open_page()
    for one in served.values():
        sign_in(page, address_of(one))

    for one in served.values():
        page.goto(address_of(one))
        expect(page.get_by_role("heading", level=1)).to_have_text(heading_of(one))


def test_a_wrong_password_is_said_aloud(open_page: Open, service: Served) -> None:
    page = open_page()
    page.goto(address_of(service))
    page.get_by_label("Name").fill("Ada")
    page.get_by_label("Password").fill("not the password")
    page.get_by_role("button", name="Sign in").click()

    expect(page.get_by_role("alert")).to_contain_text("The name or the password is wrong.")
    expect(page.get_by_label("Name")).to_have_value("Ada")
    expect(page.get_by_label("Password")).to_be_focused()
    expect(page.get_by_label("Password")).to_have_value("")


def test_the_keyboard_is_enough(open_page: Open, service: Served) -> None:
    page = open_page()
    page.goto(address_of(service))

    page.keyboard.type("Ada")
    page.keyboard.press("Tab")
    page.keyboard.type(PASSWORD)
    page.keyboard.press("Enter")

    expect(page.get_by_role("heading", level=1)).to_have_text(heading_of(service))
    page.keyboard.press("Tab")
    skip = page.get_by_role("link", name="Skip to content")
    expect(skip).to_be_focused()
    expect(skip).to_be_in_viewport()
    page.keyboard.press("Tab")
    expect(page.get_by_role("banner").get_by_role("link").first).to_be_focused()
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"


def test_it_works_without_script(open_page: Open, service: Served) -> None:
    page = open_page(java_script_enabled=False)

    sign_in(page, address_of(service))

    expect(page.get_by_role("heading", level=1)).to_have_text(heading_of(service))
    expect(page.get_by_role("contentinfo")).to_contain_text("Times are in UTC.")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_nobody_is_left_out(
    open_page: Open,
    service: Served,
    signed_in_at: Callable[[str], Any],
    scheme: str,
    width: int,
) -> None:
    address = address_of(service)
    look = {"color_scheme": scheme, "width": width}
    inside = {**look, "storage_state": signed_in_at(address)}

    found = {}
    for path, options in (("/sign-in", look), ("/", inside), ("/nowhere", inside)):
        page = open_page(**options)
        page.goto(address + path)
        found[path] = (findings(page), overflow(page))

    assert found == {"/sign-in": ([], 0), "/": ([], 0), "/nowhere": ([], 0)}
