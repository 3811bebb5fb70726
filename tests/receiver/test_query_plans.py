"""The query plans of the lists of runs, history and inbox: an index, and no sorting."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import event

from foundation.db.pagination import PageRequest
from foundation.db.session import Database
from receiver.registry import history
from receiver.runs import queries
from receiver.runs.store import CourseOutcome
from receiver.sources import store as sources
from receiver.webhooks import inbox
from receiver.webhooks.inbox import InboxFilter, WebhookOutcome

NINE = datetime(2026, 11, 22, 9, tzinfo=UTC)
INBOX = "USING INDEX ix_inbox_"
REQUESTS = [
    PageRequest(),
    PageRequest(after=(NINE, 1, "msg_1")),
    PageRequest(before=(NINE, 1, "msg_1")),
]


@pytest.fixture
def planned(database: Database) -> Iterator[Callable[[Callable[[Any], Any]], list[str]]]:
    """Return what returns SQLite's query plans of the statements that a function sends."""
    if not database.is_sqlite:
        pytest.skip("PostgreSQL plans by what is in the tables, and these are empty")
    sent: list[tuple[str, Any]] = []

    def note(_: Any, __: Any, statement: str, values: Any, *___: Any) -> None:
        sent.append((statement, values))

    def explain(ask: Callable[[Any], Any]) -> list[str]:
        with database.reading() as session:
            ask(session)
            asked = [one for one in sent if one[0].startswith("SELECT")]
            return [
                str(row[-1])
                for statement, values in asked
                for row in session.connection().exec_driver_sql(
                    f"EXPLAIN QUERY PLAN {statement}", values
                )
            ]

    event.listen(database.engine, "before_cursor_execute", note)
    yield explain
    event.remove(database.engine, "before_cursor_execute", note)


@pytest.mark.parametrize("page_request", REQUESTS, ids=["first", "on", "back"])
@pytest.mark.parametrize(
    ("wanted", "index"),
    [
        pytest.param(InboxFilter(), f"{INBOX}received_at_source_id_webhook_id", id="all"),
        pytest.param(
            InboxFilter(WebhookOutcome.STALE), f"{INBOX}outcome_received_at", id="outcome"
        ),
        pytest.param(InboxFilter(source_id=1), f"{INBOX}source_id_received_at", id="source"),
        pytest.param(InboxFilter(course_id="CS1"), f"{INBOX}course_id_received_at", id="course"),
    ],
)
def test_each_list_of_the_inbox_uses_an_index(
    planned: Callable[..., list[str]], wanted: InboxFilter, index: str, page_request: PageRequest
) -> None:
    plan = planned(lambda session: inbox.page(session, wanted, page_request))

    assert any(index in step for step in plan)
    assert not any("TEMP B-TREE" in step or step == "SCAN inbox" for step in plan)


def test_webhook_id_is_looked_up_by_primary_key(planned: Callable[..., list[str]]) -> None:
    plan = planned(
        lambda session: inbox.page(session, InboxFilter(webhook_id="msg_1"), PageRequest())
    )

    assert any("(source_id=? AND webhook_id=?)" in step for step in plan)


@pytest.mark.parametrize(
    ("ask", "index"),
    [
        pytest.param(
            lambda session: queries.page_of_courses(
                session, 1, CourseOutcome.FAILED, PageRequest(after=("one", 7))
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
def test_each_other_list_uses_an_index(
    planned: Callable[..., list[str]], ask: Callable[[Any], Any], index: str
) -> None:
    plan = planned(ask)

    assert any(index in step for step in plan)
    assert not any("TEMP B-TREE" in step for step in plan)


def test_last_run_of_a_source_uses_an_index(planned: Callable[..., list[str]]) -> None:
    plan = planned(queries.last_fetches)

    covering = "USING COVERING INDEX ix_run_courses_run_id_outcome_source_id"
    assert any(f"{covering} (run_id=? AND outcome=? AND source=?)" in step for step in plan)


def test_last_webhook_of_a_source_uses_an_index(planned: Callable[..., list[str]]) -> None:
    plan = planned(sources.last_received)

    assert any("ix_inbox_source_id_received_at_webhook_id (source_id=?)" in step for step in plan)
