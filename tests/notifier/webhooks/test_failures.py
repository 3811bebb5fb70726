"""Advice for failures and statuses."""

import pytest

from notifier.models import Attempt
from notifier.webhooks import failures
from notifier.webhooks.failures import NEXT_STEPS, FailureKind


@pytest.mark.parametrize("kind", [pytest.param(one, id=one.value) for one in FailureKind])
def test_every_kind_has_a_remedy(kind: FailureKind) -> None:
    step = failures.next_step(kind.value)

    assert step is not None
    assert step.endswith(".")


def test_remedies_differ() -> None:
    assert len(set(NEXT_STEPS.values())) == len(FailureKind)


@pytest.mark.parametrize("kind", [None, "", "a word of yore"])
def test_what_is_no_failure_has_no_remedy(kind: str | None) -> None:
    assert failures.next_step(kind) is None


@pytest.mark.parametrize(
    ("status", "said"),
    [
        pytest.param(302, "a redirect is never followed", id="elsewhere"),
        pytest.param(401, "Enter this endpoint's present secret", id="the secret"),
        pytest.param(404, "Check the path of its URL", id="the path"),
        pytest.param(422, "mend there what it names", id="the event"),
        pytest.param(503, "Look into the logs of the receiver", id="the receiver"),
    ],
)
def test_an_answer_that_refuses_has_a_remedy(status: int, said: str) -> None:
    assert said in (failures.next_step(None, status) or "")


@pytest.mark.parametrize("status", [pytest.param(one, id=str(one)) for one in (200, 204, 418)])
def test_an_answer_that_takes_it_or_means_nothing_has_none(status: int) -> None:
    assert failures.next_step(None, status) is None


def test_every_kind_fits_its_column() -> None:
    longest = Attempt.__table__.c.failure.type.length

    assert max(len(kind) for kind in FailureKind) <= longest
