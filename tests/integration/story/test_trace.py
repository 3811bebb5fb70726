"""One trace leads from an administrator's request to ELMS's log, and one through a grade sync."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from flask import Flask

from contract.tokens import CourseToken
from foundation.db.migrations import Schema
from foundation.http.ssrf import Guard
from foundation.tracing import new_span, use
from notifier import app as eassessment_app
from notifier import services as notifier_services
from notifier.config import Settings as NotifierSettings
from notifier.models import SCHEMA as NOTIFIER
from notifier.webhooks import endpoints
from notifier.webhooks.http_client import Transport
from notifier.worker.worker import Worker, WorkerOptions
from receiver import app as elms_app
from receiver import services as receiver_services
from receiver.config import Settings as ReceiverSettings
from receiver.models import SCHEMA as RECEIVER
from receiver.registry import entries as registry
from receiver.registry.history import Actor, ActorKind
from receiver.sources import store as sources
from receiver.sources.factory import ClientFactory
from receiver.sync.run import SyncOptions, SyncRun
from tests.integration.story.conftest import ADMIN_KEY, KEY, served_app

LOOPBACK = Guard(loopback=True)
CAUSE = new_span()

MakeUrl = Callable[[Schema], str]
Logged = Callable[[str], list[dict[str, Any]]]


@pytest.fixture
def eassessment(make_database_url: MakeUrl) -> Iterator[Flask]:
    """eAssessment, empty."""
    given = {"encryption_keys": KEY, "admin_key": ADMIN_KEY}
    url = make_database_url(NOTIFIER)
    app = eassessment_app.create_app(NotifierSettings(_env_file=None, database_url=url, **given))
    yield app
    notifier_services.of(app).database.dispose()


@pytest.fixture
def elms(make_database_url: MakeUrl) -> Iterator[Flask]:
    """ELMS, empty."""
    url = make_database_url(RECEIVER)
    settings = ReceiverSettings(_env_file=None, database_url=url, encryption_keys=KEY)
    app = elms_app.create_app(settings)
    yield app
    receiver_services.of(app).database.dispose()


def administer(app: Flask, method: str, path: str, **options: Any) -> Any:
    """Call the admin API as a part of the trace."""
    headers = {"Authorization": f"Bearer {ADMIN_KEY}", "traceparent": CAUSE.header}
    path = f"/api/v1/admin{path}"
    response = app.test_client().open(path, method=method, headers=headers, **options)
    assert response.status_code < 300, response.text
    return response.json


def test_deletion_leads_to_the_log_of_elms_in_one_trace(
    eassessment: Flask, elms: Flask, logged: Logged
) -> None:
    sender, receiver = notifier_services.of(eassessment), receiver_services.of(elms)
    transport = Transport(connect_timeout=5, deadline=15, connections=1, guard=LOOPBACK)
    options = WorkerOptions(1, 1, timedelta(minutes=1), 0.01)
    administer(eassessment, "POST", "/courses", json={"course_id": "CS101", "title": "Algorithms"})
    with served_app(elms) as url:
        now = datetime.now(UTC)
        with sender.database.writing() as session:
            given = {"vault": sender.vault, "guard": LOOPBACK, "now": now}
            _, secret = endpoints.register(session, f"{url}/webhooks/eassessment", **given)
        with receiver.database.writing() as session:
            source = sources.add(session, "eassessment", "http://127.0.0.1:9", now=now)
            sources.add_secret(session, source, secret, vault=receiver.vault, now=now)
        administer(eassessment, "DELETE", "/courses/CS101")
        Worker(sender.database, sender.vault, transport, options).run(once=True)
    transport.close()

    (attempt,) = logged("event delivered")
    (accepted,) = logged("webhook accepted")
    assert attempt["trace_id"] == accepted["trace_id"] == CAUSE.trace_id
    assert len({CAUSE.span_id, attempt["span_id"], accepted["span_id"]}) == 3


def test_grade_sync_is_one_trace_on_both_sides(
    eassessment: Flask, elms: Flask, logged: Logged
) -> None:
    receiver, now = receiver_services.of(elms), datetime.now(UTC)
    course = {"course_id": "CS101", "title": "Algorithms"}
    token = CourseToken.parse(administer(eassessment, "POST", "/courses", json=course)["token"])
    actor = Actor(ActorKind.ADMINISTRATOR, "ada")
    with served_app(eassessment) as url, elms.app_context():
        with receiver.database.writing() as session:
            source = sources.add(session, "eassessment", url, now=now)
            given = {"vault": receiver.vault, "actor": actor, "now": now}
            registry.add(session, source, "CS101", token, **given)
        with use(new_span()) as span, ClientFactory(receiver.settings, receiver.vault) as clients:
            options = SyncOptions(holder="ada", lease=timedelta(minutes=5))
            result = SyncRun(receiver.database, receiver.vault, clients, options).execute()

    assert result.exit_code == 0
    assert {line["trace_id"] for line in logged("grade sync started")} == {span.trace_id}
    requests = [line for line in logged("request completed") if line["url"].endswith("/grades")]
    assert [line["trace_id"] for line in requests] == [span.trace_id]
