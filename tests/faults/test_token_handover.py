"""Tokens that are replaced under a running grade sync, which is killed at each step of a claim.

ELMS's sync and client and eAssessment's app are real; between them is a client that fails, and
webhooks that are lost.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from enum import Enum
from types import SimpleNamespace

import pytest
from flask.testing import FlaskClient
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import delete, select
from structlog.testing import capture_logs

from contract import events
from contract.signatures import Secret
from contract.tokens import CourseToken
from foundation import logging
from foundation.crypto import Vault
from foundation.db import session as db
from foundation.db.migrations import Schema
from foundation.db.session import Database
from foundation.http.ssrf import Guard
from notifier.api import claims
from notifier.app import app_of
from notifier.config import Settings
from notifier.courses import grade_access
from notifier.courses import service as courses
from notifier.courses.grade_access import CourseAccess, GradesRequest
from notifier.models import SCHEMA, SOURCE, Course, Event, IssuedToken
from notifier.services import Services
from notifier.webhooks import endpoints, outbox
from receiver.course_state import CourseStatus
from receiver.models import SCHEMA as ELMS_SCHEMA
from receiver.models import Entry
from receiver.registry import entries as registry
from receiver.registry.history import Actor, ActorKind
from receiver.runs.store import RunResult
from receiver.sources import store as sources
from receiver.sources.eassessment import EAssessmentClient
from receiver.sources.http_client import HttpResponse, RequestFailedError
from receiver.sources.store import WebhookSource
from receiver.sync.fetcher import FetchLimits
from receiver.sync.run import SyncOptions, SyncRun
from receiver.webhooks import inbox

SITE = "eassessment"
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
# Longer than the short overlap.
LATER = HOUR + timedelta(minutes=1)
CLAIM, GRADES = "/api/v1/tokens/claim", "/api/v1/grades/batch"
COURSES = tuple(f"CS10{number}" for number in range(8))


class Killed(BaseException):
    """The process is gone."""


class Fault(Enum):
    """What goes wrong in a run, and in which of its steps."""

    NONE = "nothing"
    CLAIM_REQUEST_LOST = "the claim does not arrive"
    CLAIM_RESPONSE_LOST = "its response does not arrive"
    CLAIM_SENT_TWICE = "its connection ends, and the HTTP client sends it again"
    KILLED_BEFORE_CLAIM = "killed before the claim"
    KILLED_AFTER_CLAIM = "killed with the response in hand"
    KILLED_WHILE_STORING = "killed in the transaction that stores the tokens"
    KILLED_AFTER_STORING = "killed before the first use"
    KILLED_AFTER_USE = "killed with the grades in hand"


class FailingClient:
    """An HTTP client that calls eAssessment's app, and fails as told."""

    total, requests = 10.0, 0

    def __init__(self, client: FlaskClient) -> None:
        self._client = client
        self.fault = Fault.NONE
        self.claimed: list[tuple[str, str]] = []
        self.refused: list[str] = []
        self.captured: list[tuple[Mapping[str, str], bytes]] = []

    def cancel(self) -> None:
        """Do nothing: no request takes time."""

    def send(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes = b"", **_: float
    ) -> HttpResponse:
        """Return the response of the app, unless the request or the response is lost."""
        path = url.removeprefix("http://app")
        before = {
            (CLAIM, Fault.CLAIM_REQUEST_LOST): RequestFailedError("lost"),
            (CLAIM, Fault.KILLED_BEFORE_CLAIM): Killed(),
            (GRADES, Fault.KILLED_AFTER_STORING): Killed(),
        }
        after = {
            (CLAIM, Fault.CLAIM_RESPONSE_LOST): RequestFailedError("lost"),
            (CLAIM, Fault.KILLED_AFTER_CLAIM): Killed(),
            (GRADES, Fault.KILLED_AFTER_USE): Killed(),
        }
        if failure := before.get((path, self.fault)):
            raise failure
        if path == CLAIM:
            self.captured.append((headers, body))
            if self.fault is Fault.CLAIM_SENT_TWICE:
                self.fault = Fault.NONE
                self.post_claim(headers, body)
        response = self._client.open(path, method=method, headers=dict(headers), data=body)
        self._note(path, json.loads(response.data).get("answers", []))
        if failure := after.get((path, self.fault)):
            raise failure
        return HttpResponse(response.status_code, response.headers, response.data)

    def post_claim(self, headers: Mapping[str, str], body: bytes) -> int:
        """Send a claim, and return the status of the response."""
        return self._client.post(CLAIM, headers=dict(headers), data=body).status_code

    def _note(self, path: str, answers: list[dict[str, str]]) -> None:
        for answer in answers:
            if path == CLAIM and "token" in answer:
                self.claimed.append((answer["course_id"], answer["token"]))
            elif path == GRADES and answer["status"] not in {200, 304}:
                self.refused.append(answer["course_id"])


class DyingVault(Vault):
    """A vault whose process is killed when it encrypts."""

    def encrypt(self, text: str) -> str:
        """Die."""
        raise Killed


class Both:
    """eAssessment and ELMS with the same courses, and an endpoint that may claim tokens."""

    def __init__(self, notifier: Database, receiver: Database, given: Settings) -> None:
        self.notifier, self.receiver = notifier, receiver
        made = Services.make(given, {SOURCE: SITE})
        made.database.dispose()
        self.app = app_of(Services(given, notifier, made.vault))
        self.vault, self.given = made.vault, given
        self.http = FailingClient(self.app.test_client())
        self.delivered: set[str] = set()
        self.passed = timedelta(0)

    def now(self) -> datetime:
        """Return the time, of which more can have passed than the test takes."""
        return datetime.now(UTC) + self.passed

    def begin(self) -> None:
        """Empty both databases, and add the courses to both."""
        for database, schema in ((self.notifier, SCHEMA), (self.receiver, ELMS_SCHEMA)):
            with database.writing() as session:
                for table in reversed(schema.metadata.sorted_tables):
                    session.execute(delete(table))
        self.passed = timedelta(0)
        now = self.now()
        with self.notifier.writing() as session:
            tokens = {one: courses.add_course(session, one, one, now=now) for one in COURSES}
            url = "https://elms.example/webhooks/eassessment"
            endpoint, secret = endpoints.register(
                session, url, may_claim_tokens=True, vault=self.vault, guard=Guard(), now=now
            )
            self.endpoint_id = endpoint.id
        self.not_entered: list[Secret] = []
        actor = Actor(ActorKind.ADMINISTRATOR, "ada")
        with self.receiver.writing() as session:
            source = sources.add(session, SITE, "http://app", now=now)
            self.source_id = source.id
            sources.add_secret(session, source, secret, vault=self.vault, now=now)
            for course_id, token in tokens.items():
                registry.add(
                    session, source, course_id, token, vault=self.vault, actor=actor, now=now
                )

    def regenerate(self, course_id: str, overlap: timedelta = DAY) -> None:
        """Replace a token with an overlap."""
        with self.notifier.writing() as session:
            courses.regenerate_token(
                session, course_id, overlap=overlap, vault=self.vault, now=self.now()
            )

    def rotate_secret(self) -> None:
        """Replace the secret of the endpoint with an overlap of a day."""
        with self.notifier.writing() as session:
            secret = endpoints.rotate_secret(
                session, self.endpoint_id, overlap=DAY, vault=self.vault, now=self.now()
            )
        self.not_entered.append(secret)

    def enter_secrets(self) -> None:
        """Enter at ELMS the secrets that are not there yet."""
        with self.receiver.writing() as session:
            source, now = sources.get(session, SITE), self.now()
            for secret in self.not_entered:
                sources.add_secret(session, source, secret, vault=self.vault, now=now)
        self.not_entered.clear()

    def deliver(self, *, lost: Callable[[], bool] = lambda: False) -> None:
        """Deliver the webhooks that were not delivered yet, except those that are lost now."""
        with self.notifier.reading() as session:
            every = list(session.scalars(select(Event)))
        waiting = [one for one in every if one.id not in self.delivered]
        sender = WebhookSource(self.source_id, SITE, ())
        for event in waiting:
            if not lost():
                raw = event.body.encode()
                with self.receiver.writing() as session:
                    inbox.accept(session, sender, event.id, events.load(raw), raw, now=self.now())
                self.delivered.add(event.id)

    def sync(self, fault: Fault = Fault.NONE) -> RunResult | None:
        """Run the grade sync; return None if it was killed."""
        self.http.fault = fault
        client = EAssessmentClient(self.http)  # type: ignore[arg-type]  # what it uses of it
        clients = SimpleNamespace(open=lambda _: client, cancel=lambda: None, requests=0)
        vault: Vault = self.vault
        if fault is Fault.KILLED_WHILE_STORING:
            vault = DyingVault(self.given.encryption_keys)
        options = SyncOptions("ada@elms", timedelta(minutes=5), limits=FetchLimits(retry_waits=()))
        try:
            return SyncRun(self.receiver, vault, clients, options).execute()
        except Killed:
            return None

    def stored(self) -> dict[str, CourseToken]:
        """Return the tokens that ELMS has."""
        with self.receiver.reading() as session:
            return {
                one.course_id: CourseToken.parse(self.vault.decrypt(str(one.encrypted_token)))
                for one in session.scalars(select(Entry))
            }

    def statuses(self) -> set[CourseStatus]:
        """Return the statuses that courses have in ELMS."""
        with self.receiver.reading() as session:
            entries = session.scalars(select(Entry)).all()
            return {registry.status_of(one, now=self.now()) for one in entries}

    def has_usable_tokens(self, after: timedelta = timedelta(0)) -> bool:
        """Return whether eAssessment accepts the tokens that ELMS has, now or after a time."""
        requests = [GradesRequest(course_id, token) for course_id, token in self.stored().items()]
        with self.notifier.reading() as session:
            found = grade_access.authorize(session, requests, now=self.now() + after)
        return all(isinstance(one, CourseAccess) for one in found)

    def current(self) -> dict[str, str]:
        """Return the id of the current token of each course."""
        current = select(Course.course_id, IssuedToken.token_id).join(IssuedToken)
        with self.notifier.reading() as session:
            rows = session.execute(current.where(IssuedToken.superseded_at.is_(None)))
            return {row.course_id: row.token_id for row in rows}


class Machine(RuleBasedStateMachine):
    """Regenerations, rotations, webhooks that are late, and runs that fail, in any order.

    Overlaps end, but no token that ELMS still has: then it has always a usable one.
    """

    def __init__(self, both: Both) -> None:
        super().__init__()
        self.both = both

    @initialize()
    def begin(self) -> None:
        self.both.begin()
        self.both.http.claimed.clear()
        self.both.http.captured.clear()

    @rule(
        course_ids=st.lists(st.sampled_from(COURSES), min_size=1, max_size=3),
        overlap=st.sampled_from([HOUR, DAY]),
    )
    def regenerate(self, course_ids: list[str], overlap: timedelta) -> None:
        for course_id in course_ids:
            self.both.regenerate(course_id, overlap)

    @precondition(lambda self: self.both.has_usable_tokens(LATER))
    @rule()
    def end_short_overlaps(self) -> None:
        self.both.passed += LATER

    @rule(entered=st.booleans())
    def rotate_secret(self, entered: bool) -> None:
        self.both.rotate_secret()
        if entered:
            self.both.enter_secrets()

    @rule()
    def send_captured_claims_again(self) -> None:
        captured = self.both.http.captured
        assert {self.both.http.post_claim(*one) for one in captured} <= {401, 409}

    @rule(late=st.booleans())
    def deliver(self, late: bool) -> None:
        self.both.deliver(lost=lambda: late)

    @rule(fault=st.sampled_from(Fault))
    def sync(self, fault: Fault) -> None:
        self.both.sync(fault)

    @invariant()
    def elms_has_a_usable_token_of_each_course(self) -> None:
        assert self.both.has_usable_tokens()

    @invariant()
    def no_course_is_skipped(self) -> None:
        assert self.both.statuses() == {CourseStatus.ACTIVE}

    @invariant()
    def claims_of_one_token_are_the_same(self) -> None:
        texts: dict[str, set[str]] = {}
        for _, text in self.both.http.claimed:
            texts.setdefault(CourseToken.parse(text).token_id, set()).add(text)
        assert all(len(same) == 1 for same in texts.values())

    @invariant()
    def no_request_for_grades_is_refused(self) -> None:
        assert self.both.http.refused == []

    def teardown(self) -> None:
        """Take over what is left in runs without faults, though webhooks may still be missing."""
        self.both.enter_secrets()
        runs = [self.both.sync() for _ in range(2)]
        assert {one.token_id for one in self.both.stored().values()} == {
            *self.both.current().values()
        }
        assert [run and run.exit_code for run in runs] == [0, 0]


@pytest.fixture
def both(
    make_database_url: Callable[[Schema], str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Both]:
    """Both services on empty databases."""
    outbox.subscribe()
    url = make_database_url(SCHEMA)
    given = Settings(
        _env_file=None,
        database_url=url,
        encryption_keys="MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=",
        admin_key="planted-admin-key-0123456789abcdef",
        source=SITE,
        log_level="ERROR",
    )
    notifier = Database(url, info={SOURCE: SITE})
    receiver = Database(make_database_url(ELMS_SCHEMA))
    made = Both(notifier, receiver, given)
    monkeypatch.setattr(db, "now", lambda _: made.now())
    monkeypatch.setattr(claims, "datetime", SimpleNamespace(now=lambda _: made.now()))
    yield made
    notifier.dispose()
    receiver.dispose()


@pytest.mark.timeout(600)
def test_killed_claims_lose_no_token(both: Both) -> None:
    run_state_machine_as_test(
        lambda: Machine(both),
        settings=settings(
            derandomize=True, max_examples=8, stateful_step_count=20, deadline=None, database=None
        ),
    )


def test_claim_that_arrived_twice_heals_in_the_same_run(both: Both) -> None:
    both.begin()
    both.regenerate("CS101")
    both.deliver()

    run = both.sync(Fault.CLAIM_SENT_TWICE)

    assert run is not None
    assert run.exit_code == 0
    assert both.stored()["CS101"].token_id == both.current()["CS101"]


def test_newer_token_than_announced_is_used_after_the_overlap(both: Both) -> None:
    both.begin()
    both.regenerate("CS101", HOUR)
    both.deliver()
    both.regenerate("CS101")

    both.sync(Fault.KILLED_AFTER_STORING)
    both.passed += LATER
    statuses = both.statuses()
    run = both.sync()

    assert run is not None
    assert (statuses, run.exit_code) == ({CourseStatus.ACTIVE}, 0)
    assert both.stored()["CS101"].token_id == both.current()["CS101"]


def test_claims_wait_for_the_newest_secret(both: Both) -> None:
    both.begin()
    both.regenerate("CS101")
    both.deliver()
    both.rotate_secret()

    logging.configure("WARNING", "json")
    with capture_logs() as lines:
        run = both.sync()
    before = both.stored()["CS101"].token_id
    both.enter_secrets()
    both.sync()

    assert run is not None
    assert (run.exit_code, both.http.refused) == (0, [])
    (line,) = (line for line in lines if line["event"] == "tokens not claimed")
    assert "claims need the one that replaced it" in line["cause"]
    assert line["action"] == f"sources add-secret {SITE}"
    assert before != both.current()["CS101"] == both.stored()["CS101"].token_id


def test_other_secret_claims_nothing(both: Both) -> None:
    both.begin()
    both.regenerate("CS101")
    both.deliver()
    before = both.stored()
    with both.receiver.writing() as session:
        source = sources.get(session, SITE)
        sources.remove_secret(session, source, source.secrets[0].id, even_last=True)
        sources.add_secret(session, source, Secret.generate(), vault=both.vault, now=both.now())

    run = both.sync()

    assert run is not None
    assert (run.exit_code, both.stored(), both.http.claimed) == (0, before, [])
