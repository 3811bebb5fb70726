"""Settings of the command `notifier`, and its secrets."""

import json
from pathlib import Path

import pytest

from contract.tokens import CourseToken
from tests.notifier.cli.conftest import ADMIN_KEY, ENCRYPTION_KEY, ReadJson, Rows, Run
from tests.notifier.conftest import Reply, Sink, Store


@pytest.mark.parametrize("words", ["db upgrade", "serve", "work --once", "doctor", "courses list"])
def test_invalid_settings_are_all_named_and_not_shown(
    run_without_database: Run, environment: pytest.MonkeyPatch, words: str
) -> None:
    environment.setenv("NOTIFIER_ADMIN_KEY", "planted-short")
    environment.setenv("NOTIFIER_ENCRYPTION_KEYS", "planted-no-base64!")
    environment.setenv("NOTIFIER_DATABASE_URL", "mysql://planted:planted@host/x")

    result = run_without_database(*words.split())

    assert (result.exit_code, result.stdout) == (2, "")
    for name in ("NOTIFIER_ADMIN_KEY", "NOTIFIER_ENCRYPTION_KEYS", "NOTIFIER_DATABASE_URL"):
        assert f"{name}: " in result.stderr
    assert "planted" not in result.output


def test_settings_are_read_from_dotenv(
    run_without_database: Run, environment: pytest.MonkeyPatch
) -> None:
    environment.delenv("NOTIFIER_ADMIN_KEY")
    environment.delenv("NOTIFIER_DATABASE_URL")
    Path(".env").write_text(
        "NOTIFIER_ADMIN_KEY=0123456789abcdef0123456789abcdef\n"
        "NOTIFIER_ENCRYPTION_KEYS=the environment counts\n"
        "NOTIFIER_DATABASE_URL=sqlite:///from-file.db\n"
        "RECEIVER_ANYTHING=belongs to the other service\n",
        encoding="utf-8",
    )

    result = run_without_database("db", "check")

    assert result.exit_code == 4
    assert f"there is no file {Path('from-file.db').absolute()}" in result.stderr


def test_secrets_are_shown_nowhere(
    store: Store, run: Run, read_json: ReadJson, rows: Rows, sink: Sink
) -> None:
    first = read_json("courses", "add", "CS101", "--title", "x")["token"]
    old = read_json("endpoints", "add", sink.url())["secret"]
    second = read_json("courses", "regenerate-token", "CS101")["token"]
    new = read_json("endpoints", "rotate-secret", 1)["secret"]
    sink.answer(Reply(422, body=f"{new} {first}".encode()))
    planted = {
        *(part for token in (first, second) for part in (token, CourseToken.parse(token).secret)),
        *(part for secret in (old, new) for part in (secret, secret.removeprefix("whsec_"))),
        ADMIN_KEY,
        ENCRYPTION_KEY,
    }

    work, *others = (
        run(*words.split())
        for words in (
            "work --once",
            "courses list --json",
            "courses show CS101",
            "courses show CS101 --json",
            "courses add CS101 --title again",
            "courses delete CS101",
            "endpoints list",
            "endpoints list --json",
            f"endpoints add {sink.url()}",
            "endpoints ping 1",
            "deliveries list",
            "deliveries show 1",
            "deliveries show 1 --json",
            "deliveries replay --status dead",
            "db rotate-key",
            "doctor --json",
        )
    )

    said = work.output + "".join(one.output for one in others)
    sent = "".join(f"{one.path} {one.headers} {one.body!r}" for one in sink.received)
    assert [secret for secret in planted if secret in said + sent + json.dumps(rows())] == []
    assert "delivery is dead" in work.stderr
    assert "[redacted] [redacted]" in work.stderr
