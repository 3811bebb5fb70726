"""The pages of deliveries: filtered list, one delivery with its attempts, replay."""

import re
from datetime import datetime, timedelta
from html import unescape

import pytest

from foundation.text import format_timestamp
from notifier.models import DeliveryStatus, Endpoint
from notifier.pages import deliveries as pages
from notifier.webhooks import delivery_queries, endpoints
from tests.notifier.conftest import BODY, MINUTE, NINE, Store
from tests.notifier.pages.conftest import MARKUP, URL, Browser, SetFailing

S = DeliveryStatus
DEAD = {"status": S.DEAD, "reason": "10 attempts failed", "settled_at": NINE}
DELIVERED = {"status": S.DELIVERED, "settled_at": NINE}


@pytest.fixture(autouse=True)
def endpoint(store: Store) -> None:
    """Endpoint 1."""
    store.add_endpoint(URL)


def ids_on(page: str) -> list[int]:
    """Return the ids of the deliveries that a list shows."""
    return [int(one) for one in re.findall(r'<a href="/deliveries/(\d+)" aria-label', page)]


def test_list_shows_the_status_of_each_delivery(ada: Browser, store: Store) -> None:
    ids = [
        store.add_delivery(1),
        store.add_delivery(1, **DELIVERED),
        store.add_delivery(1, **DEAD),
        store.add_delivery(store.add_endpoint(disabled=True).id),
    ]
    store.add_attempt(ids[0], failure="tls-expired")
    store.add_attempt(ids[2], status=400, decided="dead")

    page = ada.look("/deliveries")

    assert ids_on(page) == ids_on(ada.look("/deliveries/live")) == ids[::-1]
    assert "waiting for a worker" in page
    assert "waiting until the endpoint is enabled" in page
    assert "action needed: fix the cause, then replay it" in page
    assert "tls-expired" in page
    assert "<strong>1</strong> dead" in page


def test_delivery_of_a_paused_endpoint_waits_for_the_end_of_the_pause(
    ada: Browser, store: Store, set_failing: SetFailing, now: datetime
) -> None:
    store.add_delivery(1)
    set_failing(1)

    row, page = ada.look("/deliveries"), ada.look("/deliveries/1")

    end = format_timestamp(now + timedelta(hours=1))
    assert re.search(rf"endpoint paused, retry <time [^>]+>{end}", row)
    assert re.search(rf"Its endpoint is paused; the next attempt is at <time [^>]+>{end}", page)


def test_delivery_of_a_removed_endpoint_has_no_advice(ada: Browser, store: Store) -> None:
    store.add_delivery(1, **DEAD)
    store.add_attempt(1, status=404, decided="dead")
    before = ada.look("/deliveries/1")
    with store.database.writing() as session:
        endpoints.remove(session, 1, by="Ada", now=NINE)

    after = ada.look("/deliveries/1")

    assert "What to do" in before
    assert "Its endpoint was removed, so it cannot be replayed." in after
    assert "What to do" not in after
    assert "replay it" not in after


def test_list_can_be_downloaded(ada: Browser, store: Store) -> None:
    store.add_delivery(1)
    store.add_delivery(1, **DEAD)

    response = ada.client.get("/deliveries.csv?status=dead")
    refused = ada.client.get("/deliveries.csv?status=lost")

    _, row = response.text.splitlines()
    assert response.mimetype == "text/csv"
    assert row.startswith("2,")
    assert refused.status_code == 422
    assert 'href="/deliveries.csv?status=dead"' in ada.look("/deliveries", status="dead")


@pytest.mark.parametrize(
    ("query", "found"),
    [
        pytest.param({"status": "dead", "endpoint_id": "1", "course_id": "CS2"}, [2], id="several"),
        pytest.param({"since": " 2026-11-22 09:01Z "}, [2, 1], id="since"),
        pytest.param({"until": "2026-11-22T10:02:00+01:00"}, [1], id="until, another time zone"),
        pytest.param({"status": "", "since": " "}, [2, 1], id="empty fields"),
        pytest.param({"matching": " s2 ", "since": "36500d"}, [2], id="part of a course id"),
        pytest.param({"webhook_id": "nowhere"}, [], id="unknown webhook-id"),
        pytest.param({"event_type": "token.regenerated"}, [], id="no match"),
    ],
)
def test_list_is_filtered_by_its_url(
    ada: Browser, store: Store, query: dict[str, str], found: list[int]
) -> None:
    store.add_delivery(1, occurred_at=NINE + MINUTE)
    store.add_course("CS2")
    store.add_delivery(1, occurred_at=NINE + 2 * MINUTE, course_id="CS2", **DEAD)

    page = ada.look("/deliveries", **query)

    exported = ada.client.get("/deliveries.csv", query_string=query).text.splitlines()[1:]
    assert ids_on(page) == [int(row.partition(",")[0]) for row in exported] == found
    assert ("No deliveries match." in page) == (not found)


def test_list_shows_filters_total_and_names(ada: Browser, store: Store) -> None:
    store.write(endpoints.set_name, 1, "ELMS production")
    webhook_id = store.delivery(store.add_delivery(1, **DEAD)).event_id
    store.add_delivery(1)

    page = ada.look("/deliveries", status="dead", endpoint_id="1", since="36500d")
    one = ada.look("/deliveries", webhook_id=webhook_id, until="2100-01-01T12:00:00.045767Z")

    assert "1 delivery found, newest first." in page
    assert '<a href="/deliveries?status=dead&amp;since=36500d"><span class="unseen">Remove' in page
    assert "Endpoint: <bdi>ELMS production</bdi>" in page
    assert f'title="{URL}"><bdi class="name">ELMS production</bdi>' in page
    assert ids_on(one) == [1]
    assert re.search(r"Before: <bdi><time [^>]+>2100-01-01 12:00:00 UTC</time></bdi>", one)


@pytest.mark.parametrize(
    ("query", "text"),
    [
        pytest.param({"since": "soon"}, "'soon' is not a time such as 2h", id="time"),
        pytest.param({"since": "1h", "until": "2h"}, "The period is empty: it begins", id="period"),
        pytest.param({"status": MARKUP}, "is not a status; choose one", id="status"),
        pytest.param({"event_type": "course.made"}, "is not an event type", id="event type"),
        pytest.param({"endpoint_id": "9" * 30}, "Must be at most", id="number"),
    ],
)
def test_invalid_filter_is_explained(
    ada: Browser, store: Store, query: dict[str, str], text: str
) -> None:
    store.add_delivery(1)

    page = ada.look("/deliveries", **query)

    assert text in unescape(page)
    assert "<script>alert" not in page
    assert ids_on(page) == []
    ada.look("/deliveries/live", 422, **query)


def test_list_has_pages(ada: Browser, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "_ROWS", 2)
    ids = [store.add_delivery(1) for _ in range(3)]

    def follow(page: str, relation: str) -> str:
        (url,) = re.findall(rf'rel="{relation}" href="([^"]+)"', page)
        return ada.look(unescape(url))

    first = ada.look("/deliveries", status="pending")
    second = follow(first, "next")

    assert (ids_on(first), ids_on(second)) == ([ids[2], ids[1]], [ids[0]])
    assert ids_on(follow(second, "prev")) == ids_on(first)
    assert 'rel="next"' not in second
    assert 'rel="prev"' not in first

    oldest = ada.look("/deliveries", sort="occurred")
    newer = follow(oldest, "next")
    assert (ids_on(oldest), ids_on(newer)) == ([ids[0], ids[1]], [ids[2]])
    assert ids_on(follow(newer, "prev")) == ids_on(oldest)
    assert 'aria-sort="ascending"' in oldest
    assert "3 deliveries, oldest first." in oldest
    assert "Replay results" not in oldest
    assert 'href="/deliveries.csv?sort=occurred"' in oldest


def test_page_shows_all_attempts(ada: Browser, store: Store) -> None:
    delivery_id = store.add_delivery(1, **DEAD)
    store.add_attempt(delivery_id, failure="tls-expired", detail="elms: expired")
    later = NINE + 5 * MINUTE
    store.add_attempt(delivery_id, status=400, detail=MARKUP, decided="dead", started_at=later)
    store.add_attempt(delivery_id, failure="reset", decided="too late", milliseconds=61_000)

    html = ada.look(f"/deliveries/{delivery_id}")

    page = unescape(html)
    assert "<script>alert" not in html
    assert "<dt>Attempts</dt><dd>3</dd>" in html
    assert "(3 attempts)" in ada.look("/deliveries")
    for text in (
        "Delivery failed permanently: 10 attempts failed",
        "2026-11-22 09:00:00 UTC",
        "2026-11-22 09:05:00 UTC",
        "after 31 ms; failed permanently.",
        "after 31 ms; retry scheduled.",
        "after 1 min 1 s; ignored: another attempt",
        MARKUP,
        "elms: expired",
        "web server in front of it",
        f"POST {URL}\n",
        "webhook-signature: v1,",
        BODY,
    ):
        assert text in page
    assert ada.look(f"/deliveries/{delivery_id}/live")
    assert f'href="/deliveries/{delivery_id}/attempts.csv" download' in html
    rows = ada.look(f"/deliveries/{delivery_id}/attempts.csv").splitlines()
    assert rows[0].endswith(
        "delivery_id,started_at,milliseconds,http_status,failure,outcome,detail"
    )
    assert [row.split(",")[3:6] for row in rows[1:]] == [
        ["", "tls-expired", "retry"],
        ["400", "", "dead"],
        ["", "reset", "too late"],
    ]
    assert ada.client.get("/deliveries/999/attempts.csv").status_code == 404


def test_replay_records_who(ada: Browser, store: Store) -> None:
    delivery_id = store.add_delivery(1, **DEAD)

    response = ada.send(f"/deliveries/{delivery_id}/replay")

    page = ada.look(response.location)
    assert (response.status_code, response.location) == (303, f"/deliveries/{delivery_id}")
    assert "is queued for replay." in page
    assert '<a href="/audit?actor=Ada&amp;action=delivery.replay">' in page
    (replay,) = store.read(delivery_queries.replays_of, delivery_id)
    assert store.statuses(delivery_id) == [S.PENDING]
    assert (replay.entry and replay.entry.actor, replay.previous_status) == ("Ada", "dead")


def test_row_replays_its_delivery_and_returns_to_the_list(ada: Browser, store: Store) -> None:
    disabled = store.add_endpoint("https://disabled.example/hook", disabled=True)
    store.add_delivery(1, **DEAD)
    store.add_delivery(1, **DELIVERED)
    store.add_delivery(disabled.id, **DEAD)
    listed = "/deliveries?since=36500d"

    page = ada.look(listed)
    data = {"csrf_token": ada.token}
    headers = {"Referer": f"http://localhost{listed}"}
    response = ada.client.post("/deliveries/1/replay", data=data, headers=headers)

    assert re.findall(r'action="/deliveries/(\d+)/replay"', page) == ["2", "1"]
    assert "The endpoint has already accepted this event." in page  # before 2 is replayed
    assert response.location == listed
    assert store.statuses(1, 2, 3) == [S.PENDING, S.DELIVERED, S.DEAD]


def test_payload_is_shown_indented_and_exactly(ada: Browser, store: Store) -> None:
    delivery_id = store.add_delivery(1)

    html = ada.look(f"/deliveries/{delivery_id}")

    page = unescape(html)
    assert '{\n  "type": "course.deleted"\n}' in page
    assert f'aria-label="Exact bytes">{BODY}</pre>' in page
    assert f"curl --request POST {URL} \\\n  --header " in page
    assert "--header 'webhook-signature: SIGNATURE'" in page


def test_delivery_of_a_disabled_endpoint_is_not_replayed(ada: Browser, store: Store) -> None:
    delivery_id = store.add_delivery(store.add_endpoint(disabled=True).id)

    page = ada.look(f"/deliveries/{delivery_id}")
    response = ada.send(f"/deliveries/{delivery_id}/replay")

    dead = store.add_delivery(store.all(Endpoint)[-1].id, **DEAD)

    assert "Then enable its endpoint and replay it." in ada.look(f"/deliveries/{dead}")
    assert "its endpoint is disabled: out of order" in page
    assert "/replay" not in page
    assert response.status_code == 409
    assert "which is disabled" in response.text


def test_preview_of_a_replay_changes_nothing(ada: Browser, store: Store) -> None:
    store.add_delivery(1, **DEAD)
    store.add_delivery(1, **DEAD)
    disabled = store.add_endpoint("https://disabled.example/hook", disabled=True)
    store.add_delivery(disabled.id, **DEAD)
    before = store.rows()

    page = ada.look("/deliveries/replay", status="dead")

    assert "Replay 2 deliveries?" in page
    assert URL in page
    assert "https://disabled.example/hook" in page
    assert "unchanged: this endpoint is disabled" in page
    assert store.rows() == before
    assert "No deliveries to replay." in ada.look("/deliveries/replay", status="held")
    assert "Delivered ones are only replayed" in ada.look("/deliveries/replay", course_id="CS9")


def test_replay_by_filter_is_limited(
    ada: Browser, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "MAX_REPLAYED", 2)
    for _ in range(3):
        store.add_delivery(1, **DEAD)
    store.add_delivery(1, **DELIVERED)

    preview = ada.look("/deliveries/replay", status="dead")
    response = ada.send("/deliveries/replay", status="dead", since="2026-01-01T00:00:00Z")

    page = ada.look(response.location)
    assert "Replay more than 2 deliveries?" in preview
    assert "The oldest 2 are replayed now" in preview
    assert "2 deliveries queued for replay." in page
    assert ids_on(page) == [4, 3, 2, 1]
    assert store.statuses(1, 2, 3, 4) == [S.PENDING, S.PENDING, S.DEAD, S.DELIVERED]


def test_replay_needs_a_filter(ada: Browser, store: Store) -> None:
    store.add_delivery(1, **DEAD)
    before = store.rows()

    assert "A replay needs a filter" in ada.look("/deliveries/replay", 409)
    assert ada.send("/deliveries/replay").status_code == 409
    assert ada.send("/deliveries/replay", status="invalid").status_code == 422
    assert store.rows() == before
    assert "/deliveries/replay" not in ada.look("/deliveries")
    assert "/deliveries/replay?status=dead" in ada.look("/deliveries", status="dead")
