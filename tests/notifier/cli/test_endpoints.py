"""`notifier endpoints …`."""

import csv
import json
import re
import socket
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest

from contract import signatures, strict_json
from contract.signatures import Secret
from foundation.db import session as db
from notifier.webhooks.circuit_breaker import BreakerState
from tests.notifier.cli.conftest import ReadJson, Run
from tests.notifier.conftest import ReceivedRequest, Reply, Sink, Store

URL = "https://elms.example/webhooks/eassessment"
HOUR = timedelta(hours=1)


def test_add_prints_the_secret_once(run: Run) -> None:
    result = run("endpoints", "add", "https://8.8.8.8/webhooks")

    message, secret = result.stdout.splitlines()
    assert (result.exit_code, result.stderr) == (0, "")
    assert message == "Endpoint 1 is registered. Its secret, shown only once:"
    assert Secret.parse(secret).reveal() == secret


def test_add_warns_of_a_host_that_is_not_resolved(run: Run, read_json: ReadJson) -> None:
    result = run("endpoints", "add", URL)
    document = read_json("endpoints", "add", f"{URL}/2")

    assert result.exit_code == 0
    assert "Its secret, shown only once:" in result.stdout
    assert result.stderr == (
        "warning: elms.example: the name cannot be resolved: Name or service not known\n"
        "   next: Check the spelling of the host, its DNS records and the name server of this "
        "machine. Run `notifier endpoints correct-url 1`.\n"
    )
    assert document["warning"]["failure"] == "dns"
    assert document["warning"]["action"] == "endpoints correct-url 2"


def test_corrected_url_is_checked_too(run: Run, store: Store) -> None:
    store.add_endpoint(URL)

    result = run("endpoints", "correct-url", 1, f"{URL}/2")

    assert result.stdout == f"Endpoint 1 now has the URL {URL}/2\n"
    assert result.stderr.startswith("warning: elms.example: the name cannot be resolved")


def test_add_refuses_an_invalid_url_and_a_registered_one(run: Run, store: Store) -> None:
    store.add_endpoint(URL)
    before = store.rows()

    invalid = run("endpoints", "add", "https://u:planted@x.example/")
    again = run("endpoints", "add", URL)

    assert (invalid.exit_code, again.exit_code) == (1, 1)
    assert "the URL has user info" in invalid.stderr
    assert "planted" not in invalid.output
    assert before == store.rows()


def test_unknown_endpoint_is_refused(run: Run) -> None:
    result = run("endpoints", "disable", 7)

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("error: there is no endpoint 7\n next: ")


def test_list_shows_the_status(store: Store, run: Run, read_json: ReadJson) -> None:
    empty, now = run("endpoints", "list").stdout, store.read(db.now)
    states = {
        "enabled": BreakerState(),
        "failing": BreakerState(1, now, now),
        "paused": BreakerState(7, now - HOUR, now, now + HOUR),
    }
    for state in states.values():
        store.set_state(store.add_endpoint(event_types=["course.deleted"]).id, state)

    table = run("endpoints", "list").stdout
    listed = read_json("endpoints", "list")["endpoints"]

    assert empty.startswith("No endpoints. Register")
    assert all(f" {status} " in table for status in states)
    assert {one["event_types"][0] for one in listed} == {"course.deleted"}
    assert [one["failures"] for one in listed] == [0, 1, 7]
    assert [one["paused_until"] is not None for one in listed] == [False, False, True]


def test_disable_holds_deliveries_and_enable_releases_them(
    store: Store, run: Run, read_json: ReadJson
) -> None:
    delivery_id = store.add_delivery(store.add_endpoint(URL).id)

    disabled = run("endpoints", "disable", 1, "--reason", "ELMS moves")
    held, reason = (
        store.statuses(delivery_id),
        read_json("endpoints", "list")["endpoints"][0]["detail"],
    )
    enabled = run("endpoints", "enable", 1)

    assert disabled.stdout == "Endpoint 1 is disabled; its deliveries are held.\n"
    assert held == ["held"]
    assert reason.startswith("ELMS moves (")
    assert enabled.stdout == "Endpoint 1 is enabled; 1 held delivery is queued.\n"


def test_name_is_shown_and_can_change(store: Store, run: Run, read_json: ReadJson) -> None:
    run("endpoints", "add", URL, "--name", "ELMS")
    added = run("endpoints", "list").stdout

    run("endpoints", "set-name", 1, "ELMS production")

    assert " ELMS " in added
    assert read_json("endpoints", "list")["endpoints"][0]["name"] == "ELMS production"
    assert run("endpoints", "set-name", 1, "x" * 101).exit_code == 2


def test_remove_cancels_deliveries_and_hides_the_endpoint(
    store: Store, run: Run, read_json: ReadJson
) -> None:
    store.add_delivery(store.add_endpoint(URL).id)

    asked = run("endpoints", "remove", 1)
    removed = run("endpoints", "remove", 1, "--yes")
    enabled = run("endpoints", "enable", 1)

    assert asked.exit_code == 2
    assert f"Remove endpoint 1, {URL}, and cancel 1 delivery?" in asked.stderr
    assert removed.stdout == "Endpoint 1 is removed; 1 delivery is cancelled.\n"
    assert "endpoint 1 was removed" in enabled.stderr.lower()
    assert read_json("endpoints", "list")["endpoints"] == []
    (listed,) = read_json("endpoints", "list", "--removed")["endpoints"]
    assert listed["removed_at"] is not None
    assert "removed" in run("endpoints", "list", "--removed").stdout
    assert len(run("endpoints", "list", "--csv").stdout.splitlines()) == 1
    (row,) = csv.DictReader(run("endpoints", "list", "--removed", "--csv").stdout.splitlines())
    assert row["detail"] == listed["detail"]


def test_set_event_types(store: Store, run: Run) -> None:
    store.add_endpoint(URL)

    result = run("endpoints", "set-event-types", 1, "course.deleted", "delivery.dead")

    assert result.stdout == "Endpoint 1 now receives course.deleted, delivery.dead.\n"
    assert store.endpoint(1).event_types == ["course.deleted", "delivery.dead"]


def test_correct_url(store: Store, run: Run) -> None:
    store.add_endpoint(f"{URL}x")

    result = run("endpoints", "correct-url", 1, URL)

    assert result.stdout == f"Endpoint 1 now has the URL {URL}\n"
    assert store.endpoint(1).url == URL


def test_rotate_secret_prints_the_new_one(store: Store, run: Run) -> None:
    old = store.add_endpoint(URL).secret

    message, new = run("endpoints", "rotate-secret", 1, "--now").stdout.splitlines()

    assert message == "Endpoint 1 has a new secret, shown only once:"
    assert Secret.parse(new).reveal() != old.reveal()


def test_ping_shows_an_accepted_response_and_sends_what_waits(
    store: Store, run: Run, read_json: ReadJson, sink: Sink
) -> None:
    endpoint, now = store.add_endpoint(sink.url()), store.read(db.now)
    store.add_delivery(endpoint.id, due_at=now + HOUR)
    store.set_state(endpoint.id, BreakerState(7, now - HOUR, now, now + HOUR))
    sink.answer(Reply(body=b'{"outcome":"ignored"}'))

    result = run("endpoints", "ping", 1)
    as_json = read_json("endpoints", "ping", 1)

    assert result.stdout == (
        f'OK 200: {sink.url()} {{"outcome":"ignored"}}\n1 waiting delivery is queued.\n'
    )
    assert as_json == {
        "endpoint_id": 1,
        "url": sink.url(),
        "accepted": True,
        "http_status": 200,
        "failure": None,
        "detail": None,
        "next_step": None,
        "action": None,
        "retry_after": None,
        "response_body": '{"outcome":"applied"}',
        "queued": 0,
    }
    received = sink.received[0]
    signatures.verify([endpoint.secret], received.headers, received.body, now=datetime.now(UTC))


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"\x1b[31mno signature matches", id="text"),
        pytest.param(b'{"detail":"\\u001b[31mno signature matches"}', id="problem document"),
    ],
)
def test_ping_shows_a_refusal_and_exits_with_1(
    store: Store, run: Run, sink: Sink, body: bytes
) -> None:
    store.add_endpoint(sink.url())
    sink.answer(Reply(401, body=body))

    result = run("endpoints", "ping", 1)

    first, second = result.stdout.splitlines()
    assert result.exit_code == 1
    assert first == f"Failed 401: {sink.url()} \\x1b[31mno signature matches"
    assert second.startswith("  next: ")


def test_ping_without_a_response_exits_with_1(store: Store, run: Run) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as closed:
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/"
    store.add_endpoint(url)

    result = run("endpoints", "ping", 1)
    as_json = run("endpoints", "ping", 1, "--json")

    assert (result.exit_code, as_json.exit_code) == (1, 1)
    assert result.stdout.startswith(f"Failed: {url}: refused: ")
    assert "\n  next: " in result.stdout
    document = strict_json.load(as_json.stdout_bytes)
    assert isinstance(document, dict)
    assert (document["accepted"], document["http_status"]) == (False, None)
    assert (document["failure"], bool(document["next_step"])) == ("refused", True)


def test_check_says_in_words_what_a_receiver_does(store: Store, run: Run, sink: Sink) -> None:
    secret = store.add_endpoint(sink.url()).secret

    accepting = run("endpoints", "check", 1)
    as_json = run("endpoints", "check", 1, "--json")
    sink.respond(lambda one: Reply() if is_correct(secret, one) else Reply(401))
    verifying = run("endpoints", "check", 1)

    assert (accepting.exit_code, as_json.exit_code, verifying.exit_code) == (1, 1, 0)
    assert re.search(
        r"^without a signature +refused +200 +WRONG *$", accepting.stdout, re.MULTILINE
    )
    *_, found, step = accepting.stdout.splitlines()
    assert found.startswith("FLAW: accepts anything, signed or not")
    assert step == "  next: Verify the signature of each webhook before anything is done with it."
    assert verifying.stdout.endswith(
        "\nOK: verifies each webhook, and accepts nothing that is forged\n"
    )
    document = json.loads(as_json.stdout)
    (finding,) = document["findings"]
    assert (document["ok"], finding["finding"], finding["ok"]) == (False, "accepts-anything", False)
    assert document["probes"][2] == {
        "probe": "unsigned",
        "expected": "refused",
        "outcome": "accepted",
        "as_expected": False,
        "http_status": 200,
        "failure": None,
        "detail": "without a signature",
    }
    assert abs(document["clock_offset_seconds"]) <= 2


def is_correct(secret: Secret, one: ReceivedRequest) -> bool:
    try:
        signatures.verify([secret], one.headers, one.body, now=datetime.now(UTC))
    except signatures.SignatureError:
        return False
    return True


def test_trigger_sends_a_signed_sample_and_stores_nothing(
    store: Store, run: Run, read_json: ReadJson, sink: Sink
) -> None:
    secret = store.add_endpoint(sink.url()).secret
    sink.always(Reply(body=b'{"outcome":"ignored"}'))
    before = store.rows()

    result = run("trigger", "token.regenerated", "--endpoint", 1, "--course", "Übung/1")
    document = read_json("trigger", "course.deleted", "--endpoint", 1)

    first, second = sink.received
    webhook_id = signatures.verify([secret], first.headers, first.body, now=datetime.now(UTC))
    assert result.stdout == (
        f'{webhook_id} {first.body.decode()}\nOK 200: {sink.url()} {{"outcome":"ignored"}}\n'
    )
    assert json.loads(first.body)["data"] == {
        "source": "eassessment",
        "course_id": "Übung/1",
        "course_version": 0,
        "token_id": "sample",
    }
    sample = json.loads(second.body)
    assert (document["accepted"], document["body"]) == (True, second.body.decode())
    assert sample["test"] is True
    assert sample["data"]["course_id"] == f"sample-{document['webhook_id'].removeprefix('msg_')}"
    assert store.rows() == before


@pytest.mark.parametrize("deleted", [False, True])
def test_trigger_refuses_a_course_that_exists(
    store: Store, run: Run, sink: Sink, deleted: bool
) -> None:
    store.add_endpoint(sink.url())
    store.add_course("CS101")
    if deleted:
        run("courses", "delete", "CS101")

    result = run("trigger", "course.deleted", "--endpoint", 1, "--course", "CS101")

    assert (result.exit_code, sink.received) == (1, [])
    assert result.stderr.startswith(
        "error: there is or was a course 'CS101'\n next: Leave the course out"
    )


def test_trigger_shows_a_refusal_and_exits_with_1(store: Store, run: Run, sink: Sink) -> None:
    store.add_endpoint(sink.url())
    sink.always(Reply(422, body=b"course_version"))

    result = run("trigger", "course.deleted", "--endpoint", 1)

    assert result.exit_code == 1
    assert f"Failed 422: {sink.url()} course_version\n  next: " in result.stdout


@pytest.mark.parametrize(
    ("status", "clears"),
    [
        pytest.param(401, "endpoints ping 1", id="refused, then a test is accepted"),
        pytest.param(422, "work --once", id="invalid, then a delivery is accepted"),
    ],
)
def test_failed_ping_is_found_until_something_is_accepted(
    store: Store, run: Run, sink: Sink, status: int, clears: str
) -> None:
    delivery_id = store.add_delivery(
        store.add_endpoint(sink.url()).id, due_at=datetime.now(UTC) + HOUR
    )
    sink.answer(Reply(status))

    run("endpoints", "ping", 1)
    found = run("doctor")
    run("deliveries", "replay", delivery_id)
    done = run(*clears.split())
    cleared = run("doctor")

    assert found.exit_code == 1
    assert "1 of 1 failed the last test; endpoint 1 at 20" in found.stdout
    assert done.exit_code == 0
    assert "failed the last test" not in cleared.stdout


def test_blocked_address_is_neither_registered_nor_contacted(
    store: Store, run: Run, sink: Sink, environment: pytest.MonkeyPatch
) -> None:
    delivery_id = store.add_delivery(store.add_endpoint(sink.url()).id)
    environment.delenv("NOTIFIER_ALLOW_LOOPBACK")

    added = run("endpoints", "add", sink.url("/other"))
    pinged = run("endpoints", "ping", 1)
    run("work", "--once")

    assert (added.exit_code, pinged.exit_code) == (1, 1)
    assert "NOTIFIER_ALLOWED_HOSTS" in added.stderr
    assert "blocked: " in pinged.stdout
    assert [one.failure for one in store.attempts(delivery_id)] == ["blocked"]
    assert sink.connections == 0
