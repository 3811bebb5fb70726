"""The admin API: each route, what it shows this once, and what it refuses unchanged."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest
from sqlalchemy import select
from werkzeug.test import TestResponse

from contract.signatures import Secret
from contract.tokens import CourseToken
from foundation.db.session import Database
from notifier.models import Delivery, DeliveryStatus, Endpoint, Replay

Ask = Callable[..., TestResponse]
Refused = Callable[..., dict[str, Any]]
Rows = Callable[[], dict[str, list[Any]]]

URL = "https://elms.example/webhooks/eassessment"
SCORE = {"userId": "ben", "scoreGiven": "7.5", "scoreMaximum": "10"}
TIMED = {**SCORE, "timestamp": "2026-11-22T09:30:00Z"}


def test_adding_a_course_answers_its_token(admin: Ask) -> None:
    answer = admin("POST", "/courses", json={"course_id": "CS101", "title": "Algorithms"})

    assert answer.status_code == 201
    assert CourseToken.parse(answer.json["token"]).token_id == answer.json["token_id"]
    assert answer.json["course_version"] == 1
    assert answer.json["title"] == "Algorithms"
    assert answer.json["deleted_at"] is None
    assert datetime.fromisoformat(answer.json["created_at"]).utcoffset() is not None
    assert answer.headers["Cache-Control"] == "no-store"


def test_showing_and_listing_courses_shows_no_token(
    admin: Ask, make_course: Callable[..., str]
) -> None:
    token = make_course()

    shown, listed = admin("GET", "/courses/CS101"), admin("GET", "/courses")

    assert shown.json["token_id"] == CourseToken.parse(token).token_id
    assert [course["course_id"] for course in listed.json["courses"]] == ["CS101"]
    assert token not in shown.text + listed.text
    assert CourseToken.parse(token).secret not in shown.text + listed.text


def test_courses_are_listed_page_by_page(admin: Ask, make_course: Callable[..., str]) -> None:
    for course_id in ("CS103", "CS101", "CS102"):
        make_course(course_id)

    first = admin("GET", "/courses?limit=2").json["courses"]
    second = admin("GET", "/courses?limit=2&after=CS102").json["courses"]

    assert [course["course_id"] for course in first] == ["CS101", "CS102"]
    assert [course["course_id"] for course in second] == ["CS103"]


def test_a_taken_course_id_is_refused(
    admin: Ask, make_course: Callable[..., str], rows: Rows, refused: Refused
) -> None:
    make_course()
    admin("DELETE", "/courses/CS101")
    before = rows()

    answer = admin("POST", "/courses", json={"course_id": "CS101", "title": "Again"})

    assert refused(answer, 409, "course-exists")["detail"] == "the course id 'CS101' is taken"
    assert before == rows()


def test_deleting_a_course_makes_its_delivery(
    admin: Ask, make_delivery: Callable[..., int]
) -> None:
    delivery_id = make_delivery("CS101")

    course = admin("GET", "/courses/CS101").json
    deliveries = admin("GET", "/deliveries").json["deliveries"]

    assert course["deleted_at"] is not None
    assert course["course_version"] == 2
    assert [
        {
            "delivery_id": delivery_id,
            "event_type": "course.deleted",
            "course_id": "CS101",
            "course_version": 2,
            "url": URL,
            "status": "pending",
            "attempts": 0,
            "reason": None,
            "settled_at": None,
        }
    ] == [
        {
            key: one[key]
            for key in one.keys() - {"webhook_id", "endpoint_id", "occurred_at", "due_at"}
        }
        for one in deliveries
    ]


def test_deleting_twice_is_refused_with_the_first_time(
    admin: Ask, make_course: Callable[..., str], rows: Rows, refused: Refused
) -> None:
    make_course()
    first = admin("DELETE", "/courses/CS101").json
    before = rows()

    answer = admin("DELETE", "/courses/CS101")

    assert refused(answer, 410, "course-deleted")["deleted_at"] == first["deleted_at"]
    assert before == rows()


@pytest.mark.parametrize(
    ("method", "path", "document"),
    [
        pytest.param("GET", "/courses/NONE", None, id="show"),
        pytest.param("DELETE", "/courses/NONE", None, id="delete"),
        pytest.param("POST", "/courses/NONE/token", None, id="regenerate"),
        pytest.param("PUT", "/courses/NONE/grades", {"scores": [TIMED]}, id="load grades"),
    ],
)
def test_an_unknown_course_is_a_404(
    admin: Ask, rows: Rows, refused: Refused, method: str, path: str, document: Any
) -> None:
    before = rows()

    answer = admin(method, path, json=document)

    assert refused(answer, 404, "course-unknown")["detail"] == "there is no course 'NONE'"
    assert before == rows()


@pytest.mark.parametrize(
    ("method", "path", "document"),
    [
        pytest.param("POST", "/courses/CS101/token", None, id="regenerate"),
        pytest.param("PUT", "/courses/CS101/grades", {"scores": [TIMED]}, id="load grades"),
    ],
)
def test_a_deleted_course_is_changed_by_nothing(
    admin: Ask,
    make_course: Callable[..., str],
    rows: Rows,
    refused: Refused,
    method: str,
    path: str,
    document: Any,
) -> None:
    make_course()
    admin("DELETE", "/courses/CS101")
    before = rows()

    answer = admin(method, path, json=document)

    refused(answer, 410, "course-deleted")
    assert before == rows()


def test_regenerating_answers_another_token(admin: Ask, make_course: Callable[..., str]) -> None:
    old = make_course()

    answer = admin("POST", "/courses/CS101/token")

    assert answer.status_code == 201
    assert answer.json["token"] != old
    assert answer.json["course_version"] == 2
    assert admin("GET", "/courses/CS101").json["token_id"] == answer.json["token_id"]


def test_loading_grades_tells_what_it_changed(admin: Ask, make_course: Callable[..., str]) -> None:
    make_course()
    other = {**TIMED, "userId": "åsa"}
    admin("PUT", "/courses/CS101/grades", json={"scores": [TIMED, other]})

    answer = admin(
        "PUT",
        "/courses/CS101/grades",
        json={"scores": [{**TIMED, "scoreGiven": "8"}, other, {**TIMED, "userId": "cy"}]},
    )

    assert answer.json == {"added": 1, "changed": 1, "unchanged": 1}


def test_an_endpoint_shows_its_secret_once(admin: Ask) -> None:
    answer = admin("POST", "/endpoints", json={"url": URL, "event_types": ["course.deleted"]})
    listed = admin("GET", "/endpoints")

    assert answer.status_code == 201
    assert len(Secret.parse(answer.json["secret"]).key) == 32
    assert answer.json["event_types"] == ["course.deleted"]
    assert {**listed.json["endpoints"][0], "secret": answer.json["secret"]} == answer.json
    assert answer.json["secret"] not in listed.text


def test_a_url_is_registered_once(admin: Ask, rows: Rows, refused: Refused) -> None:
    admin("POST", "/endpoints", json={"url": URL})
    before = rows()

    answer = admin("POST", "/endpoints", json={"url": URL})

    assert refused(answer, 409, "endpoint-exists")["detail"] == f"{URL} is registered already"
    assert before == rows()


@pytest.mark.parametrize(
    "url",
    [
        pytest.param("ftp://elms.example/x", id="scheme"),
        pytest.param("https://user:planted@elms.example/", id="user info"),
        pytest.param("https://127.0.0.1/", id="loopback"),
    ],
)
def test_a_url_that_is_no_endpoint_is_refused(
    admin: Ask, rows: Rows, refused: Refused, url: str
) -> None:
    before = rows()

    answer = admin("POST", "/endpoints", json={"url": url})

    refused(answer, 422, "endpoint-url-refused")
    assert "planted" not in answer.text
    assert before == rows()


@pytest.mark.parametrize(
    ("path", "pointer"),
    [
        pytest.param("/courses?limit=1001", "/limit", id="limit"),
        pytest.param("/courses?page=2", "/page", id="unknown name"),
        pytest.param("/deliveries?status=dead&status=held", "/status", id="status twice"),
        pytest.param("/deliveries?endpoint_id=" + "9" * 30, "/endpoint_id", id="id too large"),
        pytest.param("/deliveries?since=2026-11-22T09:00:00", "/since", id="naive timestamp"),
    ],
)
def test_a_wrong_filter_is_refused_and_not_passed_over(
    shut_admin: Ask, refused: Refused, path: str, pointer: str
) -> None:
    answer = shut_admin("GET", path)

    problem = refused(answer, 422, "request-invalid")
    assert [pointer] == [fault["pointer"] for fault in problem["errors"]]


def ids(answer: TestResponse) -> list[int]:
    """Return which deliveries a list shows."""
    return [one["delivery_id"] for one in answer.json["deliveries"]]


def test_deliveries_are_filtered_by_each_name(
    admin: Ask, make_delivery: Callable[..., int]
) -> None:
    dead = make_delivery("CS101", DeliveryStatus.DEAD)
    pending = make_delivery("CS102")
    moment = admin("GET", "/deliveries?course_id=CS102").json["deliveries"][0]["occurred_at"]
    quoted = moment.replace("+", "%2B")

    assert [pending, dead] == ids(admin("GET", "/deliveries"))
    assert [dead] == ids(admin("GET", "/deliveries?status=dead"))
    assert ids(admin("GET", "/deliveries?event_type=token.regenerated")) == []
    assert [pending] == ids(admin("GET", "/deliveries?course_id=CS102&event_type=course.deleted"))
    assert ids(admin("GET", "/deliveries?endpoint_id=2147483647")) == []
    assert [pending] == ids(admin("GET", f"/deliveries?since={quoted}"))
    assert [dead] == ids(admin("GET", f"/deliveries?until={quoted}"))
    assert [dead] == ids(admin("GET", f"/deliveries?before={pending}"))
    assert [pending] == ids(admin("GET", "/deliveries?limit=1"))


def test_replaying_by_id_makes_due_under_the_same_webhook_id(
    admin: Ask, make_delivery: Callable[..., int], database: Database
) -> None:
    delivery_id = make_delivery("CS101", DeliveryStatus.DEAD)
    before = admin("GET", "/deliveries").json["deliveries"][0]

    answer = admin("POST", "/deliveries/replay", json={"ids": [delivery_id, delivery_id]})

    after = admin("GET", "/deliveries").json["deliveries"][0]
    assert answer.json == {"replayed": [delivery_id], "found": [delivery_id], "dry_run": False}
    assert (before["status"], after["status"]) == ("dead", "pending")
    assert before["webhook_id"] == after["webhook_id"]
    with database.reading() as session:
        audit = session.scalars(select(Replay)).one()
    assert audit.delivery_id == delivery_id
    assert audit.replayed_by == "admin API from 127.0.0.1"
    assert audit.previous_status == "dead"


def test_a_dry_run_says_which_and_changes_nothing(
    admin: Ask, make_delivery: Callable[..., int], rows: Rows
) -> None:
    dead = make_delivery("CS101", DeliveryStatus.DEAD)
    make_delivery("CS102", DeliveryStatus.DELIVERED)
    before = rows()

    answer = admin(
        "POST", "/deliveries/replay", json={"filter": {"status": "dead"}, "dry_run": True}
    )

    assert answer.json == {"replayed": [], "found": [dead], "dry_run": True}
    assert before == rows()


def test_replaying_by_filter_leaves_delivered_ones_out_and_keeps_to_its_limit(
    admin: Ask, make_delivery: Callable[..., int]
) -> None:
    make_delivery("CS101", DeliveryStatus.DELIVERED)
    dead = make_delivery("CS102", DeliveryStatus.DEAD)
    pending = make_delivery("CS103")

    first = admin("POST", "/deliveries/replay", json={"filter": {}, "limit": 1})
    every = admin("POST", "/deliveries/replay", json={"filter": {}})

    assert first.json["replayed"] == [dead]
    assert every.json["replayed"] == [dead, pending]


@pytest.mark.parametrize(
    "document",
    [
        pytest.param({}, id="neither"),
        pytest.param({"ids": [1], "filter": {}}, id="both"),
        pytest.param({"ids": None, "filter": None}, id="nulls"),
        pytest.param({"dry_run": True}, id="dry run of nothing"),
    ],
)
def test_a_replay_names_ids_or_a_filter(admin: Ask, refused: Refused, document: Any) -> None:
    answer = admin("POST", "/deliveries/replay", json=document)

    problem = refused(answer, 422, "request-invalid")
    assert problem["detail"] == "give either `ids` or a `filter`"


def test_an_unknown_delivery_refuses_the_whole_replay(
    admin: Ask, make_delivery: Callable[..., int], rows: Rows, refused: Refused
) -> None:
    delivery_id = make_delivery("CS101", DeliveryStatus.DEAD)
    before = rows()

    answer = admin("POST", "/deliveries/replay", json={"ids": [delivery_id, 999_999]})

    problem = refused(answer, 404, "delivery-unknown")
    assert problem["detail"] == "there is no delivery 999999"
    assert before == rows()


@pytest.mark.parametrize("dry_run", [pytest.param(False, id="real"), pytest.param(True, id="dry")])
def test_what_a_disabled_endpoint_holds_is_not_replayed(
    admin: Ask,
    make_delivery: Callable[..., int],
    database: Database,
    rows: Rows,
    refused: Refused,
    dry_run: bool,
) -> None:
    delivery_id = make_delivery("CS101", DeliveryStatus.HELD)
    with database.writing() as session:
        row = session.get_one(Delivery, delivery_id)
        endpoint = session.get_one(Endpoint, row.endpoint_id)
        endpoint.disabled_at, endpoint.disabled_reason = row.created_at, "410"
        number = endpoint.id
    before = rows()

    by_filter = admin("POST", "/deliveries/replay", json={"filter": {}, "dry_run": dry_run})
    by_id = admin("POST", "/deliveries/replay", json={"ids": [delivery_id], "dry_run": dry_run})

    assert by_filter.json["found"] == []
    problem = refused(by_id, 409, "replay-refused")
    assert problem["action"] == f"endpoints enable {number}"
    assert before == rows()


def test_a_held_delivery_is_listed_with_its_status(
    admin: Ask, make_delivery: Callable[..., int]
) -> None:
    delivery_id = make_delivery("CS101", DeliveryStatus.HELD)

    assert ids(admin("GET", "/deliveries?status=held")) == [delivery_id]
