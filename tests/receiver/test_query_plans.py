"""The query plans of the lists of ELMS: an index, and no sorting."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.orm import Session

from foundation.db.pagination import PageRequest
from foundation.db.session import Database
from receiver.course_state import CourseStatus
from receiver.registry import history, listing
from receiver.registry.listing import EntryFilter
from receiver.runs import queries
from receiver.runs import store as runs
from receiver.runs.queries import ResultFilter
from receiver.runs.store import CourseOutcome
from receiver.sources import store as sources
from receiver.webhooks import inbox
from receiver.webhooks.inbox import InboxFilter, WebhookOutcome

# The index of all registry entries in the order of lists.
ENTRIES = "ix_entries_course_id_source_id_added_at"
CURSOR = (datetime(2026, 11, 22, 9, tzinfo=UTC), 1, "msg_1")


@pytest.fixture
def database_kind() -> str:
    """SQLite; PostgreSQL plans by what is in the tables, and these are empty."""
    return "sqlite"


def plan_of(database: Database, query: Callable[[Session], Any]) -> list[str]:
    """Return SQLite's query plans of the statements that a function sends."""
    sent: list[tuple[str, Any]] = []

    def note(_: Any, __: Any, statement: str, values: Any, *___: Any) -> None:
        sent.append((statement, values))

    with database.reading() as session:
        event.listen(database.engine, "before_cursor_execute", note)
        query(session)
        event.remove(database.engine, "before_cursor_execute", note)
        return [
            str(row[-1])
            for statement, values in sent
            if statement.startswith("SELECT")
            for row in session.connection().exec_driver_sql(
                f"EXPLAIN QUERY PLAN {statement}", values
            )
        ]


@pytest.mark.parametrize(
    "page_request",
    [
        pytest.param(PageRequest(), id="first page"),
        pytest.param(PageRequest(after=CURSOR), id="next page"),
        pytest.param(PageRequest(before=CURSOR), id="previous page"),
    ],
)
@pytest.mark.parametrize(
    ("inbox_filter", "index"),
    [
        pytest.param(InboxFilter(), "ix_inbox_received_at_source_id_webhook_id", id="all"),
        pytest.param(
            InboxFilter(WebhookOutcome.STALE), "ix_inbox_outcome_received_at", id="outcome"
        ),
        pytest.param(InboxFilter(source_id=1), "ix_inbox_source_id_received_at", id="source"),
        pytest.param(InboxFilter(course_id="CS1"), "ix_inbox_course_id_received_at", id="course"),
    ],
)
def test_inbox_uses_an_index(
    database: Database, inbox_filter: InboxFilter, index: str, page_request: PageRequest
) -> None:
    plan = plan_of(database, lambda session: inbox.page(session, inbox_filter, page_request))

    assert any(f"USING INDEX {index}" in step for step in plan)
    assert not any("TEMP B-TREE" in step or step == "SCAN inbox" for step in plan)


@pytest.mark.parametrize(
    "page_request",
    [
        pytest.param(PageRequest(), id="first page"),
        pytest.param(PageRequest(after=("CS1", 1)), id="next page"),
        pytest.param(PageRequest(before=("CS1", 1)), id="previous page"),
    ],
)
@pytest.mark.parametrize(
    ("entry_filter", "index"),
    [
        pytest.param(EntryFilter(), ENTRIES, id="all"),
        pytest.param(EntryFilter(matching="CS"), ENTRIES, id="part of the id"),
        pytest.param(EntryFilter(CourseStatus.ACTIVE), "ix_entries_active", id="active"),
        pytest.param(
            EntryFilter(CourseStatus.TOKEN_INVALID), "ix_entries_token_invalid", id="invalid"
        ),
        pytest.param(
            EntryFilter(CourseStatus.COURSE_DELETED), "ix_entries_course_deleted", id="deleted"
        ),
    ],
)
def test_registry_uses_an_index(
    database: Database, entry_filter: EntryFilter, index: str, page_request: PageRequest
) -> None:
    plan = plan_of(
        database,
        lambda session: listing.page(
            session, entry_filter, page_request, needs_activity=False, now=CURSOR[0]
        ),
    )

    assert any(index in step for step in plan)
    assert not any("TEMP B-TREE" in step or step == "SCAN entries" for step in plan)


def test_counts_of_the_registry_use_an_index(database: Database) -> None:
    plan = plan_of(database, lambda session: listing.counts(session, now=CURSOR[0]))

    assert [step for step in plan if step.startswith("SCAN entries")] == [
        f"SCAN entries USING COVERING INDEX {ENTRIES}",
        "SCAN entries USING INDEX ix_entries_token_invalid",
        "SCAN entries USING INDEX ix_entries_course_deleted",
    ]


@pytest.mark.parametrize(
    ("query", "index"),
    [
        pytest.param(
            lambda session: queries.page_of_courses(
                session, 1, ResultFilter(CourseOutcome.FAILED), PageRequest(after=("one", 7))
            ),
            "ix_run_courses_run_id_outcome_source_id (run_id=? AND outcome=? AND source>?)",
            id="courses of a run",
        ),
        pytest.param(
            lambda session: queries.of_course(session, "one", "CS101"),
            "ix_run_courses_course_id_source_id (course_id=? AND source=?)",
            id="runs of a course",
        ),
        pytest.param(
            lambda session: history.page(session, 1, PageRequest(after=(7,))),
            "ix_history_entry_id (entry_id=? AND rowid<?)",
            id="history of a course",
        ),
    ],
)
def test_other_lists_use_an_index(
    database: Database, query: Callable[[Session], Any], index: str
) -> None:
    plan = plan_of(database, query)

    assert any(index in step for step in plan)
    assert not any("TEMP B-TREE" in step for step in plan)


@pytest.mark.parametrize(
    ("query", "index"),
    [
        pytest.param(
            lambda session: inbox.page(session, InboxFilter(webhook_id="msg_1"), PageRequest()),
            "(source_id=? AND webhook_id=?)",
            id="webhook id",
        ),
        pytest.param(
            lambda session: queries.result_groups(session, 1),
            "ix_run_courses_run_id_outcome_source_id (run_id=?)",
            id="groups of a run",
        ),
        pytest.param(
            lambda session: runs.failures(session, ["CS101"]),
            "ix_run_courses_course_id_source_id (course_id=? AND source=? AND id>?)",
            id="failures of a course",
        ),
        pytest.param(
            lambda session: history.missed_webhooks(session, now=CURSOR[0]),
            "ix_history_found_by_sync (actor=? AND at>?)",
            id="missed webhooks",
        ),
        pytest.param(
            sources.receptions,
            "ix_inbox_source_id_received_at_webhook_id (source_id=?)",
            id="last webhook of a source",
        ),
    ],
)
def test_lookups_use_an_index(
    database: Database, query: Callable[[Session], Any], index: str
) -> None:
    assert any(index in step for step in plan_of(database, query))
