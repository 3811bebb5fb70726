"""What was delivered is replayed while events flow to ELMS's own route: nothing happens twice."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest
from click.testing import Result
from pydantic import SecretStr
from sqlalchemy import select
from werkzeug.serving import make_server

from contract.signatures import Secret
from foundation.crypto import Vault
from foundation.db.migrations import Schema
from foundation.db.session import Database
from notifier.models import SCHEMA as NOTIFIER
from notifier.models import Attempt, EndpointSecret, Event, Replay
from notifier.worker.worker import Worker
from receiver.app import create_app
from receiver.models import SCHEMA as RECEIVER
from receiver.models import Entry, InboxMessage
from receiver.sources import store as sources
from tests.faults.database.conftest import ENCRYPTION_KEY, receiver_settings
from tests.faults.database.every_command import SITE
from tests.faults.database.outbox import Outbox
from tests.notifier.conftest import running


@pytest.fixture
def elms(make_database_url: Callable[[Schema], str]) -> str:
    """The URL of ELMS's database; the source that will be heard is in it."""
    url = make_database_url(RECEIVER)
    database = Database(url)
    with database.writing() as session:
        sources.add(session, SITE, "http://127.0.0.1:9", now=datetime.now(UTC))
    database.dispose()
    return url


@pytest.fixture
def route(elms: str, make_app: Callable[..., object]) -> Iterator[str]:
    """The URL of ELMS's route, over HTTP."""
    app = create_app(receiver_settings(elms))
    make_app(app)
    server = make_server("127.0.0.1", 0, app, threaded=True)
    serving = threading.Thread(target=server.serve_forever, args=(0.01,))
    serving.start()
    yield f"http://127.0.0.1:{server.server_port}/webhooks/{SITE}"
    server.shutdown()
    serving.join()
    server.server_close()


@pytest.fixture
def due(make_database_url: Callable[[Schema], str], elms: str, route: str) -> Outbox:
    """An outbox whose endpoint is the route, with a secret that both know."""
    vault = Vault(SecretStr(ENCRYPTION_KEY))
    made = Outbox(make_database_url(NOTIFIER), vault)
    made.register(route)
    (encrypted,) = made.read(select(EndpointSecret.encrypted))
    database = Database(elms)
    with database.writing() as session:
        secret, now = Secret.parse(vault.decrypt(encrypted)), datetime.now(UTC)
        sources.add_secret(session, sources.get(session, SITE), secret, vault=vault, now=now)
    database.dispose()
    return made


def test_replays_during_delivery_change_nothing_and_are_written_down(
    due: Outbox,
    elms: str,
    make_worker: Callable[..., Worker],
    run_command: Callable[..., Result],
) -> None:
    due.add(10)

    with running(make_worker(due, due.url)):
        due.wait_until_delivered(10)
        due.add(10)
        again = [
            run_command("notifier deliveries replay", due.url, "--status", "delivered")
            for _ in range(2)
        ]
        due.add(10)
        due.wait_until_delivered(30)

    replayed = Counter(due.read(select(Replay.delivery_id)))
    attempts = Counter(due.read(select(Attempt.delivery_id)))
    received = Outbox(elms, due.vault)
    assert [one.exit_code for one in again] == [0, 0]
    assert set(range(1, 11)) <= set(replayed)
    assert set(due.read(select(Attempt.decided))) == {"delivered"}
    assert all(attempts[one] > 1 for one in range(1, 11))
    assert sorted(received.read(select(InboxMessage.webhook_id))) == sorted(
        due.read(select(Event.id))
    )
    assert received.read(select(Entry.deleted_version)) == [2] * 30
