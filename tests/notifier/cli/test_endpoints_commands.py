"""`notifier endpoints …`: add, list, disable, enable, want, rotate-secret, ping."""

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
from notifier.models import Delivery, EndpointSecret
from notifier.webhooks import circuit_breaker
from notifier.webhooks.circuit_breaker import BreakerState

Notifier = Callable[..., Result]
Told = Callable[..., Any]
Rows = Callable[[], dict[str, list[str]]]

URL = "https://elms.example/webhooks/eassessment"


def reply(status: int, body: bytes = b"", **headers: str) -> Any:
    """Return what a sink answers."""
    return SimpleNamespace(status=status, headers=headers, body=body, after=None)


def test_registering_prints_the_secret(notifier: Notifier) -> None:
    result = notifier("endpoints", "add", URL)

    sentence, secret = result.stdout.splitlines()
    assert (result.exit_code, result.stderr) == (0, "")
    assert sentence == "endpoint 1 is registered; its secret, shown this once:"
    assert Secret.parse(secret).reveal() == secret


def test_event_types_are_chosen(notifier: Notifier, told: Told) -> None:
    told("endpoints", "add", URL, "--event-type", "course.deleted")
    told("endpoints", "add", f"{URL}/2")

    listed = told("endpoints", "list")
    text = notifier("endpoints", "list").stdout

    assert [one["event_types"] for one in listed] == [
        ["course.deleted"],
        ["course.deleted", "token.regenerated"],
    ]
    assert "everything" in text
    assert "enabled" in text


def test_no_endpoints_is_a_sentence(notifier: Notifier) -> None:
    assert notifier("endpoints", "list").stdout == (
        "no endpoints; register ELMS's door with `notifier endpoints add URL`\n"
    )


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        pytest.param("ftp://x", "'ftp://x' is not an http or https URL with a host", id="scheme"),
        pytest.param("https://u:planted@x.example/", "the URL has user info", id="password"),
        pytest.param("https://x.example:0/", "is not an http or https URL", id="port zero"),
        pytest.param("https://x.example/\udce9", "has a space or a control", id="Latin-1"),
        pytest.param(
            f"https://x.example/{'y' * 2000}", "longer than 2000 characters", id="too long"
        ),
    ],
)
def test_a_url_that_is_no_endpoint_is_refused(
    notifier: Notifier, rows: Rows, url: str, sentence: str
) -> None:
    before = rows()

    result = notifier("endpoints", "add", url)

    assert result.exit_code == 1
    assert sentence in result.stderr
    assert " next: Give an https URL with a host" in result.stderr
    assert "planted" not in result.stderr
    assert before == rows()


def test_a_url_is_registered_once(notifier: Notifier, told: Told, rows: Rows) -> None:
    told("endpoints", "add", URL)
    before = rows()

    result = notifier("endpoints", "add", URL)

    assert result.exit_code == 1
    assert f"error: {URL} is registered already\n" in result.stderr
    assert before == rows()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        pytest.param(("add",), "Missing argument 'URL'", id="no URL"),
        pytest.param(("add", URL, "--event-type", "all"), "'all' is not one of", id="event type"),
        pytest.param(("disable", "x"), "'x' is not a valid integer range", id="no number"),
        pytest.param(("enable", "0"), "0 is not in the range", id="zero"),
        pytest.param(("ping", "9" * 30), "is not in the range", id="too large"),
        pytest.param(
            ("rotate-secret", "1", "--overlap", "1 day"), "write 90s, 30m, 24h or 7d", id="overlap"
        ),
        pytest.param(
            ("rotate-secret", "1", "--overlap", "-1h"), "write 90s, 30m, 24h or 7d", id="negative"
        ),
        pytest.param(
            ("rotate-secret", "1", "--overlap", "1h", "--now"),
            "--now means no overlap; leave out --overlap",
            id="both",
        ),
        pytest.param(("disable", "1", "--reason", "\udce9"), "not UTF-8", id="reason"),
    ],
)
def test_wrong_use_is_a_sentence(away: Notifier, arguments: tuple[str, ...], sentence: str) -> None:
    result = away("endpoints", *arguments)

    assert (result.exit_code, result.stdout) == (2, "")
    assert sentence in result.stderr


@pytest.mark.parametrize(
    "verb",
    [pytest.param(verb, id=verb) for verb in ("disable", "enable", "rotate-secret", "ping")],
)
def test_an_unknown_endpoint_is_refused(notifier: Notifier, verb: str) -> None:
    result = notifier("endpoints", verb, 7)

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        "error: there is no endpoint 7\n"
        " next: `notifier endpoints list` names the endpoints that exist.\n"
    )


def test_disabling_holds_and_enabling_releases(
    notifier: Notifier, told: Told, make_deleted: Callable[..., int]
) -> None:
    told("endpoints", "add", URL)
    make_deleted("CS101")

    disabled = notifier("endpoints", "disable", 1, "--reason", "ELMS moves")
    make_deleted("CS102")
    held = told("deliveries", "list", "--status", "held")
    listed = notifier("endpoints", "list").stdout
    enabled = notifier("endpoints", "enable", 1)

    assert disabled.stdout == (
        "endpoint 1 is disabled; its deliveries are held until it is enabled\n"
    )
    assert len(held) == 2
    assert "disabled" in listed
    assert "ELMS moves (" in listed
    assert enabled.stdout == "endpoint 1 is enabled; 2 held deliveries are due now\n"
    assert len(told("deliveries", "list", "--status", "pending")) == 2


def test_a_mistyped_url_is_corrected(notifier: Notifier, told: Told) -> None:
    told("endpoints", "add", "https://elms.example/wrnog")

    done = notifier("endpoints", "correct-url", 1, URL)
    refused = notifier("endpoints", "correct-url", 1, "https://10.0.0.7/")

    assert done.stdout == f"endpoint 1 is at {URL} now\n"
    assert [one["url"] for one in told("endpoints", "list")] == [URL]
    assert refused.exit_code == 1
    assert "10.0.0.7 is for private use" in refused.stderr


def test_what_an_endpoint_wants_is_changed(notifier: Notifier, told: Told) -> None:
    told("endpoints", "add", URL)

    fewer = notifier("endpoints", "set-event-types", 1, "course.deleted", "delivery.dead")
    wanted = told("endpoints", "list")[0]["event_types"]
    all_of_courses = notifier("endpoints", "set-event-types", 1)

    assert fewer.stdout == "endpoint 1 is told of course.deleted, delivery.dead from now on\n"
    assert wanted == ["course.deleted", "delivery.dead"]
    assert all_of_courses.stdout == (
        "endpoint 1 is told of course.deleted, token.regenerated from now on\n"
    )
    assert told("endpoints", "list")[0]["event_types"] == ["course.deleted", "token.regenerated"]


def test_an_unknown_type_is_refused_and_changes_nothing(notifier: Notifier, told: Told) -> None:
    told("endpoints", "add", URL, "--event-type", "course.deleted")

    result = notifier("endpoints", "set-event-types", 1, "course.delete")

    assert result.exit_code == 2
    assert "token.regenerated" in result.stderr
    assert told("endpoints", "list")[0]["event_types"] == ["course.deleted"]


def test_a_disabled_endpoint_keeps_its_first_reason(notifier: Notifier, told: Told) -> None:
    told("endpoints", "add", URL)

    notifier("endpoints", "disable", 1, "--reason", "first")
    notifier("endpoints", "disable", 1, "--reason", "second")

    assert told("endpoints", "list")[0]["disabled_reason"].startswith("first (")


def expiries(database: Database) -> list[datetime | None]:
    """Return until when each secret signs, the oldest first."""
    with database.reading() as session:
        return [row.expires_at for row in session.query(EndpointSecret).order_by("id")]


@pytest.mark.parametrize(
    ("options", "overlap"),
    [
        pytest.param((), timedelta(hours=24), id="a day unless told"),
        pytest.param(("--overlap", "30m"), timedelta(minutes=30), id="half an hour"),
        pytest.param(("--now",), timedelta(0), id="not at all"),
    ],
)
def test_rotating_lets_the_old_secret_sign_for_a_while(
    notifier: Notifier, told: Told, database: Database, options: tuple[str, ...], overlap: timedelta
) -> None:
    old = told("endpoints", "add", URL)["secret"]

    result = notifier("endpoints", "rotate-secret", 1, *options)

    sentence, new = result.stdout.splitlines()
    ends, open_end = expiries(database)
    assert sentence == "endpoint 1 has a new secret, shown this once:"
    assert Secret.parse(new) != Secret.parse(old)
    assert open_end is None
    assert ends is not None
    assert abs(ends - datetime.now(UTC) - overlap) < timedelta(seconds=30)


def test_a_ping_is_signed_and_its_answer_shown(notifier: Notifier, told: Told, sink: Any) -> None:
    old = told("endpoints", "add", sink.url())["secret"]
    new = told("endpoints", "rotate-secret", 1)["secret"]

    result = notifier("endpoints", "ping", 1)

    (received,) = sink.received
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == f'taken: {sink.url()} answered 200 {{"outcome":"applied"}}\n'
    assert strict_json.load(received.body)["type"] == "endpoint.ping"
    for secret in (old, new):
        keys = [Secret.parse(secret)]
        webhook_id = signatures.verify(keys, received.headers, received.body, now=datetime.now(UTC))
        assert webhook_id.startswith("msg_")


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(reply(401, b'{"detail":"no signature matches"}'), id="another secret"),
        pytest.param(reply(302, b"", Location="http://127.0.0.1:1/"), id="a redirect"),
        pytest.param(reply(410, b"gone"), id="gone"),
        pytest.param(reply(500, b"\x1b[31mred"), id="an error with escapes"),
    ],
)
def test_a_ping_that_is_refused_exits_1(
    notifier: Notifier, told: Told, sink: Any, answer: Any, rows: Rows
) -> None:
    sink.always(answer)
    told("endpoints", "add", sink.url())
    before = rows()

    result = notifier("endpoints", "ping", 1)

    assert result.exit_code == 1
    assert result.stdout.startswith(f"refused: {sink.url()} answered {answer.status} ")
    assert "\x1b" not in result.stdout
    assert len(rows()["endpoint_pings"]) == 1
    assert before == {**rows(), "endpoint_pings": []}


def test_a_ping_that_nobody_hears_exits_1(notifier: Notifier, told: Told) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as closed:
        where = f"127.0.0.1:{closed.getsockname()[1]}"
    url = f"http://{where}/"
    told("endpoints", "add", url)

    result = notifier("endpoints", "ping", 1)
    as_json = notifier("endpoints", "ping", 1, "--json")

    assert (result.exit_code, as_json.exit_code) == (1, 1)
    step = "Check that the receiver runs and listens on this port."
    assert result.stdout == (
        f"failed: {url}: refused: {where}: connection refused\n  next: {step}\n"
    )
    assert strict_json.load(as_json.stdout_bytes) == {
        "url": url,
        "taken": False,
        "kind": "refused",
        "detail": f"{where}: connection refused",
        "next_step": step,
    }


def test_a_disabled_endpoint_is_not_pinged(notifier: Notifier, told: Told, sink: Any) -> None:
    told("endpoints", "add", sink.url())
    notifier("endpoints", "disable", 1)

    result = notifier("endpoints", "ping", 1)

    assert result.exit_code == 1
    assert result.stderr == (
        "error: endpoint 1 is disabled\n"
        " next: Mend the receiver, then enable it with `notifier endpoints enable`: "
        "that sends what waits.\n"
    )
    assert sink.received == []


def test_a_ping_without_the_key_that_sealed_says_so(
    notifier: Notifier, told: Told, sink: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    told("endpoints", "add", sink.url())
    monkeypatch.setenv("NOTIFIER_ENCRYPTION_KEYS", "YW5vdGhlciBrZXkgb2YgdGhpcnR5LXR3byBieXRlcyE=")

    result = notifier("endpoints", "ping", 1)

    assert result.exit_code == 1
    assert "a stored secret was sealed with a key that is not in the list" in result.stderr
    assert "Put the key that sealed it back into the list of encryption keys." in result.stderr
    assert sink.received == []


def test_a_receiver_that_is_barred_is_neither_registered_nor_pinged(
    notifier: Notifier, told: Told, sink: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    told("endpoints", "add", sink.url())
    monkeypatch.delenv("NOTIFIER_ALLOW_LOOPBACK")

    added = notifier("endpoints", "add", sink.url("/other"))
    pinged = notifier("endpoints", "ping", 1)

    assert (added.exit_code, pinged.exit_code) == (1, 1)
    assert added.stderr == (
        "error: 127.0.0.1 is loopback (RFC 1122)\n"
        " next: If this receiver is yours, name its host or network in NOTIFIER_ALLOWED_HOSTS. "
        "Only for development: set NOTIFIER_ALLOW_LOOPBACK=true.\n"
    )
    assert "blocked: " in pinged.stdout
    assert "127.0.0.1 is loopback (RFC 1122): blocked" in pinged.stdout
    assert sink.connections == 0


def test_a_worker_connects_to_nothing_that_is_barred(
    notifier: Notifier, told: Told, sink: Any, make_deleted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    told("endpoints", "add", sink.url())
    delivery_id = make_deleted("CS101")
    monkeypatch.delenv("NOTIFIER_ALLOW_LOOPBACK")

    notifier("work", "--once")

    (attempt,) = told("deliveries", "show", delivery_id)["attempts_made"]
    assert attempt["failure"] == "blocked"
    assert "NOTIFIER_ALLOWED_HOSTS" in attempt["next_step"]
    assert sink.connections == 0


def ail(database: Database, failures: int, *, paused: bool) -> None:
    """Let endpoint 1 have been failing for an hour."""
    with database.writing() as session:
        now = db.now(session)
        since, until = now - timedelta(hours=1), now + timedelta(minutes=10)
        ill = BreakerState(failures, since, now, until if paused else None)
        circuit_breaker.write_states(session, {1: ill})


@pytest.mark.parametrize(
    ("failures", "paused", "state"),
    [
        pytest.param(1, False, "failing", id="failing"),
        pytest.param(7, True, "paused", id="paused"),
    ],
)
def test_the_list_tells_who_is_in_trouble(
    notifier: Notifier, told: Told, database: Database, failures: int, paused: bool, state: str
) -> None:
    told("endpoints", "add", URL)
    ail(database, failures, paused=paused)

    text = notifier("endpoints", "list").stdout
    (listed,) = told("endpoints", "list")

    assert f" {state} " in text
    assert f"failures in a row: {failures}" in text
    assert listed["failures"] == failures
    assert (listed["paused_until"] is not None) is paused


def test_a_ping_that_is_taken_sends_what_waits(
    notifier: Notifier, told: Told, sink: Any, database: Database
) -> None:
    told("endpoints", "add", sink.url())
    told("courses", "add", "CS101", "--title", "Programming")
    told("courses", "delete", "CS101")
    with database.writing() as session:
        session.get_one(Delivery, 1).due_at = db.now(session) + timedelta(hours=2)
    ail(database, 7, paused=True)

    result = notifier("endpoints", "ping", 1)

    with database.reading() as session:
        now = db.now(session)
        assert circuit_breaker.read_states(session)[1].is_half_open(now)
        assert session.get_one(Delivery, 1).due_at <= now
    assert result.stdout.endswith("\n1 delivery that waited is due now\n")


def test_an_address_of_operations_own_is_registered_by_what_it_wants(told: Told) -> None:
    told("endpoints", "add", URL, "--event-type", "endpoint.disabled")

    (listed,) = told("endpoints", "list")

    assert listed["event_types"] == ["endpoint.disabled"]
