"""The page about the API in a real browser, at both services."""

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import NARROW, WIDE, address_of, findings, overflow
from tests.integration.services import Served

Open = Callable[..., Page]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_nobody_is_left_out(open_page: Open, service: Served, scheme: str, width: int) -> None:
    page = open_page(color_scheme=scheme, width=width)
    page.goto(f"{address_of(service)}/docs")

    folded = (findings(page), overflow(page))
    page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true })")

    assert folded == ([], 0)
    assert (findings(page), overflow(page)) == ([], 0)


def test_a_stranger_reads_what_a_refusal_looks_like(open_page: Open, service: Served) -> None:
    page = open_page()
    page.goto(f"{address_of(service)}/docs")

    page.locator("summary", has_text="/readyz").click()
    page.get_by_role("row", name="503 not-ready").get_by_role("link", name="Problem").click()

    expect(page.get_by_role("rowheader", name="next_step")).to_be_in_viewport()
    expect(page.get_by_role("navigation", name="Pages")).to_have_count(0)


def test_it_works_without_script(open_page: Open, service: Served) -> None:
    page = open_page(java_script_enabled=False)
    page.goto(f"{address_of(service)}/docs")

    page.locator("summary", has_text="/readyz").click()
    page.get_by_role("row", name="200").get_by_role("link", name="Ready").click()

    shape = page.locator("summary", has_text="The service can do its work.")
    expect(shape).to_be_in_viewport()
    shape.click()
    expect(page.get_by_role("rowheader", name="ready", exact=True)).to_be_visible()


def test_who_is_signed_in_finds_it_and_the_way_back(
    open_page: Open, service: Served, signed_in_at: Callable[[str], Any]
) -> None:
    page = open_page(storage_state=signed_in_at(address_of(service)))
    page.goto(address_of(service))

    page.get_by_role("link", name="The API of this service").click()

    expect(page.get_by_role("heading", level=1)).to_contain_text("The API of")
    page.get_by_role("navigation", name="Pages").get_by_role("link").first.click()
    expect(page.get_by_role("banner")).to_contain_text("Signed in as Ada")
