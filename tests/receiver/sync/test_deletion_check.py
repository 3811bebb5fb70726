"""The confirmation of deletions before they are stored."""

import threading
from collections.abc import Callable

import pytest

from receiver.sources.base import NotFoundUnconfirmed
from receiver.sync import heartbeat
from tests.receiver.sync.conftest import StubSource, Sync, outcomes


@pytest.mark.parametrize(
    ("gone", "certain", "expected"),
    [
        pytest.param(True, False, ("failed", "course_deleted"), id="confirmed"),
        pytest.param(False, True, ("failed", "misconfigured"), id="it exists"),
        pytest.param(None, True, ("failed", "course_deleted"), id="certain without confirmation"),
        pytest.param(None, False, ("failed", "transient"), id="not certain"),
    ],
)
def test_course_that_seems_gone_is_confirmed_first(
    add_courses: Callable[..., None],
    sync: Sync,
    gone: bool | None,
    certain: bool,
    expected: tuple[str, str],
) -> None:
    add_courses("CS1", "CS2", "CS3")
    not_found = NotFoundUnconfirmed("no such course", certain)
    stub = StubSource({"CS1": [not_found], "CS3": [not_found]}, gone={"CS1": gone, "CS3": True})

    result = sync(stub)

    assert stub.confirmed == [["CS1", "CS3"]]
    assert outcomes(result) == {
        "CS1": expected,
        "CS2": ("synced", None),
        "CS3": ("failed", "course_deleted"),
    }


def test_confirmation_that_raises_confirms_nothing(
    add_courses: Callable[..., None], sync: Sync
) -> None:
    add_courses("CS1", "CS2")

    def fail() -> None:
        raise RuntimeError("unexpected")

    not_found = NotFoundUnconfirmed("no such course", certain=False)
    result = sync(StubSource({"CS1": [not_found]}, on_confirm=fail))

    assert outcomes(result) == {"CS1": ("failed", "transient"), "CS2": ("synced", None)}


def test_confirmation_that_outlasts_the_run_is_cancelled(
    add_courses: Callable[..., None], sync: Sync, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeat, "GRACE_SECONDS", 0.0)
    add_courses("CS1")
    stop = threading.Event()
    stub = StubSource({"CS1": [NotFoundUnconfirmed("no such course", certain=False)]})

    def hang() -> None:
        stop.set()
        stub.cancelled.wait(30)

    stub.on_confirm = hang

    result = sync(stub, stop=stop)

    assert stub.cancelled.is_set()
    assert outcomes(result) == {"CS1": ("failed", "transient")}
