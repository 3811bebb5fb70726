"""The pages of deliveries: found by a filter, looked at with their attempts, replayed."""

import re
from collections.abc import Callable
from datetime import timedelta
from html import unescape
from typing import Any

import pytest
from sqlalchemy import select, update
from werkzeug.test import TestResponse

from foundation.db.session import Database
from notifier.models import Attempt, Delivery, DeliveryStatus, Event, Replay
from notifier.pages import deliveries as pages
from notifier.webhooks import endpoints
from tests.notifier.conftest import NINE
from tests.notifier.pages.conftest import MARKUP, URL

Look = Callable[..., str]
Send = Callable[..., TestResponse]
MakeDelivery = Callable[..., int]
S = DeliveryStatus


def ids_on(page: str) -> list[int]:
    """Return the numbers of the deliveries that a list shows."""
    return [int(one) for one in re.findall(r'<a href="/deliveries/(\d+)" aria-label', page)]


def at(database: Database, delivery_id: int, minutes: int) -> None:
    """Let a delivery and its event be of so many minutes after nine."""
    moment = NINE + timedelta(minutes=minutes)
    with database.writing() as session:
        row = session.get_one(Delivery, delivery_id)
        row.created_at = row.event.occurred_at = moment


@pytest.fixture
def make_attempt(database: Database) -> Callable[..., None]:
    """Return what writes down an attempt of a delivery."""

    def make(delivery_id: int, **how: Any) -> None:
        given = {"started_at": NINE, "milliseconds": 31, "decided": "dead", **how}
        with database.writing() as session:
            session.add(Attempt(delivery_id=delivery_id, **given))

    return make


def test_empty_list_says_what_to_do_first(look: Look, make_endpoint: Callable[..., int]) -> None:
    assert "without an endpoint nothing is sent" in look("/deliveries")
    make_endpoint()
    assert "No deliveries yet." in look("/deliveries")
    assert "No deliveries match." in look("/deliveries", status="dead")


def test_list_shows_how_each_delivery_stands(
    look: Look, make_delivery: MakeDelivery, make_attempt: Callable[..., None]
) -> None:
    ids = [make_delivery(f"CS{number}", status) for number, status in enumerate(S)]
    make_attempt(ids[2], status=400)
    make_attempt(ids[1], failure="tls-expired", decided="retry")

    page = look("/deliveries")

    assert ids_on(page) == ids[::-1]
    for words in (
        "waiting for a worker",
        "waiting until the endpoint is enabled",
        "action needed: fix the cause, then replay it",
        "tls-expired",
        "<strong>1</strong> dead",
    ):
        assert words in page
    assert ids_on(look("/deliveries/live")) == ids[::-1]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        pytest.param({"status": "dead"}, [2], id="status"),
        pytest.param({"event_type": "token.regenerated"}, [1], id="type"),
        pytest.param({"endpoint_id": "1"}, [3, 2, 1], id="endpoint"),
        pytest.param({"endpoint_id": "2"}, [], id="another endpoint"),
        pytest.param({"course_id": "CS3"}, [3], id="course"),
        pytest.param({"since": "2026-11-22T09:02"}, [3, 2], id="since"),
        pytest.param({"until": "2026-11-22T10:02:00+01:00"}, [1], id="until, in another zone"),
        pytest.param({"since": "2026-11-22 09:02Z", "status": "dead"}, [2], id="both"),
        pytest.param({"status": "", "since": " ", "x": "y"}, [3, 2, 1], id="fields left empty"),
    ],
)
def test_filter_stands_in_the_address(
    look: Look,
    database: Database,
    make_delivery: MakeDelivery,
    query: dict[str, str],
    found: list[int],
) -> None:
    for number, status in ((1, S.PENDING), (2, S.DEAD), (3, S.DELIVERED)):
        at(database, make_delivery(f"CS{number}", status), number)
    with database.writing() as session:
        session.execute(
            update(Event).where(Event.course_id == "CS1").values(type="token.regenerated")
        )

    assert found == ids_on(look("/deliveries", **query))


@pytest.mark.parametrize(
    ("query", "said"),
    [
        pytest.param({"since": "yesterday"}, "'yesterday' is not a valid time", id="moment"),
        pytest.param({"status": MARKUP}, "is not a status; choose one", id="status"),
        pytest.param({"event_type": "course.made"}, "is not an event type", id="type"),
        pytest.param({"endpoint_id": "x"}, "valid integer", id="endpoint"),
        pytest.param({"endpoint_id": "9" * 30}, "less than or equal", id="a large number"),
        pytest.param({"before": "-1"}, "greater than or equal", id="place"),
        pytest.param(
            {"until": "9999-12-31T23:59:59-23:59"}, "is not a valid time", id="beyond time"
        ),
    ],
)
def test_filter_that_cannot_be_is_told(
    look: Look, make_delivery: MakeDelivery, query: dict[str, str], said: str
) -> None:
    make_delivery("CS1")

    page = look("/deliveries", **query)

    assert said in unescape(page)
    assert "<script>alert" not in page
    assert ids_on(page) == []
    assert "422" in look("/deliveries/live", 422, **query)


def test_list_is_leafed_through_both_ways(
    look: Look, make_delivery: MakeDelivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "_ROWS", 2)
    ids = [make_delivery(f"CS{number}") for number in range(5)]

    def to(page: str, where: str) -> str:
        (address,) = re.findall(rf'rel="{where}" href="([^"]+)"', page)
        return look(unescape(address))

    first = look("/deliveries", status="pending")
    second = to(first, "next")
    third = to(second, "next")
    back = to(third, "prev")

    assert [ids_on(page) for page in (first, second, third)] == [
        [ids[4], ids[3]], [ids[2], ids[1]], [ids[0]],
    ]  # fmt: skip
    assert ids_on(back) == ids_on(second)
    assert ids_on(to(back, "prev")) == ids_on(first)
    assert 'rel="next"' not in third
    assert 'rel="prev"' not in first
    assert 'rel="prev"' not in to(back, "prev")


@pytest.mark.parametrize("query", [{}, {"status": "pending"}, {"event_type": "course.deleted"}])
def test_statements_of_the_list_do_not_grow(
    statements: Callable[..., int], make_delivery: MakeDelivery, query: dict[str, str]
) -> None:
    counts = []
    for some in (range(2), range(2, 20)):
        for number in some:
            make_delivery(f"CS{number}")
        counts.append(statements("/deliveries", **query))

    assert counts[0] == counts[1]
    assert counts[0] <= 12


def test_delivery_is_shown_with_all_its_attempts(
    look: Look,
    database: Database,
    make_delivery: MakeDelivery,
    make_attempt: Callable[..., None],
) -> None:
    delivery_id = make_delivery("CS1", S.DEAD)
    make_attempt(delivery_id, failure="tls-expired", detail="elms: expired", decided="retry")
    make_attempt(delivery_id, status=400, detail=MARKUP, started_at=NINE + timedelta(minutes=5))
    make_attempt(delivery_id, failure="reset", decided="too late", milliseconds=61_000)

    page = unescape(look(f"/deliveries/{delivery_id}"))

    assert "delivery failed permanently: 10 attempts failed" in page.lower()
    for words in (
        "2026-11-22 09:00:00 UTC",
        "2026-11-22 09:05:00 UTC",
        "after 31 ms; failed permanently.",
        "after 31 ms; retry scheduled.",
        "after 1 min 1 s; ignored: another attempt",
        MARKUP,
        "elms: expired",
        "web server in front of it",
        URL,
    ):
        assert words in page
    assert "<script>alert" not in look(f"/deliveries/{delivery_id}")
    assert look(f"/deliveries/{delivery_id}/live")


def test_exact_body_and_headers_are_shown_but_no_signature(
    look: Look,
    database: Database,
    make_delivery: MakeDelivery,
    make_attempt: Callable[..., None],
) -> None:
    delivery_id = make_delivery("CS1", S.DELIVERED)
    with database.reading() as session:
        event = session.get_one(Delivery, delivery_id).event
        moment = event.occurred_at + timedelta(seconds=1)
    make_attempt(delivery_id, status=200, decided="delivered", started_at=moment)

    page = unescape(look(f"/deliveries/{delivery_id}"))

    assert event.body in page
    assert f"webhook-id: {event.id}" in page
    assert f"webhook-timestamp: {int(moment.timestamp())}" in page
    (signature,) = re.findall("webhook-signature: (.*)", page)
    assert re.fullmatch(r"v1,[A-Za-z0-9+/]{8}…", signature)


def test_delivery_that_there_is_not_is_refused(look: Look) -> None:
    assert "There is no delivery 7" in look("/deliveries/7", 404)


def test_delivery_is_replayed_and_who_did_it_written_down(
    send: Send, look: Look, database: Database, make_delivery: MakeDelivery
) -> None:
    delivery_id = make_delivery("CS1", S.DEAD)

    answer = send(f"/deliveries/{delivery_id}/replay")

    assert (answer.status_code, answer.location) == (303, f"/deliveries/{delivery_id}")
    with database.reading() as session:
        replay = session.scalars(select(Replay)).one()
        assert session.get_one(Delivery, delivery_id).status == "pending"
    assert (replay.replayed_by, replay.previous_status) == ("Ada on the pages", "dead")
    page = look(answer.location)
    assert "is queued for replay." in page
    assert "Ada on the pages" in page


def test_delivery_of_a_disabled_endpoint_is_not_replayed(
    send: Send, look: Look, database: Database, make_delivery: MakeDelivery
) -> None:
    delivery_id = make_delivery("CS1", S.HELD)
    with database.writing() as session:
        endpoints.disable(session, 1, "it answered 410", now=NINE)

    page = look(f"/deliveries/{delivery_id}")
    answer = send(f"/deliveries/{delivery_id}/replay")

    assert "its endpoint is disabled: it answered 410" in page
    assert "/replay" not in page
    assert answer.status_code == 409
    assert "which is disabled" in answer.text


def test_replay_of_many_says_first_how_many_and_to_whom(
    look: Look,
    database: Database,
    make_course: Callable[..., str],
    make_endpoint: Callable[..., int],
    admin: Callable[..., TestResponse],
    rows: Callable[[], Any],
) -> None:
    make_endpoint()
    other = make_endpoint("https://other.example/hook")
    for course_id in ("CS1", "CS2", "CS3"):
        make_course(course_id)
        admin("DELETE", f"/courses/{course_id}")
    with database.writing() as session:
        session.execute(update(Delivery).values(status=S.DEAD, settled_at=NINE, reason="planted"))
        endpoints.disable(session, other, "out of order", now=NINE)
    before = rows()

    page = look("/deliveries/replay", status="dead")

    assert "Replay 3 deliveries?" in page
    assert URL in page
    assert "https://other.example/hook" in page
    assert "unchanged: this endpoint is disabled" in page
    assert before == rows()
    assert "No deliveries to replay." in look("/deliveries/replay", status="held")
    assert "Delivered ones are only replayed" in look("/deliveries/replay", course_id="CS9")


def test_what_a_filter_finds_is_replayed(
    send: Send, look: Look, database: Database, make_delivery: MakeDelivery
) -> None:
    dead = [make_delivery(f"CS{number}", S.DEAD) for number in range(3)]
    delivered = make_delivery("CS9", S.DELIVERED)

    answer = send("/deliveries/replay", status="dead", since="2026-01-01T00:00:00Z")

    assert answer.status_code == 303
    with database.reading() as session:
        standing = {row.id: row.status for row in session.scalars(select(Delivery))}
    assert standing == {**dict.fromkeys(dead, "pending"), delivered: "delivered"}
    page = look(answer.location)
    assert "3 deliveries queued for replay." in page
    assert ids_on(page) == [delivered, *dead[::-1]]


def test_no_more_are_replayed_at_once_than_the_page_says(
    send: Send,
    look: Look,
    database: Database,
    make_delivery: MakeDelivery,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pages, "MAX_REPLAYED", 2)
    ids = [make_delivery(f"CS{number}", S.DEAD) for number in range(4)]

    page = look("/deliveries/replay", status="dead")
    send("/deliveries/replay", status="dead")

    assert "Replay more than 2 deliveries?" in page
    assert "The oldest 2 are replayed now" in page
    with database.reading() as session:
        standing = [session.get_one(Delivery, one).status for one in ids]
    assert standing == ["pending", "pending", "dead", "dead"]


def test_everything_is_not_replayed_by_leaving_the_filter_out(
    send: Send, look: Look, make_delivery: MakeDelivery, rows: Callable[[], Any]
) -> None:
    make_delivery("CS1", S.DEAD)
    before = rows()

    assert "A replay needs a filter" in look("/deliveries/replay", 409)
    assert send("/deliveries/replay").status_code == 409
    assert send("/deliveries/replay", status="nonsense").status_code == 422
    assert before == rows()
    assert "/deliveries/replay" not in look("/deliveries")
    assert "/deliveries/replay?status=dead" in look("/deliveries", status="dead")
