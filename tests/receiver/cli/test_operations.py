"""`receiver db …` and `receiver doctor`."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from click.testing import Result

from contract.events import CourseDeleted, CourseDeletedData, dump, load
from contract.signatures import Secret
from foundation.db.session import Database
from receiver.course_state import Deleted
from receiver.models import SCHEMA, Entry, HistoryEntry, InboxMessage, Run, RunCourse, Source
from receiver.registry import entries as registry
from receiver.registry import history
from receiver.registry.history import Actor, ActorKind
from receiver.runs import store as runs
from receiver.runs.store import CourseOutcome, CourseResult
from receiver.sources.store import WebhookSource
from receiver.webhooks import inbox

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
ADA = Actor(ActorKind.WEBHOOK, "msg_1")
Rows = Callable[[type[Any]], list[Any]]


def run_at(database: Database, at: datetime, *, partial: bool = False) -> int:
    """Leave a run behind that began then, with one course."""
    with database.writing() as session:
        run_id = runs.begin(session, "ada@elms", partial=partial, now=at)
        runs.record(session, run_id, [CourseResult("one", "CS101", CourseOutcome.SYNCED)])
    return run_id


def test_prune_deletes_old_runs_but_keeps_the_last(
    receiver: Callable[..., Result], database: Database, rows: Rows
) -> None:
    for day in range(25):
        run_at(database, LONG_AGO + timedelta(days=day))
    whole = run_at(database, LONG_AGO + timedelta(days=30))
    run_at(database, LONG_AGO + timedelta(days=31), partial=True)
    recent = run_at(database, datetime.now(UTC), partial=True)

    result = receiver("db", "prune", "--older-than", "30d")

    assert result.stdout == "deleted 26 runs, 0 lines of history, 0 webhook ids\n"
    assert [run.id for run in rows(Run)] == [whole, recent]
    assert [course.run_id for course in rows(RunCourse)] == [whole, recent]


def test_prune_deletes_history_but_keeps_the_status(
    receiver: Callable[..., Result],
    database: Database,
    make_source: Callable[..., Source],
    make_entry: Callable[..., Entry],
    entry_of: Callable[[str], Entry],
    rows: Rows,
) -> None:
    source = make_source("one")
    make_entry(source)
    with database.writing() as session:
        gone = Deleted(4, LONG_AGO)
        registry.apply(session, source.id, "CS101", gone, actor=ADA, now=LONG_AGO)
    recent = len([line for line in rows(HistoryEntry) if line.at > LONG_AGO])

    receiver("db", "prune", "--older-than", "400d")

    after = rows(HistoryEntry)
    assert registry.course_status(entry_of("CS101")).status == "course_deleted"
    assert len(after) <= recent
    assert [line for line in after if line.at <= LONG_AGO] == []


def test_webhook_is_a_duplicate_until_its_id_is_pruned(
    receiver: Callable[..., Result],
    database: Database,
    make_source: Callable[..., Source],
    rows: Rows,
) -> None:
    source = make_source("one")
    door = WebhookSource(source.id, "one", ())
    data = CourseDeletedData(source="one", course_id="CS101", course_version=4)
    raw = dump(CourseDeleted(timestamp=LONG_AGO, data=data)).encode()

    def take(at: datetime) -> inbox.WebhookOutcome:
        with database.writing() as session:
            return inbox.accept(session, door, "msg_1", load(raw), raw, now=at)

    first = take(datetime.now(UTC) - timedelta(days=40))
    receiver("db", "prune", "--older-than", "60d")
    within = take(datetime.now(UTC))
    told = receiver("db", "prune", "--older-than", "30d").stdout
    beyond = take(datetime.now(UTC))

    assert (first, within, beyond) == ("applied", "duplicate", "stale")
    assert told.endswith(" 1 webhook id\n")
    assert len(rows(InboxMessage)) == 1


def test_prune_deletes_in_batches(
    database: Database, make_source: Callable[..., Source], make_entry: Callable[..., Entry]
) -> None:
    entry = make_entry(make_source("one"))
    with database.writing() as session:
        memory = registry.state_of(entry)
        lines = [history.NewHistoryEntry(entry.id, "token entered", None, memory) for _ in range(5)]
        history.write(session, lines, actor=ADA, now=LONG_AGO)

    pieces = []
    for _ in range(3):
        with database.writing() as session:
            pieces.append(history.prune(session, LONG_AGO + timedelta(days=1), 2))

    assert pieces == [2, 2, 1]


@pytest.mark.parametrize("age", ["29d", "90s", "0d", "x"])
def test_prune_refuses_a_short_age(receiver: Callable[..., Result], age: str) -> None:
    result = receiver("db", "prune", "--older-than", age)

    assert result.exit_code == 2
    assert f"'{age}' is " in result.stderr


def test_outdated_schema_exits_with_4_until_upgraded(
    receiver: Callable[..., Result], environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("RECEIVER_DATABASE_URL", "sqlite:///empty.db")

    refused = receiver("sync-grades")
    checked = receiver("db", "check", "--json")
    upgraded = receiver("db", "upgrade")
    again = receiver("db", "upgrade")

    assert (refused.exit_code, checked.exit_code) == (4, 4)
    assert "Run `receiver db upgrade`" in refused.stderr
    assert json.loads(checked.stdout)["ok"] is False
    assert upgraded.stdout == f"the schema is now at {SCHEMA.head} (before: new database)\n"
    assert again.stdout == f"the schema is already at {SCHEMA.head}\n"
    assert receiver("db", "check").stdout == f"OK: the schema is at {SCHEMA.head}\n"


def test_doctor_reports_failed_checks(receiver: Callable[..., Result]) -> None:
    told, document = receiver("doctor"), receiver("doctor", "--json")

    assert (told.exit_code, document.exit_code) == (1, 1)
    assert "FAIL" in told.stdout
    assert json.loads(document.stdout)["ok"] is False


def test_rotate_key_counts_secrets_and_tokens(
    receiver: Callable[..., Result],
    make_source: Callable[..., Source],
    make_entry: Callable[..., Entry],
) -> None:
    make_entry(make_source("encrypted", secrets=(Secret.generate(),)))

    result = receiver("db", "rotate-key")

    assert result.stdout.startswith("re-encrypted 1 secret and 1 token")
