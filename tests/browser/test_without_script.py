"""The pages without JavaScript: sign-in, filters, forms, folded parts."""

import re

import pytest
from playwright.sync_api import expect

from contract.tokens import CourseToken
from tests.browser.conftest import NARROW, WIDE, Open, sign_in
from tests.browser.university import University


def test_endpoint_is_disabled_and_its_held_deliveries_are_found(
    open_page: Open, campus: University
) -> None:
    page = open_page(java_script_enabled=False)
    sign_in(page, campus.addresses["notifier"])
    expect(page.get_by_role("contentinfo")).to_contain_text("Times are in UTC.")
    page.goto(f"{campus.addresses['notifier']}/endpoints/3")
    page.locator("summary", has_text="Disable").click()
    page.get_by_label("Reason").fill("ELMS moves")
    page.get_by_role("button", name="Disable and hold deliveries").click()
    expect(page.get_by_role("main")).to_contain_text("ELMS moves (Ada on the pages)")

    page.get_by_role("link", name="Deliveries", exact=True).first.click()
    page.get_by_label("Status", exact=True).select_option("held")
    page.get_by_role("button", name="Apply").click()

    expect(page.get_by_role("link", name="Replay results")).to_be_visible()
    assert "UTC" in page.locator("time").first.inner_text()
    page.get_by_role("link", name=re.compile(r"^Delivery \d")).first.click()
    expect(page.get_by_role("main")).to_contain_text("HELD100")


def test_course_is_added_and_removed(open_page: Open, campus: University) -> None:
    page = open_page(java_script_enabled=False)
    sign_in(page, campus.addresses["receiver"])
    page.get_by_role("link", name="Add a course").click()
    page.get_by_label("Source").select_option("eassessment")
    page.get_by_label("Course id").fill("NEW 101/a")
    page.get_by_label("Course token").fill(CourseToken.generate().reveal())
    page.get_by_role("button", name="Add course").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("NEW 101/a")

    page.get_by_text("Remove from the grade sync").click()
    page.get_by_role("button", name="Remove course", exact=True).click()

    expect(page.get_by_role("status")).to_contain_text("NEW 101/a was removed from the grade sync.")


@pytest.mark.parametrize(
    ("width", "is_folded"),
    [pytest.param(NARROW, True, id="narrow"), pytest.param(WIDE, False, id="wide")],
)
def test_filter_is_folded_on_narrow_screens_unless_it_is_used(
    open_page: Open, campus: University, width: int, is_folded: bool
) -> None:
    page = open_page(java_script_enabled=False, width=width)
    sign_in(page, campus.addresses["receiver"])
    page.goto(f"{campus.addresses['receiver']}/inbox")
    field, unfold = page.get_by_label("Webhook id"), page.get_by_text("Filter and download")
    expect(field).to_be_visible(visible=not is_folded)
    expect(unfold).to_be_visible(visible=is_folded)

    if is_folded:
        unfold.click()
    field.fill("msg_none")
    page.get_by_role("button", name="Apply").click()

    expect(field).to_be_visible()
    expect(field).to_have_value("msg_none")
