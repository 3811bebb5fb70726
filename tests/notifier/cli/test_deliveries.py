"""`notifier deliveries …` and `notifier work --once`."""

import os
from datetime import UTC, datetime, timedelta

import pytest

from contract import signatures
from foundation.db.audit import AuditEntry
from foundation.text import format_timestamp
from notifier.models import Replay
from notifier.webhooks import endpoints
from notifier.webhooks.circuit_breaker import BreakerState
from tests.notifier.cli.conftest import ReadJson, Run
from tests.notifier.conftest import NINE, Registered, Reply, Sink, Store


@pytest.fixture
def endpoint(store: Store, sink: Sink) -> Registered:
    """An endpoint whose URL is the sink's."""
    return store.add_endpoint(sink.url())


@pytest.fixture
def three(store: Store, endpoint: Registered) -> dict[str, int]:
    """A dead delivery, a delivered one and a pending one, of three courses."""
    courses = {"dead": "CS101", "delivered": "CS102", "pending": "CS103"}
    store.add_courses(list(courses.values()))
    return {
        status: store.add_delivery(endpoint.id, course_id=course_id, status=status)
        for status, course_id in courses.items()
    }


def test_work_once_delivers_what_is_due(
    store: Store, run: Run, read_json: ReadJson, endpoint: Registered, sink: Sink
) -> None:
    delivery_id = store.add_delivery(endpoint.id)

    result = run("work", "--once", "--threads", 2)

    (received,), shown = sink.received, read_json("deliveries", "show", delivery_id)
    assert (result.exit_code, result.stdout) == (
        0,
        "delivered 1, to be retried 0, dead 0, held 0\n",
    )
    signatures.verify([endpoint.secret], received.headers, received.body, now=datetime.now(UTC))
    assert shown["status"] == "delivered"
    assert shown["webhook_id"] == received.headers["webhook-id"]
    assert shown["body"].encode() == received.body


def test_list_prints_csv(
    store: Store, run: Run, endpoint: Registered, three: dict[str, int]
) -> None:
    store.write(endpoints.set_name, endpoint.id, "ELMS production")
    store.add_attempt(three["dead"], status=400, decided="dead")

    header, row = run("deliveries", "list", "--status", "dead", "--csv").stdout.splitlines()

    shown = dict(zip(header.split(","), row.split(","), strict=True))
    assert shown["delivery_id"] == str(three["dead"])
    assert (shown["endpoint_name"], shown["url"]) == ("ELMS production", endpoint.url)
    assert (shown["course_id"], shown["status"]) == ("CS101", "dead")
    assert (shown["attempt_count"], shown["last_http_status"], shown["due_at"]) == ("1", "400", "")


def test_list_says_when_a_paused_endpoint_is_tried_again(
    store: Store, run: Run, endpoint: Registered
) -> None:
    store.add_delivery(endpoint.id)
    store.set_state(endpoint.id, BreakerState(9, NINE, NINE, NINE + timedelta(hours=1)))

    listed = run("deliveries", "list").stdout

    assert format_timestamp(NINE + timedelta(hours=1)) in listed
    assert format_timestamp(NINE) not in listed


def test_show_lists_attempts_and_replays_harmlessly(
    store: Store, run: Run, read_json: ReadJson, endpoint: Registered, sink: Sink
) -> None:
    sink.answer(Reply(422, body="\x1b]0;owned\x07\u202e".encode()))
    delivery_id = store.add_delivery(endpoint.id)
    new = run("deliveries", "show", delivery_id).stdout
    run("work", "--once")
    run("deliveries", "replay", delivery_id)

    text = run("deliveries", "show", delivery_id).stdout
    shown = read_json("deliveries", "show", delivery_id)
    (listed,) = read_json("deliveries", "list")["deliveries"]

    assert "none yet" in new
    assert listed["attempt_count"] == shown["attempt_count"] == len(shown["attempts"]) == 1
    for words in ("422", "dead", "owned", '"type":"course.deleted"', "  next: ", "Replays", "@"):
        assert words in text
    assert not {"\x1b", "\x07", "\u202e"} & set(text)
    assert shown["attempts"][0]["detail"] == "\\x1b]0;owned\\x07\\u202e"
    assert shown["replays"][0]["previous_status"] == "dead"
    assert shown["replays"][0]["channel"] == "command"
    attempts = run("deliveries", "show", delivery_id, "--csv").stdout.splitlines()
    assert attempts[0] == "delivery_id,started_at,milliseconds,http_status,failure,outcome,detail"
    assert [line.split(",")[3:6] for line in attempts[1:]] == [["422", "", "dead"]]


def test_delivery_of_a_removed_endpoint_has_no_advice(
    store: Store, run: Run, read_json: ReadJson, endpoint: Registered
) -> None:
    delivery_id = store.add_delivery(endpoint.id, status="dead")
    store.add_attempt(delivery_id, status=404, decided="dead")
    before = run("deliveries", "show", delivery_id).stdout
    run("endpoints", "remove", endpoint.id, "--yes")

    after = run("deliveries", "show", delivery_id).stdout
    (attempt,) = read_json("deliveries", "show", delivery_id)["attempts"]

    assert f"notifier endpoints correct-url {endpoint.id}" in before
    assert "next:" not in after
    assert (attempt["next_step"], attempt["action"]) == (None, None)


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(("show", 7), id="show"),
        pytest.param(("show", 7, "--csv"), id="CSV"),
        pytest.param(("replay", 7), id="replay"),
        pytest.param(("replay", 7, "--dry-run"), id="dry run"),
    ],
)
def test_unknown_delivery_is_refused(run: Run, arguments: tuple[object, ...]) -> None:
    result = run("deliveries", *arguments)

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("error: there is no delivery 7\n next: ")


@pytest.mark.parametrize(
    ("options", "found"),
    [
        pytest.param((), ["pending", "delivered", "dead"], id="none"),
        pytest.param(
            ("--status", "dead", "--event-type", "course.deleted", "--endpoint", "1"),
            ["dead"],
            id="status, type and endpoint",
        ),
        pytest.param(("--course", "CS102"), ["delivered"], id="course"),
        pytest.param(("--matching", "s102"), ["delivered"], id="part of a course id"),
        pytest.param(("--webhook-id", "nowhere"), [], id="webhook-id"),
        pytest.param(("--since", "2126-11-22T09:00"), [], id="since"),
        pytest.param(("--since", "36500d", "--course", "CS103"), ["pending"], id="since, relative"),
        pytest.param(("--until", "2026-11-22"), [], id="until"),
    ],
)
def test_list_filters(
    read_json: ReadJson, three: dict[str, int], options: tuple[str, ...], found: list[str]
) -> None:
    listed = read_json("deliveries", "list", *options)["deliveries"]

    assert [one["delivery_id"] for one in listed] == [three[status] for status in found]


def test_list_pages_newest_first(run: Run, read_json: ReadJson, three: dict[str, int]) -> None:
    newest = max(three.values())

    first = run("deliveries", "list", "--limit", "1")
    rest = read_json("deliveries", "list", "--before", newest)["deliveries"]
    none = run("deliveries", "list", "--course", "NONE")

    assert first.stdout.endswith(f"1 of 3 deliveries. More: add --before {newest}\n")
    assert len(rest) == 2
    assert none.stdout == "No deliveries match.\n"


def test_list_sorts_oldest_first(run: Run, read_json: ReadJson, three: dict[str, int]) -> None:
    oldest, *others = sorted(three.values())

    first = run("deliveries", "list", "--sort", "occurred", "--limit", "1")
    rest = read_json("deliveries", "list", "--sort", "occurred", "--after", oldest)["deliveries"]
    mixed = run("deliveries", "list", "--sort", "occurred", "--before", oldest)
    as_csv = run("deliveries", "list", "--sort", "occurred", "--csv").stdout.splitlines()

    assert first.stdout.endswith(f"1 of 3 deliveries. More: add --after {oldest}\n")
    assert [one["delivery_id"] for one in rest] == others
    assert [int(line.partition(",")[0]) for line in as_csv[1:]] == [oldest, *others]
    assert (mixed.exit_code, "--after with --sort occurred" in mixed.stderr) == (2, True)


def test_replay_by_id_records_who(
    store: Store, run: Run, three: dict[str, int], environment: pytest.MonkeyPatch
) -> None:
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        environment.delenv(name, raising=False)
    environment.setattr(os, "getuid", lambda: 4_242_424)  # a user without a name

    result = run("deliveries", "replay", three["dead"], three["pending"], three["dead"])

    rows = store.all(Replay)
    (entry,) = store.all(AuditEntry)
    assert result.stdout == f"2 deliveries queued: {three['dead']}, {three['pending']}\n"
    assert [(row.delivery_id, row.previous_status) for row in rows] == [
        (three["dead"], "dead"),
        (three["pending"], "pending"),
    ]
    assert entry.actor.startswith("uid 4242424@")


def test_replay_by_filter_skips_delivered_ones(
    run: Run, read_json: ReadJson, three: dict[str, int], store: Store
) -> None:
    before = store.rows()
    dry = run("deliveries", "replay", "--endpoint", 1, "--dry-run")
    limited = run("deliveries", "replay", "--endpoint", 1, "--dry-run", "--limit", 1)
    assert before == store.rows()

    replayed = read_json("deliveries", "replay", "--endpoint", 1, "--limit", 1)
    every = read_json("deliveries", "replay", "--all", "--yes")

    assert dry.stdout.startswith("2 deliveries would be sent again: ")
    assert "match" not in dry.stdout
    assert limited.stdout == (
        f"1 delivery would be sent again: {three['dead']}\n"
        "2 deliveries match; send the others with --limit, or with --all --yes\n"
    )
    assert replayed == {"dry_run": False, "delivery_ids": [three["dead"]], "held": 0}
    assert every["delivery_ids"] == [three["dead"], three["pending"]]


def test_replay_refuses_a_disabled_endpoint(store: Store, run: Run, read_json: ReadJson) -> None:
    disabled = store.add_endpoint(disabled=True)
    dead = store.add_delivery(disabled.id, status="dead", settled_at=NINE)
    store.add_delivery(disabled.id, course_id="CS103")
    before = store.rows()

    by_id = run("deliveries", "replay", dead)
    by_filter = run("deliveries", "replay", "--course", "CS103")
    as_json = read_json("deliveries", "replay", "--course", "CS103")

    assert by_id.exit_code == 1
    assert "is for endpoint 1, which is disabled" in by_id.stderr
    assert by_filter.stdout == (
        "0 deliveries queued\n1 more delivery is held for disabled endpoints; "
        "send them with `notifier endpoints enable`\n"
    )
    assert as_json == {"dry_run": False, "delivery_ids": [], "held": 1}
    assert before == store.rows()
