"""Events at the webhook route: order and repetition do not change what ELMS stores.

`tests/receiver/test_course_state.py` tries every order; here is a sample, through the database.
"""

import random
from datetime import UTC, datetime, timedelta
from functools import reduce
from typing import Any

import pytest

from receiver import course_state
from receiver.course_state import CourseState, Deleted, Restored, TokenAnnounced
from receiver.registry import entries as registry
from tests.receiver.conftest import Store
from tests.receiver.webhooks.conftest import Post, make_body

NINE = datetime(2026, 11, 22, 9, tzinfo=UTC)
HOUR = timedelta(hours=1)
# Two of the six events are equal.
EVENTS = (
    TokenAnnounced(2, "second", NINE),
    TokenAnnounced(2, "second", NINE),
    Deleted(3, NINE + HOUR),
    Restored(4, NINE + 2 * HOUR),
    TokenAnnounced(5, "fifth", NINE + 3 * HOUR, NINE + 6 * HOUR),
    Deleted(6, NINE + 4 * HOUR),
)
TYPES = {
    Deleted: "course.deleted",
    Restored: "course.restored",
    TokenAnnounced: "token.regenerated",
}


def body_of(event: Deleted | Restored | TokenAnnounced) -> bytes:
    """Return the body of the webhook of an event."""
    root = {"type": TYPES[type(event)], "timestamp": event.at.isoformat()}
    data: dict[str, Any] = {"course_version": event.course_version}
    if isinstance(event, TokenAnnounced):
        data["token_id"] = event.token_id
        if event.valid_until is not None:
            data["valid_until"] = event.valid_until.isoformat()
    return make_body(root, **data)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    "events", [pytest.param(EVENTS, id="deleted"), pytest.param(EVENTS[:-1], id="restored")]
)
def test_any_order_with_repetitions_gives_the_same_state(  # F20
    post: Post, store: Store, events: tuple[Deleted | Restored | TokenAnnounced, ...], seed: int
) -> None:
    chance = random.Random(seed)
    numbers = range(len(events))
    order = [*numbers, *chance.choices(numbers, k=4)]
    chance.shuffle(order)

    outcomes = [
        post(body_of(events[number]), f"msg_{number}").get_json()["outcome"] for number in order
    ]

    assert registry.state_of(store.entry("CS101")) == reduce(
        course_state.apply, events, CourseState()
    )
    assert outcomes.count("duplicate") == 4
