"""The page about the API in a real browser, at both services."""

from collections.abc import Callable

from playwright.sync_api import Page, expect

from tests.browser.conftest import address_of
from tests.integration.services import Served

Open = Callable[..., Page]


def test_swagger_ui_shows_the_operations_without_other_sites(
    open_page: Open, service: Served
) -> None:
    page = open_page()
    requested: list[str] = []
    page.on("request", lambda request: requested.append(request.url))
    page.goto(f"{address_of(service)}/docs")

    page.get_by_role("link", name="/readyz").first.click()

    expect(page.get_by_text("not-ready").first).to_be_visible()
    assert {url.split("/")[2] for url in requested if url.startswith("http")} == {
        address_of(service).split("/")[2]
    }
