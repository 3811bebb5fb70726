"""The services of an app."""

from pathlib import Path

import pytest
from flask import Flask
from structlog.testing import capture_logs

from foundation.services import Services, attach
from notifier.config import Settings

KEY = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="


@pytest.fixture
def made() -> Services[Settings]:
    return Services.make(Settings(_env_file=None, admin_key="x" * 32, encryption_keys=KEY))


def test_view_finds_the_services_of_its_app(made: Services[Settings]) -> None:
    app = Flask("mine")
    attach(app, made)

    assert Services.of(app) is made
    with app.app_context():
        assert Services.current() is made
    with pytest.raises(KeyError, match="services"):
        Services.of(Flask("other"))


@pytest.mark.parametrize("variables", [[], ["NOTIFIER_PROT"]], ids=["none", "unknown"])
def test_unknown_variables_are_logged_without_their_value(
    made: Services[Settings],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    variables: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in variables:
        monkeypatch.setenv(name, "hunter2")

    with capture_logs() as lines:
        made.warn_of_unknown_variables()

    expected = {"event": "unknown settings", "log_level": "warning", "variables": variables}
    assert lines == [expected] * len(variables)
