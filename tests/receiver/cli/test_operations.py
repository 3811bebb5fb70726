"""`receiver db …` and `receiver doctor`."""

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from contract.grades import Score
from contract.signatures import Secret
from foundation.db.session import Database
from receiver.course_state import Deleted
from receiver.gradebook import database as gradebook
from receiver.models import SCHEMA, Entry, HistoryEntry, InboxMessage, Run, RunCourse, StoredScore
from receiver.registry import entries as registry
from receiver.registry import history
from receiver.runs.store import CourseOutcome, CourseResult
from tests.receiver.cli.conftest import Receiver
from tests.receiver.conftest import NINE, Store, make_deleted

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)


def make_score(user_id: str) -> Score:
    return Score(
        user_id=user_id, score_given=Decimal(7), score_maximum=Decimal(10), timestamp=LONG_AGO
    )


both_databases = pytest.mark.parametrize("database_kind", ["sqlite", "postgresql"])


@both_databases
def test_prune_deletes_old_runs_but_keeps_the_last(receiver: Receiver, store: Store) -> None:
    result = CourseResult("one", "CS101", CourseOutcome.SYNCED)
    for day in range(12):
        store.add_run(result, at=LONG_AGO + day * DAY)
    full = store.add_run(result, at=LONG_AGO + 30 * DAY)
    store.add_run(result, at=LONG_AGO + 31 * DAY, partial=True)
    recent = store.add_run(result, at=datetime.now(UTC), partial=True)

    deleted = receiver("db", "prune", "--older-than", "30d")

    assert deleted.stdout == (
        "deleted 13 runs, 0 lines of history, 0 webhook ids, 0 grades of deleted courses, "
        "0 audit entries\n"
    )
    assert [run.id for run in store.rows(Run)] == [full, recent]
    assert [course.run_id for course in store.rows(RunCourse)] == [full, recent]


@both_databases
def test_prune_deletes_history_and_webhook_ids_but_keeps_the_status(
    receiver: Receiver, store: Store
) -> None:
    now = datetime.now(UTC)

    first = store.receive("msg_1", make_deleted(), at=now - 40 * DAY)
    receiver("db", "prune", "--older-than", "60d")
    repeated = store.receive("msg_1", make_deleted(), at=now)
    result_with_one = receiver("db", "prune", "--older-than", "30d")
    store.receive("msg_2", make_deleted(course_id="CS102"), at=now)
    result = receiver("db", "prune", "--older-than", "30d")
    history_left, messages_left = store.rows(HistoryEntry), store.rows(InboxMessage)
    after = store.receive("msg_1", make_deleted(), at=now)

    assert (first, repeated, after) == ("applied", "duplicate", "stale")
    assert result.stdout == (
        "deleted 0 runs, 0 lines of history, 1 webhook id, 0 grades of deleted courses, "
        "0 audit entries\n"
    )
    assert "1 line of history, 0 webhook ids" in result_with_one.stdout  # the last one is kept
    assert ([one.entry_id for one in history_left], len(messages_left)) == ([2], 1)
    assert registry.status_of(store.entry("CS101"), now=NINE) == "course_deleted"


@both_databases
def test_prune_deletes_grades_of_courses_that_were_deleted_long_ago(
    receiver: Receiver, store: Store, environment: pytest.MonkeyPatch
) -> None:
    now = datetime.now(UTC)
    for course_id, facts in (
        ("CS101", [Deleted(4, now - 50 * DAY)]),
        ("CS102", [Deleted(4, now - 10 * DAY)]),
        ("CS103", []),
    ):
        entry = store.add_course(course_id, *facts)
        with store.database.writing() as session:
            gradebook.write(session, {entry.id: [make_score("ada"), make_score("eve")]})
            session.get_one(Entry, entry.id).etag = "of these grades"

    kept = receiver("db", "prune", "--older-than", "30d")
    environment.setenv("RECEIVER_FORGET_GRADES_AFTER_DAYS", "30")
    pruned = receiver("db", "prune", "--older-than", "30d")

    assert kept.stdout.endswith(" 0 grades of deleted courses, 0 audit entries\n")
    assert pruned.stdout.endswith(" 2 grades of deleted courses, 0 audit entries\n")
    # A course that is restored is fetched again.
    assert store.entry("CS101").etag is None
    assert store.entry("CS102").etag == "of these grades"
    ids = [store.entry(course_id).id for course_id in ("CS102", "CS103")]
    assert [score.entry_id for score in store.rows(StoredScore)] == [ids[0], ids[0], ids[1], ids[1]]


def test_history_is_pruned_in_batches(database: Database, store: Store) -> None:
    entry = store.add_course("CS101")
    line = history.NewHistoryEntry(entry.id, "token.entered", None, registry.state_of(entry))
    with database.writing() as session:
        history.write(session, [line] * 5, actor=registry.Actor("sync", "run 1"), now=LONG_AGO)

        deleted = [history.prune(session, LONG_AGO + DAY, 2) for _ in range(3)]

    assert deleted == [2, 2, 1]


def test_outdated_schema_exits_with_4_until_upgraded(
    receiver: Receiver, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("RECEIVER_DATABASE_URL", "sqlite:///empty.db")

    refused = receiver("sync-grades")
    checked = receiver("db", "check", "--json")
    upgraded = receiver("db", "upgrade")

    assert (refused.exit_code, checked.exit_code, upgraded.exit_code) == (4, 4, 0)
    assert "Run `receiver db upgrade`" in refused.stderr
    assert json.loads(checked.stderr)["exit_code"] == 4
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
