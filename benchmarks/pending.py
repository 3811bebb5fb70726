"""Pending deliveries in a new database of eAssessment, written as a deletion of courses does."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from pydantic import SecretStr
from sqlalchemy import func, select

from benchmarks.notifier_data import course_id_of, migrated
from contract import events
from foundation.crypto import Vault
from foundation.db import session as db
from foundation.db.session import Database
from foundation.http.ssrf import parse_guard
from notifier.models import SCHEMA, SOURCE, Delivery
from notifier.signals import CourseChange
from notifier.webhooks import endpoints, outbox
from tests.conftest import Postgres

_SITE = "eassessment.example"
_VERSION = 2


@contextmanager
def new_database(folder: Path, server_url: str | None) -> Iterator[str]:
    """Create and migrate a database, in a folder or on a server; yield its URL, then drop it."""
    if server_url is None:
        file = folder / "notifier.db"
        migrated(f"sqlite:///{file}").dispose()
        yield f"sqlite:///{file}"
        for path in folder.glob(f"{file.name}*"):
            path.unlink()
        return
    server = Postgres(server_url)
    try:
        yield server.database_for(SCHEMA)
    finally:
        server.drop_all()


@contextmanager
def opened(url: str) -> Iterator[Database]:
    """Open a database of eAssessment."""
    database = Database(url, info={SOURCE: _SITE})
    yield database
    database.dispose()


def register(database: Database, key: str, receiver_url: str, count: int) -> None:
    """Register endpoints for deletions, each with a path of its own at the receiver."""
    urls = [f"{receiver_url}{path_of(number)}" for number in range(count)]
    register_urls(database, key, urls, "course.deleted")


def register_urls(database: Database, key: str, urls: Sequence[str], event_type: str) -> None:
    """Register endpoints for one type of event."""
    vault, guard = Vault(SecretStr(key)), parse_guard("", loopback=True)
    with database.writing() as session:
        now = db.now(session)
        for url in urls:
            endpoints.register(session, url, [event_type], vault=vault, guard=guard, now=now)


def write(database: Database, count: int) -> None:
    """Write events with a delivery to each endpoint, in one transaction."""
    with database.writing() as session:
        now = db.now(session)
        for number in range(count):
            change = CourseChange(course_id_of(number), _VERSION, now, "")
            outbox.on_course_deleted(session, change)
        outbox.on_changes_complete(session)


def statuses(database: Database) -> dict[str, int]:
    """Return how many deliveries have each status."""
    with database.reading() as session:
        rows = session.execute(
            select(Delivery.stored_status, func.count()).group_by(Delivery.stored_status)
        )
        return {row[0]: row[1] for row in rows}


def write_file(path: Path, count: int, endpoint_count: int) -> None:
    """Write the same webhooks to a file: path, webhook-id and body of each."""
    now = datetime.now(UTC)
    bodies = {outbox.new_webhook_id(): body_of(number, now) for number in range(count)}
    webhooks = [
        (path_of(number), webhook_id, body)
        for webhook_id, body in bodies.items()
        for number in range(endpoint_count)
    ]
    path.write_text(json.dumps(webhooks))


def body_of(number: int, at: datetime) -> str:
    """Return the body of a deletion."""
    data = events.CourseDeletedData(
        source=_SITE, course_id=course_id_of(number), course_version=_VERSION
    )
    return events.dump(events.CourseDeleted(timestamp=at, data=data))


def path_of(number: int) -> str:
    """Return the path of an endpoint at the receiver."""
    return f"/webhooks/{number}"
