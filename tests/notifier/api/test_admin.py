"""The admin API: one success and one refusal for each operation."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from werkzeug.test import TestResponse

from contract.signatures import Secret
from contract.tokens import CourseToken
from notifier.courses import service as courses
from notifier.models import DeliveryStatus
from notifier.webhooks import delivery_queries
from tests.notifier.app_fixtures import Admin, Refused
from tests.notifier.conftest import MINUTE, NINE, Store

URL = "https://elms.example/webhooks/eassessment"
COURSE = {"course_id": "CS101", "title": "Algorithms"}
SCORE = {
    "userId": "ben",
    "scoreGiven": "7.5",
    "scoreMaximum": "10",
    "timestamp": "2026-11-22T09:30:00Z",
}
SCORES = {"scores": [SCORE]}
REPLAY = "/deliveries/replay"
BOTH = {"ids": [1], "filter": {}}
PRIVATE = {"url": "https://10.0.0.7/webhooks"}


@pytest.fixture
def dead(store: Store) -> int:
    """The id of a dead delivery of CS101; a later one, of the deleted CS102, is pending."""
    store.add_course("CS101")
    store.add_course("CS102")
    store.write(courses.delete_course, "CS102", now=NINE)
    endpoint = store.add_endpoint(URL)
    settled = {"status": DeliveryStatus.DEAD, "settled_at": NINE, "reason": "10 attempts failed"}
    dead_id = store.add_delivery(endpoint.id, course_id="CS101", attempts=10, **settled)
    store.add_delivery(endpoint.id, course_id="CS102", occurred_at=NINE + MINUTE)
    return dead_id


def test_added_course_shows_its_token_once(admin: Admin) -> None:
    added = admin("POST", "/courses", json=COURSE)
    shown, listed = admin("GET", "/courses/CS101"), admin("GET", "/courses")

    course = added.json
    token = CourseToken.parse(course.pop("token"))
    assert (added.status_code, added.headers["Cache-Control"]) == (201, "no-store")
    created_at = course.pop("created_at")
    assert datetime.fromisoformat(created_at).tzinfo == UTC
    assert course == {
        **COURSE,
        "course_version": 1,
        "changed_at": created_at,
        "deleted_at": None,
        "token_id": token.token_id,
    }
    assert shown.json["token_id"] == token.token_id
    assert token.secret not in shown.text + listed.text


def test_courses_are_listed_page_by_page(admin: Admin, store: Store) -> None:
    for course_id in ("CS103", "CS101", "CS102"):
        store.add_course(course_id)

    first = admin("GET", "/courses?limit=2").json
    second = admin("GET", f"/courses?limit=2&after={first['next']}").json

    assert [course["course_id"] for course in first["courses"]] == ["CS101", "CS102"]
    assert [course["course_id"] for course in second["courses"]] == ["CS103"]
    assert (first["next"], second["next"]) == ("CS102", None)


def test_courses_are_searched_and_sorted(admin: Admin, store: Store) -> None:
    store.add_courses(["CS103", "CS101", "LAW1", "CS102"])
    store.write(courses.delete_course, "CS102", now=NINE)

    def ids(query: str) -> list[str]:
        return [one["course_id"] for one in admin("GET", f"/courses?{query}").json["courses"]]

    assert ids("matching=s10&sort=-id") == ["CS103", "CS102", "CS101"]
    assert ids("matching=s10&deleted=false&sort=-id&after=CS103") == ["CS101"]
    assert ids("deleted_since=2026-11-22T00:00:00Z") == ["CS102"]


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        pytest.param("courses?title=law", "/title", id="courses"),
        pytest.param("courses?sort=size", "/sort", id="column"),
        pytest.param("deliveries?course=CS101", "/course", id="deliveries"),
        pytest.param("deliveries?matching=", "/matching", id="empty search"),
        pytest.param(
            "deliveries?since=2026-11-23T00:00:00Z&until=2026-11-22T00:00:00Z",
            "/until",
            id="period",
        ),
        pytest.param("endpoints?deleted=1", "/deleted", id="endpoints"),
        pytest.param("courses/CS101?x=1", "/x", id="one course"),
    ],
)
def test_list_refuses_what_it_does_not_know(admin: Admin, query: str, pointer: str) -> None:
    response = admin("GET", f"/{query}")

    assert response.status_code == 422
    assert [fault["pointer"] for fault in response.json["errors"]] == [pointer]


def test_course_is_deleted(admin: Admin, store: Store) -> None:
    store.add_endpoint()
    store.add_course("CS101")

    response = admin("DELETE", "/courses/CS101")

    (delivery,) = admin("GET", "/deliveries").json["deliveries"]
    assert (response.status_code, response.json["course_version"]) == (200, 2)
    assert response.json["deleted_at"] == delivery["occurred_at"]
    assert delivery["event_type"] == "course.deleted"


def test_course_is_restored(admin: Admin, store: Store) -> None:
    store.add_course("CS101")
    admin("DELETE", "/courses/CS101")

    restored = admin("POST", "/courses/CS101/restore")
    again = admin("POST", "/courses/CS101/restore")

    assert (restored.status_code, restored.json["course_version"]) == (200, 3)
    assert (restored.json["deleted_at"], restored.json["grades_forgotten"]) == (None, False)
    assert (again.status_code, again.json["type"]) == (409, "urn:problem-type:course-not-deleted")
    assert store.course("CS101").version == 3


def test_final_deletion_is_not_undone(admin: Admin, store: Store) -> None:
    store.add_course("CS101")
    store.write(courses.delete_course, "CS101", now=NINE - timedelta(days=400))

    refused = admin("POST", "/courses/CS101/restore")

    assert (refused.status_code, refused.json["type"]) == (409, "urn:problem-type:deletion-final")
    assert refused.json["next_step"] == "If the course is held again, add it under a new id."


def test_token_is_regenerated(admin: Admin, store: Store) -> None:
    old = store.add_course("CS101")

    response = admin("POST", "/courses/CS101/token")

    assert (response.status_code, response.json["course_version"]) == (201, 2)
    assert CourseToken.parse(response.json["token"]).token_id == response.json["token_id"]
    assert response.json["token_id"] != old.token_id


def test_overlap_keeps_the_old_token_good(admin: Admin, store: Store) -> None:
    old = store.add_course("CS101")

    response = admin("POST", "/courses/CS101/token?overlap_seconds=3600")
    too_long = admin("POST", "/courses/CS101/token?overlap_seconds=7776001")

    [replaced, _] = admin("GET", "/courses/CS101").json["tokens"]
    assert (response.status_code, too_long.status_code) == (201, 422)
    assert replaced["token_id"] == old.token_id
    assert replaced["valid_until"] == response.json["valid_until"] > replaced["superseded_at"]


def test_grades_are_loaded(admin: Admin, store: Store) -> None:
    store.add_course("CS101")
    other = {**SCORE, "userId": "åsa"}
    admin("PUT", "/courses/CS101/grades", json={"scores": [SCORE, other]})

    response = admin(
        "PUT",
        "/courses/CS101/grades",
        json={"scores": [{**SCORE, "scoreGiven": "8"}, other, {**SCORE, "userId": "cy"}]},
    )

    assert response.json == {"added": 1, "changed": 1, "unchanged": 1}


def test_registered_endpoint_shows_its_secret_once(admin: Admin) -> None:
    written = URL.replace("https", "HTTPS")
    response = admin("POST", "/endpoints", json={"url": written, "event_types": ["course.deleted"]})
    listed = admin("GET", "/endpoints")

    endpoint = response.json
    secret, warning = endpoint.pop("secret"), endpoint.pop("warning")
    assert response.status_code == 201
    assert Secret.parse(secret).reveal() == secret
    assert (warning["failure"], warning["action"]) == ("dns", "endpoints correct-url 1")
    assert (endpoint["url"], endpoint["event_types"]) == (URL, ["course.deleted"])
    assert listed.json["endpoints"] == [endpoint]
    assert secret not in listed.text


def test_removed_endpoint_is_listed_on_request(admin: Admin, dead: int, store: Store) -> None:
    open_id = store.add_delivery(1)

    removed = admin("DELETE", "/endpoints/1")
    listed = [admin("GET", f"/endpoints{query}").json["endpoints"] for query in ("", "?removed=1")]

    assert (removed.json["status"], removed.json["cancelled"]) == ("removed", 2)
    assert [[one["endpoint_id"] for one in found] for found in listed] == [[], [1]]
    assert store.statuses(open_id, dead) == ["cancelled", "dead"]


@pytest.mark.parametrize(
    ("route", "document", "status", "kind"),
    [
        pytest.param("POST /courses", COURSE, 409, "course-exists", id="add again"),
        pytest.param("GET /courses/NONE", None, 404, "course-unknown", id="show unknown"),
        pytest.param("DELETE /courses/CS102", None, 410, "course-deleted", id="delete again"),
        pytest.param("POST /courses/NONE/token", None, 404, "course-unknown", id="regenerate"),
        pytest.param("PUT /courses/CS102/grades", SCORES, 410, "course-deleted", id="load grades"),
        pytest.param("POST /endpoints", {"url": URL}, 409, "endpoint-exists", id="register again"),
        pytest.param("DELETE /endpoints/99", None, 404, "endpoint-unknown", id="remove unknown"),
        pytest.param("POST /endpoints", PRIVATE, 422, "endpoint-url-refused", id="private URL"),
        pytest.param(f"POST {REPLAY}", {"ids": [1, 99]}, 404, "delivery-unknown", id="unknown id"),
        pytest.param(f"POST {REPLAY}", {}, 422, "request-invalid", id="replay of nothing"),
        pytest.param(f"POST {REPLAY}", BOTH, 422, "request-invalid", id="ids and filter"),
    ],
)
def test_refused_operation_changes_nothing(
    admin: Admin,
    dead: int,
    store: Store,
    refused: Refused,
    route: str,
    document: Any,
    status: int,
    kind: str,
) -> None:
    before = store.rows()

    refused(admin(*route.split(), json=document), status, kind)

    assert store.rows() == before


@pytest.mark.parametrize(
    ("path", "pointer"),
    [
        pytest.param("/courses?page=2", "/page", id="courses"),
        pytest.param("/deliveries?status=dead&status=held", "/status", id="deliveries"),
    ],
)
def test_invalid_query_is_refused(admin: Admin, refused: Refused, path: str, pointer: str) -> None:
    problem = refused(admin("GET", path), 422, "request-invalid")

    assert [fault["pointer"] for fault in problem["errors"]] == [pointer]


def test_delivery_is_listed_with_its_status(admin: Admin, store: Store, dead: int) -> None:
    store.add_attempt(dead, status=500)

    _, delivery = admin("GET", "/deliveries").json["deliveries"]

    assert delivery.pop("webhook_id").startswith("msg_")
    assert delivery == {
        "delivery_id": dead,
        "event_type": "course.deleted",
        "course_id": "CS101",
        "course_version": 2,
        "endpoint_id": 1,
        "endpoint_name": "",
        "url": URL,
        "status": "dead",
        "attempt_count": 1,
        "last_http_status": 500,
        "last_failure": None,
        "occurred_at": "2026-11-22T09:00:00.123456Z",
        "due_at": None,
        "settled_at": "2026-11-22T09:00:00.123456Z",
        "detail": "10 attempts failed",
    }


@pytest.mark.parametrize(
    "query",
    [
        pytest.param("course_id=CS101&status=dead&event_type=course.deleted", id="fields"),
        pytest.param("until=2026-11-22T10:01:00%2B01:00", id="another time zone"),
        pytest.param("before=2&limit=1", id="page"),
        pytest.param("sort=occurred&limit=1", id="oldest first"),
    ],
)
def test_deliveries_are_filtered(admin: Admin, dead: int, query: str) -> None:
    response: TestResponse = admin("GET", f"/deliveries?{query}")

    assert [one["delivery_id"] for one in response.json["deliveries"]] == [dead]


def test_cursor_of_the_other_order_is_refused(admin: Admin, dead: int) -> None:
    older = admin("GET", "/deliveries?sort=occurred&before=2")
    newer = admin("GET", "/deliveries?after=1")

    assert (older.status_code, newer.status_code) == (422, 422)
    assert "`after` with `sort=occurred`" in newer.json["detail"]


def test_replay_by_id_records_who(admin: Admin, dead: int, store: Store) -> None:
    response = admin("POST", REPLAY, json={"ids": [dead, dead]})

    assert response.json == {"dry_run": False, "delivery_ids": [dead], "held": 0}
    assert store.delivery(dead).status == DeliveryStatus.PENDING
    (replay,) = store.read(delivery_queries.replays_of, dead)
    assert replay.entry
    assert (replay.entry.actor, replay.entry.address) == ("admin API", "127.0.0.1")


@pytest.mark.parametrize(
    "document",
    [
        pytest.param({"filter": {"status": "dead"}}, id="filter"),
        pytest.param({"filter": {}, "limit": 1}, id="limit"),
    ],
)
def test_replay_by_filter(admin: Admin, dead: int, document: Any) -> None:
    response = admin("POST", REPLAY, json=document)

    assert response.json == {"dry_run": False, "delivery_ids": [dead], "held": 0}


@pytest.mark.parametrize(
    "document",
    [
        pytest.param({"ids": [1]}, id="ids"),
        pytest.param({"filter": {"status": "dead"}}, id="filter"),
    ],
)
def test_dry_run_changes_nothing(admin: Admin, dead: int, store: Store, document: Any) -> None:
    before = store.rows()

    response = admin("POST", REPLAY, json={**document, "dry_run": True})

    assert response.json == {"dry_run": True, "delivery_ids": [dead], "held": 0}
    assert store.rows() == before


def test_replay_refuses_disabled_endpoint(admin: Admin, store: Store, refused: Refused) -> None:
    endpoint = store.add_endpoint(disabled=True)
    held = store.add_delivery(endpoint.id)

    response = admin("POST", REPLAY, json={"ids": [held]})

    problem = refused(response, 409, "replay-refused")
    assert problem["action"] == f"endpoints enable {endpoint.id}"
