"""The breaker states of endpoints in the database."""

from dataclasses import replace
from datetime import timedelta

from notifier.webhooks import circuit_breaker
from notifier.webhooks.circuit_breaker import BreakerState
from tests.notifier.conftest import MINUTE, NINE, Store

PAUSED = BreakerState(5, NINE - timedelta(hours=1), NINE, NINE + MINUTE)


def test_states_of_enabled_endpoints_are_locked(store: Store) -> None:
    paused, healthy, other = (store.add_endpoint() for _ in range(3))
    disabled = store.add_endpoint(disabled=True)
    store.set_state(paused.id, PAUSED)

    given = store.write(circuit_breaker.lock_states, [healthy.id, disabled.id])
    failing = store.write(circuit_breaker.lock_states, [], if_failing=[paused.id, other.id])

    assert (given, failing) == ({healthy.id: BreakerState()}, {paused.id: PAUSED})


def test_end_pauses_lets_endpoints_be_tried(store: Store) -> None:
    paused, healthy = store.add_endpoint(), store.add_endpoint()
    store.set_state(paused.id, PAUSED)

    store.write(circuit_breaker.end_pauses, now=NINE)

    ended = store.write(circuit_breaker.lock_states, [paused.id, healthy.id])
    assert ended == {paused.id: replace(PAUSED, paused_until=NINE), healthy.id: BreakerState()}
