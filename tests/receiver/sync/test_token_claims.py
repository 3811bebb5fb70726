"""Claims of new tokens before a run: several sites, and what the log advises."""

import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from contract.problems import ProblemType
from contract.tokens import CourseToken
from receiver.course_advice import CourseStatusDetails
from receiver.course_state import CourseStatus, TokenAnnounced
from receiver.registry import entries as registry
from receiver.sources.base import ClaimedToken
from receiver.sources.eassessment import ClaimFailedError, EAssessmentClient
from receiver.sync import token_claims
from receiver.sync.run_control import StopSignal
from receiver.sync.token_claims import TokenClaims
from tests.receiver.conftest import NINE, Clients
from tests.receiver.sync.conftest import SECRET, Lab

NEW = CourseToken.generate()


@dataclass
class FailingClient(EAssessmentClient):
    """A client whose claims do something, and fail."""

    error: Exception
    answers: dict[str, ClaimedToken | str] = field(default_factory=dict)
    on_claim: Callable[[], object] = lambda: None
    requests: int = field(default=0, init=False)

    def claim(self, *_: Any, **__: Any) -> dict[str, ClaimedToken | str]:
        """Return the answers, or fail without any."""
        self.on_claim()
        if self.answers:
            return self.answers
        raise self.error

    def cancel(self) -> None:
        """Do nothing: no request takes time."""


def claim(lab: Lab, client: FailingClient, stopped: threading.Event | None = None) -> None:
    """Claim the new tokens of a course at each of two sites."""
    until = datetime.now(UTC) + timedelta(hours=1)
    for name in ("one", "two"):
        lab.add_source(name, f"http://{name}", (SECRET,))
        lab.add_course("CS101", TokenAnnounced(2, NEW.token_id, NINE, until), source=name)
    run_claims(lab, client, stopped)


def run_claims(lab: Lab, client: FailingClient, stopped: threading.Event | None = None) -> None:
    """Claim what can be claimed, until the run is stopped."""
    stop = StopSignal(stopped or threading.Event(), 60)
    claims = TokenClaims(lab.database, lab.vault, Clients(client), stop, "ada@elms")
    claims.run(source_names=(), course_ids=())


def test_sites_do_not_wait_for_each_other(lab: Lab) -> None:
    meeting = threading.Barrier(2, timeout=10)

    claim(lab, FailingClient(ClaimFailedError("lost"), on_claim=meeting.wait))

    assert not meeting.broken


@pytest.mark.parametrize(
    ("error", "next_step"),
    [
        pytest.param(ClaimFailedError("no", temporary=True), "The next run claims", id="temporary"),
        pytest.param(ClaimFailedError("no"), "Enter the new token", id="no claims"),
        pytest.param(
            ClaimFailedError("no", ProblemType.SIGNATURE_REFUSED), "If the cause", id="signature"
        ),
    ],
)
def test_log_says_what_to_do(lab: Lab, error: ClaimFailedError, next_step: str) -> None:
    with capture_logs() as logged:
        claim(lab, FailingClient(error))

    assert [line["next_step"].startswith(next_step) for line in logged] == [True, True]


def explain(lab: Lab, source: str = "one") -> CourseStatusDetails:
    """Return the status of the course at a source, as people see it."""
    entry = lab.entry("CS101", source)
    return registry.explain_status(entry, needs_activity=False, now=datetime.now(UTC))


def test_failed_claim_is_shown_until_one_succeeds(lab: Lab) -> None:
    client = FailingClient(ClaimFailedError("responded 401", ProblemType.SIGNATURE_REFUSED))
    claim(lab, client)
    failed = explain(lab)
    client.answers = {"CS101": ProblemType.TOKEN_NOT_CLAIMABLE}
    run_claims(lab, client)
    refused = explain(lab)
    client.answers = {"CS101": ClaimedToken(NEW, None)}
    run_claims(lab, client)

    assert re.search(r"; the current one was not claimed at .* UTC: responded 401", failed.reason)
    assert failed.advice.command == "sources add-secret one"
    assert refused.reason.endswith(": token-not-claimable")
    assert refused.advice.command == "registry set-token CS101"
    assert explain(lab) == CourseStatusDetails(CourseStatus.ACTIVE)


def test_failed_claim_is_still_the_reason_after_the_overlap(lab: Lab) -> None:
    claim(lab, FailingClient(ClaimFailedError("timed out", temporary=True)))

    later = datetime.now(UTC) + timedelta(hours=2)
    status = registry.explain_status(lab.entry("CS101", "one"), needs_activity=False, now=later)

    assert status.reason.endswith("timed out")
    assert status.advice.command == "registry set-token CS101"


def test_failed_claim_of_an_older_token_says_nothing_of_the_present_one(lab: Lab) -> None:
    claim(lab, FailingClient(ClaimFailedError("no")))

    until = datetime.now(UTC) + timedelta(hours=1)
    lab.apply("CS101", TokenAnnounced(3, "newer", NINE, until), source="one")

    shown = ["not claimed" in str(explain(lab, source).reason) for source in ("one", "two")]
    assert shown == [False, True]


def test_course_without_an_answer_has_that_as_reason(lab: Lab) -> None:
    claim(lab, FailingClient(ClaimFailedError("no"), {"CS102": "not asked for"}))

    assert explain(lab).reason.endswith(": the site did not answer for this course")


def test_claim_that_a_stop_cancels_is_no_failure(lab: Lab) -> None:
    stopped = threading.Event()
    client = FailingClient(ClaimFailedError("cancelled", temporary=True), on_claim=stopped.set)

    with capture_logs() as logged:
        claim(lab, client, stopped)

    assert logged == []
    assert registry.failed_claim_of(lab.entry("CS101", "one")) is None


def test_unexpected_error_fails_only_what_is_not_stored_yet(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token_claims, "MAX_CLAIMS", 1)
    client = FailingClient(KeyError(), {"CS101": ClaimedToken(NEW, None)})
    until = datetime.now(UTC) + timedelta(hours=1)
    lab.add_source("one", "http://one", (SECRET,))
    for course_id in ("CS101", "CS102"):
        lab.add_course(course_id, TokenAnnounced(2, NEW.token_id, NINE, until), source="one")
    answers = iter([client.answers, {}])
    client.on_claim = lambda: setattr(client, "answers", next(answers))

    run_claims(lab, client)

    failed = [registry.failed_claim_of(lab.entry(one, "one")) for one in ("CS101", "CS102")]
    assert [claim and claim.detail for claim in failed] == [None, "unexpected error: KeyError"]


@pytest.mark.parametrize("database_kind", ["postgresql"])  # SQLite has one writer
def test_refused_and_claimed_entries_are_locked_by_id(
    lab: Lab, while_locked_by_id: Callable[[Callable[[], object]], None]
) -> None:
    until = datetime.now(UTC) + timedelta(hours=1)
    lab.add_source("one", "http://one", (SECRET,))
    for course_id in ("CS101", "CS102"):
        lab.add_course(course_id, TokenAnnounced(2, NEW.token_id, NINE, until), source="one")
    answers = {"CS101": "refused", "CS102": ClaimedToken(NEW, None)}

    while_locked_by_id(lambda: run_claims(lab, FailingClient(ClaimFailedError("no"), answers)))

    assert lab.entry("CS102", "one").stored_token_id == NEW.token_id
