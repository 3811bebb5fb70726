"""Events at the webhook route: order and repetition do not change what ELMS stores.

`tests/receiver/test_course_state.py` tries every order; here is a sample, through the database.
"""

import random
from datetime import UTC, datetime, timedelta
from functools import reduce
from typing import Any

import pytest

from receiver import course_state
from receiver.course_state import CourseState, Deleted, TokenAnnounced
from receiver.registry import entries as registry
from tests.receiver.conftest import Store
from tests.receiver.webhooks.conftest import Post, make_body

NINE = datetime(2026, 11, 22, 9, tzinfo=UTC)
HOUR = timedelta(hours=1)
# Two of the six events are equal, and the last one has a higher version than the deletion.
EVENTS = (
    TokenAnnounced(2, "second", NINE),
    TokenAnnounced(3, "third", NINE + HOUR),
    TokenAnnounced(3, "third", NINE + HOUR),
    TokenAnnounced(4, "fourth", NINE + 2 * HOUR, NINE + 6 * HOUR),
    Deleted(5, NINE + 3 * HOUR),
    TokenAnnounced(6, "sixth", NINE + 4 * HOUR),
)


def body_of(event: Deleted | TokenAnnounced) -> bytes:
    """Return the body of the webhook of an event."""
    root = {"timestamp": event.at.isoformat()}
    data: dict[str, Any] = {"course_version": event.course_version}
    if isinstance(event, Deleted):
        return make_body(root, **data)
    if event.valid_until is not None:
        data["valid_until"] = event.valid_until.isoformat()
    return make_body({**root, "type": "token.regenerated"}, **data, token_id=event.token_id)


@pytest.mark.parametrize("seed", range(4))
def test_any_order_with_repetitions_gives_the_same_state(  # F20
    post: Post, store: Store, seed: int
) -> None:
    chance = random.Random(seed)
    order = [*range(6), *chance.choices(range(6), k=4)]
    chance.shuffle(order)

    outcomes = [
        post(body_of(EVENTS[number]), f"msg_{number}").get_json()["outcome"] for number in order
    ]

    assert registry.state_of(store.entry("CS101")) == reduce(
        course_state.apply, EVENTS, CourseState()
    )
    assert outcomes.count("duplicate") == 4
