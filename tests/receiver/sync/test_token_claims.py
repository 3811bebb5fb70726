"""Claims of new tokens before a run: several sites, and what the log advises."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn

import pytest
from structlog.testing import capture_logs

from contract.problems import ProblemType
from receiver.course_state import TokenAnnounced
from receiver.sources.eassessment import ClaimFailedError, EAssessmentClient
from receiver.sync.run_control import StopSignal
from receiver.sync.token_claims import TokenClaims
from tests.receiver.conftest import NINE, Clients
from tests.receiver.sync.conftest import SECRET, Lab


@dataclass
class FailingClient(EAssessmentClient):
    """A client whose claims do something, and fail."""

    error: ClaimFailedError
    on_claim: Callable[[], object] = lambda: None
    requests: int = field(default=0, init=False)

    def claim(self, *_: Any, **__: Any) -> NoReturn:
        """Fail."""
        self.on_claim()
        raise self.error

    def cancel(self) -> None:
        """Do nothing: no request takes time."""


def claim(lab: Lab, client: FailingClient) -> None:
    """Claim the new tokens of a course at each of two sites."""
    until = datetime.now(UTC) + timedelta(hours=1)
    for name in ("one", "two"):
        lab.add_source(name, f"http://{name}", (SECRET,))
        lab.add_course("CS101", TokenAnnounced(2, "new", NINE, until), source=name)
    stop = StopSignal(threading.Event(), 60)
    claims = TokenClaims(lab.database, lab.vault, Clients(client), stop, "ada@elms")
    claims.run(source_names=(), course_ids=())


def test_sites_do_not_wait_for_each_other(lab: Lab) -> None:
    meeting = threading.Barrier(2, timeout=10)

    claim(lab, FailingClient(ClaimFailedError("lost"), meeting.wait))

    assert not meeting.broken


@pytest.mark.parametrize(
    ("error", "next_step"),
    [
        pytest.param(ClaimFailedError("no", temporary=True), "No action needed", id="temporary"),
        pytest.param(ClaimFailedError("no"), "Enter the new tokens", id="no claims"),
        pytest.param(
            ClaimFailedError("no", ProblemType.SIGNATURE_REFUSED), "If the cause", id="signature"
        ),
    ],
)
def test_log_says_what_to_do(lab: Lab, error: ClaimFailedError, next_step: str) -> None:
    with capture_logs() as logged:
        claim(lab, FailingClient(error))

    assert [line["next_step"].startswith(next_step) for line in logged] == [True, True]
