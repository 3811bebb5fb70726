"""The page about the API, at both services."""

from urllib.parse import urlsplit

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Open
from tests.browser.university import University


@pytest.mark.parametrize("service", ["notifier", "receiver"])
def test_swagger_ui_shows_the_operations_without_other_hosts(
    open_page: Open, campus: University, service: str
) -> None:
    page = open_page()
    requested: set[str] = set()
    page.on("request", lambda request: requested.add(urlsplit(request.url).netloc))
    page.goto(f"{campus.addresses[service]}/docs")

    page.get_by_role("link", name="/readyz").first.click()

    expect(page.get_by_text("not-ready").first).to_be_visible()
    assert requested - {""} == {urlsplit(campus.addresses[service]).netloc}
