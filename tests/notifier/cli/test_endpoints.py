"""`notifier endpoints …`."""

import socket
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import Result

from contract import signatures, strict_json
from contract.signatures import Secret
from foundation.db import session as db
from foundation.db.session import Database
from notifier.models import Delivery
from notifier.webhooks import circuit_breaker
from notifier.webhooks.circuit_breaker import BreakerState

Notifier = Callable[..., Result]
ReadJson = Callable[..., Any]
Rows = Callable[[], dict[str, list[str]]]

URL = "https://elms.example/webhooks/eassessment"


def reply(status: int, body: bytes = b"") -> Any:
    return SimpleNamespace(status=status, headers={}, body=body, after=None)


def fail(database: Database, failures: int, *, paused: bool) -> None:
    """Record that endpoint 1 has been failing for an hour."""
    with database.writing() as session:
        now = db.now(session)
        since, until = now - timedelta(hours=1), now + timedelta(minutes=10)
        state = BreakerState(failures, since, now, until if paused else None)
        circuit_breaker.write_states(session, {1: state})


def test_add_prints_the_secret_once(notifier: Notifier) -> None:
    result = notifier("endpoints", "add", URL)

    message, secret = result.stdout.splitlines()
    assert (result.exit_code, result.stderr) == (0, "")
    assert message == "Endpoint 1 is registered. Its secret, shown only once:"
    assert Secret.parse(secret).reveal() == secret


def test_add_refuses_an_invalid_url_and_a_registered_one(notifier: Notifier, rows: Rows) -> None:
    notifier("endpoints", "add", URL)
    before = rows()

    invalid = notifier("endpoints", "add", "https://u:planted@x.example/")
    again = notifier("endpoints", "add", URL)

    assert (invalid.exit_code, again.exit_code) == (1, 1)
    assert "the URL has user info" in invalid.stderr
    assert "planted" not in invalid.output
    assert before == rows()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(("add",), "Missing argument 'URL'", id="no URL"),
        pytest.param(("add", URL, "--event-type", "x"), "is not one of", id="event type"),
        pytest.param(("ping", "0"), "0 is not in the range", id="endpoint id"),
        pytest.param(("rotate-secret", "1", "--overlap", "1 day"), "not a duration", id="overlap"),
        pytest.param(("rotate-secret", "1", "--overlap", "1h", "--now"), "give either", id="both"),
    ],
)
def test_wrong_usage_exits_with_2(away: Notifier, arguments: tuple[str, ...], message: str) -> None:
    result = away("endpoints", *arguments)

    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr


@pytest.mark.parametrize(
    "action", ["disable", "enable", "set-event-types", "rotate-secret", "ping"]
)
def test_unknown_endpoint_is_refused(notifier: Notifier, action: str) -> None:
    result = notifier("endpoints", action, 7)

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("error: there is no endpoint 7\n next: ")


@pytest.mark.parametrize(
    ("failures", "paused", "status"),
    [(0, False, "enabled"), (1, False, "failing"), (7, True, "paused")],
)
def test_list_shows_the_status(
    notifier: Notifier, told: ReadJson, database: Database, failures: int, paused: bool, status: str
) -> None:
    empty = notifier("endpoints", "list").stdout
    told("endpoints", "add", URL, "--event-type", "course.deleted")
    if failures:
        fail(database, failures, paused=paused)

    text = notifier("endpoints", "list").stdout
    (listed,) = told("endpoints", "list")

    assert empty.startswith("No endpoints. Register")
    assert f" {status} " in text
    assert (listed["event_types"], listed["failures"]) == (["course.deleted"], failures)
    assert (listed["paused_until"] is not None) is paused


def test_disable_holds_deliveries_and_enable_releases_them(
    notifier: Notifier, told: ReadJson, make_deleted: Callable[..., int]
) -> None:
    told("endpoints", "add", URL)
    delivery_id = make_deleted("CS101")

    disabled = notifier("endpoints", "disable", 1, "--reason", "ELMS moves")
    held = told("deliveries", "show", delivery_id)["status"]
    reason = told("endpoints", "list")[0]["disabled_reason"]
    enabled = notifier("endpoints", "enable", 1)

    assert disabled.stdout == "Endpoint 1 is disabled; its deliveries are held.\n"
    assert held == "held"
    assert reason.startswith("ELMS moves (")
    assert enabled.stdout == "Endpoint 1 is enabled; 1 held delivery is queued.\n"


def test_set_event_types(notifier: Notifier, told: ReadJson) -> None:
    told("endpoints", "add", URL)

    result = notifier("endpoints", "set-event-types", 1, "course.deleted", "delivery.dead")

    assert result.stdout == "Endpoint 1 now receives course.deleted, delivery.dead.\n"
    assert told("endpoints", "list")[0]["event_types"] == ["course.deleted", "delivery.dead"]


def test_correct_url(notifier: Notifier, told: ReadJson) -> None:
    told("endpoints", "add", f"{URL}x")

    result = notifier("endpoints", "correct-url", 1, URL)

    assert result.stdout == f"Endpoint 1 now has the URL {URL}\n"
    assert told("endpoints", "list")[0]["url"] == URL


def test_rotate_secret_prints_the_new_one(notifier: Notifier, told: ReadJson) -> None:
    old = told("endpoints", "add", URL)["secret"]

    message, new = notifier("endpoints", "rotate-secret", 1, "--now").stdout.splitlines()

    assert message == "Endpoint 1 has a new secret, shown only once:"
    assert Secret.parse(new).reveal() != old


def test_ping_shows_an_accepted_response(notifier: Notifier, told: ReadJson, sink: Any) -> None:
    secret = told("endpoints", "add", sink.url())["secret"]
    sink.answer(reply(200, b'{"outcome":"ignored"}'))

    result = notifier("endpoints", "ping", 1)
    as_json = told("endpoints", "ping", 1)

    assert result.stdout == f'OK 200: {sink.url()} {{"outcome":"ignored"}}\n'
    assert as_json == {
        "url": sink.url(),
        "accepted": True,
        "status": 200,
        "retry_after": None,
        "response_body": '{"outcome":"applied"}',
    }
    received = sink.received[0]
    signatures.verify(
        [Secret.parse(secret)], received.headers, received.body, now=datetime.now(UTC)
    )


def test_ping_shows_a_refusal_and_exits_with_1(
    notifier: Notifier, told: ReadJson, sink: Any
) -> None:
    told("endpoints", "add", sink.url())
    sink.answer(reply(401, b"\x1b[31mno signature matches"))

    result = notifier("endpoints", "ping", 1)

    first, second = result.stdout.splitlines()
    assert result.exit_code == 1
    assert first == f"Failed 401: {sink.url()} \\x1b[31mno signature matches"
    assert second.startswith("  next: ")


def test_ping_without_a_response_exits_with_1(notifier: Notifier, told: ReadJson) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as closed:
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/"
    told("endpoints", "add", url)

    result = notifier("endpoints", "ping", 1)
    as_json = notifier("endpoints", "ping", 1, "--json")

    assert (result.exit_code, as_json.exit_code) == (1, 1)
    assert result.stdout.startswith(f"Failed: {url}: refused: ")
    assert "\n  next: " in result.stdout
    document = strict_json.load(as_json.stdout_bytes)
    assert isinstance(document, dict)
    assert set(document) == {"url", "accepted", "kind", "detail", "next_step", "action"}


def test_ping_that_is_accepted_sends_what_waits(
    notifier: Notifier, told: ReadJson, sink: Any, database: Database, make_deleted: Any
) -> None:
    told("endpoints", "add", sink.url())
    delivery_id = make_deleted("CS101")
    with database.writing() as session:
        session.get_one(Delivery, delivery_id).due_at = db.now(session) + timedelta(hours=2)
    fail(database, 7, paused=True)

    result = notifier("endpoints", "ping", 1)

    assert result.stdout.endswith("\n1 waiting delivery is queued.\n")


def test_disabled_endpoint_is_not_pinged(notifier: Notifier, told: ReadJson, sink: Any) -> None:
    told("endpoints", "add", sink.url())
    notifier("endpoints", "disable", 1)

    result = notifier("endpoints", "ping", 1)

    assert result.exit_code == 1
    assert result.stderr.startswith("error: endpoint 1 is disabled\n next: ")
    assert sink.received == []


def test_ping_without_the_encryption_key_says_so(
    notifier: Notifier, told: ReadJson, sink: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    told("endpoints", "add", sink.url())
    monkeypatch.setenv("NOTIFIER_ENCRYPTION_KEYS", "YW5vdGhlciBrZXkgb2YgdGhpcnR5LXR3byBieXRlcyE=")

    result = notifier("endpoints", "ping", 1)

    assert result.exit_code == 1
    assert result.stderr.startswith("error: ")
    assert sink.received == []


def test_blocked_address_is_neither_registered_nor_contacted(
    notifier: Notifier,
    told: ReadJson,
    sink: Any,
    make_deleted: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told("endpoints", "add", sink.url())
    delivery_id = make_deleted("CS101")
    monkeypatch.delenv("NOTIFIER_ALLOW_LOOPBACK")

    added = notifier("endpoints", "add", sink.url("/other"))
    pinged = notifier("endpoints", "ping", 1)
    notifier("work", "--once")

    (attempt,) = told("deliveries", "show", delivery_id)["attempts_made"]
    assert (added.exit_code, pinged.exit_code) == (1, 1)
    assert "NOTIFIER_ALLOWED_HOSTS" in added.stderr
    assert "blocked: " in pinged.stdout
    assert attempt["failure"] == "blocked"
    assert sink.connections == 0
