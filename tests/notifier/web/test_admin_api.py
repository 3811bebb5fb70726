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


@pytest.mark.parametrize(
    "title",
    [
        pytest.param("‮gnp.esruoc", id="right-to-left override"),
        pytest.param("<script>alert(1)</script>", id="markup"),
        pytest.param("'; DROP TABLE courses; --", id="SQL"),
        pytest.param("=cmd()", id="formula"),
        pytest.param("a\nb\tc\x1b[31m", id="control characters"),
        pytest.param("E\u0301conomie 🎓", id="decomposed, and beyond the BMP"),
        pytest.param("x" * 10_000, id="10 kB"),
    ],
)
def test_a_title_is_kept_as_it_is(admin: Ask, make_course: Callable[..., str], title: str) -> None:
    make_course("CS101", title)

    assert admin("GET", "/courses/CS101").json["title"] == title


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


def test_an_endpoint_wants_everything_unless_told(admin: Ask) -> None:
    answer = admin("POST", "/endpoints", json={"url": URL})

    assert answer.json["event_types"] == ["course.deleted", "token.regenerated"]


def test_a_url_is_registered_once(admin: Ask, rows: Rows, refused: Refused) -> None:
    admin("POST", "/endpoints", json={"url": URL})
    before = rows()

    answer = admin("POST", "/endpoints", json={"url": URL})

    assert refused(answer, 409, "endpoint-exists")["detail"] == f"{URL} is registered already"
    assert before == rows()


@pytest.mark.parametrize(
    "url",
    [
        pytest.param("ftp://elms.example/x", id="another scheme"),
        pytest.param("file:///etc/passwd", id="a file"),
        pytest.param("elms.example/webhooks", id="no scheme"),
        pytest.param("https://", id="no host"),
        pytest.param("https://user:planted@elms.example/", id="user info"),
        pytest.param("https://elms.example/#part", id="fragment"),
        pytest.param("https://elms.example:99999/", id="port too large"),
        pytest.param("https://elms.example:abc/", id="port no number"),
        pytest.param("https://[::1/", id="half an IPv6 address"),
        pytest.param("http://ok.example\\@127.0.0.1/", id="two hosts to two parsers"),
        pytest.param("http://elms.example/", id="not https"),
        pytest.param("https://127.0.0.1/", id="loopback"),
        pytest.param("https://2852039166/", id="the metadata service in one number"),
        pytest.param("https://intranet/", id="no dot"),
        pytest.param("https://elms.example/a b", id="a space"),
        pytest.param("https://elms.example/\r\nX-Evil: 1", id="a line break"),
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


BODIES = [
    pytest.param(b"", 400, "request-malformed", id="empty"),
    pytest.param(b"{", 400, "request-malformed", id="cut short"),
    pytest.param(b"{}{}", 400, "request-malformed", id="trailing junk"),
    pytest.param(b"\xef\xbb\xbf{}", 400, "request-malformed", id="byte order mark"),
    pytest.param('{"a":1}'.encode("utf-16"), 400, "request-malformed", id="UTF-16"),
    pytest.param(b'{"a":"\xff"}', 400, "request-malformed", id="not UTF-8"),
    pytest.param(b'{"a":1,"a":2}', 400, "request-malformed", id="duplicate keys"),
    pytest.param(b'{"a":NaN}', 400, "request-malformed", id="NaN"),
    pytest.param(b'{"a":' + b"9" * 5000 + b"}", 400, "request-malformed", id="5,000 digits"),
    pytest.param(b'{"a":"\\u0000"}', 400, "request-malformed", id="NUL"),
    pytest.param(b'{"a":"\\ud800"}', 400, "request-malformed", id="lone surrogate"),
    pytest.param(b"[" * 1000 + b"]" * 1000, 400, "request-malformed", id="nested 1,000 deep"),
    pytest.param(b'"x"', 422, "request-invalid", id="a scalar"),
    pytest.param(b"[]", 422, "request-invalid", id="an array"),
    pytest.param(b"null", 422, "request-invalid", id="null"),
    pytest.param(b"{}", 422, "request-invalid", id="an empty object"),
]


@pytest.mark.parametrize(("raw", "status", "kind"), BODIES)
def test_a_body_that_cannot_be_read_changes_nothing(
    shut_admin: Ask,
    refused: Refused,
    raw: bytes,
    status: int,
    kind: str,
) -> None:
    for method, path in (
        ("POST", "/courses"),
        ("PUT", "/courses/CS100/grades"),
        ("POST", "/endpoints"),
        ("POST", "/deliveries/replay"),
    ):
        answer = shut_admin(method, path, data=raw, content_type="application/json")
        refused(answer, status, kind)


@pytest.mark.parametrize(
    ("path", "document", "pointer"),
    [
        pytest.param("/courses", {"course_id": "CS101"}, "/title", id="a field missing"),
        pytest.param("/courses", {"course_id": 5, "title": "x"}, "/course_id", id="a number"),
        pytest.param("/courses", {"course_id": "", "title": "x"}, "/course_id", id="empty id"),
        pytest.param("/courses", {"course_id": "..", "title": "x"}, "/course_id", id="dots"),
        pytest.param("/courses", {"course_id": "/x", "title": "x"}, "/course_id", id="slash"),
        pytest.param("/courses", {"course_id": "a\nb", "title": "x"}, "/course_id", id="break"),
        pytest.param("/courses", {"course_id": " a", "title": "x"}, "/course_id", id="space"),
        pytest.param("/courses", {"course_id": "x" * 256, "title": "x"}, "/course_id", id="long"),
        pytest.param("/courses", {"course_id": "CS101", "title": ""}, "/title", id="no title"),
        pytest.param("/courses", {"course_id": "CS101", "title": "x" * 10_001}, "/title", id="11k"),
        pytest.param(
            "/courses", {"course_id": "CS101", "title": "x", "token": "y"}, "/token", id="unknown"
        ),
        pytest.param("/endpoints", {"url": 5}, "/url", id="URL a number"),
        pytest.param("/endpoints", {"url": "https://x" + "x" * 2000}, "/url", id="URL too long"),
        pytest.param("/endpoints", {"url": URL, "event_types": []}, "/event_types", id="no types"),
        pytest.param(
            "/endpoints",
            {"url": URL, "event_types": ["course.deleted", "course_deleted"]},
            "/event_types/1",
            id="unknown type",
        ),
        pytest.param("/endpoints", {"url": URL, "secret": "whsec_x"}, "/secret", id="own secret"),
        pytest.param("/deliveries/replay", {"ids": []}, "/ids", id="no ids"),
        pytest.param("/deliveries/replay", {"ids": [0]}, "/ids/0", id="id zero"),
        pytest.param("/deliveries/replay", {"ids": [1, 2**31]}, "/ids/1", id="id too large"),
        pytest.param("/deliveries/replay", {"ids": [True]}, "/ids/0", id="true for a number"),
        pytest.param("/deliveries/replay", {"ids": ["1"]}, "/ids/0", id="text for a number"),
        pytest.param(
            "/deliveries/replay", {"ids": [1], "dry_run": "no"}, "/dry_run", id="text for no"
        ),
        pytest.param("/deliveries/replay", {"filter": {}, "limit": 0}, "/limit", id="limit 0"),
        pytest.param("/deliveries/replay", {"filter": {}, "limit": 1001}, "/limit", id="limit"),
        pytest.param(
            "/deliveries/replay", {"filter": {"statuses": "dead"}}, "/filter/statuses", id="typo"
        ),
        pytest.param(
            "/deliveries/replay", {"filter": {"status": "failed"}}, "/filter/status", id="status"
        ),
    ],
)
def test_a_wrong_field_is_pointed_to(
    shut_admin: Ask, refused: Refused, path: str, document: Any, pointer: str
) -> None:
    answer = shut_admin("POST", path, json=document)

    problem = refused(answer, 422, "request-invalid")
    assert [pointer] == [fault["pointer"] for fault in problem["errors"]]
    assert problem["detail"] == f"{pointer}: {problem['errors'][0]['detail']}"


@pytest.mark.parametrize(
    ("field", "value", "pointer"),
    [
        pytest.param("scoreGiven", 7.5, "/scores/0/scoreGiven", id="float"),
        pytest.param("scoreGiven", "-1", "/scores/0/scoreGiven", id="negative"),
        pytest.param("scoreGiven", "NaN", "/scores/0/scoreGiven", id="NaN"),
        pytest.param("scoreGiven", "1.123456", "/scores/0/scoreGiven", id="six places"),
        pytest.param("scoreMaximum", True, "/scores/0/scoreMaximum", id="true"),
        pytest.param("scoreMaximum", "0", "/scores/0", id="nothing to reach"),
        pytest.param("userId", "", "/scores/0/userId", id="nobody"),
        pytest.param("timestamp", "yesterday", "/scores/0/timestamp", id="no moment"),
        pytest.param("timestamp", "2026-11-22T09:30:00", "/scores/0/timestamp", id="naive"),
        pytest.param(
            "timestamp", "0001-01-01T00:00:00+14:00", "/scores/0/timestamp", id="before year 1"
        ),
        pytest.param("activityProgress", "Done", "/scores/0/activityProgress", id="unknown word"),
    ],
)
def test_a_wrong_score_is_pointed_to(
    shut_admin: Ask,
    refused: Refused,
    field: str,
    value: Any,
    pointer: str,
) -> None:
    answer = shut_admin(
        "PUT", "/courses/CS101/grades", json={"scores": [{**TIMED, field: value}, TIMED]}
    )

    problem = refused(answer, 422, "request-invalid")
    assert [pointer] == [fault["pointer"] for fault in problem["errors"]]


@pytest.mark.parametrize(
    "content_type",
    [
        pytest.param(None, id="none"),
        pytest.param("text/plain", id="text"),
        pytest.param("application/x-www-form-urlencoded", id="form"),
        pytest.param("application/jsonp", id="nearly"),
    ],
)
def test_a_body_of_another_kind_is_refused(
    shut_admin: Ask, refused: Refused, content_type: str | None
) -> None:
    answer = shut_admin(
        "POST", "/courses", data=b'{"course_id":"CS101","title":"x"}', content_type=content_type
    )

    problem = refused(answer, 415, "media-type-unsupported")
    assert problem["next_step"] == "Send Content-Type: application/json."


@pytest.mark.parametrize(
    ("method", "path", "size"),
    [
        pytest.param("POST", "/courses", 64 * 1024 + 1, id="course"),
        pytest.param("POST", "/endpoints", 64 * 1024 + 1, id="endpoint"),
        pytest.param("POST", "/deliveries/replay", 64 * 1024 + 1, id="replay"),
        pytest.param("PUT", "/courses/CS101/grades", 16 * 1024 * 1024 + 1, id="grades"),
    ],
)
def test_a_body_too_large_is_refused(
    shut_admin: Ask, refused: Refused, method: str, path: str, size: int
) -> None:
    answer = shut_admin(method, path, data=b" " * size, content_type="application/json")

    problem = refused(answer, 413, "body-too-large")
    assert problem["detail"] == f"the body is larger than {size - 1} bytes"


@pytest.mark.parametrize(
    ("path", "pointer"),
    [
        pytest.param("/courses?limit=0", "/limit", id="limit zero"),
        pytest.param("/courses?limit=1001", "/limit", id="limit too large"),
        pytest.param("/courses?limit=many", "/limit", id="limit no number"),
        pytest.param("/courses?limit=1&limit=2", "/limit", id="limit twice"),
        pytest.param("/courses?page=2", "/page", id="unknown name"),
        pytest.param("/deliveries?status=failed", "/status", id="unknown status"),
        pytest.param("/deliveries?status=", "/status", id="empty status"),
        pytest.param("/deliveries?status=dead&status=held", "/status", id="status twice"),
        pytest.param("/deliveries?event_type=course", "/event_type", id="unknown type"),
        pytest.param("/deliveries?endpoint_id=x", "/endpoint_id", id="endpoint no number"),
        pytest.param(
            "/deliveries?endpoint_id=" + "9" * 30, "/endpoint_id", id="endpoint too large"
        ),
        pytest.param("/deliveries?before=2147483648", "/before", id="before too large"),
        pytest.param("/deliveries?since=yesterday", "/since", id="no moment"),
        pytest.param("/deliveries?since=1700000000", "/since", id="seconds"),
        pytest.param("/deliveries?since=2026-11-22T09:00:00", "/since", id="naive"),
        pytest.param("/deliveries?until=0001-01-01T00:00:00%2B14:00", "/until", id="before year 1"),
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


def test_an_unknown_id_is_refused_by_a_dry_run_too(admin: Ask, refused: Refused) -> None:
    answer = admin("POST", "/deliveries/replay", json={"ids": [999_999], "dry_run": True})

    refused(answer, 404, "delivery-unknown")


def test_a_held_delivery_is_listed_with_its_status(
    admin: Ask, make_delivery: Callable[..., int]
) -> None:
    delivery_id = make_delivery("CS101", DeliveryStatus.HELD)

    assert ids(admin("GET", "/deliveries?status=held")) == [delivery_id]
