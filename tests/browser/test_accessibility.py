"""Every page in light and dark, wide and narrow: axe-core finds nothing, nothing is too wide."""

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import NARROW, WIDE, Open, faults_of
from tests.browser.edge_cases import DISABLED, NAMES, PAUSED, TITLES
from tests.browser.university import University

EMPTY = [
    "/",
    "/audit",
    "/courses",
    "/deliveries",
    "/endpoints",
    "/endpoints/new",
    "/sample",
    "/nowhere",
]
EASSESSMENT = [
    "/",
    "/courses",
    "/courses?q=zzz",
    "/courses/new",
    "/courses/select",
    "/courses/import",
    *(f"/courses/one?course_id={course_id}" for course_id in ("CS101-2026", "7731", *TITLES)),
    "/deliveries",
    "/deliveries?since=yesterday",
    "/deliveries?status=held",
    "/deliveries/replay?status=dead",
    "/endpoints",
    "/endpoints/new",
    "/audit",
    "/audit?since=soon",
    *(f"/endpoints/{number}" for number in (1, PAUSED, DISABLED)),
]
ELMS = [
    "/",
    "/?status=token_invalid",
    "/?q=none",
    "/entries/new",
    "/entries/tokens",
    "/runs",
    *(f"/runs/{number}" for number in (96, 97, 98)),
    "/runs/98?outcome=skipped",
    "/inbox",
    "/inbox?outcome=stale",
    "/inbox?since=soon&source=none",
    "/sources",
    "/sources/eassessment",
    "/new-source",
    "/audit",
]
# What no page can do: it needs a process, a file or a secret of the machine.
ONLY_COMMANDS = (
    "notifier work",
    "notifier doctor",
    "receiver sync-grades",
    "receiver registry import",
    "receiver sources",
)
LOOKS = [pytest.param("light", WIDE, id="light, wide"), pytest.param("dark", NARROW, id="dark")]

# axe-core needs a second for a long page, more on a busy machine.
pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.parametrize(("scheme", "width"), LOOKS),
]


def commands_of(page: Page) -> list[str]:
    """Return the commands that a page names although a page does the same."""
    named = page.locator("code").all_text_contents()
    ours = [text for text in named if text.startswith(("notifier ", "receiver "))]
    return [command for command in ours if not command.startswith(ONLY_COMMANDS)]


@pytest.mark.parametrize("service", ["notifier", "receiver"])
def test_pages_are_accessible(
    open_signed_in: Open, campus: University, service: str, scheme: str, width: int
) -> None:
    courses = ("CS101-2026", campus.deleted, *NAMES)
    paths = {
        "notifier": [*EASSESSMENT, f"/deliveries/{campus.retried}"],
        "receiver": [*ELMS, *(f"/entries/{campus.entries[course_id]}" for course_id in courses)],
    }[service]
    address = campus.addresses[service]
    page = open_signed_in(address, "/", color_scheme=scheme, width=width, reduced_motion="reduce")

    found = {}
    for path in paths:
        page.goto(f"{address}{path}")
        found[path] = [*faults_of(page), *commands_of(page)]

    assert found == {path: [] for path in paths}


def test_empty_pages_and_every_part_are_accessible(
    open_signed_in: Open, sample_page: str, scheme: str, width: int
) -> None:
    page = open_signed_in(
        sample_page, "/", color_scheme=scheme, width=width, reduced_motion="reduce"
    )

    found = {}
    for path in EMPTY:
        page.goto(f"{sample_page}{path}")
        found[path] = faults_of(page)

    assert found == {path: [] for path in EMPTY}


def test_check_of_a_receiver_is_accessible(
    open_signed_in: Open, campus: University, scheme: str, width: int
) -> None:
    page = open_signed_in(
        campus.addresses["notifier"], "/endpoints/1", color_scheme=scheme, width=width
    )

    page.get_by_role("button", name="Check receiver").click()

    expect(page.get_by_role("heading", level=1)).to_have_text("Check of endpoint 1")
    assert faults_of(page) == []
