"""The webhook route: a signed event is accepted once and its outcome returned."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from freezegun import freeze_time
from sqlalchemy import text

from contract.problems import ProblemType
from contract.signatures import Secret
from foundation.crypto import Vault
from foundation.services import attach
from receiver import services
from receiver.models import Entry, InboxMessage
from receiver.sources import store as sources
from tests.receiver.conftest import NINE, SITE, Store
from tests.receiver.webhooks.conftest import PATH, Post, check_refused, make_body


def test_response_has_the_outcome(post: Post, store: Store) -> None:
    ping = b'{"type":"endpoint.ping","timestamp":"x","data":{}}'

    responses = [
        post(make_body(course_version=5)),
        post(make_body(course_version=5)),
        post(make_body(course_version=4), "msg_2"),
        post(ping, "msg_3"),
    ]

    assert [(response.status_code, response.get_json()["outcome"]) for response in responses] == [
        (200, "applied"),
        (200, "duplicate"),
        (200, "stale"),
        (200, "ignored"),
    ]
    assert [entry.deleted_version for entry in store.rows(Entry)] == [5]
    assert len(store.rows(InboxMessage)) == 3


@pytest.mark.parametrize(
    "course_id", [pytest.param("CS101", id="known course"), pytest.param("CS102", id="new course")]
)
def test_webhook_costs_five_statements(post: Post, app: Flask, course_id: str) -> None:
    post(make_body(course_id="CS101", course_version=4))
    before = services.of(app).database.statements

    response = post(make_body(course_id=course_id, course_version=5), "msg_2")

    assert response.get_json() == {"outcome": "applied"}
    assert services.of(app).database.statements - before == 5


def test_secret_that_is_added_or_removed_counts_soon(post: Post, app: Flask, store: Store) -> None:
    database, other = services.of(app).database, Secret.generate()

    def statuses(name: str, **signed: Any) -> set[int]:
        def send(number: int) -> int:
            body = make_body(course_id=f"C{number}")
            return post(body, f"{name}_{number}", signed_at=NINE, **signed).status_code

        with ThreadPoolExecutor(4) as pool:
            return set(pool.map(send, range(8)))

    with freeze_time(NINE) as clock:
        assert statuses("old") == {200}
        assert statuses("first", signed_by=other) == {401}  # which is stored
        before = database.statements
        assert statuses("unknown", signed_by=other) == {401}
        assert database.statements == before

        with database.writing() as session:
            source = sources.get(session, SITE)
            sources.add_secret(session, source, other, vault=store.vault, now=NINE)
        clock.tick(0.2)
        assert statuses("added", signed_by=other) == {200}

        with database.writing() as session:
            source = sources.get(session, SITE)
            sources.remove_secret(session, source, source.secrets[0].id)
        clock.tick(1.1)
        assert statuses("removed") == {401}


def test_refusals_are_counted_by_reason(post: Post, app: Flask) -> None:
    post(signed_by=Secret.generate())
    post(headers={"webhook-signature": None})
    post(headers={"webhook-timestamp": "1"}, path="/webhooks/unknown")
    post(path="/webhooks/unknown")
    post(make_body(source="elsewhere.example"))
    post(b"[]", "msg_2")
    post()

    lines = app.test_client().get("/metrics").text.splitlines()

    name = "receiver_webhooks_refused_total"
    assert [line.removeprefix(name) for line in lines if line.startswith(name)] == [
        '{reason="header-missing"} 1.0',
        '{reason="request-malformed"} 1.0',
        '{reason="signature-mismatch"} 1.0',
        '{reason="source-mismatch"} 1.0',
        '{reason="source-unknown"} 1.0',
        '{reason="timestamp-not-current"} 1.0',
    ]


def test_refusal_of_unsigned_requests_costs_no_query(post: Post, app: Flask) -> None:
    before = services.of(app).database.statements

    for number in range(3):
        post(headers={"webhook-signature": None}, path=f"/webhooks/source-{number}")

    assert services.of(app).database.statements == before


def test_refusal_for_a_wrong_clock_is_stored(post: Post, store: Store) -> None:
    for path in (PATH, "/webhooks/unknown"):
        for _ in range(2):
            post(signed_at=datetime.now(UTC) - timedelta(minutes=10), path=path)

    with store.database.reading() as session:
        (reception,) = sources.receptions(session).values()
    assert reception.refusal is not None
    assert (reception.refusal.status, reception.refusal.reason) == (401, "timestamp-not-current")


def test_refusal_for_its_secret_is_stored(post: Post, store: Store) -> None:
    post(signed_by=Secret.generate())
    post(signed_by=Secret.generate(), path="/webhooks/unknown")

    with store.database.reading() as session:
        (reception,) = sources.receptions(session).values()
    assert reception.refusal is not None
    assert reception.refusal.status == 401
    assert reception.refusal.detail.startswith("no signature matches")


def test_refusal_right_after_an_accepted_webhook_is_stored(post: Post, store: Store) -> None:
    post(signed_by=Secret.generate())
    post()
    post(webhook_id="msg_2", signed_by=Secret.generate())

    with store.database.reading() as session:
        (reception,) = sources.receptions(session).values()
    assert reception.refusal is not None


@pytest.mark.parametrize("database_kind", ["sqlite"], indirect=True)
def test_refusal_that_cannot_be_stored_is_still_a_refusal(
    post: Post, app: Flask, store: Store
) -> None:
    post()
    with store.database.writing() as session:
        session.execute(text("DROP TABLE source_refusals"))

    check_refused(post(signed_by=Secret.generate()), ProblemType.SIGNATURE_REFUSED, 401)


def test_source_that_was_just_removed_is_unknown(post: Post, app: Flask) -> None:
    assert post().status_code == 200

    with services.of(app).database.writing() as session:
        sources.remove(session, sources.get(session, SITE))

    check_refused(post(webhook_id="msg_2"), ProblemType.SOURCE_UNKNOWN, 404)


@pytest.mark.parametrize("database_kind", ["sqlite"], indirect=True)
def test_many_webhooks_at_once_are_all_accepted(post: Post, app: Flask, store: Store) -> None:
    """The writers of a process take turns, so that none waits longer than SQLite allows."""

    def send(number: int) -> int:
        return post(make_body(course_id=f"C{number}"), f"msg_{number}").status_code

    with ThreadPoolExecutor(16) as pool:
        statuses = list(pool.map(send, range(160)))

    assert set(statuses) == {200}
    assert len(store.rows(InboxMessage)) == 160


def test_lost_encryption_key_is_500_without_details(
    post: Post, app: Flask, other_vault: Vault
) -> None:
    attach(app, replace(services.of(app), vault=other_vault))

    check_refused(post(), ProblemType.INTERNAL_ERROR, 500)


def test_every_route_states_its_authentication(
    make_app_on: Callable[..., Flask], tmp_path: Path
) -> None:
    app = make_app_on(f"sqlite:///{tmp_path}/none/receiver.db")

    guards = {
        rule.rule: getattr(app.view_functions[rule.endpoint], "guard", None)
        for rule in app.url_map.iter_rules()
    }

    others = {
        "/webhooks/<source>": "webhook signature",
        "/sign-in": "anybody",
        "/assets/<version>/<name>": "anybody",
        "/openapi.json": "anybody",
        "/docs": "anybody",
        "/docs/<name>": "anybody",
        "/healthz": "anybody",
        "/readyz": "anybody",
        "/metrics": "metrics token, if one is set",
    }
    assert guards == {path: others.get(path, "a signed-in user") for path in guards}
