"""Replays: which deliveries are found, what makes them due again, and who asked for it."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select

from foundation.db.session import Database
from notifier.errors import DeliveryUnknownError, ReplayRefusedError
from notifier.models import Attempt, Delivery, DeliveryStatus, Replay
from notifier.webhooks import deliveries, delivery_queries, endpoints
from notifier.webhooks import replay as replays
from notifier.webhooks.deliveries import Claimed, Settlement
from notifier.webhooks.delivery_filter import DeliveryFilter
from notifier.webhooks.delivery_queries import Backlog
from notifier.webhooks.retry_policy import Dead, Decision, Delivered
from tests.notifier.conftest import NINE, MakeDelivery, MakeEndpoint

TEN = NINE + timedelta(hours=1)
MINUTE = timedelta(minutes=1)

Claim = Callable[..., list[Claimed]]
DeliveryOf = Callable[[int], Delivery]

VERBS: dict[str, Callable[..., list[int]]] = {
    "replay": lambda session, ids: replays.replay(session, ids, by="ada", now=TEN),
    "check": replays.check,
}


@pytest.fixture
def replay(database: Database) -> Callable[..., list[int]]:
    """Return what replays deliveries by id, at ten, in a transaction of its own."""

    def again(*ids: int, by: str = "ada@console") -> list[int]:
        with database.writing() as session:
            return replays.replay(session, ids, by=by, now=TEN)

    return again


@pytest.fixture
def replayable(database: Database) -> Callable[..., list[int]]:
    """Return what finds the ids that a replay by filter takes."""

    def find(limit: int | None = None, **wanted: Any) -> list[int]:
        with database.reading() as session:
            return replays.replayable(session, DeliveryFilter(**wanted), limit)

    return find


def settle(database: Database, claimed: Claimed, outcome: Decision) -> None:
    """Settle one claim a minute after nine."""
    with database.writing() as session:
        deliveries.settle(
            session, [Settlement(claimed, NINE, 1, outcome, status=500)], now=NINE + MINUTE
        )


def audit(database: Database) -> list[tuple[int, object, str, str]]:
    """Return every audit row: which, when, by whom, where it stood before."""
    with database.reading() as session:
        return [
            (row.delivery_id, row.replayed_at, row.replayed_by, row.previous_status)
            for row in session.scalars(select(Replay).order_by(Replay.id))
        ]


@pytest.mark.parametrize("status", ["dead", "delivered", "pending"])
def test_replay_makes_a_delivery_due(
    database: Database,
    make_endpoint: MakeEndpoint,
    make_delivery: MakeDelivery,
    claim: Claim,
    delivery_of: DeliveryOf,
    replay: Callable[..., list[int]],
    status: str,
) -> None:
    delivery_id = make_delivery(
        make_endpoint().id,
        status=status,
        attempts=10,
        due_at=NINE + timedelta(days=1),
        settled_at=NINE,
        reason="10 attempts failed",
    )
    webhook_id = delivery_of(delivery_id).event_id

    assert replay(delivery_id) == [delivery_id]

    row = delivery_of(delivery_id)
    assert (row.status, row.attempts, row.due_at) == ("pending", 0, TEN)
    assert (row.settled_at, row.reason, row.lease_token) == (None, None, None)
    (claimed,) = claim(now=TEN)
    assert (claimed.webhook_id, claimed.attempts) == (webhook_id, 1)
    assert audit(database) == [(delivery_id, TEN, "ada@console", status)]


def test_replay_keeps_the_attempts_that_were_made(
    database: Database,
    make_endpoint: MakeEndpoint,
    make_delivery: MakeDelivery,
    claim: Claim,
    replay: Callable[..., list[int]],
) -> None:
    delivery_id = make_delivery(make_endpoint().id)
    settle(database, *claim(), Dead("status 400"))
    replay(delivery_id)
    settle(database, *claim(now=TEN), Delivered())

    with database.reading() as session:
        attempts, replayed = delivery_queries.history(session, delivery_id)

    assert [one.decided for one in attempts] == ["dead", "delivered"]
    assert [one.previous_status for one in replayed] == ["dead"]


def test_replaying_twice_sends_once(
    database: Database,
    make_endpoint: MakeEndpoint,
    make_delivery: MakeDelivery,
    claim: Claim,
    replay: Callable[..., list[int]],
) -> None:
    """A replay that is run twice leaves one delivery due, and both runs in the audit (F32)."""
    delivery_id = make_delivery(make_endpoint().id, status=DeliveryStatus.DEAD)

    replay(delivery_id, by="ada@console")
    replay(delivery_id, by="grace@console")

    assert [one.delivery_id for one in claim(now=TEN)] == [delivery_id]
    assert claim(now=TEN) == []
    assert audit(database) == [
        (delivery_id, TEN, "ada@console", "dead"),
        (delivery_id, TEN, "grace@console", "pending"),
    ]


def test_id_that_is_named_twice_is_replayed_once(
    database: Database,
    make_endpoint: MakeEndpoint,
    make_delivery: MakeDelivery,
    replay: Callable[..., list[int]],
) -> None:
    delivery_id = make_delivery(make_endpoint().id, status=DeliveryStatus.DEAD)

    assert replay(delivery_id, delivery_id) == [delivery_id]
    assert len(audit(database)) == 1


def test_failure_of_an_attempt_under_way_is_fenced_by_a_replay(
    database: Database,
    make_endpoint: MakeEndpoint,
    make_delivery: MakeDelivery,
    claim: Claim,
    delivery_of: DeliveryOf,
    replay: Callable[..., list[int]],
) -> None:
    """An attempt under way when its delivery is replayed cannot fail the replay (F32)."""
    delivery_id = make_delivery(make_endpoint().id)
    (under_way,) = claim()
    replay(delivery_id)

    settle(database, under_way, Dead("status 400"))

    row = delivery_of(delivery_id)
    assert (row.status, row.attempts, row.reason) == ("pending", 0, None)
    assert [one.attempts for one in claim(now=TEN)] == [1]


def test_success_of_an_attempt_under_way_settles_a_replay(
    database: Database,
    make_endpoint: MakeEndpoint,
    make_delivery: MakeDelivery,
    claim: Claim,
    delivery_of: DeliveryOf,
    replay: Callable[..., list[int]],
) -> None:
    delivery_id = make_delivery(make_endpoint().id)
    (under_way,) = claim()
    replay(delivery_id)

    settle(database, under_way, Delivered())

    assert delivery_of(delivery_id).status == "delivered"
    assert claim(now=TEN) == []


def test_what_was_delivered_since_it_was_found_is_left_out(
    database: Database,
    make_endpoint: MakeEndpoint,
    make_delivery: MakeDelivery,
    claim: Claim,
    delivery_of: DeliveryOf,
) -> None:
    endpoint_id = make_endpoint().id
    delivery_id, other = make_delivery(endpoint_id), make_delivery(endpoint_id)
    (under_way, _) = claim()
    settle(database, under_way, Delivered())

    with database.writing() as session:
        replayed = replays.replay(
            session, [delivery_id, other], by="ada", now=TEN, statuses={DeliveryStatus.PENDING}
        )

    assert replayed == [other]
    assert delivery_of(delivery_id).status == "delivered"
    assert [row[0] for row in audit(database)] == [other]


@pytest.mark.parametrize("status", [None, *DeliveryStatus])
def test_replay_by_filter_takes_what_the_filter_finds(
    database: Database,
    make_endpoint: MakeEndpoint,
    make_delivery: MakeDelivery,
    status: DeliveryStatus | None,
) -> None:
    endpoint_id = make_endpoint().id
    made = {one: make_delivery(endpoint_id, status=one) for one in DeliveryStatus}

    with database.writing() as session:
        wanted = DeliveryFilter(status=status)
        found = replays.replayable(session, wanted, None)
        replayed = replays.replay_found(session, wanted, None, by="ada", now=TEN)

    expected = {*DeliveryStatus} - {DeliveryStatus.DELIVERED} if status is None else {status}
    assert replayed == found == sorted(made[one] for one in expected)


@pytest.mark.parametrize("verb", VERBS)
def test_disabled_endpoint_refuses_a_replay(
    database: Database,
    make_endpoint: MakeEndpoint,
    make_delivery: MakeDelivery,
    delivery_of: DeliveryOf,
    verb: str,
) -> None:
    good = make_delivery(make_endpoint().id, status=DeliveryStatus.DEAD)
    disabled = make_endpoint(disabled=True)
    held = make_delivery(disabled.id, status=DeliveryStatus.HELD)

    with pytest.raises(ReplayRefusedError) as refused, database.writing() as session:
        VERBS[verb](session, [good, held])

    assert str(refused.value) == (
        f"delivery {held} is for endpoint {disabled.id}, which is disabled"
    )
    assert refused.value.advice.command == f"endpoints enable {disabled.id}"
    assert [delivery_of(one).status for one in (good, held)] == ["dead", "held"]
    assert audit(database) == []


@pytest.mark.parametrize("verb", VERBS)
def test_delivery_that_never_was_refuses_a_replay(
    database: Database,
    make_endpoint: MakeEndpoint,
    make_delivery: MakeDelivery,
    delivery_of: DeliveryOf,
    verb: str,
) -> None:
    good = make_delivery(make_endpoint().id, status=DeliveryStatus.DEAD)

    with pytest.raises(DeliveryUnknownError) as refused, database.writing() as session:
        VERBS[verb](session, [998, good, 999])

    assert str(refused.value) == "there is no delivery 998, 999"
    assert delivery_of(good).status == "dead"
    assert audit(database) == []


def test_dry_run_changes_nothing(
    database: Database,
    make_endpoint: MakeEndpoint,
    make_delivery: MakeDelivery,
    delivery_of: DeliveryOf,
) -> None:
    endpoint = make_endpoint()
    ids = [make_delivery(endpoint.id, status=DeliveryStatus.DEAD) for _ in range(2)]

    with database.writing() as session:
        found = replays.check(session, [ids[1], ids[0], ids[1]])

    assert found == ids
    assert [delivery_of(one).status for one in ids] == ["dead", "dead"]
    assert audit(database) == []


def test_many_are_replayed_in_batches(
    database: Database,
    make_endpoint: MakeEndpoint,
    make_delivery: MakeDelivery,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(replays, "_BATCH", 2)
    endpoint = make_endpoint()
    ids = [make_delivery(endpoint.id, status=DeliveryStatus.DEAD) for _ in range(5)]

    with database.writing() as session:
        taken = replays.replay(session, ids[::-1], by="ada", now=TEN)

    assert taken == ids
    assert [row[0] for row in audit(database)] == ids


def test_statements_of_a_replay_do_not_grow(
    database: Database,
    make_endpoint: MakeEndpoint,
    make_delivery: MakeDelivery,
    replay: Callable[..., list[int]],
) -> None:
    endpoint = make_endpoint()
    ids = [make_delivery(endpoint.id, status=DeliveryStatus.DEAD) for _ in range(31)]
    counts = []
    for some in (ids[:1], ids[1:]):
        before = database.statements
        replay(*some)
        counts.append(database.statements - before)

    assert counts[0] == counts[1]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        pytest.param({}, ["dead", "pending", "other type", "other course", "later"], id="all"),
        pytest.param({"status": DeliveryStatus.PENDING}, ["pending"], id="status"),
        pytest.param({"status": DeliveryStatus.DELIVERED}, ["delivered"], id="delivered"),
        pytest.param({"status": DeliveryStatus.HELD}, [], id="held"),
        pytest.param({"event_type": "token.regenerated"}, ["other type"], id="type"),
        pytest.param({"course_id": "CS999"}, ["other course"], id="course"),
        pytest.param({"course_id": "cs999"}, [], id="course, other case"),
        pytest.param({"since": TEN}, ["later"], id="since"),
        pytest.param({"until": TEN}, ["dead", "pending", "other type", "other course"], id="until"),
        pytest.param({"since": TEN, "until": TEN}, [], id="no time at all"),
        pytest.param(
            {"status": DeliveryStatus.DEAD, "course_id": "CS999"}, ["other course"], id="both"
        ),
    ],
)
def test_filter_finds_what_a_replay_takes(
    make_endpoint: MakeEndpoint,
    make_delivery: MakeDelivery,
    replayable: Callable[..., list[int]],
    wanted: dict[str, Any],
    found: list[str],
) -> None:
    endpoint, disabled = make_endpoint(), make_endpoint(disabled=True)
    dead = {"status": DeliveryStatus.DEAD}
    made = {
        make_delivery(endpoint.id, **dead): "dead",
        make_delivery(endpoint.id): "pending",
        make_delivery(endpoint.id, status=DeliveryStatus.DELIVERED): "delivered",
        make_delivery(endpoint.id, type="token.regenerated", **dead): "other type",
        make_delivery(endpoint.id, course_id="CS999", **dead): "other course",
        make_delivery(endpoint.id, occurred_at=TEN, **dead): "later",
        make_delivery(disabled.id, status=DeliveryStatus.HELD): "held",
        make_delivery(disabled.id, **dead): "dead of a disabled endpoint",
    }

    assert [made[one] for one in replayable(**wanted)] == found


def test_filter_finds_by_endpoint(
    make_endpoint: MakeEndpoint,
    make_delivery: MakeDelivery,
    replayable: Callable[..., list[int]],
) -> None:
    one, other = make_endpoint(), make_endpoint()
    wanted = make_delivery(one.id, status=DeliveryStatus.DEAD)
    make_delivery(other.id, status=DeliveryStatus.DEAD)

    assert replayable(endpoint_id=one.id) == [wanted]


def test_limit_takes_the_oldest_first(
    make_endpoint: MakeEndpoint,
    make_delivery: MakeDelivery,
    replayable: Callable[..., list[int]],
) -> None:
    endpoint = make_endpoint()
    ids = [make_delivery(endpoint.id, status=DeliveryStatus.DEAD) for _ in range(3)]

    assert replayable(limit=2) == ids[:2]


def test_what_is_held_back_is_counted(
    database: Database, make_endpoint: MakeEndpoint, make_delivery: MakeDelivery
) -> None:
    disabled = make_endpoint(disabled=True)
    for status in ("held", "dead", "delivered"):
        make_delivery(disabled.id, status=status)
    make_delivery(make_endpoint().id, status="dead")

    with database.reading() as session:
        assert replays.count_held(session, DeliveryFilter()) == 2
        assert replays.count_held(session, DeliveryFilter(status=DeliveryStatus.DEAD)) == 1
        assert replays.count_held(session, DeliveryFilter(course_id="CS999")) == 0


def test_found_are_the_newest_first_page_by_page(
    database: Database, make_endpoint: MakeEndpoint, make_delivery: MakeDelivery
) -> None:
    endpoint = make_endpoint(disabled=True)
    ids = [make_delivery(endpoint.id) for _ in range(5)]

    with database.reading() as session:
        first = delivery_queries.find(session, DeliveryFilter(), limit=2)
        then = delivery_queries.find(session, DeliveryFilter(), before=first[-1].id, limit=2)

    assert [one.id for one in (*first, *then)] == [ids[4], ids[3], ids[2], ids[1]]


def test_found_bring_their_events_and_endpoints(
    database: Database, make_endpoint: MakeEndpoint, make_delivery: MakeDelivery
) -> None:
    endpoint = make_endpoint()
    for _ in range(5):
        make_delivery(endpoint.id)
    before = database.statements

    with database.reading() as session:
        found = delivery_queries.find(session, DeliveryFilter())
        shown = {(one.event.type, one.endpoint.url) for one in found}

    assert shown == {("course.deleted", endpoint.url)}
    assert database.statements - before == 3


def test_delivery_is_shown_by_its_number(
    database: Database, make_endpoint: MakeEndpoint, make_delivery: MakeDelivery
) -> None:
    endpoint = make_endpoint()
    delivery_id = make_delivery(endpoint.id, course_id="CS999")

    with database.reading() as session:
        found = delivery_queries.get(session, delivery_id)
        assert (found.event.course_id, found.endpoint.url) == ("CS999", endpoint.url)
        with pytest.raises(DeliveryUnknownError) as refused:
            delivery_queries.get(session, delivery_id + 1)

    assert str(refused.value) == f"there is no delivery {delivery_id + 1}"


def test_last_attempt_is_the_latest_of_each(
    database: Database, make_endpoint: MakeEndpoint, make_delivery: MakeDelivery
) -> None:
    endpoint = make_endpoint()
    tried, untried, foreign = (make_delivery(endpoint.id) for _ in range(3))
    with database.writing() as session:
        for delivery_id, status in ((tried, 500), (tried, 503), (foreign, 400)):
            session.add(
                Attempt(
                    delivery_id=delivery_id,
                    started_at=NINE,
                    milliseconds=1,
                    status=status,
                    decided="retry",
                )
            )

    with database.reading() as session:
        found = delivery_queries.last_attempts(session, [tried, untried])

    assert {key: one.status for key, one in found.items()} == {tried: 503}


def test_backlog_counts_by_status(
    database: Database, make_endpoint: MakeEndpoint, make_delivery: MakeDelivery
) -> None:
    endpoint = make_endpoint()
    make_delivery(endpoint.id, due_at=TEN)
    make_delivery(endpoint.id, due_at=NINE + MINUTE)
    make_delivery(endpoint.id, status="dead")
    make_delivery(endpoint.id, status="delivered", due_at=NINE - MINUTE)

    with database.reading() as session:
        found = delivery_queries.backlog(session, now=TEN)

    assert found == Backlog({"pending": 2, "dead": 1}, NINE + MINUTE)


def test_empty_backlog_has_no_oldest(database: Database) -> None:
    with database.reading() as session:
        assert delivery_queries.backlog(session, now=TEN) == Backlog({}, None)


def test_replay_after_enabling_is_taken(
    database: Database,
    make_endpoint: MakeEndpoint,
    make_delivery: MakeDelivery,
    delivery_of: DeliveryOf,
    replay: Callable[..., list[int]],
) -> None:
    disabled = make_endpoint(disabled=True)
    dead = make_delivery(disabled.id, status=DeliveryStatus.DEAD)
    with pytest.raises(ReplayRefusedError, match=f"delivery {dead} is for endpoint"):
        replay(dead)

    with database.writing() as session:
        endpoints.enable(session, disabled.id, now=TEN)
    replay(dead)

    assert delivery_of(dead).status == "pending"
