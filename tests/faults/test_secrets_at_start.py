"""Commands without usable secrets: they do not start, and show no value."""

import base64
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from notifier.cli import main as notifier
from receiver.cli import main as receiver

KEY = base64.b64encode(b"0123456789abcdef0123456789abcdef").decode()
SHORT_KEY = base64.b64encode(b"planted-16-bytes").decode()
ADMIN_KEY = "0123456789abcdef0123456789abcdef"
BAD_KEY = "expected 32 random bytes in base64, as from `openssl rand -base64 32`"
BAD_ADMIN_KEY = "expected 32 or more visible ASCII characters, as `openssl rand -hex 32` makes"


@pytest.fixture(autouse=True)
def usable_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run in an empty folder with usable secrets; restore the signal handlers."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NOTIFIER_ENCRYPTION_KEYS", KEY)
    monkeypatch.setenv("NOTIFIER_ADMIN_KEY", ADMIN_KEY)
    monkeypatch.setenv("RECEIVER_ENCRYPTION_KEYS", KEY)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(
    ("words", "variable", "value", "expected"),
    [
        pytest.param("notifier serve", "ENCRYPTION_KEYS", None, "is missing", id="no key"),
        pytest.param("notifier work", "ADMIN_KEY", None, "is missing", id="no admin key"),
        pytest.param("receiver serve", "ENCRYPTION_KEYS", None, "is missing", id="no key at ELMS"),
        pytest.param(
            "receiver sync-grades", "ENCRYPTION_KEYS", None, "is missing", id="no key to sync"
        ),
        pytest.param(
            "notifier serve", "ENCRYPTION_KEYS", " ,", "expected at least one key", id="empty key"
        ),
        pytest.param("notifier serve", "ENCRYPTION_KEYS", SHORT_KEY, BAD_KEY, id="short key"),
        pytest.param("notifier serve", "ENCRYPTION_KEYS", "plänted" * 7, BAD_KEY, id="no base64"),
        pytest.param(
            "receiver serve", "ENCRYPTION_KEYS", f"{KEY},{SHORT_KEY}", BAD_KEY, id="one is short"
        ),
        pytest.param("notifier serve", "ADMIN_KEY", "", BAD_ADMIN_KEY, id="empty admin key"),
        pytest.param(
            "notifier serve", "ADMIN_KEY", "planted" * 4, BAD_ADMIN_KEY, id="short admin key"
        ),
        pytest.param(
            "notifier serve", "ADMIN_KEY", f"planted {ADMIN_KEY}", BAD_ADMIN_KEY, id="with a space"
        ),
        pytest.param(
            "notifier serve", "ADMIN_KEY", f"plänted{ADMIN_KEY}", BAD_ADMIN_KEY, id="not ASCII"
        ),
    ],
)
def test_unusable_secret_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    words: str,
    variable: str,
    value: str | None,
    expected: str,
) -> None:
    program, *arguments = words.split()
    name = f"{program.upper()}_{variable}"
    monkeypatch.delenv(name)
    if value is not None:
        monkeypatch.setenv(name, value)

    result = CliRunner().invoke(notifier if program == "notifier" else receiver, arguments)

    assert (result.exit_code, result.stdout) == (2, "")
    generate = f" What is missing can be generated. Run `{program} init`."
    assert result.stderr == (
        f"error: {name}: {expected}\n"
        " next: Set what is named in the environment or in .env; .env.example explains each one."
        f"{generate if value is None else ''}\n"
    )
    assert list(tmp_path.iterdir()) == []
