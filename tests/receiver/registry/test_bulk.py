"""Bulk changes of the registry: what is added and changed, in few statements."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest
from sqlalchemy import event

from contract.tokens import CourseToken, MoodleToken
from foundation.crypto import Vault
from foundation.csv_reader import CsvError
from foundation.db.session import Database
from foundation.import_result import ImportResult
from receiver.course_state import CourseStatus, Deleted, TokenAnnounced, TokenRejected
from receiver.models import MOODLE, Entry, HistoryEntry, Source
from receiver.registry import bulk
from receiver.registry.csv_files import RegistryRow
from receiver.registry.history import Actor, ActorKind
from tests.receiver.conftest import NINE, Store

ADA = Actor(ActorKind.ADMINISTRATOR, "ada@elms")
Import = Callable[..., ImportResult]


@pytest.fixture
def import_rows(database: Database, vault: Vault, now: datetime) -> Import:
    """Return a function that imports rows in a transaction of its own."""

    def call(*rows: RegistryRow) -> ImportResult:
        with database.writing() as session:
            results = bulk.import_in_batches(session, rows, vault=vault, actor=ADA, now=now)
            return sum(results, ImportResult())

    return call


@pytest.fixture
def set_tokens(database: Database, vault: Vault, now: datetime) -> Callable[..., list[int]]:
    """Return a function that sets the tokens of rows in a transaction of its own."""

    def call(*rows: RegistryRow) -> list[int]:
        with database.writing() as session:
            return bulk.set_tokens(session, rows, vault=vault, actor=ADA, now=now)

    return call


@pytest.fixture
def source(store: Store) -> Source:
    """A source."""
    return store.add_source("one")


def make_row(source: Source, course_id: str = "CS101", **overrides: Any) -> RegistryRow:
    """Return a row of a file with a new token."""
    row = RegistryRow(2, source, course_id, CourseToken.generate(), None, None)
    return replace(row, **overrides)


def test_import_adds_and_updates_courses(import_rows: Import, source: Source, store: Store) -> None:
    first = make_row(source, "CS101", gradebook_course="4", gradebook_activity="12")
    second, renewed = make_row(source, "CS102"), make_row(source, "CS102")

    results = [import_rows(first, second), import_rows(first, second), import_rows(first, renewed)]

    assert results == [ImportResult(2, 0, 0), ImportResult(0, 0, 2), ImportResult(0, 1, 1)]
    entry = store.entry("CS101")
    assert (entry.gradebook_course, entry.gradebook_activity) == ("4", "12")
    assert entry.stored_token_id == first.token.token_id
    assert store.entry("CS102").stored_token_id == renewed.token.token_id


def test_row_without_token_keeps_the_stored_one(
    import_rows: Import, source: Source, store: Store
) -> None:
    row = make_row(source)
    import_rows(row)

    result = import_rows(replace(row, token=None, gradebook_course="4", gradebook_activity="12"))

    entry = store.entry("CS101")
    assert result == ImportResult(0, 1, 0)
    assert (entry.stored_token_id, entry.gradebook_activity) == (row.token.token_id, "12")


@pytest.mark.parametrize(("activity", "etag"), [("12", '"1"'), ("13", None)])
def test_changed_activity_fetches_grades_again(
    import_rows: Import, source: Source, store: Store, activity: str, etag: str | None
) -> None:
    row = make_row(source, gradebook_course="4", gradebook_activity="12")
    import_rows(row)
    store.update(store.entry("CS101"), etag='"1"')

    import_rows(replace(row, gradebook_activity=activity))

    assert store.entry("CS101").etag == etag


@pytest.mark.parametrize(
    ("course_id", "token", "reason"),
    [
        pytest.param("7", None, "is not in the registry yet, and its token is missing", id="token"),
        pytest.param(
            "CS101",
            MoodleToken("0123456789abcdef" * 2),
            "'CS101': in a Moodle the id of a course is a number",
            id="course id",
        ),
    ],
)
def test_invalid_new_course_is_refused(
    database: Database,
    import_rows: Import,
    source: Source,
    course_id: str,
    token: MoodleToken | None,
    reason: str,
) -> None:
    with database.writing() as session:
        session.get_one(Source, source.id).kind = source.kind = MOODLE

    with pytest.raises(CsvError, match=f"line 2: .*{reason}"):
        import_rows(make_row(source, course_id, token=token))


def test_invalid_course_far_down_refuses_the_whole_file(
    import_rows: Import, source: Source, store: Store
) -> None:
    rows = [make_row(source, f"CS{number:03}", line=number) for number in range(400)]
    rows[399] = replace(rows[399], token=None)

    with pytest.raises(CsvError, match="1 line is invalid\nline 399: "):
        import_rows(*rows)

    assert store.rows(Entry) == []


def test_tokens_are_set_and_recorded(
    import_rows: Import, set_tokens: Callable[..., list[int]], source: Source, store: Store
) -> None:
    import_rows(make_row(source))
    renewed = make_row(source)

    ids = set_tokens(renewed)

    assert ids == [store.entry("CS101").id]
    assert store.entry("CS101").stored_token_id == renewed.token.token_id
    assert [line.event for line in store.rows(HistoryEntry)] == ["course.added", "token.entered"]


@pytest.mark.parametrize(
    ("course_id", "token", "reason"),
    [
        pytest.param("CS999", CourseToken.generate(), "is not in the registry", id="course"),
        pytest.param("CS101", None, "the token is missing", id="token"),
    ],
)
def test_token_needs_a_known_course_and_a_value(
    import_rows: Import,
    set_tokens: Callable[..., list[int]],
    source: Source,
    course_id: str,
    token: CourseToken | None,
    reason: str,
) -> None:
    import_rows(make_row(source))

    with pytest.raises(CsvError, match=f"line 2: .*{reason}"):
        set_tokens(make_row(source, course_id, token=token))


def test_statements_do_not_grow_with_the_file(
    database: Database, import_rows: Import, source: Source
) -> None:
    def cost(prefix: str, number: int) -> int:
        rows = [make_row(source, f"{prefix}{place}") for place in range(number)]
        before = database.statements
        import_rows(*rows)
        return database.statements - before

    assert cost("A", 3) == cost("B", 250) == 5


@pytest.mark.parametrize("database_kind", ["sqlite"], indirect=True)
def test_large_file_stays_within_the_parameter_limit(
    database: Database, import_rows: Import, set_tokens: Callable[..., list[int]], source: Source
) -> None:
    rows = [make_row(source, f"CS{number}") for number in range(1_000)]
    most: list[int] = []

    @event.listens_for(database.engine, "before_cursor_execute")
    def count(_c: object, _cursor: object, _sql: str, given: Any, _x: object, many: bool) -> None:
        most.append(0 if many else len(given))

    imported, ids = import_rows(*rows), set_tokens(*rows)
    with database.reading() as session:
        found = bulk.find_added(session, rows)

    assert (imported.added, len(ids), len(found)) == (1_000, 1_000, 1_000)
    assert max(most) <= 999


@pytest.mark.parametrize(
    ("activity", "etag"),
    [pytest.param("42", '"1"', id="the same"), pytest.param("43", None, id="another")],
)
def test_new_gradebook_target_has_none_of_the_grades(activity: str, etag: str | None) -> None:
    entry = Entry(gradebook_course="7", gradebook_activity="42", etag='"1"')

    bulk.set_gradebook_target(entry, "7", activity)

    assert (entry.gradebook_activity, entry.etag) == (activity, etag)


def test_token_of_another_course_is_not_imported(
    database: Database, store: Store, import_rows: Import, source: Source
) -> None:
    token = CourseToken.generate()
    store.add_course("CS101", TokenAnnounced(4, token.token_id, NINE), token=token)

    with pytest.raises(CsvError, match="line 2: the token belongs to the course 'CS101'"):
        import_rows(make_row(source, "CS102", token=token))

    assert [entry.course_id for entry in store.rows(Entry)] == ["CS101"]


def test_courses_are_removed_with_their_tokens(
    database: Database, store: Store, now: datetime
) -> None:
    token = CourseToken.generate()
    rejected = TokenRejected(token.token_id, "unknown", now)
    gone = store.add_course("CS101", Deleted(4, now), source="one")
    store.add_course("CS102", rejected, source="one", token=token)
    kept = store.add_course("CS103", source="one")

    with database.writing() as session:
        ids = [store.entry(course_id).id for course_id in ("CS101", "CS102")]
        removed = bulk.remove(session, [*ids, 4711], actor=ADA, now=now)
        again = bulk.remove(session, ids, actor=ADA, now=now)

    assert (removed, again) == (2, 0)
    entry = store.entry("CS101")
    assert (entry.added_at, entry.encrypted_token, entry.stored_token_id) == (None, None, None)
    assert entry.deleted_version == 4
    assert store.entry("CS103").added_at == kept.added_at
    lines = [line for line in store.rows(HistoryEntry) if line.event == "course.removed"]
    assert [(line.entry_id, line.actor_name, line.status) for line in lines] == [
        (gone.id, "ada@elms", "course_deleted"),
        (ids[1], "ada@elms", "active"),
    ]


def test_course_that_changed_its_status_is_not_removed(
    database: Database, store: Store, now: datetime
) -> None:
    ids = [
        store.add_course("CS101", Deleted(4, now), source="one").id,
        store.add_course("CS102", source="one").id,
    ]

    with database.writing() as session:
        status = CourseStatus.COURSE_DELETED
        removed = bulk.remove(session, ids, status=status, actor=ADA, now=now)

    assert removed == 1
    assert store.entry("CS102").added_at


@pytest.mark.parametrize("database_kind", ["postgresql"])  # SQLite has one writer
def test_import_locks_entries_by_id(
    store: Store,
    import_rows: Import,
    source: Source,
    while_locked_by_id: Callable[[Callable[[], object]], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bulk, "_BATCH", 1)
    rows = [make_row(source, course_id) for course_id in ("CS102", "CS101")]
    for row in rows:
        store.add_course(row.course_id)

    while_locked_by_id(lambda: import_rows(*rows))

    assert store.entry("CS101").stored_token_id == rows[1].token.token_id
