"""`init` of both services: `.env`, its permissions, and the schema."""

import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from dotenv import dotenv_values

from notifier.cli import main as notifier
from receiver.cli import main as receiver

Run = Callable[..., Result]
PROGRAMS = {"notifier": notifier, "receiver": receiver}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, in which the commands run."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(folder: Path) -> Run:
    """Return a function that runs a command line in the folder."""

    def run_line(line: str) -> Result:
        program, *words = line.split()
        return CliRunner().invoke(PROGRAMS[program], words, catch_exceptions=False)

    return run_line


def test_both_services_share_a_folder(run: Run, folder: Path) -> None:
    first = run("notifier init --source moodle.example --allow-loopback")
    second = run("receiver init")

    assert (first.exit_code, second.exit_code) == (0, 0), first.output + second.output
    assert stat.S_IMODE((folder / ".env").stat().st_mode) == 0o600
    assert stat.S_IMODE((folder / "notifier.db").stat().st_mode) == 0o600
    settings = dotenv_values(".env")
    assert settings["NOTIFIER_SOURCE"] == "moodle.example"
    assert settings["NOTIFIER_ALLOW_LOOPBACK"] == "true"
    assert settings["NOTIFIER_ENCRYPTION_KEYS"] != settings["RECEIVER_ENCRYPTION_KEYS"]
    for program in PROGRAMS:
        assert run(f"{program} db check").exit_code == 0


def test_init_can_be_repeated(run: Run, folder: Path) -> None:
    run("notifier init")
    before = (folder / ".env").read_bytes()

    repeated = run("notifier init")

    assert (repeated.exit_code, repeated.stderr) == (0, "")
    assert repeated.stdout.startswith("the schema is already at")
    assert (folder / ".env").read_bytes() == before


def test_init_adds_to_an_existing_file(run: Run, folder: Path) -> None:
    file = folder / ".env"
    file.write_text("NOTIFIER_ENCRYPTION_KEYS=\nNOTIFIER_PORT=8100")
    file.chmod(0o640)

    result = run("notifier init")

    assert result.exit_code == 0
    assert "wrote NOTIFIER_ENCRYPTION_KEYS, NOTIFIER_ADMIN_KEY to" in result.stdout
    assert dotenv_values(file)["NOTIFIER_PORT"] == "8100"
    assert f"Run `chmod 600 {file}`." in result.stderr
    assert run("notifier db check").exit_code == 0


def test_init_writes_nothing_that_the_environment_sets(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFIER_ADMIN_KEY", "k" * 32)

    run("notifier init")

    assert [*dotenv_values(".env")] == ["NOTIFIER_ENCRYPTION_KEYS"]


@pytest.mark.parametrize(
    ("option", "error"),
    [
        pytest.param("--source other", "NOTIFIER_SOURCE already has another value", id="set"),
        pytest.param("--database-url mysql://x/y", "NOTIFIER_DATABASE_URL: expected", id="invalid"),
        pytest.param("--database-url sqlite:///a$b", "cannot be written to .env", id="quotes"),
    ],
)
def test_init_refuses_an_option_and_writes_nothing(
    run: Run, folder: Path, option: str, error: str
) -> None:
    (folder / ".env").write_text("NOTIFIER_SOURCE=one\n")

    refused = run(f"notifier init {option}")

    assert (refused.exit_code, refused.stdout) == (2, "")
    assert error in refused.stderr
    assert (folder / ".env").read_text() == "NOTIFIER_SOURCE=one\n"
    assert not (folder / "notifier.db").exists()


def test_init_refuses_a_new_key_for_an_existing_database(run: Run, folder: Path) -> None:
    run("receiver init")
    (folder / ".env").unlink()

    refused = run("receiver init")

    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "RECEIVER_ENCRYPTION_KEYS is missing" in refused.stderr
    assert not (folder / ".env").exists()
