"""A process whose secrets are missing or worth nothing does not start, and shows none of them."""

import base64
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from notifier.cli import main as notifier
from receiver.cli import main as receiver

KEY = base64.b64encode(b"0123456789abcdef0123456789abcdef").decode()
ADMIN_KEY = "0123456789abcdef0123456789abcdef"
NOT_WELL = "expected 32 or more visible ASCII characters, as `openssl rand -hex 32` makes"
NO_KEY = "expected 32 random bytes in base64, as from `openssl rand -base64 32`"

ENCRYPTION_KEYS = {
    "missing": (None, "is missing"),
    "empty": ("", "expected at least one key"),
    "only commas": (" , ,", "expected at least one key"),
    "short": (base64.b64encode(b"planted-16-bytes").decode(), NO_KEY),
    "long": (base64.b64encode(b"planted" * 7).decode(), NO_KEY),
    "no base64": ("planted planted planted planted planted pla", NO_KEY),
    "not ASCII": ("plänted" * 7, NO_KEY),
    "a good one and a short one": (f"{KEY},cGxhbnRlZA==", NO_KEY),
}
ADMIN_KEYS = {
    "missing": (None, "is missing"),
    "empty": ("", NOT_WELL),
    "short": ("planted-0123456789abcdef0123456", NOT_WELL),
    "spaces": (" " * 40, NOT_WELL),
    "a space in it": ("planted-0123456789 abcdef-0123456789", NOT_WELL),
    "a line break behind it": (f"planted-{ADMIN_KEY}\n", NOT_WELL),
    "not ASCII": ("plänted-0123456789abcdef0123456789", NOT_WELL),
}
PROCESSES = {
    "notifier serve": ("NOTIFIER_ENCRYPTION_KEYS", "NOTIFIER_ADMIN_KEY"),
    "notifier work": ("NOTIFIER_ENCRYPTION_KEYS", "NOTIFIER_ADMIN_KEY"),
    "receiver serve": ("RECEIVER_ENCRYPTION_KEYS",),
    "receiver sync-grades": ("RECEIVER_ENCRYPTION_KEYS",),
}
GOOD = {
    "NOTIFIER_ENCRYPTION_KEYS": KEY,
    "NOTIFIER_ADMIN_KEY": ADMIN_KEY,
    "RECEIVER_ENCRYPTION_KEYS": KEY,
}
CASES = [
    pytest.param(words, variable, value, said, id=f"{words}-{variable}-{kind}")
    for words, variables in PROCESSES.items()
    for variable in variables
    for kind, (value, said) in (
        ADMIN_KEYS if variable.endswith("ADMIN_KEY") else ENCRYPTION_KEYS
    ).items()
]


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Result]]:
    """Return what starts a process here, in an empty folder with good settings."""
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith(("NOTIFIER_", "RECEIVER_")):
            monkeypatch.delenv(name)
    for name, value in GOOD.items():
        monkeypatch.setenv(name, value)
    heard = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def give(words: str) -> Result:
        program, *rest = words.split()
        main = notifier if program == "notifier" else receiver
        return CliRunner().invoke(main, rest, catch_exceptions=False)

    yield give
    for number, handler in heard.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(("words", "variable", "value", "said"), CASES)
def test_a_secret_that_is_worth_nothing_starts_no_process(
    start: Callable[[str], Result],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    words: str,
    variable: str,
    value: str | None,
    said: str,
) -> None:
    if value is None:
        monkeypatch.delenv(variable)
    else:
        monkeypatch.setenv(variable, value)

    result = start(words)

    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == (
        f"error: {variable}: {said}\n"
        " next: Set what is named in the environment or in .env; .env.example explains each one.\n"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", PROCESSES)
def test_good_secrets_come_further(start: Callable[[str], Result], words: str) -> None:
    result = start(words)

    assert result.exit_code == 4
    assert "the database is at schema none" in result.stderr


@pytest.mark.parametrize("words", PROCESSES)
def test_a_real_process_says_so_too(tmp_path: Path, words: str) -> None:
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("NOTIFIER_", "RECEIVER_"))
    }
    program, *rest = words.split()

    done = subprocess.run(
        [Path(sys.executable).parent / program, *rest],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment,
        timeout=60,
        check=False,
    )

    assert (done.returncode, done.stdout) == (2, "")
    for variable in PROCESSES[words]:
        assert f"{variable}: is missing" in done.stderr
    assert "Traceback" not in done.stderr
