"""Whatever happens in whatever order, both sides stand where a model of them stands."""

from collections.abc import Callable, Iterator

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from foundation.db.migrations import Schema
from foundation.db.session import Database
from notifier.models import SCHEMA, SOURCE
from notifier.webhooks import outbox
from receiver.models import SCHEMA as ELMS_SCHEMA
from tests.faults.model.machine import Machine
from tests.faults.model.world import SITE

# Derived from the code alone, so that every run tries the same; a failure prints its steps.
SHORT = settings(
    derandomize=True, max_examples=20, stateful_step_count=40, deadline=None, database=None
)
LONG = settings(max_examples=200, stateful_step_count=100, deadline=None, database=None)


@pytest.fixture
def notifier(make_database_url: Callable[[Schema], str]) -> Iterator[Database]:
    """eAssessment's database, and the outbox connected."""
    outbox.subscribe()
    opened = Database(make_database_url(SCHEMA), info={SOURCE: SITE})
    yield opened
    opened.dispose()


@pytest.fixture
def receiver(make_database: Callable[[Schema], Database]) -> Database:
    """ELMS's database."""
    return make_database(ELMS_SCHEMA)


# Hypothesis may take five minutes to make a failure small.
@pytest.mark.timeout(600)
def test_both_sides_stand_where_the_model_stands(notifier: Database, receiver: Database) -> None:
    """No order of changes, turns, crashes, late answers, clock jumps breaks a law (I1, I3, F6)."""
    run_state_machine_as_test(lambda: Machine(notifier, receiver), settings=SHORT)


@pytest.mark.torture
@pytest.mark.timeout(3600)
def test_both_sides_stand_there_for_long(notifier: Database, receiver: Database) -> None:
    """Two hundred long histories break no law either (I1, I3)."""
    run_state_machine_as_test(lambda: Machine(notifier, receiver), settings=LONG)
