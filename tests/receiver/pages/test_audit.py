"""What the pages of ELMS record in the audit table, and where they show it."""

from contract.tokens import CourseToken
from foundation.db.audit import AuditEntry
from receiver.course_state import Deleted
from tests.receiver.conftest import NINE, Store
from tests.receiver.pages.conftest import Browser


def test_pages_record_what_they_change(browser: Browser, store: Store) -> None:
    store.add_source("one")
    tokens = [CourseToken.generate().reveal() for _ in range(3)]

    for path, fields in (
        ("/entries/new", {"source": "one", "course_id": "CS101", "token": tokens[0]}),
        ("/entries/1/token", {"token": tokens[1]}),
        ("/entries/tokens", {"text": f"course_id,token\nCS101,{tokens[2]}\n"}),
        ("/entries/1/activity", {"gradebook_course": "4", "gradebook_activity": "7"}),
        ("/entries/1/remove", {}),
        ("/runs/pause", {}),
        ("/runs/resume", {}),
    ):
        assert browser.post(path, **fields).status == 303

    entries = store.rows(AuditEntry)
    assert {(one.actor, one.channel, one.address) for one in entries} == {
        ("Ada", "page", "127.0.0.1")
    }
    assert [(one.action, one.object_id, one.detail) for one in entries] == [
        ("entry.add", "CS101", "one"),
        ("entry.set-token", "CS101", "one"),
        ("entry.set-token", "CS101", "one"),
        ("entry.set-activity", "CS101", "one: 4/7"),
        ("entry.remove", "CS101", "one"),
        ("sync.pause", "", ""),
        ("sync.resume", "", ""),
    ]
    assert '<a href="/?q=CS101">' in browser.get("/audit").html
    assert "entry.set-activity" in browser.get("/entries/1").html


def test_removal_of_many_courses_is_recorded_for_each(browser: Browser, store: Store) -> None:
    for course_id in ("CS101", "CS102"):
        store.add_course(course_id, Deleted(4, NINE))

    browser.submit(
        "/entries/remove/confirmed", everything="true", status="course_deleted", expected="2"
    )

    removed = [(one.action, one.object_id) for one in store.rows(AuditEntry)]
    assert removed == [("entry.remove", "CS101"), ("entry.remove", "CS102")]
