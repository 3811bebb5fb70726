"""The page that imports courses: new tokens are shown once."""

import io
import re
from urllib.parse import unquote

import pytest

from contract.tokens import CourseToken
from foundation.db.audit import AuditEntry
from notifier.courses import service as courses
from notifier.pages import course_import as pages
from tests.notifier.conftest import NINE, Store
from tests.notifier.pages.conftest import MARKUP, Browser

IMPORT = "/courses/import"


def test_imported_courses_show_their_tokens_once(
    ada: Browser, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    store.add_course("CS101", title="Old")
    store.add_course("CS102")
    store.write(courses.delete_course, "CS102", now=NINE)
    file = io.BytesIO("course_id;title\nCS101;New\nCS102;x\nÉ1;Économie\n".encode())

    page = ada.send(IMPORT, file=(file, "courses.csv"), text="course_id,title\r\n").text

    (data,) = re.findall(r'download="tokens.csv" href="data:text/csv;charset=utf-8,([^"]+)"', page)
    header, line = unquote(data).splitlines()
    course_id, token = line.split(",")
    assert (header, course_id) == ("course_id,token", "É1")
    current = store.read(courses.current_token, store.course("É1"))
    assert CourseToken.parse(token).token_id == current
    assert "1 new, 1 changed, 0 unchanged" in page
    assert "Deleted courses (1)" in page
    assert store.course("CS101").title == "New"
    changes = [(one.action, one.object_id, one.detail) for one in store.all(AuditEntry)]
    assert changes == [("course.add", "É1", "imported"), ("course.set-title", "CS101", "New")]
    assert token not in capsys.readouterr().err
    assert token not in str(store.rows())


def test_invalid_line_is_named_and_nothing_is_imported(ada: Browser, store: Store) -> None:
    before = store.rows()

    response = ada.send(IMPORT, text=f"course_id,title\nCS101,{MARKUP}\nCS102,\n")

    assert response.status_code == 422
    assert "line 3: title" in response.text
    assert "&lt;script&gt;" in response.text
    assert "<script>alert" not in response.text
    assert store.rows() == before


def test_too_many_courses_are_refused(
    ada: Browser, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "MAX_IMPORTED", 1)

    response = ada.send(IMPORT, text="course_id,title\nCS101,x\nCS102,y\n")

    assert response.status_code == 422
    assert "at most 1 can be imported at once" in response.text
