"""The whole retry schedule, more than 75 hours, to the microsecond."""

from collections.abc import Callable
from datetime import timedelta
from itertools import accumulate

import pytest
from cryptography.fernet import Fernet
from freezegun import freeze_time
from pydantic import SecretStr
from sqlalchemy import select

from foundation.crypto import Vault
from foundation.db.migrations import Schema
from foundation.db.session import Database
from notifier.courses import service as courses
from notifier.models import SCHEMA, SOURCE, Attempt, Delivery
from notifier.webhooks import endpoints, outbox
from notifier.webhooks.http_client import Transport
from notifier.worker.worker import Worker, WorkerOptions
from tests.notifier.conftest import (  # noqa: F401 - fixtures
    LOOPBACK,
    NINE,
    Reply,
    Sink,
    make_sink,
    make_transport,
    sink,
)

# The waits of Standard Webhooks 1.0, in seconds.
WAITS = (5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400)
DUE = [NINE + timedelta(seconds=one) for one in accumulate(WAITS, initial=0)]
INSTANT = timedelta(microseconds=1)


# PostgreSQL has a clock of its own, which a test cannot move.
@pytest.mark.parametrize("database_kind", ["sqlite"])
@pytest.mark.parametrize("status", [pytest.param(500, id="retried"), pytest.param(422, id="dead")])
def test_worker_keeps_the_schedule(
    make_database_url: Callable[[Schema], str],
    make_transport: Callable[..., Transport],  # noqa: F811
    sink: Sink,  # noqa: F811
    status: int,
) -> None:
    outbox.subscribe()
    database = Database(make_database_url(SCHEMA), info={SOURCE: "eassessment"})
    vault = Vault(SecretStr(Fernet.generate_key().decode()))
    with database.writing() as session:
        endpoints.register(session, sink.url(), vault=vault, guard=LOOPBACK, now=NINE)
        courses.add_course(session, "CS101", "Algorithms", now=NINE)
        courses.delete_course(session, "CS101", now=NINE)
    options = WorkerOptions(2, 2, lease=timedelta(minutes=1), poll_seconds=0.01)
    worker = Worker(database, vault, make_transport(connections=2), options, lambda: 0.0)
    sink.always(Reply(status))
    sent_before = []

    with freeze_time(NINE) as clock:
        for due in DUE:
            clock.move_to(due - INSTANT)
            worker.run(once=True)
            sent_before.append(len(sink.received))
            clock.move_to(due)
            worker.run(once=True)

    expected = DUE if status == 500 else DUE[:1]
    with database.reading() as session:
        row = session.scalars(select(Delivery)).one()
        started = session.scalars(select(Attempt.started_at).order_by(Attempt.id)).all()
    database.dispose()
    assert started == expected
    assert sent_before == [min(number, len(expected)) for number in range(10)]
    assert (row.status, row.attempts, row.settled_at) == ("dead", len(expected), expected[-1])
    assert timedelta(hours=75) < DUE[-1] - NINE < timedelta(hours=76)
