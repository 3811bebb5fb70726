"""The webhook route: a signed event is accepted once and its outcome returned."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from flask import Flask

from contract.problems import ProblemType
from foundation.crypto import Vault
from foundation.services import attach
from receiver import services
from receiver.models import Entry, InboxMessage
from tests.receiver.conftest import Store
from tests.receiver.webhooks.conftest import Post, check_refused, make_body


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
