"""The grade sync under test: against stub sources, or against a site on loopback."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from sqlalchemy import text

from contract.signatures import Secret
from contract.tokens import CourseToken
from receiver.course_state import Fact
from receiver.runs.store import RunResult
from receiver.sources.base import FetchOutcome, GradeQuery, Grades
from receiver.sync.run import SyncOptions, SyncRun
from tests.receiver.conftest import SITE, Clients, FakeSite, Store

SYNCED = Grades((), None)
# Signs the webhooks of the site on loopback.
SECRET = Secret.generate()


@dataclass
class StubSource:
    """A source that returns the outcomes of a course one after another; the last one stays."""

    outcomes: dict[str, list[FetchOutcome]] = field(default_factory=dict)
    max_queries: int = 1
    on_fetch: Callable[[], object] = lambda: None
    fetched: list[list[str]] = field(default_factory=list)
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

    def url_of(self, query: GradeQuery) -> str:
        """Return a URL with the course id."""
        return f"stub:{query.course_id}"

    def cancel(self) -> None:
        """Remember the cancellation."""
        self.cancelled.set()


@dataclass(frozen=True)
class Lab(Store):
    """ELMS's database and what runs its sync; one of its sources is a site on loopback."""

    clients: Clients
    fake_site: FakeSite
    make_options: Callable[..., SyncOptions]
    score: Callable[..., dict[str, Any]]

    @property
    def requested(self) -> list[str]:
        """The courses that were requested from the site on loopback, in order."""
        return [request.course_id for request in self.fake_site.requests]

    def add_courses(self, *course_ids: str, source: str = "one") -> None:
        """Add courses of a stub source."""
        for course_id in course_ids:
            self.add_course(course_id, source=source)

    def serve_course(
        self, course_id: str = "CS101", *scores: Any, token: CourseToken | None = None
    ) -> CourseToken:
        """Add a course to which the site on loopback responds with these scores."""
        token = token or CourseToken.generate()
        self.add_course(course_id, source=SITE, token=token)
        self.fake_site.grades(course_id, token, *scores)
        return token

    def receive(self, course_id: str, fact: Fact) -> None:
        """Apply a fact to a course of the site on loopback, as a webhook does."""
        self.apply(course_id, fact, source=SITE)

    def sync(
        self, stub: StubSource | dict[str, StubSource] | None = None, **overrides: Any
    ) -> RunResult:
        """Run the sync against stub sources, or against the site on loopback."""
        clients = self.clients if stub is None else Clients(stub)
        return SyncRun(self.database, self.vault, clients, self.make_options(**overrides)).execute()

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
    store: Store,
    clients: Clients,
    fake_site: FakeSite,
    make_options: Callable[..., SyncOptions],
    make_score: Callable[..., dict[str, Any]],
) -> Lab:
    """ELMS's database and what runs its sync; one of its sources is a site on loopback."""
    store.add_source(SITE, fake_site.url, (SECRET,))
    return Lab(store.database, store.vault, clients, fake_site, make_options, make_score)


def outcomes(result: RunResult) -> dict[str, tuple[str, str | None]]:
    """Return outcome and reason of each course."""
    return {course.course_id: (course.outcome, course.reason) for course in result.courses}
