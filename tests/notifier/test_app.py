"""The application factory: every signal has a subscriber, every refusal its problem."""

import inspect
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from blinker import NamedSignal
from flask import Flask

from contract.problems import ProblemType
from foundation.errors import ConfigurationError, Refusal
from notifier import errors, services, signals
from notifier.app import CHALLENGES, create_app
from notifier.config import Settings

COMMAND_LINE_ONLY = {errors.EndpointDisabledError}
"""Only `endpoints ping` raises it, and no route."""

SIGNALS = [name for name, one in vars(signals).items() if isinstance(one, NamedSignal)]


@pytest.fixture
def make_app(tmp_path: Any) -> Iterator[Callable[[], Flask]]:
    """Return a function that creates an app with a new SQLite file."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    made: list[Flask] = []

    def make() -> Flask:
        given = {
            "admin_key": "planted-admin-key-0123456789abcdef",
            "encryption_keys": "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=",
            "database_url": f"sqlite:///{tmp_path}/notifier.db",
        }
        made.append(create_app(Settings(_env_file=None, **given)))
        return made[-1]

    yield make
    for app in made:
        services.of(app).database.dispose()
    root.handlers[:], root.level = handlers, level


@pytest.mark.parametrize("name", [pytest.param(name, id=name) for name in SIGNALS])
def test_every_signal_has_one_subscriber(
    no_subscriber: None, make_app: Callable[[], Flask], name: str
) -> None:
    signal = getattr(signals, name)
    assert not signal.receivers

    make_app()
    make_app()

    assert len(signal.receivers) == 1


def refusals() -> set[type[Refusal]]:
    """Return every refusal of eAssessment except the base class."""
    return {
        one
        for one in vars(errors).values()
        if inspect.isclass(one)
        and issubclass(one, errors.NotifierError)
        and one is not errors.NotifierError
    }


def test_every_refusal_has_its_problem() -> None:
    problems = [one.problem for one in refusals() - COMMAND_LINE_ONLY]

    assert None not in problems
    assert len(set(problems)) == len(problems)


@pytest.mark.parametrize(
    "refusal", [pytest.param(one, id=one.__name__) for one in sorted(refusals(), key=repr)]
)
def test_every_refusal_says_what_to_do(refusal: type[Refusal]) -> None:
    assert refusal("detail").advice.text.endswith(".")
    assert refusal.advice != Refusal.advice


@pytest.mark.parametrize("kind", [pytest.param(kind, id=kind) for kind in ProblemType])
def test_a_401_is_challenged_and_nothing_else_but_a_lack_of_scope(kind: ProblemType) -> None:
    ours = {
        *(one.problem for one in refusals()),
        ProblemType.ADMIN_KEY_REFUSED,
        ProblemType.METRICS_TOKEN_REFUSED,
    }

    wanted = kind in ours and (kind.status == 401 or kind is ProblemType.TOKEN_WRONG_COURSE)
    assert (kind in CHALLENGES) == wanted


def test_making_an_app_connects_to_nothing(make_app: Callable[[], Flask], tmp_path: Any) -> None:
    make_app()

    assert list(tmp_path.iterdir()) == []


def test_without_settings_there_is_no_app(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("NOTIFIER_ADMIN_KEY", "NOTIFIER_ENCRYPTION_KEYS"):
        monkeypatch.delenv(name, raising=False)

    with pytest.raises(ConfigurationError) as caught:
        create_app()

    assert str(caught.value) == (
        "NOTIFIER_ENCRYPTION_KEYS: is missing; NOTIFIER_ADMIN_KEY: is missing"
    )
