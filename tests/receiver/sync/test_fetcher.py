"""Fetching: rounds of retries, concurrency, outages of a site, and the end of a run."""

import threading
import time
from datetime import timedelta
from types import SimpleNamespace

import pytest

from foundation.errors import Advice
from receiver.sources.base import SiteOutage, Transient
from receiver.sync import run_control
from tests.receiver.sync.conftest import SYNCED, Lab, StubSource, outcomes

pytestmark = pytest.mark.parametrize("database_kind", ["sqlite"], indirect=True)

BUSY = Transient("answered 503")
DOWN = Transient("no answer: Connection refused", unreachable=True)
OUTAGE = SiteOutage("the service account is suspended", Advice("Reactivate it."))
STOPPED = (143, "SIGTERM was received")


def test_transient_failure_is_retried_after_all_others(lab: Lab) -> None:
    lab.add_courses("CS1", "CS2", "CS3")
    stub = StubSource({"CS1": [BUSY, SYNCED], "CS2": [BUSY]})

    result = lab.sync(stub, retry_waits=(0.01, 0.01))

    assert stub.fetched == [["CS1"], ["CS2"], ["CS3"], ["CS1"], ["CS2"], ["CS2"]]
    assert outcomes(result) == {
        "CS1": ("synced", None),
        "CS2": ("failed", "transient"),
        "CS3": ("synced", None),
    }


def test_time_out_is_not_repeated_in_the_same_run(lab: Lab) -> None:
    lab.add_courses("CS1")
    stub = StubSource({"CS1": [Transient("no data for 240 s", timed_out=True)]})

    result = lab.sync(stub, retry_waits=(0.01,))

    assert stub.fetched == [["CS1"]]
    assert outcomes(result) == {"CS1": ("failed", "transient")}


def test_failed_batch_is_retried_in_smaller_ones(lab: Lab) -> None:
    ids = [f"C{number}" for number in range(6)]
    lab.add_courses(*ids)
    stub = StubSource({**{one: [BUSY, SYNCED] for one in ids}, "C0": [BUSY]}, max_queries=40)

    result = lab.sync(stub, retry_waits=(0.01, 0.01))

    assert [len(batch) for batch in stub.fetched] == [6, 4, 2, 1]
    assert [one for one, (outcome, _) in outcomes(result).items() if outcome == "failed"] == ["C0"]


def test_retry_waits_as_long_as_the_site_asks_up_to_a_maximum(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("receiver.sync.fetcher._MAX_RETRY_AFTER", 0.1)
    lab.add_courses("CS1")
    stub = StubSource({"CS1": [Transient("answered 429", retry_after=3600.0), SYNCED]})
    started_at = time.monotonic()

    lab.sync(stub, retry_waits=(0.01,))

    assert 0.1 <= time.monotonic() - started_at < 60


def test_unreachable_site_is_tried_once_per_round(lab: Lab) -> None:
    stubs = {
        "down": StubSource({course: [DOWN] for course in ("A1", "A2", "A3")}),
        "back": StubSource({"B1": [DOWN, SYNCED]}),
        "well": StubSource(),
    }
    lab.add_courses("A1", "A2", "A3", source="down")
    lab.add_courses("B1", "B2", source="back")
    lab.add_courses("C1", "C2", source="well")

    result = lab.sync(stubs, retry_waits=(0.01,))

    assert [stub.requests for stub in stubs.values()] == [2, 3, 2]
    assert outcomes(result) == {
        **dict.fromkeys(("A1", "A2", "A3"), ("failed", "transient")),
        **dict.fromkeys(("B1", "B2", "C1", "C2"), ("synced", None)),
    }


def test_site_that_cannot_be_opened_fails_only_its_courses(lab: Lab) -> None:
    lab.add_courses("CS1", "CS2", source="lost")
    lab.add_courses("CS3")

    result = lab.sync({"one": StubSource()})

    assert outcomes(result) == {
        "CS1": ("failed", "site_trouble"),
        "CS2": ("failed", "site_trouble"),
        "CS3": ("synced", None),
    }
    assert result.exit_code == 1


def test_site_outage_stops_the_site_once(lab: Lab) -> None:
    lab.add_courses("A1", "A2", "A3", source="one")
    lab.add_courses("B1", source="two")
    one = StubSource({"A1": [OUTAGE]})

    result = lab.sync({"one": one, "two": StubSource()}, retry_waits=(0.01,))

    assert one.requests == 1
    assert outcomes(result) == {
        "A1": ("failed", "site_trouble"),
        "A2": ("skipped", "site_trouble"),
        "A3": ("skipped", "site_trouble"),
        "B1": ("synced", None),
    }
    assert result.exit_code == 1


def test_requests_run_concurrently(lab: Lab) -> None:
    lab.add_courses("CS1", "CS2", "CS3")
    all_at_once = threading.Barrier(3)

    result = lab.sync(StubSource(on_fetch=lambda: all_at_once.wait(10)), concurrency=3)

    assert set(outcomes(result).values()) == {("synced", None)}


def test_client_that_raises_fails_only_its_request(lab: Lab) -> None:
    lab.add_courses("CS1", "CS2")
    errors = [RuntimeError("unexpected")]

    def raise_once() -> None:
        if errors:
            raise errors.pop()

    result = lab.sync(StubSource(on_fetch=raise_once))

    assert outcomes(result) == {"CS1": ("failed", "unforeseen"), "CS2": ("synced", None)}


def test_deadline_ends_a_run(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.add_courses("CS1", "CS2")
    clock = SimpleNamespace(monotonic=time.monotonic)
    monkeypatch.setattr(run_control, "time", clock)

    def pass_an_hour() -> None:
        clock.monotonic = lambda: time.monotonic() + 3600

    result = lab.sync(StubSource(on_fetch=pass_an_hour), deadline=timedelta(hours=1))

    assert outcomes(result) == {"CS1": ("synced", None), "CS2": ("failed", "deadline")}
    assert (result.exit_code, result.stopped) == (1, "its time limit of 3600 seconds was reached")


def test_stop_finishes_what_is_in_progress(lab: Lab) -> None:
    lab.add_courses("CS1", "CS2")
    stop = threading.Event()

    result = lab.sync(StubSource(on_fetch=stop.set), stop=stop)
    again = lab.sync(StubSource())

    assert outcomes(result) == {"CS1": ("synced", None), "CS2": ("failed", "stopped")}
    assert (result.exit_code, result.stopped) == STOPPED
    assert set(outcomes(again).values()) == {("synced", None)}


def test_request_that_outlasts_the_run_is_cancelled(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_control, "GRACE_SECONDS", 0.0)
    lab.add_courses("CS1", "CS2")
    stop = threading.Event()
    stub = StubSource({"CS1": [Transient("cancelled")]})

    def hang() -> None:
        stop.set()
        stub.cancelled.wait(30)

    stub.on_fetch = hang

    result = lab.sync(stub, stop=stop, batch_size=1)

    assert stub.cancelled.is_set()
    assert (result.exit_code, result.stopped) == STOPPED
    assert outcomes(result)["CS1"] == ("failed", "transient")
