"""The check of a receiver, and samples, against real processes: ELMS and `receiver listen`."""

import signal
import socket
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from contract.events import EVENT_TYPES, OPERATIONAL_TYPES
from contract.signatures import Secret
from foundation.db.migrations import Schema
from foundation.db.session import Database
from notifier import services as notifier
from notifier.config import Settings
from notifier.models import SCHEMA as NOTIFIER
from notifier.services import Services
from notifier.webhooks import endpoints
from notifier.webhooks.retry_policy import WebhookResponse
from notifier.worker.ping import check_receiver, send_sample
from receiver.models import SCHEMA as RECEIVER
from receiver.sources import store as sources
from tests.faults import processes
from tests.faults.processes import Process, wait_until
from tests.faults.site import free_port
from tests.integration.services import (
    ADMIN_KEY,
    ENCRYPTION_KEY,
    SITE,
    Served,
    add_source,
    copied,
    serve,
)


@pytest.fixture
def eassessment(tmp_path: Path, sqlite_templates: Callable[[Schema], Path]) -> Iterator[Services]:
    """The services of an eAssessment that may send to this machine."""
    settings = Settings(
        _env_file=None,
        admin_key=ADMIN_KEY,
        encryption_keys=ENCRYPTION_KEY,
        source=SITE,
        database_url=copied(sqlite_templates(NOTIFIER), tmp_path),
        allow_loopback=True,
    )
    loaded = notifier.load(settings)
    yield loaded
    loaded.database.dispose()


Rows = dict[str, list[str]]
HOUR = timedelta(hours=1)


def rows(database: Database, schema: Schema) -> Rows:
    """Return every row by table."""
    with database.reading() as session:
        return {
            table.name: sorted(map(repr, session.execute(select(table)).all()))
            for table in schema.metadata.sorted_tables
        }


def changed(before: Rows, after: Rows) -> set[str]:
    """Return the tables that differ."""
    return {name for name in before if before[name] != after[name]}


@pytest.fixture
def elms(
    tmp_path: Path, sqlite_templates: Callable[[Schema], Path]
) -> Iterator[tuple[Served, Database]]:
    """A served ELMS, with its database."""
    url = copied(sqlite_templates(RECEIVER), tmp_path)
    served, database = serve("receiver", RECEIVER, url, tmp_path), Database(url)
    yield served, database
    database.dispose()
    served.kill()


@pytest.fixture
def endpoint_id(eassessment: Services, elms: tuple[Served, Database]) -> int:
    """The endpoint of ELMS, which has its secret."""
    served, _ = elms
    url = f"http://127.0.0.1:{served.port}/webhooks/{SITE}"
    vault, guard = eassessment.vault, eassessment.settings.guard
    with eassessment.writing() as (session, now):
        endpoint, secret = endpoints.register(session, url, vault=vault, guard=guard, now=now)
    add_source(served.database_url, secret)
    return endpoint.id


def test_elms_verifies_and_learns_of_nothing_but_heartbeats_in_a_check(
    eassessment: Services, elms: tuple[Served, Database], endpoint_id: int
) -> None:
    _, database = elms
    before = rows(eassessment.database, NOTIFIER), rows(database, RECEIVER)

    check = check_receiver(eassessment, endpoint_id)

    after = rows(eassessment.database, NOTIFIER), rows(database, RECEIVER)
    assert [finding.code for finding in check.findings] == ["verifies"]
    assert all(one.is_as_expected for one in check.results)
    assert changed(before[0], after[0]) == {"endpoint_pings", "endpoints"}
    assert changed(before[1], after[1]) == {"inbox", "counters", "source_refusals", "sources"}
    assert all("'ignored'" in row for row in after[1]["inbox"])
    with database.reading() as session:
        received = sources.receptions(session)[SITE]
    assert (received.refusal, received.heartbeat) == (None, HOUR)


@pytest.mark.parametrize("event_type", [*EVENT_TYPES, *OPERATIONAL_TYPES])
def test_elms_ignores_a_sample(
    eassessment: Services, elms: tuple[Served, Database], endpoint_id: int, event_type: str
) -> None:
    _, database = elms
    before = rows(eassessment.database, NOTIFIER), rows(database, RECEIVER)

    sample = send_sample(eassessment, endpoint_id, event_type, None)

    after = rows(eassessment.database, NOTIFIER), rows(database, RECEIVER)
    assert sample.result == WebhookResponse(200, None, '{"outcome":"ignored"}')
    assert before[0] == after[0]
    assert changed(before[1], after[1]) == {"inbox", "counters"}


def test_check_while_a_secret_rotates_says_that_elms_has_only_the_old_one(
    eassessment: Services, endpoint_id: int
) -> None:
    with eassessment.writing() as (session, now):
        endpoints.rotate_secret(
            session, endpoint_id, overlap=HOUR, vault=eassessment.vault, now=now
        )

    check = check_receiver(eassessment, endpoint_id)

    assert [finding.code for finding in check.findings] == ["verifies", "old-secret-only"]


@pytest.fixture
def start_listening(tmp_path: Path) -> Iterator[Callable[[int, Secret], Process]]:
    """Return a function that starts `receiver listen` and returns it once it listens."""
    started = []

    def start(port: int, secret: Secret) -> Process:
        process = processes.start(
            *("receiver", "listen", "--port", str(port)),
            folder=tmp_path / "listen",
            environment={"WEBHOOK_SECRET": secret.reveal()},
        )
        started.append(process)
        out = process.folder / "out"
        wait_until(lambda: out.exists() and "Listening on" in process.printed(), "listening")
        return process

    yield start
    for process in started:
        process.send(signal.SIGKILL)
        process.wait_ended()


def test_listen_shows_each_webhook_and_has_no_flaw(
    eassessment: Services, start_listening: Callable[[int, Secret], Process]
) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}/webhooks"
    vault, guard = eassessment.vault, eassessment.settings.guard
    with eassessment.writing() as (session, now):
        endpoint, secret = endpoints.register(session, url, vault=vault, guard=guard, now=now)
    process = start_listening(port, secret)
    refused = [ask(port, f"Content-Length: {length}").split()[1] for length in ("x", "99999")]

    check = check_receiver(eassessment, endpoint.id)
    send_sample(eassessment, endpoint.id, "course.deleted", "CS101")
    process.send(signal.SIGINT)

    assert process.wait_ended() == 0
    assert refused == ["411", "413"]
    assert [finding.code for finding in check.findings] == ["verifies"]
    printed = process.printed()
    assert "signature OK, ignored: course.deleted (a test), msg_" in printed
    assert "401 /webhooks refused: the header webhook-signature is missing\n" in printed
    assert printed.endswith("5 webhooks accepted, 6 refused.\n")
    assert secret.reveal() not in printed + process.logged()


def ask(port: int, header: str) -> str:
    """Return the response to the head of a POST."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(f"POST / HTTP/1.1\r\n{header}\r\n\r\n".encode())
        return connection.recv(4096).decode()
