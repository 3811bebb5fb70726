"""The tokens of many courses on a page."""

import io
from typing import Any

import pytest

from contract.problems import ProblemType
from contract.tokens import CourseToken
from receiver.course_state import TokenAnnounced
from tests.receiver.conftest import NINE, FakeSite, Store
from tests.receiver.pages.conftest import Browser

PATH = "/entries/tokens"
TOKEN = CourseToken.generate()
PASTED = f"course_id,token\nCS101,{TOKEN.reveal()}\n"


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"text": PASTED}, id="pasted"),
        pytest.param(
            {"text": "course_id,token\n", "file": (io.BytesIO(PASTED.encode()), "tokens.csv")},
            id="uploaded",
        ),
    ],
)
def test_tokens_are_saved(browser: Browser, store: Store, fields: dict[str, Any]) -> None:
    store.add_course("CS101", TokenAnnounced(4, TOKEN.token_id, NINE))

    page = browser.submit(PATH, **fields)

    assert page.text.startswith("1 token saved.")
    assert store.entry("CS101").stored_token_id == TOKEN.token_id


def test_courses_that_need_attention_are_listed(
    browser: Browser, store: Store, site: FakeSite
) -> None:
    store.add_course("CS101", TokenAnnounced(4, TOKEN.token_id, NINE))
    for course_id in ("CS102", "CS103"):
        store.add_course(course_id, TokenAnnounced(4, f"of-{course_id}", NINE))
    site.refuse("CS102", ProblemType.TOKEN_WRONG_COURSE)
    site.answer("CS103", 503)
    others = [CourseToken.generate().reveal() for _ in range(2)]

    page = browser.post(PATH, text=f"{PASTED}CS102,{others[0]}\nCS103,{others[1]}\n")

    assert "2 tokens saved, 1 refused" in page.text
    assert [row.split(" ", 3)[:3] for row in page.rows] == [
        ["CS102", "one", "not"],
        ["CS103", "one", "saved"],
    ]
    assert "belongs to another course" in page.rows[0]
    assert "could not be verified: responded 503" in page.rows[1]
    assert not any(token in page.html for token in (TOKEN.reveal(), *others))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        pytest.param({"text": ""}, "Line 1: missing columns: course_id", id="empty"),
        pytest.param({"text": PASTED}, "line 2: the course is not in the registry", id="unknown"),
        pytest.param(
            {"text": "course_id,token\nCS101,eas_typo_planted\n"},
            "line 2: a course token has the form",
            id="mistyped",
        ),
        pytest.param(
            {"file": (io.BytesIO(b"PK\x03\x04"), "tokens.xlsx")},
            "is a spreadsheet",
            id="spreadsheet",
        ),
        pytest.param(
            {"file": (io.BytesIO(PASTED.encode()), "tokens.csv"), "text": PASTED},
            "Text was entered and a file was chosen.",
            id="text and file",
        ),
    ],
)
def test_invalid_lines_change_nothing(
    browser: Browser, store: Store, fields: dict[str, Any], message: str
) -> None:
    store.add_source("one")
    before = store.everything()

    page = browser.post(PATH, **fields)

    assert (page.status, message in page.text) == (422, True)
    assert "paste them or choose the file again" in page.text
    assert "planted" not in page.html
    assert store.everything() == before
