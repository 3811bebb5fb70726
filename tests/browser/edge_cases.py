"""What a page has to show correctly: hostile names, long texts, every status."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from contract.tokens import CourseToken
from foundation.db.session import Database
from foundation.errors import Advice
from foundation.http.ssrf import Guard
from notifier.courses import service as courses
from notifier.webhooks import circuit_breaker, endpoints
from notifier.webhooks.circuit_breaker import BreakerState
from receiver.course_state import TokenRejected
from receiver.gradebook.base import ScoreCounts
from receiver.registry import entries as registry
from receiver.registry.history import Actor, ActorKind
from receiver.runs import store as runs
from receiver.runs.store import CourseOutcome, CourseResult, RunResult
from receiver.sources import store as sources
from tests.browser.university import ADA, VAULT

LONG = "A very long text, " * 300
TITLES = {
    "RTL100": "مقدمة في البرمجة",
    "LONG100": LONG,
    "XSS<i>100": "<script>alert('course')</script><b>bold</b> & \"quoted\"",
    "HELD100": "Deleted while an endpoint is disabled",
}
NAMES = ("\u062a\u0627\u0631\u064a\u062e", "<b>" + "x" * 250, "e\u0301 \u202e 7")
# The ids of the endpoints that are added.
PAUSED, DISABLED = 3, 4


def add_edge_cases(databases: Mapping[str, Database]) -> None:
    _add_to_eassessment(databases["notifier"], datetime.now(UTC))
    _add_to_elms(databases["receiver"], datetime.now(UTC))


def _add_to_eassessment(database: Database, now: datetime) -> None:
    guard = Guard(loopback=True)
    long_url = "https://archive.example.ac.uk/hooks/" + "very-long-path-" * 12
    with database.writing() as session:
        for url in ("http://127.0.0.1:9/", long_url):
            endpoints.register(session, url, vault=VAULT, guard=guard, now=now)
        endpoints.disable(session, DISABLED, "the receiver responded with 410", now=now)
        paused = BreakerState(9, now - timedelta(hours=2), now, now + timedelta(hours=1))
        circuit_breaker.write_states(session, {PAUSED: paused})
        for course_id, title in TITLES.items():
            courses.add_course(session, course_id, title, now=now)
        courses.ensure_course(session, "7731", "A course in a Moodle", now=now)
        courses.delete_course(session, "HELD100", now=now)


def _add_to_elms(database: Database, now: datetime) -> None:
    sync = Actor(ActorKind.SYNC, "run 1")
    with database.writing() as session:
        sources.add(session, "without-secret", "https://other.example", now=now)
        source = sources.get(session, "eassessment")
        for name in NAMES:
            token = CourseToken.generate()
            registry.add(session, source, name, token, vault=VAULT, actor=ADA, now=now)
            rejected = TokenRejected(token.token_id, LONG, now)
            registry.apply(session, source.id, name, rejected, actor=sync, now=now)
        advice = Advice("Ask `ops`.")
        results = tuple(
            CourseResult("eassessment", name, outcome, "why", LONG, now, advice)
            for name, outcome in zip(NAMES, list(CourseOutcome)[::-1], strict=False)
        )
        for stopped in (None, "SIGTERM was received"):
            run_id = runs.begin(session, "elms@sync", partial=True, now=now)
            runs.record(session, run_id, results)
            if stopped:
                result = RunResult(run_id, results, ScoreCounts(1, 2, 3), 2, 9, 1.5, 143, stopped)
                runs.end(session, result, now=now + timedelta(seconds=2))
