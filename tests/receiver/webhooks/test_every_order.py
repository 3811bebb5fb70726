"""Every order and repetition of events at the webhook route leads to one registry."""

import json
import random
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import reduce
from itertools import permutations

import pytest
from flask.testing import FlaskClient

from contract import signatures
from contract.signatures import Secret
from receiver import course_state
from receiver.course_state import CourseState, Deleted, Fact, TokenAnnounced
from receiver.models import Entry, Source
from receiver.registry import entries as registry

SITE = "eassessment.example.ac.uk"
NINE = datetime(2026, 11, 22, 9, tzinfo=UTC)
# Six events about a course: two are equal, and the last one has a higher version than the deletion.
LIFE: tuple[Fact, ...] = (
    TokenAnnounced(2, "second", NINE),
    TokenAnnounced(3, "third", NINE + timedelta(hours=1)),
    TokenAnnounced(3, "third", NINE + timedelta(hours=1)),
    TokenAnnounced(4, "fourth", NINE + timedelta(hours=2)),
    Deleted(5, NINE + timedelta(hours=3)),
    TokenAnnounced(6, "sixth", NINE + timedelta(hours=4)),
)
SEED = 20
Send = Callable[[str, Sequence[int]], list[str]]


def body_of(course_id: str, fact: Fact) -> bytes:
    """Return the body of the event of a fact."""
    data = {"source": SITE, "course_id": course_id}
    match fact:
        case Deleted(course_version=version, at=at):
            kind = "course.deleted"
        case TokenAnnounced(course_version=version, token_id=token_id, at=at):
            kind, data["token_id"] = "token.regenerated", token_id
    document = {"type": kind, "timestamp": at.isoformat(), "data": data}
    return json.dumps(document | {"data": {**data, "course_version": version}}).encode()


@pytest.fixture
def send(client: FlaskClient, make_source: Callable[..., Source]) -> Send:
    """Return what sends events of `LIFE` by number, and returns the outcomes."""
    secret = Secret.generate()
    make_source(secrets=(secret,))

    def give(course_id: str, order: Sequence[int]) -> list[str]:
        outcomes = []
        for number in order:
            body = body_of(course_id, LIFE[number])
            webhook_id = f"msg_{course_id}_{number}"
            signed = signatures.sign([secret], webhook_id, body, now=datetime.now(UTC))
            answer = client.post(
                f"/webhooks/{SITE}", data=body, headers=signed, content_type="application/json"
            )
            outcomes.append(str(answer.get_json()["outcome"]))
        return outcomes

    return give


def state_after(numbers: Sequence[int]) -> CourseState:
    """Return the state after these events, by the rule alone."""
    return reduce(course_state.apply, (LIFE[number] for number in numbers), CourseState())


@pytest.mark.parametrize("length", [1, 2, 3, 4])
def test_every_order_of_the_first_events_gives_one_state(
    send: Send, entry_of: Callable[[str], Entry], length: int
) -> None:
    # F20
    orders = list(permutations(range(1, length + 1)))

    for number, order in enumerate(orders):
        send(f"CS{number}", order)

    states = {registry.state_of(entry_of(f"CS{number}")) for number in range(len(orders))}
    assert states == {state_after(range(1, length + 1))}


def test_sampled_orders_with_repetitions_give_one_state(
    send: Send, entry_of: Callable[[str], Entry]
) -> None:
    # F20
    chance = random.Random(SEED)
    every = list(range(len(LIFE)))
    orders = [[*every, *chance.choices(every, k=4)] for _ in range(40)]
    for order in orders:
        chance.shuffle(order)

    outcomes = [send(f"CS{number}", order) for number, order in enumerate(orders)]

    states = {registry.state_of(entry_of(f"CS{number}")) for number in range(len(orders))}
    assert states == {state_after(every)}
    assert {some.count("duplicate") for some in outcomes} == {4}
