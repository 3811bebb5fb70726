"""One trace leads from an administrator's request to ELMS's log, one through a grade sync."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask

from contract.signatures import Secret
from contract.tokens import CourseToken
from foundation.db import session as db
from foundation.db.migrations import Schema
from foundation.http.ssrf import Guard
from foundation.tracing import new_span, use
from notifier import app as eassessment
from notifier import services as notifier_services
from notifier.config import Settings as NotifierSettings
from notifier.models import SCHEMA as NOTIFIER
from notifier.webhooks import endpoints
from notifier.webhooks.http_client import Transport
from notifier.worker.worker import Worker, WorkerOptions
from receiver import app as elms
from receiver import services as receiver_services
from receiver.config import Settings as ReceiverSettings
from receiver.models import SCHEMA as RECEIVER
from receiver.registry import entries as registry
from receiver.sources import store as sources
from receiver.sources.factory import ClientFactory
from receiver.sync.run import SyncOptions, SyncRun
from tests.integration.story.conftest import ADMIN_KEY, KEY, served_app

CAUSE = new_span()


@pytest.fixture
def there(make_database_url: Callable[[Schema], str]) -> Iterator[Flask]:
    """eAssessment, empty."""
    app = eassessment.create_app(
        NotifierSettings(
            _env_file=None,
            database_url=make_database_url(NOTIFIER),
            encryption_keys=KEY,
            admin_key=ADMIN_KEY,
        )
    )
    yield app
    notifier_services.of(app).database.dispose()


@pytest.fixture
def here(make_database_url: Callable[[Schema], str]) -> Iterator[Flask]:
    """ELMS, empty."""
    app = elms.create_app(
        ReceiverSettings(
            _env_file=None, database_url=make_database_url(RECEIVER), encryption_keys=KEY
        )
    )
    yield app
    receiver_services.of(app).database.dispose()


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Callable[[str], list[dict[str, Any]]]:
    """Return a function that returns the fields of the log lines with a message."""

    def read(message: str) -> list[dict[str, Any]]:
        fields = [record.msg for record in caplog.records if isinstance(record.msg, dict)]
        return [line for line in fields if line["event"] == message]

    return read


def admin(app: Flask, method: str, path: str, **options: Any) -> Any:
    """Call the admin API as a part of the trace."""
    headers = {"Authorization": f"Bearer {ADMIN_KEY}", "traceparent": CAUSE.header}
    answer = app.test_client().open(
        f"/api/v1/admin{path}", method=method, headers=headers, **options
    )
    assert answer.status_code < 300, answer.text
    return answer.json


def make_worker(app: Flask, url: str, secret_to: Callable[[Secret], None]) -> Worker:
    """Register ELMS's webhook route, and return a worker."""
    services = notifier_services.of(app)
    with services.database.writing() as session:
        _, secret = endpoints.register(
            session, f"{url}/webhooks/eassessment",
            vault=services.vault, guard=Guard(loopback=True), now=db.now(session),
        )  # fmt: skip
    secret_to(secret)
    transport = Transport(connect_timeout=5, deadline=15, connections=1, guard=Guard(loopback=True))
    return Worker(
        services.database,
        services.vault,
        transport,
        WorkerOptions(1, 1, timedelta(minutes=1), 0.01),
    )


def test_a_deletion_leads_to_elms_log_in_one_trace(
    there: Flask, here: Flask, logged: Callable[[str], list[dict[str, Any]]]
) -> None:
    services = receiver_services.of(here)

    def enter(secret: Secret) -> None:
        with services.database.writing() as session:
            now = db.now(session)
            source = sources.add(session, "eassessment", "http://127.0.0.1:9", now=now)
            sources.add_secret(session, source, secret, vault=services.vault, now=now)

    admin(there, "POST", "/courses", json={"course_id": "CS101", "title": "Algorithms"})
    with served_app(here) as url:
        worker = make_worker(there, url, enter)
        admin(there, "DELETE", "/courses/CS101")
        worker.run(once=True)
        worker.transport.close()

    (attempt,) = logged("event delivered")
    (accepted,) = logged("webhook accepted")
    assert attempt["trace_id"] == accepted["trace_id"] == CAUSE.trace_id
    assert len({CAUSE.span_id, attempt["span_id"], accepted["span_id"]}) == 3


def test_a_grade_sync_is_one_trace_on_both_sides(
    there: Flask, here: Flask, logged: Callable[[str], list[dict[str, Any]]]
) -> None:
    services = receiver_services.of(here)
    course = {"course_id": "CS101", "title": "Algorithms"}
    token = CourseToken.parse(admin(there, "POST", "/courses", json=course)["token"])
    with served_app(there) as url, here.app_context():
        with services.database.writing() as session:
            now = db.now(session)
            source = sources.add(session, "eassessment", url, now=now)
            registry.add(
                session, source, "CS101", token,
                vault=services.vault, actor=registry.Actor("administrator", "ada"), now=now,
            )  # fmt: skip
        with use(new_span()) as span, ClientFactory(services.settings, services.vault) as clients:
            options = SyncOptions(holder="ada", lease=timedelta(minutes=5))
            report = SyncRun(services.database, services.vault, clients, options).execute()

    assert report.exit_code == 0
    assert {line["trace_id"] for line in logged("grade sync ended")} == {span.trace_id}
    requests = [line for line in logged("request completed") if line["url"].endswith("/grades")]
    assert [line["trace_id"] for line in requests] == [span.trace_id]
