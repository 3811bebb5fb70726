"""A real browser on both services as they are served; without it these tests skip, but in CI."""

import functools
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from playwright.sync_api import Browser, Page, expect, sync_playwright
from werkzeug.serving import make_server

from foundation.db.migrations import Schema
from foundation.db.session import Database
from foundation.pages import users
from notifier import services as notifier_services
from notifier.models import SCHEMA as NOTIFIER
from receiver.models import SCHEMA as RECEIVER
from tests.foundation.pages.conftest import KEY, PASSWORD, SERVICES
from tests.foundation.pages.specimen import add_specimen
from tests.integration.services import Served, copied, serve

SCHEMAS = {"notifier": NOTIFIER, "receiver": RECEIVER}
AXE = (files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8")
WIDE, NARROW = 1280, 360
ALONE = (
    "notifier work",
    "notifier doctor",
    "receiver sync-grades",
    "receiver registry import",
    "receiver sources",
)
"""What no page does: it takes a process, a file or a secret of the machine."""
SEEN_WITHIN = 20_000
"""Milliseconds within which a page shows what it is expected to, on a busy machine too."""


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """The browser of this run."""
    path = shutil.which("chromium")
    if path is None:
        if os.environ.get("CI"):
            pytest.fail("chromium is not installed, and in CI nothing may skip for want of it")
        pytest.skip("chromium is not installed (apt-get install chromium)")
    expect.set_options(timeout=SEEN_WITHIN)
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=path)
        yield launched
        launched.close()


@pytest.fixture(scope="session")
def served(
    browser: Browser,
    tmp_path_factory: pytest.TempPathFactory,
    sqlite_templates: Callable[[Schema], Path],
) -> Iterator[dict[str, Served]]:
    """Both services, on databases where Ada may sign in; nothing else is in them."""
    running = {}
    for name, schema in SCHEMAS.items():
        folder = tmp_path_factory.mktemp(name)
        url = copied(sqlite_templates(schema), folder)
        add_ada(url)
        running[name] = serve(name, schema, url, folder)
    yield running
    for one in running.values():
        one.stop()


@pytest.fixture(params=list(SCHEMAS))
def service(request: pytest.FixtureRequest, served: dict[str, Served]) -> Served:
    """The service that is looked at: every test that asks looks at both."""
    return served[request.param]


@pytest.fixture(scope="session")
def specimen(
    browser: Browser,
    tmp_path_factory: pytest.TempPathFactory,
    sqlite_templates: Callable[[Schema], Path],
) -> Iterator[str]:
    """The address of an app with a page of every part."""
    url = copied(sqlite_templates(NOTIFIER), tmp_path_factory.mktemp("specimen"))
    add_ada(url)
    app: Flask = SERVICES[0].create(encryption_keys=KEY, database_url=url, log_format="json")
    add_specimen(app)
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.port}"
    server.shutdown()
    thread.join()
    server.server_close()
    notifier_services.of(app).database.dispose()


def add_ada(url: str) -> None:
    """Let Ada sign in."""
    database = Database(url)
    with database.writing() as session:
        users.add(session, "Ada", PASSWORD, now=datetime.now(UTC))
    database.dispose()


@pytest.fixture(scope="session")
def signed_in_at(browser: Browser) -> Callable[[str], Any]:
    """Return what signs Ada in at an address, once for all tests, and answers the cookies."""

    @functools.cache
    def state(address: str) -> Any:
        context = browser.new_context()
        sign_in(context.new_page(), address)
        kept = context.storage_state()
        context.close()
        return kept

    return state


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Return what opens a page of a new browser profile; what it complains of fails the test."""
    made = []
    complaints: list[str] = []

    def make(**options: Any) -> Page:
        width = options.pop("width", WIDE)
        given = {"viewport": {"width": width, "height": 800}, "timezone_id": "Europe/Berlin"}
        made.append(browser.new_context(**{**given, **options}))
        page = made[-1].new_page()
        page.set_default_timeout(SEEN_WITHIN)
        page.on("console", lambda said: complaints.append(said.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append(f"dialog: {dialog.message}"))
        return page

    yield make
    for context in made:
        context.close()
    # A refused form is a failed resource to the browser; all else is a fault of the page.
    assert [one for one in complaints if not one.startswith("Failed to load resource")] == []


def address_of(service: Served) -> str:
    """Return where a service's pages are."""
    return f"http://127.0.0.1:{service.port}"


def sign_in(page: Page, address: str, path: str = "/") -> None:
    """Sign Ada in, and be at a path."""
    page.goto(f"{address}{path}")
    page.get_by_label("Name").fill("ada")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(f"{address}{path}")


def findings(page: Page) -> list[tuple[str, list[str]]]:
    """Return what axe-core finds wrong with a page, of whatever weight."""
    page.evaluate(AXE)
    found = page.evaluate("axe.run()")
    return [
        (one["id"], [node["html"][:200] for node in one["nodes"]]) for one in found["violations"]
    ]


def commands(page: Page) -> list[str]:
    """Return the commands that a page names though a page does the same."""
    named = page.locator("code").all_text_contents()
    ours = [one for one in named if one.startswith(("notifier ", "receiver "))]
    return [one for one in ours if not one.startswith(ALONE)]


def overflow(page: Page) -> int:
    """Return by how many pixels a page is wider than its window."""
    return int(page.evaluate("document.documentElement.scrollWidth - innerWidth"))
