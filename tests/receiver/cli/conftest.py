"""The command `receiver` under test, as a person gives it."""

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from receiver.cli import main

Receiver = Callable[..., Result]


@pytest.fixture
def environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, database_url: str
) -> pytest.MonkeyPatch:
    """The settings of an ELMS, in the environment; no `.env` is near."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RECEIVER_ENCRYPTION_KEYS", "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=")
    monkeypatch.setenv("RECEIVER_DATABASE_URL", database_url.replace("+psycopg", ""))
    monkeypatch.setenv("RECEIVER_LOG_FORMAT", "json")
    monkeypatch.setenv("RECEIVER_CONNECT_TIMEOUT", "0.5")
    monkeypatch.setenv("RECEIVER_SYNC_RETRIES", "0")
    return monkeypatch


@pytest.fixture
def receiver(environment: pytest.MonkeyPatch) -> Receiver:
    """Return what gives a command, with what stands on standard input."""

    def give(*words: str, stdin: str = "") -> Result:
        return CliRunner().invoke(main, list(words), input=stdin, prog_name="receiver")

    return give
