"""A real browser and both services with data; without chromium these tests are skipped."""

import functools
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright
from werkzeug.serving import make_server

from foundation.db.migrations import Schema
from foundation.services import Services
from notifier.models import SCHEMA
from tests.browser import university
from tests.browser.edge_cases import add_edge_cases
from tests.browser.university import University
from tests.foundation.pages.conftest import KEY, PASSWORD, SERVICES
from tests.foundation.pages.sample_page import add_sample_page
from tests.integration.services import copied

AXE = (files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8")
WIDE, NARROW = 1280, 360
# Milliseconds, on a busy machine.
TIMEOUT = 20_000
Open = Callable[..., Page]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    path = shutil.which("chromium")
    if path is None:
        if os.environ.get("CI"):
            pytest.fail("chromium is not installed, and CI skips no browser test")
        pytest.skip("chromium is not installed (apt-get install chromium)")
    expect.set_options(timeout=TIMEOUT)
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=path)
        yield launched
        launched.close()


@pytest.fixture(scope="session")
def campus(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[University]:
    """Both services of a university, with edge cases in addition."""
    with university.running(tmp_path_factory.mktemp("campus"), add_edge_cases) as running:
        yield running


@pytest.fixture(scope="session")
def sample_page(
    browser: Browser,
    tmp_path_factory: pytest.TempPathFactory,
    sqlite_templates: Callable[[Schema], Path],
) -> Iterator[str]:
    """The address of an empty eAssessment with a page of every part."""
    url = copied(sqlite_templates(SCHEMA), tmp_path_factory.mktemp("sample_page"))
    app = SERVICES[0].create(encryption_keys=KEY, database_url=url, log_format="json")
    database = Services.of(app).database
    university.add_ada(database)
    add_sample_page(app)
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.port}"
    server.shutdown()
    thread.join()
    server.server_close()
    database.dispose()


@pytest.fixture(scope="session")
def cookies_at(browser: Browser) -> Callable[[str], Any]:
    """Return a function that signs Ada in at an address, once, and returns the cookies."""

    @functools.cache
    def cookies(address: str) -> Any:
        context = browser.new_context()
        sign_in(context.new_page(), address)
        state = context.storage_state()
        context.close()
        return state

    return cookies


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Open]:
    """Return a function that opens a page in a new profile; a message in its console is a fault."""
    contexts = []
    faults: list[str] = []

    def make(*, width: int = WIDE, **options: Any) -> Page:
        given = {"viewport": {"width": width, "height": 800}, "timezone_id": "Europe/Berlin"}
        contexts.append(browser.new_context(**{**given, **options}))
        page = contexts[-1].new_page()
        page.set_default_timeout(TIMEOUT)
        page.on("console", lambda message: faults.append(message.text))
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("dialog", lambda dialog: faults.append(f"dialog: {dialog.message}"))
        return page

    yield make
    for context in contexts:
        context.close()
    # To the browser a refused form is a failed resource.
    assert [fault for fault in faults if not fault.startswith("Failed to load resource")] == []


@pytest.fixture
def open_signed_in(open_page: Open, cookies_at: Callable[[str], Any]) -> Open:
    """Return a function that opens the page of an address and a path, signed in."""

    def make(address: str, path: str, **options: Any) -> Page:
        page = open_page(storage_state=cookies_at(address), **options)
        page.goto(f"{address}{path}")
        return page

    return make


def sign_in(page: Page, address: str) -> None:
    page.goto(f"{address}/")
    page.get_by_label("Name").fill("ada")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(f"{address}/")


def faults_of(page: Page) -> list[str]:
    """Return what axe-core finds on the unfolded page, and what does not fit the window."""
    page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true })")
    page.evaluate(AXE)
    found = [
        f"{one['id']}: {node['html'][:200]}"
        for one in page.evaluate("axe.run()")["violations"]
        for node in one["nodes"]
    ]
    if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
        found.append("wider than the window")
    if page.evaluate(
        "[...document.querySelectorAll('.nav')].some(e => e.scrollWidth > e.clientWidth)"
    ):
        found.append("entries of the navigation are cut off")
    return found
