"""Settings of the command `notifier`, and its secrets."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import Result

from contract.tokens import CourseToken

Notifier = Callable[..., Result]
Told = Callable[..., Any]
Rows = Callable[[], dict[str, list[str]]]

NOTIFIER = (sys.executable, "-c", "from notifier.cli import main; main()")


def test_missing_settings_are_all_named(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if "NOTIFIER" not in name}

    done = subprocess.run(
        [*NOTIFIER, "courses", "list"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**environment, "PYTHONPATH": str(Path(__file__).parents[3])},
        timeout=30,
        check=False,
    )

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "error: NOTIFIER_ENCRYPTION_KEYS: is missing; NOTIFIER_ADMIN_KEY: is missing\n"
        " next: Set what is named in the environment or in .env; "
        ".env.example explains each one.\n"
    )


MALFORMED = {
    "NOTIFIER_ADMIN_KEY": "planted-short",
    "NOTIFIER_ENCRYPTION_KEYS": "planted-no-base64!",
    "NOTIFIER_DATABASE_URL": "mysql://planted:planted@host/x",
    "NOTIFIER_SOURCE": "planted site",
    "NOTIFIER_PORT": "planted-port",
    "NOTIFIER_WORKER_THREADS": "0",
    "NOTIFIER_ENDPOINT_CONCURRENCY": "1000",
    "NOTIFIER_CONNECT_TIMEOUT": "nan",
    "NOTIFIER_ATTEMPT_DEADLINE": "-1",
    "NOTIFIER_LEASE": "inf",
    "NOTIFIER_POLL_INTERVAL": "0",
    "NOTIFIER_DATABASE_TIMEOUT": "soon",
    "NOTIFIER_WEB_THREADS": "1.5",
    "NOTIFIER_LOG_LEVEL": "planted-level",
    "NOTIFIER_LOG_FORMAT": "xml",
}


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(arguments, id=" ".join(arguments))
        for arguments in (
            ("db", "upgrade"),
            ("db", "check"),
            ("serve",),
            ("work", "--once"),
            ("doctor",),
            ("courses", "list"),
            ("grades", "import", "-"),
            ("endpoints", "list"),
            ("deliveries", "list"),
        )
    ],
)
def test_invalid_settings_are_all_named_and_not_shown(
    command: Notifier, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    for name, value in MALFORMED.items():
        monkeypatch.setenv(name, value)

    result = command(*arguments)

    assert (result.exit_code, result.stdout) == (2, "")
    named = {part.strip().partition(":")[0] for part in result.stderr[7:].split(";")}
    assert MALFORMED.keys() <= named
    assert "planted" not in result.output


def test_lease_must_outlast_an_attempt(command: Notifier, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFIER_LEASE", "19")

    result = command("work", "--once")

    assert result.exit_code == 2
    assert result.stderr.startswith(
        "error: NOTIFIER_LEASE must be longer than NOTIFIER_ATTEMPT_DEADLINE by 5 seconds or more\n"
    )


def test_settings_are_read_from_dotenv(command: Notifier, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFIER_ADMIN_KEY")
    Path(".env").write_text(
        "NOTIFIER_ADMIN_KEY=0123456789abcdef0123456789abcdef\n"
        "NOTIFIER_ENCRYPTION_KEYS=wrong\n"
        "NOTIFIER_DATABASE_URL=sqlite:///from-file.db\n"
        "RECEIVER_ANYTHING=belongs to the other service\n",
        encoding="utf-8",
    )

    result = command("db", "upgrade")

    assert (result.exit_code, result.stderr) == (0, "")
    assert Path("from-file.db").exists()


def test_secrets_are_shown_nowhere(
    notifier: Notifier, told: Told, rows: Rows, sink: Any, tmp_path: Path
) -> None:
    sink.answer(SimpleNamespace(status=422, headers={}, body=b"", after=None))
    first = told("courses", "add", "CS101", "--title", "x")["token"]
    old = told("endpoints", "add", sink.url())["secret"]
    second = told("courses", "regenerate-token", "CS101")["token"]
    new = told("endpoints", "rotate-secret", 1)["secret"]
    sink.answer(SimpleNamespace(status=422, headers={}, body=f"{new} {first}".encode(), after=None))
    planted = {
        *(token for token in (first, second)),
        *(CourseToken.parse(token).secret for token in (first, second)),
        *(part for secret in (old, new) for part in (secret, secret.removeprefix("whsec_"))),
        os.environ["NOTIFIER_ADMIN_KEY"],
        os.environ["NOTIFIER_ENCRYPTION_KEYS"],
    }

    said = [
        notifier(*arguments)
        for arguments in (
            ("work", "--once"),
            ("courses", "list", "--json"),
            ("courses", "show", "CS101"),
            ("courses", "show", "CS101", "--json"),
            ("courses", "add", "CS101", "--title", "again"),
            ("courses", "delete", "CS101"),
            ("work", "--once"),
            ("endpoints", "list"),
            ("endpoints", "list", "--json"),
            ("endpoints", "add", sink.url()),
            ("endpoints", "ping", 1),
            ("deliveries", "list"),
            ("deliveries", "list", "--json"),
            *(("deliveries", "show", number, "--json") for number in (1, 2)),
            ("deliveries", "replay", "--status", "dead"),
            ("db", "check"),
            ("db", "rotate-key"),
            ("doctor",),
            ("doctor", "--json"),
        )
    ]

    stored = json.dumps(rows())
    for secret in planted:
        assert not [one.output for one in said if secret in one.output]
        assert secret not in stored
    assert "delivery is dead" in said[0].stderr
    assert "delivery is dead" in said[6].stderr
    assert "[redacted] [redacted]" in said[6].stderr
    for received in sink.received:
        sent = received.body.decode() + str(received.headers) + received.path
        assert not [secret for secret in planted if secret in sent]
