"""Every order of events, each any number of times, through the door: one registry."""

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
LIFE: tuple[Fact, ...] = (
    TokenAnnounced(2, "second", NINE),
    TokenAnnounced(3, "third", NINE + timedelta(hours=1)),
    TokenAnnounced(3, "third", NINE + timedelta(hours=1)),
    TokenAnnounced(4, "fourth", NINE + timedelta(hours=2)),
    Deleted(5, NINE + timedelta(hours=3)),
    TokenAnnounced(6, "sixth", NINE + timedelta(hours=4)),
)
"""A course's life in six events, two of which say the same; the last one should not have been."""
SEED = 20
Tell = Callable[[str, Sequence[int]], list[str]]


def body_of(course_id: str, fact: Fact) -> bytes:
    """Return the event that tells a fact of a course."""
    data = {"source": SITE, "course_id": course_id}
    match fact:
        case Deleted(course_version=version, at=at):
            kind = "course.deleted"
        case TokenAnnounced(course_version=version, token_id=token_id, at=at):
            kind, data["token_id"] = "token.regenerated", token_id
    document = {"type": kind, "timestamp": at.isoformat(), "data": data}
    return json.dumps(document | {"data": {**data, "course_version": version}}).encode()


@pytest.fixture
def tell(client: FlaskClient, make_source: Callable[..., Source]) -> Tell:
    """Return what tells of a course in this order, by numbers of `LIFE`; the outcomes."""
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


def remembered(numbers: Sequence[int]) -> CourseState:
    """Return what is remembered of these events, by the law alone."""
    return reduce(course_state.apply, (LIFE[number] for number in numbers), CourseState())


@pytest.mark.parametrize("length", [1, 2, 3, 4])
def test_every_order_of_the_first_events_gives_one_registry(
    tell: Tell, entry_of: Callable[[str], Entry], length: int
) -> None:
    """Whichever comes first, the entry is the fold of them all (F20)."""
    orders = list(permutations(range(1, length + 1)))

    for place, order in enumerate(orders):
        tell(f"CS{place}", order)

    memories = {registry.state_of(entry_of(f"CS{place}")) for place in range(len(orders))}
    assert memories == {remembered(range(1, length + 1))}


def test_a_sample_of_the_orders_of_six_with_repetitions_gives_one_registry(
    tell: Tell, entry_of: Callable[[str], Entry]
) -> None:
    """Each event once or more, in any order: one entry, and each repetition a duplicate (F20)."""
    chance = random.Random(SEED)
    every = list(range(len(LIFE)))
    orders = [[*every, *chance.choices(every, k=4)] for _ in range(40)]
    for order in orders:
        chance.shuffle(order)

    outcomes = [tell(f"CS{place}", order) for place, order in enumerate(orders)]

    memories = {registry.state_of(entry_of(f"CS{place}")) for place in range(len(orders))}
    assert memories == {remembered(every)}
    assert {told.count("duplicate") for told in outcomes} == {4}
