"""The breaker states of endpoints in the database."""

from dataclasses import replace
from datetime import timedelta

from notifier.webhooks import breaker_store
from notifier.webhooks.circuit_breaker import BreakerState
from tests.notifier.conftest import MINUTE, NINE, Store

PAUSED = BreakerState(5, NINE - timedelta(hours=1), NINE, NINE + MINUTE)


def test_states_of_enabled_endpoints_are_read(store: Store) -> None:
    paused, healthy = store.add_endpoint(), store.add_endpoint()
    store.add_endpoint(disabled=True)

    store.set_state(paused.id, PAUSED)

    assert store.read(breaker_store.read_states) == {
        paused.id: PAUSED,
        healthy.id: BreakerState(),
    }


def test_end_pauses_makes_endpoints_half_open(store: Store) -> None:
    paused, healthy = store.add_endpoint(), store.add_endpoint()
    store.set_state(paused.id, PAUSED)

    store.write(breaker_store.end_pauses, now=NINE)

    assert store.read(breaker_store.read_states) == {
        paused.id: replace(PAUSED, paused_until=NINE),
        healthy.id: BreakerState(),
    }
