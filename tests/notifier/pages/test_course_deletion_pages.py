"""The deletion of courses: a confirmation page, then batches of one transaction each."""

import io
import re
from datetime import timedelta

import pytest
from sqlalchemy.orm import Session

from foundation.db.audit import AuditEntry
from notifier import signals
from notifier.courses import grades
from notifier.courses import service as courses
from notifier.models import Course
from tests.notifier.conftest import NINE, Store, make_score
from tests.notifier.pages.conftest import URL, Browser

PREVIEW = "/courses/delete"
CONFIRMED = "/courses/delete/confirmed"
RESTORE = "/courses/restore"


@pytest.fixture
def three(store: Store) -> list[str]:
    """The ids of three courses."""
    ids = ["CS101", "CS102", "CS103"]
    for course_id in ids:
        store.add_course(course_id)
    return ids


def test_preview_names_courses_and_endpoints(ada: Browser, three: list[str], store: Store) -> None:
    store.add_endpoint(URL)
    store.add_endpoint("https://disabled.example/hook", name="Archive", disabled=True)
    store.add_endpoint("https://other.example/hook", event_types=["token.regenerated"])
    before = store.rows()

    page = ada.send(PREVIEW, course_id=three[:2]).text

    assert "Delete 2 courses?" in page
    assert [course_id in page for course_id in three] == [True, True, False]
    assert (URL in page, "Archive" in page) == (True, True)
    assert "when it is enabled; held until then" in page
    assert "https://other.example/hook" not in page
    assert store.rows() == before


def test_preview_says_if_no_endpoint_is_notified(ada: Browser, three: list[str]) -> None:
    page = ada.send(PREVIEW, course_id=three[0]).text

    assert "No endpoint is subscribed to deletions." in page
    assert '<a href="/endpoints/new">add its webhook URL</a> first' in page


def test_cancel_returns_to_the_page_before(ada: Browser, three: list[str]) -> None:
    direct = ada.send(PREVIEW, course_id=three[0]).text
    ada.client.environ_base["HTTP_REFERER"] = "http://localhost/courses/one?course_id=CS101"
    from_course = ada.send(PREVIEW, course_id=three[0]).text

    assert '<a class="button" href="/courses">Cancel</a>' in direct
    assert '<a class="button" href="/courses/one?course_id=CS101">Cancel</a>' in from_course


def test_deletion_of_several_shows_only_their_deliveries(
    ada: Browser, three: list[str], store: Store
) -> None:
    store.add_endpoint()
    store.add_course("CS998")
    store.add_course("CS999")
    ada.send(CONFIRMED, course_id="CS998")

    response = ada.send(CONFIRMED, course_id=[*three, three[0]])

    assert response.status_code == 303
    ada.send(CONFIRMED, course_id="CS999")
    page = ada.look(response.location)
    assert "Deleted: 3 courses." in page
    assert [course_id in page for course_id in three] == [True, True, True]
    assert "<strong>3</strong> pending" in page


def test_deletion_of_one_shows_its_page(ada: Browser, three: list[str], store: Store) -> None:
    store.add_endpoint()

    response = ada.send(CONFIRMED, course_id=three[0])

    page = ada.look(response.location)
    assert (response.status_code, response.location) == (303, "/courses/one?course_id=CS101")
    assert "Deleted: CS101. Its notifications are listed below." in page
    assert "course.deleted" in page
    assert 'data-refresh="/courses/one/live?course_id=CS101"' in page


def test_refused_course_does_not_prevent_the_others(
    ada: Browser, store: Store, three: list[str]
) -> None:
    store.write(courses.delete_course, three[1], now=NINE)

    preview = ada.send(PREVIEW, course_id=three).text
    page = ada.look(ada.send(CONFIRMED, course_id=[*three, "NEVER"]).location)

    assert "Delete 2 courses?" in preview
    assert "Already deleted" in preview
    assert "Deleted: 2 courses. Their notifications are listed below." in page
    assert "2 courses not deleted" in page
    assert "there is no course" in page
    assert all(store.course(course_id).deleted_at for course_id in three)


def test_only_refused_courses_lead_back_to_the_list(ada: Browser, three: list[str]) -> None:
    ada.send(CONFIRMED, course_id=three[0])

    response = ada.send(CONFIRMED, course_id=three[0])

    assert response.location == "/courses"
    assert "1 course not deleted" in ada.look("/courses")
    assert "Nothing to delete" in ada.send(PREVIEW, course_id=three[0]).text


@pytest.mark.parametrize("path", [PREVIEW, CONFIRMED])
@pytest.mark.parametrize(
    ("course_ids", "text"),
    [
        pytest.param([], "No course is selected", id="none"),
        pytest.param(
            [f"x{number}" for number in range(10_001)],
            "More than 10,000 courses are selected",
            id="too many",
        ),
    ],
)
def test_invalid_selection_is_refused(
    ada: Browser, path: str, course_ids: list[str], text: str
) -> None:
    response = ada.send(path, course_id=course_ids)

    assert response.status_code == 422
    assert text in response.text
    assert "What to do" in response.text


def test_all_that_a_search_found_are_deleted(ada: Browser, store: Store) -> None:
    store.add_courses([*(f"CS{number}-2025" for number in range(60)), "CS1-2026"])
    store.write(courses.delete_course, "CS7-2025", now=NINE)

    listed = ada.look("/courses", q="2025 cs")
    preview = ada.send(PREVIEW, everything="true", q="2025 cs").text
    store.add_courses(["CS99-2025"])
    changed = ada.send(CONFIRMED, everything="true", q="2025 cs", expected=59)
    before = store.rows()["events"]
    deleted = ada.send(CONFIRMED, everything="true", q="2025 cs", expected=60)

    assert 'form="found">Delete all 59 found…</button>' in listed.partition("<table")[0]
    assert "Delete 59 courses?" in preview
    assert "and 39 more" in preview
    assert (changed.status_code, deleted.status_code) == (409, 303)
    assert "Delete 60 courses?" in changed.text
    assert len(before) == 1
    active = [row.course_id for row in store.all(Course) if row.deleted_at is None]
    assert active == ["CS1-2026"]


def test_list_of_ids_is_deleted_in_batches(
    ada: Browser, store: Store, three: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(courses, "CHANGED_AT_ONCE", 2)
    store.add_endpoint()
    unknown = [f"{number:040}" for number in range(9_000)]
    file = io.BytesIO("\r\n".join([*three, "", *unknown, three[0]]).encode())

    form = ada.look("/courses/select")
    preview = ada.send(PREVIEW, file=(file, "ids.txt"), text="").text
    (ids,) = re.findall(r'<textarea name="text" hidden>\n(.*?)</textarea>', preview, re.DOTALL)
    padded = ids + "".join(f"\r\n{number:080}" for number in range(7_000))
    result = ada.look(ada.send(CONFIRMED, text=padded).location)

    assert 'type="file"' in form
    assert "Delete 3 courses?" in preview
    assert "Not found (9,000)" in preview
    assert ids.split() == three
    assert "Deleted: 3 courses." in result
    assert "7,000 courses not deleted" in result
    assert "<strong>3</strong> pending" in result


def test_download_of_the_list_is_a_list_of_ids(ada: Browser, three: list[str]) -> None:
    download = ada.look("/courses.csv").encode()

    preview = ada.send(PREVIEW, file=(io.BytesIO(download), "courses.csv"), text="").text
    cut = ada.send(PREVIEW, file=(io.BytesIO(download + b"CS9"), "courses.csv"), text="")

    assert f"Delete {len(three)} courses?" in preview
    assert "Not found" not in preview
    assert cut.status_code == 422
    assert "line 5: the line has more or fewer fields" in cut.text


def test_file_that_is_no_text_is_refused(ada: Browser) -> None:
    response = ada.send(PREVIEW, file=(io.BytesIO(b"PK\x03\x04"), "ids.xlsx"), text="")

    assert response.status_code == 422
    assert "file is a spreadsheet" in response.text


@pytest.mark.parametrize("path", [PREVIEW, RESTORE, "/courses/tokens", "/courses/import"])
def test_text_and_file_together_are_refused(ada: Browser, three: list[str], path: str) -> None:
    file = io.BytesIO(f"course_id,title\n{three[0]},x\n".encode())

    response = ada.send(path, file=(file, "ids.csv"), text=three[1])

    assert response.status_code == 422
    assert "Text was entered and a file was chosen." in response.text
    assert f"{three[1]}</textarea>" in response.text


UNDO = re.compile(r'name="deleted_at" value="([^"]+)"')


def test_deletion_of_several_is_undone(
    ada: Browser, three: list[str], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(courses, "CHANGED_AT_ONCE", 2)
    store.add_endpoint()
    store.add_course("CS900")
    ada.send(CONFIRMED, course_id="CS900")
    ada.look("/courses")  # with the message about that

    page = ada.look(ada.send(CONFIRMED, course_id=three).location)
    undone = ada.send(RESTORE, deleted_at=UNDO.findall(page))
    result = ada.look(undone.location)
    again = ada.look(ada.send(RESTORE, deleted_at=UNDO.findall(page)).location)

    assert "Deleted: 3 courses. Their notifications are listed below." in page
    assert len(UNDO.findall(page)) == 2
    assert "Restored: 3 courses. Their tokens are valid again" in result
    assert "<strong>3</strong> pending" in result
    assert "These courses were restored already." in again
    deleted = [row.course_id for row in store.all(Course) if row.deleted_at]
    assert deleted == ["CS900"]
    audited = {row.object_id: row.actor for row in store.all(AuditEntry) if "restore" in row.action}
    assert audited == dict.fromkeys(three, "Ada")


def test_selected_courses_are_restored_unless_it_is_refused(
    ada: Browser, three: list[str], store: Store
) -> None:
    store.load({three[0]: [make_score()]})
    ada.send(CONFIRMED, course_id=three[0])
    store.write(courses.delete_course, three[1], now=NINE - timedelta(days=400))
    store.write(grades.forget, course_id=three[0], now=NINE)

    listed = ada.look("/courses", state="deleted")
    page = ada.look(ada.send(RESTORE, course_id=three).location)
    none = ada.send(RESTORE)

    assert "Restore selected courses" in listed
    assert "Delete selected courses" not in listed
    assert "Restored: CS101. Its token is valid again" in page
    assert "The grades of 1 course were deleted meanwhile." in page
    assert "2 courses not restored: the deletion of the course" in page
    assert none.status_code == 422


def test_list_of_ids_is_restored(ada: Browser, three: list[str], store: Store) -> None:
    ada.send(CONFIRMED, course_id=three)
    file = io.BytesIO(f"course_id\n{three[0]}\n{three[1]}\nNONE\n".encode())

    form = ada.look("/courses/select")
    result = ada.look(ada.send(RESTORE, file=(file, "ids.csv"), text="").location)
    spreadsheet = ada.send(RESTORE, file=(io.BytesIO(b"PK\x03\x04"), "ids.xlsx"), text="")

    assert "Restore courses" in form
    assert "Restored: 2 courses." in result
    assert "1 course not restored: there is no course" in result
    assert [row.course_id for row in store.all(Course) if row.deleted_at] == [three[2]]
    assert spreadsheet.status_code == 422


def test_failing_event_rolls_all_deletions_back(
    ada: Browser, three: list[str], store: Store
) -> None:
    before = store.rows()

    def fail(_: Session, change: signals.CourseChange) -> None:
        if change.course_id == three[2]:
            raise LookupError("planted")

    with signals.course_deleted.connected_to(fail):
        response = ada.send(CONFIRMED, course_id=three)

    assert response.status_code == 500
    assert "planted" not in response.text
    assert store.rows() == before
