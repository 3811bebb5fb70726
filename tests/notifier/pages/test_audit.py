"""What the pages of eAssessment record in the audit table, and where they show it."""

from foundation.db.audit import AuditEntry
from notifier.models import DeliveryStatus
from tests.notifier.conftest import NINE, Store
from tests.notifier.pages.conftest import URL, Browser


def test_pages_record_what_they_change(ada: Browser, store: Store) -> None:
    dead = {"status": DeliveryStatus.DEAD, "settled_at": NINE}
    delivery_id = store.add_delivery(store.add_endpoint("https://other.example/").id, **dead)
    store.add_courses(["CS102", "CS103"])

    for path, fields in (
        ("/courses/new", {"course_id": "CS101", "title": "Databases"}),
        ("/courses/token", {"course_id": "CS101", "version": 1}),
        ("/courses/delete/confirmed", {"course_id": ["CS102", "CS103", "none"]}),
        ("/endpoints/new", {"url": URL, "event_types": "course.deleted"}),
        ("/endpoints/2/types", {"event_types": ["course.deleted", "token.regenerated"]}),
        ("/endpoints/2/token-claims", {"allowed": "on"}),
        ("/endpoints/2/url", {"url": f"{URL}/2"}),
        ("/endpoints/2/secret", {"overlap": "24h", "newest": 2}),
        ("/endpoints/2/disable", {"reason": "moved"}),
        ("/endpoints/2/enable", {}),
        ("/endpoints/2/try", {}),
        (f"/deliveries/{delivery_id}/replay", {}),
        ("/courses/token", {"course_id": "CS101", "version": 1}),  # refused
    ):
        ada.send(path, **fields)

    entries = store.all(AuditEntry)
    assert {(one.actor, one.channel, one.address) for one in entries} == {
        ("Ada", "page", "127.0.0.1")
    }
    token_id = entries[1].detail
    assert [(one.action, one.object_id, one.detail) for one in entries] == [
        ("course.add", "CS101", "Databases"),
        ("course.regenerate-token", "CS101", token_id),
        ("course.delete", "CS102", ""),
        ("course.delete", "CS103", ""),
        ("endpoint.add", "2", URL),
        ("endpoint.set-event-types", "2", "course.deleted, token.regenerated"),
        ("endpoint.set-token-claims", "2", "on"),
        ("endpoint.correct-url", "2", f"{URL}/2"),
        ("endpoint.rotate-secret", "2", ""),
        ("endpoint.disable", "2", "moved"),
        ("endpoint.enable", "2", ""),
        ("endpoint.retry", "2", ""),
        ("delivery.replay", str(delivery_id), ""),
    ]
    assert token_id in ada.look("/courses/one", course_id="CS101")


def test_course_and_endpoint_show_who_changed_them(ada: Browser, store: Store) -> None:
    store.add_course("CS101")
    endpoint_id = store.add_endpoint(URL).id

    ada.send("/courses/delete/confirmed", course_id="CS101")
    ada.send(f"/endpoints/{endpoint_id}/disable", reason="moved to another host")

    course = ada.look("/courses/one", course_id="CS101")
    endpoint = ada.look(f"/endpoints/{endpoint_id}")
    entries = ada.look("/audit")
    assert "course.delete" in course
    assert 'href="/audit?actor=Ada"' in course
    assert "moved to another host</bdi></td>" in endpoint
    assert f'<a href="/endpoints/{endpoint_id}">' in entries
    assert '<a href="/courses/one?course_id=CS101">' in entries
