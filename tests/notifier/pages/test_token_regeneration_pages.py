"""The regeneration of many tokens: a confirmation page, then one transaction, shown once."""

import csv
import io
import re
from datetime import timedelta
from urllib.parse import unquote

import pytest

from contract.tokens import CourseToken
from foundation.db.audit import AuditEntry
from notifier.courses import service as courses
from notifier.models import Event, IssuedToken
from notifier.pages import token_regeneration
from tests.notifier.conftest import NINE, Store
from tests.notifier.pages.conftest import Browser

PREVIEW = "/courses/tokens"
CONFIRMED = "/courses/tokens/confirmed"
STATE = re.compile(r'name="state" value="([0-9a-f]{64})"')
DOWNLOAD = re.compile(r'download="tokens.csv" href="data:text/csv;charset=utf-8,([^"]+)"')


def tokens_in(page: str) -> dict[str, str]:
    """Return the public ids of the tokens that a page offers, by course id."""
    (data,) = DOWNLOAD.findall(page)
    rows = csv.DictReader(io.StringIO(unquote(data)))
    return {row["course_id"]: CourseToken.parse(row["token"]).token_id for row in rows}


def current_tokens(store: Store) -> dict[str, str]:
    """Return the public ids of the current tokens, by course id."""
    rows = [row for row in store.all(IssuedToken) if row.superseded_at is None]
    with store.database.reading() as session:
        return {session.merge(row).course.course_id: row.token_id for row in rows}


def test_selected_tokens_are_regenerated_and_offered_once(ada: Browser, store: Store) -> None:
    store.add_endpoint()
    store.add_courses(["CS101", "CS102", "CS103"])
    store.write(courses.delete_course, "CS103", now=NINE)
    store.write(courses.ensure_course, "7", "In a Moodle", now=NINE)
    before = store.rows()

    preview = ada.send(PREVIEW, course_id=["CS101", "7", "CS103", "NONE", "CS102"]).text
    unchanged = store.rows() == before
    (state,) = STATE.findall(preview)
    response = ada.send(CONFIRMED, text="CS101\nCS102", state=state, overlap="7d")

    assert unchanged
    assert "Regenerate the tokens of 2 courses?" in preview
    assert "because a Moodle issues their tokens (1)" in preview
    assert "Already deleted (1)" in preview
    assert "Not found (1)" in preview
    assert response.headers["Cache-Control"] == "no-store"
    offered = tokens_in(response.text)
    assert list(offered) == ["CS101", "CS102"]
    assert offered.items() <= current_tokens(store).items()
    replaced = [row for row in store.all(IssuedToken) if row.superseded_at is not None]
    overlaps = {row.valid_until - row.superseded_at for row in replaced if row.valid_until}
    assert (len(replaced), overlaps) == (2, {timedelta(days=7)})
    audited = {row.object_id: row.detail for row in store.all(AuditEntry)}
    assert audited["CS101"].startswith(f"{offered['CS101']}; the old one is good until ")


def test_form_that_is_sent_twice_changes_nothing_again(ada: Browser, store: Store) -> None:
    store.add_courses(["CS101", "CS102"])
    (state,) = STATE.findall(ada.send(PREVIEW, text="CS101\nCS102").text)

    ada.send(CONFIRMED, text="CS101\nCS102", state=state)
    before = store.rows()
    again = ada.send(CONFIRMED, text="CS101\nCS102", state=state, overlap="1h")

    assert again.status_code == 409
    assert "this form was sent twice" in again.text
    assert '<option value="1h" selected>' in again.text
    assert STATE.findall(again.text) != [state]
    assert store.rows() == before


def test_all_that_a_search_found_get_new_tokens(ada: Browser, store: Store) -> None:
    store.add_courses([*(f"CS{number}-2025" for number in range(60)), "CS1-2026"])

    listed = ada.look("/courses", q="2025 cs")
    preview = ada.send(PREVIEW, everything="true", q="2025 cs").text
    (state,) = STATE.findall(preview)
    page = ada.send(CONFIRMED, everything="true", q="2025 cs", state=state, overlap="none").text

    assert "Regenerate tokens of all 60 found…" in listed
    assert "and 40 more" in preview
    assert "60 new tokens (shown only once)" in page
    assert "Until then, the grade sync skips these courses." in page
    assert "CS1-2026" not in tokens_in(page)
    assert len(store.all(Event)) == 60


def test_page_says_if_elms_claims_the_tokens(ada: Browser, store: Store) -> None:
    store.add_endpoint(may_claim_tokens=True)
    store.add_courses(["CS101", "CS102"])

    preview = ada.send(PREVIEW, course_id=["CS101", "CS102"]).text
    (state,) = STATE.findall(preview)
    page = ada.send(CONFIRMED, text="CS101\nCS102", state=state).text

    assert "ELMS may also claim them itself" in preview
    assert "its next grade sync claims them" in page


def test_list_of_ids_that_cannot_be_read_or_is_too_long_is_refused(
    ada: Browser, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token_regeneration, "MAX_REGENERATED", 2)
    file = io.BytesIO(b"PK\x03\x04")

    spreadsheet = ada.send(PREVIEW, file=(file, "ids.xlsx"), text="")
    too_long = ada.send(PREVIEW, text="CS101\nCS102\nCS103")

    assert (spreadsheet.status_code, too_long.status_code) == (422, 422)
    assert "file is a spreadsheet" in spreadsheet.text
    assert "More than 2 courses are selected" in too_long.text
    assert "notifier courses regenerate-token" in too_long.text
