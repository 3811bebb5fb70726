"""Advice for failures and statuses."""

import pytest

from notifier.models import Attempt
from notifier.webhooks import failure_advice
from notifier.webhooks.failure_advice import FailureKind


@pytest.mark.parametrize("kind", [pytest.param(one, id=one.value) for one in FailureKind])
def test_every_kind_of_failure_has_advice(kind: FailureKind) -> None:
    assert failure_advice.advice_for(kind.value, None, 3) is not None


@pytest.mark.parametrize(("kind", "status"), [("unknown", None), (None, 200), (None, 418)])
def test_other_results_have_no_advice(kind: str | None, status: int | None) -> None:
    assert failure_advice.advice_for(kind, status, 3) is None


@pytest.mark.parametrize(
    ("status", "action", "words"),
    [
        pytest.param(302, None, "redirects are never followed", id="a redirect"),
        pytest.param(401, "endpoints rotate-secret 3", "secret", id="a wrong signature"),
        pytest.param(404, "endpoints correct-url 3", "path", id="a wrong path"),
        pytest.param(422, None, "rejected", id="an event that is rejected"),
        pytest.param(503, None, "logs of the receiver", id="a receiver that fails"),
    ],
)
def test_response_that_refuses_has_advice(status: int, action: str | None, words: str) -> None:
    advice = failure_advice.advice_for(None, status, 3)

    assert advice is not None
    assert words in advice.text
    assert advice.command == action


def test_every_kind_fits_its_column() -> None:
    longest = Attempt.__table__.c.failure.type.length

    assert max(len(kind) for kind in FailureKind) <= longest
