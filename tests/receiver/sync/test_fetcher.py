"""Fetching: rounds of retries, concurrency, outages of a site, and the end of a run."""

import threading
import time
from collections.abc import Callable
from datetime import timedelta

import pytest

from foundation.errors import Advice
from receiver.sources.base import (
    FetchOutcome,
    Misconfigured,
    NotFoundUnconfirmed,
    SiteOutage,
    Transient,
)
from receiver.sync import heartbeat
from tests.receiver.sync.conftest import SYNCED, StubSource, Sync, outcomes

BUSY = Transient("answered 503")
DOWN = Transient("no answer: Connection refused", unreachable=True)
OUTAGE = SiteOutage("the service account is suspended", Advice("Reactivate it."))
STOPPED = (143, "SIGTERM was received")
TIMED_OUT = (1, "its time limit of 2 seconds was reached")


def test_transient_failure_is_retried_after_all_others(
    add_courses: Callable[..., None], sync: Sync
) -> None:
    add_courses("CS1", "CS2", "CS3")
    stub = StubSource({"CS1": [BUSY, SYNCED]})

    result = sync(stub, retry_waits=(0.01,))

    assert stub.fetched == [["CS1"], ["CS2"], ["CS3"], ["CS1"]]
    assert outcomes(result)["CS1"] == ("synced", None)
    assert result.exit_code == 0


def test_transient_failure_fails_after_the_last_retry(
    add_courses: Callable[..., None], sync: Sync
) -> None:
    add_courses("CS1")
    stub = StubSource({"CS1": [BUSY]})

    result = sync(stub, retry_waits=(0.01, 0.01))

    assert stub.fetched == [["CS1"]] * 3
    assert outcomes(result) == {"CS1": ("failed", "transient")}


def test_failed_batch_is_retried_in_smaller_ones(
    add_courses: Callable[..., None], sync: Sync
) -> None:
    ids = [f"C{number:02}" for number in range(20)]
    add_courses(*ids)
    stub = StubSource({**{one: [BUSY, SYNCED] for one in ids}, "C00": [BUSY]}, batch=100)

    result = sync(stub, retry_waits=(0.01, 0.01))

    assert [len(batch) for batch in stub.fetched] == [20, 10, 10, 1]
    assert [one for one, (outcome, _) in outcomes(result).items() if outcome == "failed"] == ["C00"]


@pytest.mark.parametrize(
    ("asked", "waited"),
    [pytest.param(0.4, 0.4, id="as asked"), pytest.param(3600.0, 0.1, id="capped")],
)
def test_retry_waits_as_long_as_the_site_asks(
    add_courses: Callable[..., None],
    sync: Sync,
    monkeypatch: pytest.MonkeyPatch,
    asked: float,
    waited: float,
) -> None:
    if asked > 60:
        monkeypatch.setattr("receiver.sync.fetcher._MAX_RETRY_AFTER", waited)
    add_courses("CS1")
    stub = StubSource({"CS1": [Transient("answered 429", retry_after=asked), SYNCED]})
    started_at = time.monotonic()

    sync(stub, retry_waits=(0.01,))

    assert waited <= time.monotonic() - started_at < 60


def test_unreachable_site_is_tried_once_per_round(
    add_courses: Callable[..., None], sync: Sync
) -> None:
    add_courses("A1", "A2", "A3", source="one")
    add_courses("B1", "B2", source="two")
    one, two = StubSource({course: [DOWN] for course in ("A1", "A2", "A3")}), StubSource()

    result = sync({"one": one, "two": two}, retry_waits=(0.01,))

    assert (one.requests, two.requests) == (2, 2)
    assert outcomes(result) == {
        **dict.fromkeys(("A1", "A2", "A3"), ("failed", "transient")),
        **dict.fromkeys(("B1", "B2"), ("synced", None)),
    }


def test_site_that_is_back_in_the_next_round_is_synced(
    add_courses: Callable[..., None], sync: Sync
) -> None:
    add_courses("A1", "A2", "A3")

    result = sync(StubSource({"A1": [DOWN, SYNCED]}), retry_waits=(0.01,))

    assert set(outcomes(result).values()) == {("synced", None)}


def test_site_that_cannot_be_opened_fails_only_its_courses(
    add_courses: Callable[..., None], sync: Sync
) -> None:
    add_courses("CS1", "CS2", source="lost")
    add_courses("CS3")

    result = sync({"one": StubSource()})

    assert outcomes(result) == {
        "CS1": ("failed", "site_trouble"),
        "CS2": ("failed", "site_trouble"),
        "CS3": ("synced", None),
    }
    assert result.exit_code == 1


def test_site_outage_stops_the_site_once(add_courses: Callable[..., None], sync: Sync) -> None:
    add_courses("A1", "A2", "A3", source="one")
    add_courses("B1", source="two")
    one = StubSource({"A1": [OUTAGE]})

    result = sync({"one": one, "two": StubSource()}, retry_waits=(0.01,))

    assert one.requests == 1
    assert outcomes(result) == {
        "A1": ("failed", "site_trouble"),
        "A2": ("skipped", "site_trouble"),
        "A3": ("skipped", "site_trouble"),
        "B1": ("synced", None),
    }
    assert result.exit_code == 1


def test_requests_run_concurrently(add_courses: Callable[..., None], sync: Sync) -> None:
    add_courses(*(f"C{number:02}" for number in range(12)))
    three_at_once = threading.Barrier(3)

    result = sync(StubSource(on_fetch=lambda: three_at_once.wait(10)), concurrency=3)

    assert set(outcomes(result).values()) == {("synced", None)}


def test_client_that_raises_fails_only_its_request(
    add_courses: Callable[..., None], sync: Sync
) -> None:
    add_courses("CS1", "CS2")
    errors = [RuntimeError("unexpected")]

    def raise_once() -> None:
        if errors:
            raise errors.pop()

    result = sync(StubSource(on_fetch=raise_once))

    assert outcomes(result) == {"CS1": ("failed", "unforeseen"), "CS2": ("synced", None)}


def test_healthy_courses_are_synced_next_to_every_failure(
    add_courses: Callable[..., None], sync: Sync
) -> None:
    bad: dict[str, list[FetchOutcome]] = {
        "A1": [BUSY],
        "A2": [Misconfigured("answered 404", Advice("Check it."))],
        "A3": [NotFoundUnconfirmed("no such course", certain=True)],
        "A4": [DOWN, BUSY],
    }
    add_courses(*bad, *(f"B{number:02}" for number in range(30)))

    result = sync(StubSource(bad, batch=10), retry_waits=(0.01, 0.01), concurrency=3)

    healthy = {one for course, one in outcomes(result).items() if course[0] == "B"}
    assert healthy == {("synced", None)}
    assert len(outcomes(result)) == 34


def test_deadline_ends_a_run(add_courses: Callable[..., None], sync: Sync) -> None:
    add_courses("CS1", "CS2", "CS3")

    result = sync(StubSource(on_fetch=lambda: time.sleep(2.2)), deadline=timedelta(seconds=2))

    assert outcomes(result) == {
        "CS1": ("synced", None),
        "CS2": ("failed", "deadline"),
        "CS3": ("failed", "deadline"),
    }
    assert (result.exit_code, result.stopped) == TIMED_OUT


def test_stop_finishes_what_is_in_progress(add_courses: Callable[..., None], sync: Sync) -> None:
    add_courses("CS1", "CS2")
    stop = threading.Event()

    result = sync(StubSource(on_fetch=stop.set), stop=stop)
    again = sync(StubSource())

    assert outcomes(result) == {"CS1": ("synced", None), "CS2": ("failed", "stopped")}
    assert (result.exit_code, result.stopped) == STOPPED
    assert set(outcomes(again).values()) == {("synced", None)}


@pytest.mark.parametrize(
    ("stops", "ended"),
    [pytest.param(True, STOPPED, id="stop"), pytest.param(False, TIMED_OUT, id="deadline")],
)
def test_request_that_outlasts_the_run_is_cancelled(
    add_courses: Callable[..., None],
    sync: Sync,
    monkeypatch: pytest.MonkeyPatch,
    stops: bool,
    ended: tuple[int, str],
) -> None:
    monkeypatch.setattr(heartbeat, "GRACE_SECONDS", 0.0)
    add_courses("CS1", "CS2", "CS3")
    stop = threading.Event()
    stub = StubSource({"CS2": [Transient("cancelled")]})

    def hang_at_the_second() -> None:
        if stub.requests == 2:
            if stops:
                stop.set()
            stub.cancelled.wait(30)

    stub.on_fetch = hang_at_the_second

    result = sync(stub, stop=stop, deadline=timedelta(seconds=60 if stops else 2))

    assert stub.cancelled.is_set()
    assert (result.exit_code, result.stopped) == ended
    assert outcomes(result)["CS1"] == ("synced", None)
    assert outcomes(result)["CS2"] == ("failed", "transient")


def test_named_source_only(add_courses: Callable[..., None], sync: Sync) -> None:
    add_courses("A1", source="one")
    add_courses("B1", source="two")
    one, two = StubSource(), StubSource()

    result = sync({"one": one, "two": two}, sources=("two",))

    assert (one.fetched, two.fetched) == ([], [["B1"]])
    assert outcomes(result) == {"B1": ("synced", None)}
