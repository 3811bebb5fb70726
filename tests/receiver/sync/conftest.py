"""The grade sync under test: against stub sources, or against a site on loopback."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from sqlalchemy import text

from contract.tokens import CourseToken
from foundation.crypto import Vault
from foundation.db.session import Database
from receiver.models import Entry, Source
from receiver.registry import entries as registry
from receiver.registry.history import Actor, ActorKind
from receiver.runs.store import RunResult
from receiver.sources.base import FetchOutcome, GradeQuery, Grades
from receiver.sync import run as grade_sync
from receiver.sync.run import SyncOptions
from tests.receiver.conftest import NINE, Clients, FakeSite

SYNCED = Grades((), None)
Sync = Callable[..., RunResult]
Rows = Callable[[type[Any]], list[Any]]


@dataclass
class StubSource:
    """A source that returns the outcomes of a course one after another; the last one stays."""

    outcomes: dict[str, list[FetchOutcome]] = field(default_factory=dict)
    batch: int = 1
    gone: dict[str, bool | None] = field(default_factory=dict)
    on_fetch: Callable[[], object] = lambda: None
    on_confirm: Callable[[], object] = lambda: None
    fetched: list[list[str]] = field(default_factory=list)
    confirmed: list[list[str]] = field(default_factory=list)
    cancelled: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def requests(self) -> int:
        """The number of requests sent."""
        return len(self.fetched)

    def fetch(self, queries: Sequence[GradeQuery]) -> list[FetchOutcome]:
        """Return the next outcome of each course."""
        with self._lock:
            self.fetched.append([query.course_id for query in queries])
        self.on_fetch()
        with self._lock:
            return [self._next(query.course_id) for query in queries]

    def _next(self, course_id: str) -> FetchOutcome:
        outcomes = self.outcomes.get(course_id, [SYNCED])
        return outcomes.pop(0) if len(outcomes) > 1 else outcomes[0]

    def confirm_deleted(self, queries: Sequence[GradeQuery]) -> list[bool | None]:
        """Return which courses are gone."""
        self.on_confirm()
        self.confirmed.append([query.course_id for query in queries])
        return [self.gone.get(query.course_id) for query in queries]

    def url_of(self, query: GradeQuery) -> str:
        """Return a URL with the course id."""
        return f"stub:{query.course_id}"

    def cancel(self) -> None:
        """Remember the cancellation."""
        self.cancelled.set()


@pytest.fixture
def add_courses(
    make_source: Callable[..., Source], make_entry: Callable[..., Entry]
) -> Callable[..., list[Entry]]:
    """Return what adds courses of a stub source."""
    sources: dict[str, Source] = {}

    def add(*course_ids: str, source: str = "one") -> list[Entry]:
        if source not in sources:
            sources[source] = make_source(source)
        return [make_entry(sources[source], course_id) for course_id in course_ids]

    return add


@pytest.fixture
def source(make_source: Callable[..., Source], fake_site: FakeSite) -> Source:
    """The site on loopback, as ELMS knows it."""
    return make_source(url=fake_site.url)


@pytest.fixture
def add_course(
    source: Source, make_entry: Callable[..., Entry], fake_site: FakeSite
) -> Callable[..., CourseToken]:
    """Return what adds a course to which the site on loopback responds with these scores."""

    def add(course_id: str = "CS101", *scores: Any, **more: Any) -> CourseToken:
        token = CourseToken.generate()
        make_entry(source, course_id, token=token, **more)
        fake_site.grades(course_id, token, *scores)
        return token

    return add


@pytest.fixture
def receive(database: Database, source: Source) -> Callable[[str, Any], registry.ApplyResult]:
    """Return what applies a fact to a course as a webhook does."""

    def apply(course_id: str, fact: Any) -> registry.ApplyResult:
        actor = Actor(ActorKind.WEBHOOK, "msg_1")
        with database.writing() as session:
            return registry.apply(session, source.id, course_id, fact, actor=actor, now=NINE)

    return apply


@pytest.fixture
def sync(
    database: Database, vault: Vault, clients: Clients, make_options: Callable[..., SyncOptions]
) -> Sync:
    """Return what runs the sync against stub sources, or against the site on loopback."""

    def run(stub: StubSource | dict[str, StubSource] | None = None, **overrides: Any) -> RunResult:
        used = clients if stub is None else Clients(stub)
        return grade_sync.run(database, vault, used, make_options(**overrides))

    return run


@dataclass(frozen=True)
class Lab:
    """Everything that a test of a whole run works with, under one name."""

    database: Database
    vault: Vault
    clients: Clients
    fake_site: FakeSite
    make_options: Callable[..., SyncOptions]
    add_course: Callable[..., CourseToken]
    receive: Callable[[str, Any], registry.ApplyResult]
    sync: Sync
    score: Callable[..., dict[str, Any]]
    rows: Rows
    entry: Callable[[str], Entry]

    def during(self, course_id: str, action: Callable[[], object]) -> None:
        """Let something happen while a course is requested, before the response."""
        answer = self.fake_site.answers[course_id]

        def respond(handler: Any) -> None:
            action()
            answer(handler)

        self.fake_site.answers[course_id] = respond

    def execute(self, sql: str) -> None:
        """Execute a statement in a transaction of its own."""
        with self.database.writing() as session:
            session.execute(text(sql))


@pytest.fixture
def lab(
    database: Database,
    vault: Vault,
    clients: Clients,
    fake_site: FakeSite,
    make_options: Callable[..., SyncOptions],
    add_course: Callable[..., CourseToken],
    receive: Callable[[str, Any], registry.ApplyResult],
    sync: Sync,
    make_score: Callable[..., dict[str, Any]],
    rows: Rows,
    entry_of: Callable[[str], Entry],
) -> Lab:
    """Everything that a test of a whole run works with."""
    return Lab(
        database,
        vault,
        clients,
        fake_site,
        make_options,
        add_course,
        receive,
        sync,
        make_score,
        rows,
        entry_of,
    )


def outcomes(result: RunResult) -> dict[str, tuple[str, str | None]]:
    """Return outcome and reason of each course."""
    return {course.course_id: (course.outcome, course.reason) for course in result.courses}
