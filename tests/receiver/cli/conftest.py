"""The command `receiver` under test, run in this process."""

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from contract.tokens import CourseToken
from receiver.cli import main
from tests.receiver.conftest import ENCRYPTION_KEY

Receiver = Callable[..., Result]


@pytest.fixture
def database_kind() -> str:
    """SQLite; the queries are tested on both databases, where they are."""
    return "sqlite"


@pytest.fixture
def environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, database_url: str
) -> pytest.MonkeyPatch:
    """The settings of ELMS in the environment; the working directory has no `.env`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RECEIVER_ENCRYPTION_KEYS", ENCRYPTION_KEY)
    monkeypatch.setenv("RECEIVER_DATABASE_URL", database_url)
    monkeypatch.setenv("RECEIVER_LOG_FORMAT", "json")
    monkeypatch.setenv("RECEIVER_CONNECT_TIMEOUT", "0.5")
    monkeypatch.setenv("RECEIVER_SYNC_RETRIES", "0")
    return monkeypatch


@pytest.fixture
def receiver(environment: pytest.MonkeyPatch) -> Receiver:
    """Return a function that runs a command with this standard input."""

    def run(*words: str, stdin: str = "") -> Result:
        return CliRunner().invoke(main, list(words), input=stdin, prog_name="receiver")

    return run


def new_token() -> str:
    """Return a course token as eAssessment shows it."""
    return CourseToken.generate().reveal()
