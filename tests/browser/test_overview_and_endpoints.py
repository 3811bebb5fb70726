"""eAssessment's overview and endpoints in a real browser, with much, little and nothing in it."""

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect
from pydantic import SecretStr

from foundation.crypto import Vault
from foundation.db.migrations import Schema
from foundation.db.session import Database
from foundation.http.ssrf import Guard
from notifier.models import SCHEMA
from notifier.webhooks import circuit_breaker, endpoints
from notifier.webhooks.circuit_breaker import BreakerState
from tests.browser.conftest import NARROW, WIDE, add_ada, address_of, commands, findings, overflow
from tests.browser.furnished import furnish
from tests.foundation.pages.conftest import KEY
from tests.integration.services import Served, copied, serve

Open = Callable[..., Page]
FULL = {
    "overview": "/",
    "endpoints": "/endpoints",
    "an endpoint that is well": "/endpoints/1",
    "a disabled endpoint": "/endpoints/2",
    "a paused endpoint": "/endpoints/3",
    "a new endpoint": "/endpoints/new",
}
EMPTY = {"overview": "/", "endpoints": "/endpoints", "a new endpoint": "/endpoints/new"}


@pytest.fixture(scope="module")
def house(
    browser: Browser,
    tmp_path_factory: pytest.TempPathFactory,
    sqlite_templates: Callable[[Schema], Path],
) -> Iterator[Served]:
    """An eAssessment that has seen something of everything: a disabled and a paused endpoint too.

    Nobody listens at the paused one, which is on this machine.
    """
    folder = tmp_path_factory.mktemp("house")
    url = copied(sqlite_templates(SCHEMA), folder)
    add_ada(url)
    vault = Vault(SecretStr(KEY))
    furnish(url, vault)
    _pause_one(url, vault)
    settings = {"ENCRYPTION_KEYS": KEY, "ALLOW_LOOPBACK": "true"}
    served = serve("notifier", SCHEMA, url, folder, **settings)
    yield served
    served.stop()


def _pause_one(url: str, vault: Vault) -> None:
    database, now = Database(url), datetime.now(UTC)
    with database.writing() as session:
        local = Guard(loopback=True)
        row, _ = endpoints.register(
            session, "http://127.0.0.1:9/", vault=vault, guard=local, now=now
        )
        ailing = BreakerState(9, now - timedelta(hours=2), now, now + timedelta(hours=1))
        circuit_breaker.write_states(session, {row.id: ailing})
    database.dispose()


@pytest.fixture
def at(open_page: Open, house: Served, signed_in_at: Callable[[str], Any]) -> Open:
    """Return what opens a page of the house, signed in."""

    def make(path: str, **options: object) -> Page:
        address = address_of(house)
        page = open_page(storage_state=signed_in_at(address), **options)
        page.goto(f"{address}{path}")
        return page

    return make


def open_all(page: Page) -> None:
    """Unfold whatever is folded."""
    page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true })")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [WIDE, NARROW])
@pytest.mark.parametrize("path", FULL.values(), ids=FULL.keys())
def test_the_pages_are_for_everybody(at: Open, path: str, width: int, scheme: str) -> None:
    page = at(path, width=width, color_scheme=scheme, reduced_motion="reduce")

    open_all(page)

    assert findings(page) == []
    assert overflow(page) == 0
    assert commands(page) == []


@pytest.mark.parametrize("path", EMPTY.values(), ids=EMPTY.keys())
def test_empty_pages_are_for_everybody(
    open_page: Open, served: dict[str, Served], signed_in_at: Callable[[str], Any], path: str
) -> None:
    address = address_of(served["notifier"])
    page = open_page(storage_state=signed_in_at(address), width=NARROW)

    page.goto(f"{address}{path}")

    assert findings(page) == []
    assert overflow(page) == 0
    assert commands(page) == []


def test_what_needs_a_person_is_mended_from_the_overview(at: Open) -> None:
    page = at("/")
    expect(page.get_by_role("heading", level=2).first).to_contain_text("Needs attention")

    page.get_by_role("button", name="Send test (endpoint 3)").first.click()

    expect(page.get_by_role("alert")).to_contain_text("Test failed: 127.0.0.1:")
    expect(page.get_by_role("main")).to_contain_text(
        "Check that the receiver is running and listens"
    )


def test_a_replay_asks_with_the_number(at: Open) -> None:
    page = at("/")

    page.locator("summary", has_text=re.compile("^Replay")).first.focus()
    page.keyboard.press("Enter")

    expect(page.get_by_role("button", name=re.compile(r"^Replay \d+ deliver"))).to_be_visible()


def test_the_list_is_new_by_itself(at: Open, house: Served) -> None:
    page = at("/endpoints")
    expect(page.get_by_role("rowheader")).to_have_count(3)

    database = Database(house.database_url)
    with database.writing() as session:
        url = "https://later.example.ac.uk/"
        now = datetime.now(UTC)
        endpoints.register(session, url, vault=Vault(SecretStr(KEY)), guard=Guard(), now=now)
    database.dispose()

    expect(page.get_by_role("rowheader")).to_have_count(4, timeout=30_000)


def test_a_secret_is_shown_once_and_copied(at: Open) -> None:
    page = at("/endpoints/1", permissions=["clipboard-read", "clipboard-write"])
    page.locator("summary", has_text="Rotate secret").click()
    page.get_by_label("Keep signing with the old secret for").select_option("1h")
    page.get_by_role("button", name="Rotate and show the new secret").click()

    secret = page.locator("[data-copy-text]").inner_text()
    page.get_by_role("button", name="Copy").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    copied_text = page.evaluate("navigator.clipboard.readText()")
    wrong = findings(page)
    page.reload()

    assert secret.startswith("whsec_")
    assert copied_text == secret
    assert wrong == []
    expect(page.get_by_role("heading", level=1)).not_to_contain_text("rotated")
    expect(page.get_by_role("main")).to_contain_text("has a newer secret")


def test_an_endpoint_is_disabled_and_enabled_without_script(at: Open) -> None:
    page = at("/endpoints/1", java_script_enabled=False)

    page.locator("summary", has_text="Disable").click()
    page.get_by_label("Reason").fill("ELMS moves")
    page.get_by_role("button", name="Disable and hold deliveries").click()

    expect(page.get_by_role("main")).to_contain_text("ELMS moves (Ada on the pages)")
    page.get_by_role("button", name=re.compile("^Enable")).click()
    expect(page.get_by_role("status")).to_contain_text("Endpoint enabled")


def test_a_fault_is_read_out_with_its_field(at: Open) -> None:
    page = at("/endpoints/new")

    page.get_by_label("URL").fill("http://elms.example.ac.uk/")
    page.get_by_role("button", name="Add and show the secret").click()

    field = page.get_by_label("URL")
    expect(field).to_have_value("http://elms.example.ac.uk/")
    expect(field).to_have_accessible_description(re.compile("is not https"))
    assert findings(page) == []
