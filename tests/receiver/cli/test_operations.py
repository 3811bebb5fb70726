"""`receiver db …` and `receiver doctor`."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from contract.events import CourseDeleted, CourseDeletedData, dump
from contract.signatures import Secret
from foundation.db.session import Database
from receiver.models import SCHEMA, HistoryEntry, InboxMessage, Run, RunCourse
from receiver.registry import entries as registry
from receiver.registry import history
from receiver.runs import store as runs
from receiver.runs.store import CourseOutcome, CourseResult
from receiver.sources.store import WebhookSource
from receiver.webhooks import inbox
from tests.receiver.cli.conftest import Receiver
from tests.receiver.conftest import Store

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
both_databases = pytest.mark.parametrize("database_kind", ["sqlite", "postgresql"])


@both_databases
def test_prune_deletes_old_runs_but_keeps_the_last(
    receiver: Receiver, database: Database, store: Store
) -> None:
    def record(at: datetime, *, partial: bool = False) -> int:
        with database.writing() as session:
            run_id = runs.begin(session, "ada@elms", partial=partial, now=at)
            runs.record(session, run_id, [CourseResult("one", "CS101", CourseOutcome.SYNCED)])
        return run_id

    for day in range(12):
        record(LONG_AGO + day * DAY)
    full = record(LONG_AGO + 30 * DAY)
    record(LONG_AGO + 31 * DAY, partial=True)
    recent = record(datetime.now(UTC), partial=True)

    result = receiver("db", "prune", "--older-than", "30d")

    assert result.stdout == "deleted 13 runs, 0 lines of history, 0 webhook ids\n"
    assert [run.id for run in store.rows(Run)] == [full, recent]
    assert [course.run_id for course in store.rows(RunCourse)] == [full, recent]


@both_databases
def test_prune_deletes_history_and_webhook_ids_but_keeps_the_status(
    receiver: Receiver, database: Database, store: Store
) -> None:
    source = WebhookSource(store.add_source("one").id, "one", ())
    data = CourseDeletedData(source="one", course_id="CS101", course_version=4)
    event = CourseDeleted(timestamp=LONG_AGO, data=data)

    def accept(at: datetime) -> inbox.WebhookOutcome:
        with database.writing() as session:
            return inbox.accept(session, source, "msg_1", event, dump(event).encode(), now=at)

    first = accept(datetime.now(UTC) - 40 * DAY)
    receiver("db", "prune", "--older-than", "60d")
    repeated = accept(datetime.now(UTC))
    result = receiver("db", "prune", "--older-than", "30d")
    history_left, messages_left = store.rows(HistoryEntry), store.rows(InboxMessage)
    after = accept(datetime.now(UTC))

    assert (first, repeated, after) == ("applied", "duplicate", "stale")
    assert result.stdout == "deleted 0 runs, 1 line of history, 1 webhook id\n"
    assert (history_left, messages_left) == ([], [])
    assert registry.course_status(store.entry("CS101")).status == "course_deleted"


def test_history_is_pruned_in_batches(database: Database, store: Store) -> None:
    entry = store.add_course("CS101")
    line = history.NewHistoryEntry(entry.id, "token entered", None, registry.state_of(entry))
    with database.writing() as session:
        history.write(session, [line] * 5, actor=registry.Actor("sync", "run 1"), now=LONG_AGO)

        deleted = [history.prune(session, LONG_AGO + DAY, 2) for _ in range(3)]

    assert deleted == [2, 2, 1]


def test_prune_refuses_a_short_age(receiver: Receiver) -> None:
    result = receiver("db", "prune", "--older-than", "29d")

    assert result.exit_code == 2
    assert "'29d' is " in result.stderr


def test_outdated_schema_exits_with_4_until_upgraded(
    receiver: Receiver, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("RECEIVER_DATABASE_URL", "sqlite:///empty.db")

    refused = receiver("sync-grades")
    checked = receiver("db", "check", "--json")
    upgraded = receiver("db", "upgrade")

    assert (refused.exit_code, checked.exit_code, upgraded.exit_code) == (4, 4, 0)
    assert "Run `receiver db upgrade`" in refused.stderr
    assert json.loads(checked.stdout)["ok"] is False
    assert receiver("db", "check").stdout == f"OK: the schema is at {SCHEMA.head}\n"


def test_doctor_reports_failed_checks(receiver: Receiver) -> None:
    text, document = receiver("doctor"), receiver("doctor", "--json")

    assert (text.exit_code, document.exit_code) == (1, 1)
    assert "FAIL" in text.stdout
    assert json.loads(document.stdout)["ok"] is False


def test_rotate_key_counts_secrets_and_tokens(receiver: Receiver, store: Store) -> None:
    store.add_source("one", secrets=(Secret.generate(),))
    store.add_course("CS101")

    result = receiver("db", "rotate-key")

    assert result.stdout.startswith("re-encrypted 1 secret and 1 token")
