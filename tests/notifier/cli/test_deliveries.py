"""`notifier deliveries …` and `notifier work --once`."""

import os
import socket
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import Result
from sqlalchemy import select, update

from contract import signatures
from contract.signatures import Secret
from foundation.db.session import Database
from notifier.models import Delivery, Replay

Notifier = Callable[..., Result]
ReadJson = Callable[..., Any]
Rows = Callable[[], dict[str, list[str]]]
MakeDeleted = Callable[..., int]


def reply(status: int, body: bytes = b"") -> Any:
    return SimpleNamespace(status=status, headers={}, body=body, after=None)


@pytest.fixture
def secret(told: ReadJson, sink: Any) -> str:
    """The secret of an endpoint whose URL is the sink's."""
    return str(told("endpoints", "add", sink.url())["secret"])


@pytest.fixture
def three(secret: str, make_deleted: MakeDeleted, database: Database) -> dict[str, int]:
    """A dead delivery, a delivered one and a pending one."""
    made = {"dead": "CS101", "delivered": "CS102", "pending": "CS103"}
    ids = {status: make_deleted(course_id) for status, course_id in made.items()}
    with database.writing() as session:
        for status in ("dead", "delivered"):
            settled = {"status": status, "settled_at": datetime(2026, 11, 22, 9, tzinfo=UTC)}
            session.execute(update(Delivery).where(Delivery.id == ids[status]).values(settled))
    return ids


def numbers(listed: Any) -> list[int]:
    return [one["delivery_id"] for one in listed]


def test_work_once_delivers_what_is_due(
    notifier: Notifier, told: ReadJson, secret: str, sink: Any, make_deleted: MakeDeleted
) -> None:
    delivery_id = make_deleted("CS101")

    result = notifier("work", "--once", "--threads", 2)

    (received,) = sink.received
    shown = told("deliveries", "show", delivery_id)
    assert result.exit_code == 0
    assert result.stdout == "delivered 1, to be retried 0, dead 0, held 0\n"
    signatures.verify(
        [Secret.parse(secret)], received.headers, received.body, now=datetime.now(UTC)
    )
    assert shown["status"] == "delivered"
    assert shown["webhook_id"] == received.headers["webhook-id"]
    assert shown["body"].encode() == received.body


def test_work_once_counts_what_is_retried_dead_and_held(
    notifier: Notifier, told: ReadJson, secret: str, sink: Any, make_deleted: MakeDeleted
) -> None:
    sink.answer(reply(503), reply(422, b"no such course"), reply(200), reply(410))
    for course_id in ("CS101", "CS102", "CS103", "CS104"):
        make_deleted(course_id)

    result = notifier("work", "--once", "--threads", 1)

    assert result.stdout == "delivered 1, to be retried 1, dead 1, held 1\n"
    assert {one["course_id"]: one["status"] for one in told("deliveries", "list")} == {
        "CS101": "held",
        "CS102": "dead",
        "CS103": "delivered",
        "CS104": "held",
    }


def test_show_lists_attempts_and_replays_harmlessly(
    notifier: Notifier, told: ReadJson, secret: str, sink: Any, make_deleted: MakeDeleted
) -> None:
    sink.answer(reply(422, "\x1b]0;owned\x07\u202e".encode()))
    delivery_id = make_deleted("CS101")
    new = notifier("deliveries", "show", delivery_id).stdout
    notifier("work", "--once")
    notifier("deliveries", "replay", delivery_id)

    text = notifier("deliveries", "show", delivery_id).stdout
    shown = told("deliveries", "show", delivery_id)

    assert "none yet" in new
    for words in ("422", "dead", "owned", '"type":"course.deleted"', "Replays", "@"):
        assert words in text
    assert not {"\x1b", "\x07", "\u202e"} & set(text)
    assert shown["attempts_made"][0]["detail"] == "\\x1b]0;owned\\x07\\u202e"
    assert shown["replays"][0]["previous_status"] == "dead"


def test_show_says_what_to_do_about_a_failure(
    notifier: Notifier, told: ReadJson, make_deleted: MakeDeleted
) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as closed:
        told("endpoints", "add", f"http://127.0.0.1:{closed.getsockname()[1]}/")
    delivery_id = make_deleted("CS101")
    notifier("work", "--once")

    text = notifier("deliveries", "show", delivery_id).stdout
    (attempt,) = told("deliveries", "show", delivery_id)["attempts_made"]

    assert attempt["failure"] == "refused"
    assert text.endswith(f"\n  next: {attempt['next_step']}\n")


@pytest.mark.parametrize("arguments", [("show", 7), ("replay", 7), ("replay", 7, "--dry-run")])
def test_unknown_delivery_is_refused(notifier: Notifier, arguments: tuple[object, ...]) -> None:
    result = notifier("deliveries", *arguments)

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("error: there is no delivery 7\n next: ")


@pytest.mark.parametrize(
    ("options", "found"),
    [
        pytest.param((), ["pending", "delivered", "dead"], id="none"),
        pytest.param(("--status", "dead"), ["dead"], id="status"),
        pytest.param(("--event-type", "token.regenerated"), [], id="event type"),
        pytest.param(("--endpoint", "2"), [], id="endpoint"),
        pytest.param(("--course", "CS102"), ["delivered"], id="course"),
        pytest.param(("--since", "2126-11-22T09:00"), [], id="since"),
        pytest.param(("--until", "2026-11-22"), [], id="until"),
    ],
)
def test_list_filters(
    told: ReadJson, three: dict[str, int], options: tuple[str, ...], found: list[str]
) -> None:
    listed = told("deliveries", "list", *options)

    assert numbers(listed) == [three[status] for status in found]


def test_list_pages_newest_first(notifier: Notifier, told: ReadJson, three: dict[str, int]) -> None:
    newest = max(three.values())

    first = notifier("deliveries", "list", "--limit", "1")
    rest = told("deliveries", "list", "--before", newest)
    none = notifier("deliveries", "list", "--course", "NONE")

    assert f"More: add --before {newest}\n" in first.stdout
    assert len(rest) == 2
    assert none.stdout == "No deliveries match.\n"


def test_replay_by_id_records_who(
    notifier: Notifier, three: dict[str, int], database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 4_242_424)  # a user without a name

    result = notifier("deliveries", "replay", three["dead"], three["pending"], three["dead"])

    with database.reading() as session:
        audit = session.scalars(select(Replay).order_by(Replay.delivery_id)).all()
    assert result.stdout == f"2 deliveries queued: {three['dead']}, {three['pending']}\n"
    assert [(row.delivery_id, row.previous_status) for row in audit] == [
        (three["dead"], "dead"),
        (three["pending"], "pending"),
    ]
    assert all(row.replayed_by.startswith("uid 4242424@") for row in audit)


def test_replay_by_filter_leaves_out_delivered_ones(
    notifier: Notifier, told: ReadJson, three: dict[str, int], rows: Rows
) -> None:
    before = rows()
    dry = notifier("deliveries", "replay", "--endpoint", 1, "--dry-run")
    assert before == rows()

    replayed = told("deliveries", "replay", "--endpoint", 1, "--limit", 1)
    every = told("deliveries", "replay", "--all", "--yes")

    assert dry.stdout.startswith("2 deliveries would be sent again: ")
    assert replayed == {"dry_run": False, "deliveries": [three["dead"]], "held": 0}
    assert every["deliveries"] == [three["dead"], three["pending"]]


def test_replay_keeps_the_webhook_id(
    notifier: Notifier, secret: str, sink: Any, make_deleted: MakeDeleted
) -> None:
    delivery_id = make_deleted("CS101")
    notifier("work", "--once")
    notifier("deliveries", "replay", delivery_id)

    notifier("work", "--once")

    first, second = sink.received
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert first.body == second.body


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(("replay",), "give either DELIVERY_IDs or a filter", id="nothing"),
        pytest.param(("replay", "1", "--status", "dead"), "give either", id="ids and filter"),
        pytest.param(("replay", "1", "--all", "--yes"), "give either", id="ids and all"),
        pytest.param(("replay", "--status", "dead", "--all"), "confirm with --yes", id="all"),
        pytest.param(("replay", "9" * 30), "is not in the range", id="id too large"),
        pytest.param(("list", "--since", "yesterday"), "is not a timestamp", id="no timestamp"),
        pytest.param(("list", "--until", "0001-01-01T00:00+14:00"), "is not a", id="before year 1"),
        pytest.param(("list", "--course", "\udce9"), "the text is not UTF-8", id="course"),
    ],
)
def test_wrong_usage_exits_with_2(away: Notifier, arguments: tuple[str, ...], message: str) -> None:
    result = away("deliveries", *arguments)

    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr


def test_replay_refuses_a_disabled_endpoint(
    notifier: Notifier, told: ReadJson, three: dict[str, int], rows: Rows
) -> None:
    notifier("endpoints", "disable", 1)
    before = rows()

    by_id = notifier("deliveries", "replay", three["dead"])
    by_filter = notifier("deliveries", "replay", "--course", "CS103")
    as_json = told("deliveries", "replay", "--course", "CS103")

    assert by_id.exit_code == 1
    assert "is for endpoint 1, which is disabled" in by_id.stderr
    assert by_filter.stdout == (
        "0 deliveries queued\n1 more delivery is held for disabled endpoints; "
        "send them with `notifier endpoints enable`\n"
    )
    assert as_json == {"dry_run": False, "deliveries": [], "held": 1}
    assert before == rows()
