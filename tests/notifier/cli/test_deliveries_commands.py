"""`notifier deliveries …` and `notifier work --once`: see, send, send again."""

import json
import os
import socket
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import Result
from sqlalchemy import insert, select, update

from contract import signatures
from contract.signatures import Secret
from foundation.db.session import Database
from notifier.courses import service as courses
from notifier.models import Delivery, Event, Replay

Notifier = Callable[..., Result]
Told = Callable[..., Any]
Rows = Callable[[], dict[str, list[str]]]
MakeDeleted = Callable[..., int]


def reply(status: int, body: bytes = b"") -> Any:
    """Return what a sink answers."""
    return SimpleNamespace(status=status, headers={}, body=body, after=None)


@pytest.fixture
def secret(told: Told, sink: Any) -> str:
    """The secret of an endpoint whose URL is the sink."""
    return str(told("endpoints", "add", sink.url())["secret"])


def numbers(listed: Any) -> list[int]:
    """Return which deliveries a list shows."""
    return [one["delivery_id"] for one in listed]


def test_work_once_delivers_what_is_due(
    notifier: Notifier, told: Told, secret: str, sink: Any, make_deleted: MakeDeleted
) -> None:
    delivery_id = make_deleted("CS101")
    make_deleted("CS102")

    result = notifier("work", "--once", "--threads", 2)

    assert result.exit_code == 0
    assert result.stdout == "delivered 2, to be retried 0, dead 0, held 0\n"
    assert len(sink.received) == 2
    for received in sink.received:
        signatures.verify(
            [Secret.parse(secret)], received.headers, received.body, now=datetime.now(UTC)
        )
    shown = told("deliveries", "show", delivery_id)
    assert shown["status"] == "delivered"
    assert shown["webhook_id"] in {one.headers["webhook-id"] for one in sink.received}
    assert shown["body"].encode() in {one.body for one in sink.received}
    assert [(one["status"], one["decided"]) for one in shown["attempts_made"]] == [
        (200, "delivered")
    ]


def test_work_once_tells_what_is_retried_dead_and_held(
    notifier: Notifier, told: Told, secret: str, sink: Any, make_deleted: MakeDeleted
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
    assert told("endpoints", "list")[0]["disabled_reason"] == (
        "the receiver responded with 410: it wants no more events"
    )


def test_work_once_with_nothing_due_ends_at_once(notifier: Notifier) -> None:
    result = notifier("work", "--once")

    assert result.exit_code == 0
    assert result.stdout == "delivered 0, to be retried 0, dead 0, held 0\n"


def test_a_delivery_shows_every_attempt_and_replay(
    notifier: Notifier, secret: str, sink: Any, make_deleted: MakeDeleted
) -> None:
    sink.answer(reply(422, b'{"detail":"\x1b[31mno such course"}'))
    delivery_id = make_deleted("CS101")
    notifier("work", "--once")
    notifier("deliveries", "replay", delivery_id)

    text = notifier("deliveries", "show", delivery_id).stdout

    for words in ("422", "dead", "no such course", '"type":"course.deleted"', "replays", "@"):
        assert words in text
    assert "\x1b" not in text


def test_a_delivery_that_nobody_heard_shows_what_to_do(
    notifier: Notifier, told: Told, make_deleted: MakeDeleted
) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as closed:
        told("endpoints", "add", f"http://127.0.0.1:{closed.getsockname()[1]}/")
    delivery_id = make_deleted("CS101")
    notifier("work", "--once")

    text = notifier("deliveries", "show", delivery_id).stdout
    shown = told("deliveries", "show", delivery_id)

    step = "Check that the receiver runs and listens on this port."
    assert text.endswith(f"\nnext: {step}\n")
    assert [(one["failure"], one["next_step"]) for one in shown["attempts_made"]] == [
        ("refused", step)
    ]


def test_a_delivery_that_was_not_attempted_says_so(
    notifier: Notifier, secret: str, make_deleted: MakeDeleted
) -> None:
    delivery_id = make_deleted("CS101")

    assert "not attempted yet" in notifier("deliveries", "show", delivery_id).stdout


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(("show", 7), id="show"),
        pytest.param(("replay", 7), id="replay"),
        pytest.param(("replay", 7, "--dry-run"), id="dry run"),
    ],
)
def test_an_unknown_delivery_is_refused(notifier: Notifier, arguments: tuple[object, ...]) -> None:
    result = notifier("deliveries", *arguments)

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        "error: there is no delivery 7\n"
        " next: `notifier deliveries list` names the deliveries that exist.\n"
    )


@pytest.fixture
def four(secret: str, database: Database) -> dict[str, int]:
    """A delivery that is dead, one delivered, one pending, one about a token; all an hour apart."""
    made = {"dead": "CS101", "delivered": "CS102", "pending": "CS103", "token": "CS104"}
    with database.writing() as session:
        for hour, (name, course_id) in enumerate(made.items(), start=8):
            now = datetime(2026, 11, 22, hour, tzinfo=UTC)
            courses.add_course(session, course_id, "Algorithms", now=now)
            act = courses.regenerate_token if name == "token" else courses.delete_course
            act(session, course_id, now=now)
        for row in session.scalars(select(Delivery).order_by(Delivery.id)):
            name = {course_id: name for name, course_id in made.items()}[row.event.course_id]
            row.status = "dead" if name == "token" else name
        return {
            name: row.id
            for name, row in zip(
                made, session.scalars(select(Delivery).order_by(Delivery.id)), strict=True
            )
        }


FILTERS: dict[tuple[str, ...], list[str]] = {
    ("--status", "dead"): ["dead", "token"],
    ("--event-type", "token.regenerated"): ["token"],
    ("--course", "CS103"): ["pending"],
    ("--course", "CS10"): [],
    ("--endpoint", "2147483647"): [],
    ("--since", "2026-11-22T10:00"): ["pending", "token"],
    ("--since", "2026-11-22T12:00+01:00"): ["token"],
    ("--until", "2026-11-22T10:00", "--status", "dead"): ["dead"],
    ("--since", "2026-11-22T08:00", "--until", "2026-11-22T11:00", "--endpoint", "1"): [
        "dead",
        "delivered",
        "pending",
    ],
}
"""Which of `four` each filter finds, the oldest first."""


def test_deliveries_are_listed_by_each_filter(told: Told, four: dict[str, int]) -> None:
    listed = {options: numbers(told("deliveries", "list", *options)) for options in FILTERS}

    assert listed == {
        options: [four[name] for name in reversed(found)] for options, found in FILTERS.items()
    }


def test_a_dry_run_finds_by_each_filter_and_changes_nothing(
    told: Told, four: dict[str, int], rows: Rows
) -> None:
    before = rows()

    found = {options: told("deliveries", "replay", *options, "--dry-run") for options in FILTERS}

    assert found == {
        options: {
            "dry_run": True,
            "deliveries": [four[name] for name in found if name != "delivered"],
            "held": 0,
        }
        for options, found in FILTERS.items()
    }
    assert before == rows()


def test_a_replay_takes_what_its_filter_finds(
    notifier: Notifier, told: Told, four: dict[str, int]
) -> None:
    result = notifier("deliveries", "replay", "--since", "2026-11-22T09:00")

    assert result.stdout == f"2 deliveries are due now: {four['pending']}, {four['token']}\n"
    assert numbers(told("deliveries", "list", "--status", "pending")) == [
        four["token"],
        four["pending"],
    ]


def test_no_deliveries_is_a_sentence(notifier: Notifier) -> None:
    assert notifier("deliveries", "list").stdout == "no such deliveries\n"


def test_delivered_ones_are_replayed_when_asked_for(told: Told, four: dict[str, int]) -> None:
    by_status = told("deliveries", "replay", "--status", "delivered")
    by_number = told("deliveries", "replay", four["delivered"])

    assert by_status["deliveries"] == by_number["deliveries"] == [four["delivered"]]


def test_a_list_goes_on_where_it_ended(
    notifier: Notifier, told: Told, four: dict[str, int]
) -> None:
    newest = max(four.values())

    first = notifier("deliveries", "list", "--limit", "1")
    rest = told("deliveries", "list", "--before", newest)

    assert f"there may be more: --before {newest}\n" in first.stdout
    assert len(rest) == 3


def test_a_replay_says_which_and_writes_down_who(
    notifier: Notifier, four: dict[str, int], database: Database
) -> None:
    result = notifier("deliveries", "replay", four["dead"], four["pending"], four["dead"])

    with database.reading() as session:
        audit = session.scalars(select(Replay).order_by(Replay.delivery_id)).all()
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == f"2 deliveries are due now: {four['dead']}, {four['pending']}\n"
    assert [(row.delivery_id, row.previous_status) for row in audit] == [
        (four["dead"], "dead"),
        (four["pending"], "pending"),
    ]
    assert all("@" in row.replayed_by for row in audit)


def test_a_replay_in_a_container_names_the_users_number(
    notifier: Notifier, four: dict[str, int], database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 4_242_424)

    result = notifier("deliveries", "replay", four["dead"])

    with database.reading() as session:
        audit = session.scalars(select(Replay)).one()
    assert result.exit_code == 0
    assert audit.replayed_by.startswith("uid 4242424@")


def test_a_replay_sends_again_under_the_same_webhook_id(
    notifier: Notifier, told: Told, secret: str, sink: Any, make_deleted: MakeDeleted
) -> None:
    delivery_id = make_deleted("CS101")
    notifier("work", "--once")
    notifier("deliveries", "replay", delivery_id)

    notifier("work", "--once")

    first, second = sink.received
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert first.body == second.body
    assert len(told("deliveries", "show", delivery_id)["attempts_made"]) == 2


@pytest.mark.parametrize(
    ("options", "count"),
    [
        pytest.param((), 100, id="100 unless told"),
        pytest.param(("--limit", "7"), 7, id="a limit"),
        pytest.param(("--all", "--yes"), 120, id="all of them"),
        pytest.param(("--all", "--dry-run"), 120, id="all, dry, unconfirmed"),
    ],
)
def test_a_replay_keeps_to_its_limit(
    notifier: Notifier,
    told: Told,
    secret: str,
    make_deleted: MakeDeleted,
    database: Database,
    options: tuple[str, ...],
    count: int,
) -> None:
    first = make_deleted("CS101")
    with database.writing() as session:
        event = session.get_one(Delivery, first).event
        kept = {column.name: getattr(event, column.name) for column in event.__table__.columns}
        row = session.get_one(Delivery, first)
        others = [f"msg_{number}" for number in range(119)]
        session.execute(insert(Event), [{**kept, "id": other} for other in others])
        session.execute(
            insert(Delivery),
            [
                {
                    "event_id": other,
                    "endpoint_id": row.endpoint_id,
                    "status": "dead",
                    "attempts": 10,
                    "due_at": row.due_at,
                    "created_at": row.created_at,
                }
                for other in others
            ],
        )

    text = notifier("deliveries", "replay", "--course", "CS101", *options).stdout

    assert text.startswith(f"{count} deliveries ")
    assert text.count(",") == min(count - 1, 20)
    assert text.endswith("…\n") == (count > 20)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        pytest.param(("replay",), "name either DELIVERY_IDs or a filter", id="nothing"),
        pytest.param(
            ("replay", "1", "--status", "dead"), "name either DELIVERY_IDs or a filter", id="both"
        ),
        pytest.param(("replay", "--dry-run"), "name either DELIVERY_IDs", id="dry run of nothing"),
        pytest.param(("replay", "--limit", "5"), "name either DELIVERY_IDs", id="limit alone"),
        pytest.param(("replay", "1", "--all", "--yes"), "name either", id="ids and all"),
        pytest.param(("replay", "--status", "dead", "--all"), "confirm with --yes", id="all"),
        pytest.param(("replay", "--all"), "confirm with --yes", id="all of everything"),
        pytest.param(("replay", "x"), "'x' is not a valid integer", id="no number"),
        pytest.param(("replay", "9" * 30), "is not in the range", id="too large"),
        pytest.param(("replay", "--status", "failed"), "'failed' is not one of", id="status"),
        pytest.param(("replay", "--since", "yesterday"), "is no moment; write 2026", id="moment"),
        pytest.param(
            ("replay", "--until", "0001-01-01T00:00+14:00"), "is no moment", id="before year 1"
        ),
        pytest.param(("list", "--course", "\udce9"), "the text is not UTF-8", id="course"),
        pytest.param(("list", "--endpoint", "9" * 30), "is not in the range", id="endpoint"),
        pytest.param(("list", "--before", "0"), "is not in the range", id="before"),
        pytest.param(("show", "2147483648"), "is not in the range", id="show"),
    ],
)
def test_wrong_use_is_a_sentence(away: Notifier, arguments: tuple[str, ...], sentence: str) -> None:
    result = away("deliveries", *arguments)

    assert (result.exit_code, result.stdout) == (2, "")
    assert sentence in result.stderr


def test_what_a_disabled_endpoint_holds_is_refused_and_explained(
    notifier: Notifier, told: Told, four: dict[str, int], rows: Rows, database: Database
) -> None:
    with database.writing() as session:
        session.execute(update(Delivery).where(Delivery.status == "dead").values(status="held"))
    notifier("endpoints", "disable", 1)
    before = rows()

    by_number = notifier("deliveries", "replay", four["dead"])
    dry = notifier("deliveries", "replay", four["dead"], "--dry-run")
    by_filter = notifier("deliveries", "replay", "--course", "CS101")
    as_json = told("deliveries", "replay", "--course", "CS101")

    for result in (by_number, dry):
        assert result.exit_code == 1
        assert result.stderr == (
            f"error: delivery {four['dead']} is for endpoint 1, which is disabled\n"
            " next: Enable it with `notifier endpoints enable 1`; that sends what it holds.\n"
        )
    assert by_filter.stdout == (
        "0 deliveries are due now\n"
        "1 more is held for an endpoint that is disabled; "
        "`notifier endpoints enable` sends it\n"
    )
    assert as_json == {"dry_run": False, "deliveries": [], "held": 1}
    assert before == rows()


def test_one_unknown_number_replays_none(
    notifier: Notifier, four: dict[str, int], rows: Rows
) -> None:
    before = rows()

    result = notifier("deliveries", "replay", four["dead"], 999_999)

    assert result.exit_code == 1
    assert "there is no delivery 999999" in result.stderr
    assert before == rows()


def test_control_characters_of_a_receivers_answer_are_spelled_out(
    notifier: Notifier, secret: str, sink: Any, make_deleted: MakeDeleted
) -> None:
    sink.answer(reply(422, "\x1b]0;owned\x07\u202e".encode()))
    delivery_id = make_deleted("CS101")
    notifier("work", "--once")

    shown = [
        notifier("deliveries", "show", delivery_id, *options).stdout
        for options in [(), ("--json",)]
    ]

    for text in shown:
        assert not {"\x1b", "\x07", "\u202e"} & set(text)
        assert "owned" in text
    assert json.loads(shown[1])["attempts_made"][0]["detail"] == "\\x1b]0;owned\\x07\\u202e"
