"""The check of a receiver, and samples, against ELMS itself, a real process."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from contract.events import EVENT_TYPES, OPERATIONAL_TYPES
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


def test_elms_verifies_and_a_check_changes_nothing_that_either_side_knows(
    eassessment: Services, elms: tuple[Served, Database], endpoint_id: int
) -> None:
    _, database = elms
    before = rows(eassessment.database, NOTIFIER), rows(database, RECEIVER)

    check = check_receiver(eassessment, endpoint_id)

    after = rows(eassessment.database, NOTIFIER), rows(database, RECEIVER)
    assert [finding.code for finding in check.findings] == ["verifies"]
    assert all(one.is_as_expected for one in check.results)
    assert changed(before[0], after[0]) == {"endpoint_pings"}
    assert changed(before[1], after[1]) == {"inbox", "counters"}
    assert all("'ignored'" in row for row in after[1]["inbox"])


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
