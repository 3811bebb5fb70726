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
from tests.receiver.conftest import NINE, SITE, Clients, FakeSite

SYNCED = Grades((), None)


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


@dataclass(frozen=True)
class Lab:
    """What a test of a run works with: ELMS, its sources, and one of them on loopback."""

    database: Database
    vault: Vault
    clients: Clients
    fake_site: FakeSite
    make_source: Callable[..., Source]
    make_entry: Callable[..., Entry]
    make_options: Callable[..., SyncOptions]
    score: Callable[..., dict[str, Any]]
    rows: Callable[[type[Any]], list[Any]]
    entry: Callable[[str], Entry]
    sources: dict[str, Source] = field(default_factory=dict)

    def source(self, name: str = SITE) -> Source:
        """Return a source, which is added when it is first used."""
        if name not in self.sources:
            self.sources[name] = self.make_source(name, self.fake_site.url)
        return self.sources[name]

    def add_courses(self, *course_ids: str, source: str = "one") -> list[Entry]:
        """Add courses of a stub source."""
        return [self.make_entry(self.source(source), course_id) for course_id in course_ids]

    def add_course(self, course_id: str = "CS101", *scores: Any, **more: Any) -> CourseToken:
        """Add a course to which the site on loopback responds with these scores."""
        token = more.setdefault("token", CourseToken.generate())
        self.make_entry(self.source(), course_id, **more)
        self.fake_site.grades(course_id, token, *scores)
        return token

    def receive(self, course_id: str, fact: Any) -> None:
        """Apply a fact to a course as a webhook does."""
        actor = Actor(ActorKind.WEBHOOK, "msg_1")
        with self.database.writing() as session:
            registry.apply(session, self.source().id, course_id, fact, actor=actor, now=NINE)

    def sync(
        self, stub: StubSource | dict[str, StubSource] | None = None, **overrides: Any
    ) -> RunResult:
        """Run the sync against stub sources, or against the site on loopback."""
        clients = self.clients if stub is None else Clients(stub)
        return grade_sync.run(self.database, self.vault, clients, self.make_options(**overrides))

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
    make_source: Callable[..., Source],
    make_entry: Callable[..., Entry],
    make_options: Callable[..., SyncOptions],
    make_score: Callable[..., dict[str, Any]],
    rows: Callable[[type[Any]], list[Any]],
    entry_of: Callable[[str], Entry],
) -> Lab:
    """What a test of a run works with."""
    parts = (make_source, make_entry, make_options, make_score, rows, entry_of)
    return Lab(database, vault, clients, fake_site, *parts)


def outcomes(result: RunResult) -> dict[str, tuple[str, str | None]]:
    """Return outcome and reason of each course."""
    return {course.course_id: (course.outcome, course.reason) for course in result.courses}
