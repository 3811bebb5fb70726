"""The app of eAssessment: its signals, refusals and challenges."""

import inspect
from pathlib import Path

import pytest
from blinker import NamedSignal

from contract.problems import ProblemType
from foundation.errors import ConfigurationError, Refusal
from notifier import errors, signals
from notifier.app import CHALLENGES, create_app
from tests.notifier.app_fixtures import make_settings

# All refusals of eAssessment except the base class.
REFUSALS = {
    one
    for _, one in inspect.getmembers(errors, inspect.isclass)
    if issubclass(one, errors.NotifierError) and one is not errors.NotifierError
}
# Only what sends a test raises them, and no API does.
WITHOUT_PROBLEM = {errors.EndpointDisabledError, errors.SampleRefusedError}
# The problems of foundation that are about credentials of eAssessment.
SHARED = {ProblemType.ADMIN_KEY_REFUSED, ProblemType.METRICS_TOKEN_REFUSED}


def test_each_app_connects_the_same_subscribers(no_subscriber: None, tmp_path: Path) -> None:
    for _ in range(2):
        create_app(make_settings(database_url=f"sqlite:///{tmp_path}/notifier.db"))

    every = [signal for signal in vars(signals).values() if isinstance(signal, NamedSignal)]
    assert {len(signal.receivers) for signal in every} == {1}
    assert list(tmp_path.iterdir()) == []  # and none connects to its database


def test_every_refusal_has_its_problem() -> None:
    problems = [one.problem for one in REFUSALS - WITHOUT_PROBLEM]

    assert None not in problems
    assert len(set(problems)) == len(problems)


@pytest.mark.parametrize(
    "refusal",
    [pytest.param(one, id=one.__name__) for one in sorted(REFUSALS, key=lambda one: one.__name__)],
)
def test_every_refusal_says_what_to_do(refusal: type[Refusal]) -> None:
    assert refusal("detail").advice.text.endswith(".")
    assert refusal.advice != Refusal.advice


def test_every_401_has_a_challenge() -> None:
    problems = {*(one.problem for one in REFUSALS - WITHOUT_PROBLEM), *SHARED}

    unauthorized = {problem for problem in problems if problem and problem.status == 401}
    assert CHALLENGES.keys() == {*unauthorized, ProblemType.TOKEN_WRONG_COURSE}


def test_missing_settings_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    with pytest.raises(ConfigurationError) as refused:
        create_app()

    assert str(refused.value) == (
        "NOTIFIER_ENCRYPTION_KEYS: is missing; NOTIFIER_ADMIN_KEY: is missing"
    )


def test_unknown_settings_are_named_in_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NOTIFIER_PROT", "8001")

    create_app(make_settings(database_url=f"sqlite:///{tmp_path}/notifier.db"))

    assert capsys.readouterr().err.count("NOTIFIER_PROT") == 1
