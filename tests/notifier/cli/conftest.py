"""The command `notifier` in a folder and an environment of its own, on SQLite."""

import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from pydantic import SecretStr

from foundation.crypto import Vault
from notifier.cli import main
from tests.notifier.conftest import Store

ADMIN_KEY = "planted-admin-key-0123456789abcdef"
ENCRYPTION_KEY = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="

Run = Callable[..., Result]
ReadJson = Callable[..., Any]


@pytest.fixture(autouse=True)
def restore_signals() -> Iterator[None]:
    """Undo what a command does to the signals of its process."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture(autouse=True)
def environment(
    clean_environment: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> pytest.MonkeyPatch:
    """An empty folder, the two secrets, receivers on this machine; returned to change it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NOTIFIER_ADMIN_KEY", ADMIN_KEY)
    monkeypatch.setenv("NOTIFIER_ENCRYPTION_KEYS", ENCRYPTION_KEY)
    monkeypatch.setenv("NOTIFIER_ALLOW_LOOPBACK", "true")
    monkeypatch.setenv("NOTIFIER_DATABASE_URL", f"sqlite:///{tmp_path}/none/notifier.db")
    return monkeypatch


@pytest.fixture
def database_kind() -> str:
    """SQLite; the tests of the core run on both databases."""
    return "sqlite"


@pytest.fixture
def vault() -> Vault:
    """The vault of the commands."""
    return Vault(SecretStr(ENCRYPTION_KEY))


@pytest.fixture
def run_without_database() -> Run:
    """Return a function that runs a command; one that opens the database exits with 4."""

    def run(*arguments: object, stdin: str | None = None) -> Result:
        words = [str(one) for one in arguments]
        return CliRunner().invoke(main, words, input=stdin, catch_exceptions=False)

    return run


@pytest.fixture
def run(store: Store, run_without_database: Run, environment: pytest.MonkeyPatch) -> Run:
    """Return a function that runs a command on an empty, migrated database."""
    environment.setenv("NOTIFIER_DATABASE_URL", str(store.database.engine.url))
    return run_without_database


@pytest.fixture
def read_json(run: Run) -> ReadJson:
    """Return a function that runs a command with `--json`, and returns its document."""

    def read(*arguments: object, stdin: str | None = None) -> Any:
        result = run(*arguments, "--json", stdin=stdin)
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    return read
