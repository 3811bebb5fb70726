"""Secrets of the command `notifier`."""

import json

from contract.tokens import CourseToken
from tests.notifier.cli.conftest import ADMIN_KEY, ENCRYPTION_KEY, ReadJson, Run
from tests.notifier.conftest import Reply, Sink, Store


def test_secrets_are_shown_nowhere(store: Store, run: Run, read_json: ReadJson, sink: Sink) -> None:
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
    assert [secret for secret in planted if secret in said + sent + json.dumps(store.rows())] == []
    assert "delivery is dead" in work.stderr
    assert "[redacted] [redacted]" in work.stderr
