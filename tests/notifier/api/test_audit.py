"""What the admin API and a Moodle's events record in the audit table."""

from flask.testing import FlaskClient

from foundation.db.audit import AuditEntry
from notifier.models import DeliveryStatus
from tests.notifier.app_fixtures import INGEST_SECRET, Admin
from tests.notifier.conftest import NINE, Store

URL = "https://elms.example/webhooks/eassessment"


def test_admin_api_records_what_it_changes(admin: Admin, store: Store) -> None:
    dead = {"status": DeliveryStatus.DEAD, "settled_at": NINE}
    delivery_id = store.add_delivery(store.add_endpoint().id, **dead)

    admin("POST", "/courses", json={"course_id": "CS101", "title": "Algorithms"})
    token_id = admin("POST", "/courses/CS101/token").json["token_id"]
    admin("DELETE", "/courses/CS101")
    admin("DELETE", "/courses/CS101")  # refused
    endpoint = admin("POST", "/endpoints", json={"url": URL}).json
    admin("POST", "/deliveries/replay", json={"ids": [delivery_id], "dry_run": True})
    admin("POST", "/deliveries/replay", json={"ids": [delivery_id]})

    entries = store.all(AuditEntry)
    assert {(one.actor, one.channel, one.address) for one in entries} == {
        ("admin API", "api", "127.0.0.1")
    }
    assert [(one.action, one.object_id, one.detail) for one in entries] == [
        ("course.add", "CS101", "Algorithms"),
        ("course.regenerate-token", "CS101", token_id),
        ("course.delete", "CS101", ""),
        ("endpoint.add", str(endpoint["endpoint_id"]), URL),
        ("delivery.replay", str(delivery_id), ""),
    ]


def test_moodle_is_the_actor_of_its_deletions(
    client: FlaskClient, admin: Admin, store: Store
) -> None:
    event = {
        "eventname": "\\core\\event\\course_deleted",
        "courseid": 7731,
        "timecreated": 1763802000,
    }
    headers = {"X-Api-Key": INGEST_SECRET, "X-Forwarded-For": "192.0.2.9"}

    client.post("/api/v1/ingest/moodle", json=event, headers=headers)
    client.post("/api/v1/ingest/moodle", json=event, headers=headers)  # a duplicate

    [entry] = store.all(AuditEntry)
    assert (entry.actor, entry.channel, entry.address) == ("Moodle", "api", "192.0.2.9")
    assert (entry.action, entry.object_id) == ("course.delete", "7731")
