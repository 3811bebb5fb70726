"""Commands without usable secrets: they do not start, and show no value."""

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
BAD_ADMIN_KEY = "expected 32 or more visible ASCII characters, as `openssl rand -hex 32` makes"
BAD_KEY = "expected 32 random bytes in base64, as from `openssl rand -base64 32`"

ENCRYPTION_KEYS = {
    "missing": (None, "is missing"),
    "empty": ("", "expected at least one key"),
    "only commas": (" , ,", "expected at least one key"),
    "short": (base64.b64encode(b"planted-16-bytes").decode(), BAD_KEY),
    "long": (base64.b64encode(b"planted" * 7).decode(), BAD_KEY),
    "no base64": ("planted planted planted planted planted pla", BAD_KEY),
    "not ASCII": ("plänted" * 7, BAD_KEY),
    "a good one and a short one": (f"{KEY},cGxhbnRlZA==", BAD_KEY),
}
ADMIN_KEYS = {
    "missing": (None, "is missing"),
    "empty": ("", BAD_ADMIN_KEY),
    "short": ("planted-0123456789abcdef0123456", BAD_ADMIN_KEY),
    "spaces": (" " * 40, BAD_ADMIN_KEY),
    "a space in it": ("planted-0123456789 abcdef-0123456789", BAD_ADMIN_KEY),
    "a line break behind it": (f"planted-{ADMIN_KEY}\n", BAD_ADMIN_KEY),
    "not ASCII": ("plänted-0123456789abcdef0123456789", BAD_ADMIN_KEY),
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
    pytest.param(words, variable, value, expected, id=f"{words}-{variable}-{kind}")
    for words, variables in PROCESSES.items()
    for variable in variables
    for kind, (value, expected) in (
        ADMIN_KEYS if variable.endswith("ADMIN_KEY") else ENCRYPTION_KEYS
    ).items()
    if words.endswith("serve") or kind == "missing"
]


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Result]]:
    """Return a function that runs a command in an empty folder with usable settings."""
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith(("NOTIFIER_", "RECEIVER_")):
            monkeypatch.delenv(name)
    for name, value in GOOD.items():
        monkeypatch.setenv(name, value)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def give(words: str) -> Result:
        program, *rest = words.split()
        main = notifier if program == "notifier" else receiver
        return CliRunner().invoke(main, rest, catch_exceptions=False)

    yield give
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(("words", "variable", "value", "expected"), CASES)
def test_unusable_secret_is_refused_by_name(
    start: Callable[[str], Result],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    words: str,
    variable: str,
    value: str | None,
    expected: str,
) -> None:
    if value is None:
        monkeypatch.delenv(variable)
    else:
        monkeypatch.setenv(variable, value)

    result = start(words)

    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == (
        f"error: {variable}: {expected}\n"
        " next: Set what is named in the environment or in .env; .env.example explains each one.\n"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", PROCESSES)
def test_usable_secrets_are_accepted(start: Callable[[str], Result], words: str) -> None:
    result = start(words)

    assert result.exit_code == 4
    assert "the database is at schema none" in result.stderr


@pytest.mark.parametrize("words", PROCESSES)
def test_real_process_refuses_missing_secrets(tmp_path: Path, words: str) -> None:
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
