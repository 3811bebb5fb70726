"""The confirmation of deletions before they are stored."""

from collections.abc import Callable

import pytest

from receiver.sources.base import NotFoundUnconfirmed
from tests.receiver.sync.conftest import Lab, StubSource, outcomes

pytestmark = pytest.mark.parametrize("database_kind", ["sqlite"], indirect=True)


def fail() -> None:
    """Fail as no client should."""
    raise RuntimeError("unexpected")


@pytest.mark.parametrize(
    ("gone", "certain", "on_confirm", "expected"),
    [
        pytest.param(True, False, None, "course_deleted", id="confirmed"),
        pytest.param(False, True, None, "misconfigured", id="it exists"),
        pytest.param(None, True, None, "course_deleted", id="certain without confirmation"),
        pytest.param(None, False, None, "transient", id="not certain"),
        pytest.param(True, False, fail, "transient", id="confirmation that raises"),
    ],
)
def test_deletion_is_confirmed_before_it_is_stored(
    lab: Lab,
    gone: bool | None,
    certain: bool,
    on_confirm: Callable[[], object] | None,
    expected: str,
) -> None:
    lab.add_courses("CS1", "CS2", "CS3", source="one")
    lab.add_courses("MA1", source="two")
    not_found = NotFoundUnconfirmed("no such course", certain)
    one = StubSource(
        {"CS1": [not_found], "CS3": [not_found]},
        gone={"CS1": gone, "CS3": gone},
        on_confirm=on_confirm or (lambda: None),
    )
    two = StubSource({"MA1": [not_found]}, gone={"MA1": True})

    result = lab.sync({"one": one, "two": two})

    assert one.confirmed == ([] if on_confirm else [["CS1", "CS3"]])
    assert outcomes(result) == {
        "CS1": ("failed", expected),
        "CS2": ("synced", None),
        "CS3": ("failed", expected),
        "MA1": ("failed", "course_deleted"),
    }
