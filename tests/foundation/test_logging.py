"""The log format and the redaction of secrets."""

import io
import json
import logging
import select
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import pytest
import structlog
from pydantic import SecretStr

from contract.signatures import Secret
from contract.tokens import CourseToken
from foundation import logging as logs
from foundation.crypto import Vault

TOKEN = CourseToken.generate().reveal()
WEBHOOK_SECRET = Secret.generate().reveal()
ENCRYPTED = Vault(SecretStr("A" * 43 + "=")).encrypt("hunter2")
HOSTILE = "a\nERROR forged\x1b[31m\u202e\x9b2J\x85\u2028"
SECRET_NAMES = (
    "token",
    "stored_token",
    "secrets",
    "webhook_secret",
    "Authorization",
    "password",
    "database_password",
    "X-Admin-Key",
    "encryption_key",
    "encryption_keys",
    "cookie",
    "Set-Cookie",
)
OTHER_NAMES = ("token_id", "tokens_checked", "secretary", "key", "course_id")

Format = Literal["text", "json"]
each_format = pytest.mark.parametrize("form", ["text", "json"])
Read = Callable[[], str]
ours, library = logs.get_logger("sample"), logging.getLogger("library")


@pytest.fixture
def read(capsys: pytest.CaptureFixture[str]) -> Read:
    """Return a function that returns what was written to stderr; nothing goes to stdout."""

    def written() -> str:
        captured = capsys.readouterr()
        assert captured.out == ""
        return captured.err

    return written


def one_line(written: str) -> dict[str, Any]:
    (line,) = written.splitlines()
    document: dict[str, Any] = json.loads(line)
    return document


@pytest.mark.parametrize("form", ["json", "auto"])
def test_json_line_has_the_message_and_its_fields(
    read: Read, form: Literal["json", "auto"]
) -> None:
    logs.configure("INFO", form)
    logs.configure("INFO", form)

    values = {"token": None, "points": Decimal("7.5"), "which": {"a"}, "ok": True}
    ours.info("course deleted", at=datetime(2026, 11, 22, tzinfo=UTC), **values)

    line = one_line(read())
    assert datetime.fromisoformat(line.pop("timestamp")).utcoffset() is not None
    assert line == {
        "event": "course deleted",
        "level": "info",
        "logger": "sample",
        "at": "2026-11-22T00:00:00.000000Z",
        "token": None,
        "points": "7.5",
        "which": ["a"],
        "ok": True,
    }


def test_text_line_has_the_message_and_its_fields(read: Read) -> None:
    logs.configure("INFO", "text")

    ours.warning("course deleted", course_id="CS101-2026", version=4)

    written = read()
    assert written.count("\n") == 1
    assert "\x1b" not in written
    for part in ("[warning", "course deleted", "course_id=CS101-2026", "version=4", "sample"):
        assert part in written


def test_redact_takes_no_time_for_a_long_line() -> None:
    text = "://" + ":" * 100_000 + " @"

    assert logs.redact(text) == text  # a regular expression that backtracks takes minutes


@each_format
def test_lines_below_the_level_are_not_written(read: Read, form: Format) -> None:
    logs.configure("WARNING", form)

    ours.info("ours below")
    library.info("theirs below")
    ours.warning("ours above")
    library.warning("theirs above")

    written = read()
    assert "below" not in written
    assert "ours above" in written
    assert "theirs above" in written


def test_noisy_libraries_are_not_logged(read: Read) -> None:
    logs.configure("DEBUG", "json")

    for name in ("alembic.runtime", "sqlalchemy.engine"):
        logging.getLogger(name).info("chatter")

    assert read() == ""


def test_line_of_a_library_has_the_same_format_and_bound_fields(read: Read) -> None:
    logs.configure("INFO", "json")

    with structlog.contextvars.bound_contextvars(request_id="r1"):
        library.warning("%d of %s, 100%%", 3, "ten")

    line = one_line(read())
    assert line["event"] == "3 of ten, 100%"
    assert (line["level"], line["logger"], line["request_id"]) == ("warning", "library", "r1")


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        pytest.param(f"sent {TOKEN} there", TOKEN, id="course token"),
        pytest.param(f"key={WEBHOOK_SECRET};", WEBHOOK_SECRET, id="webhook secret"),
        pytest.param(f"row {ENCRYPTED}", ENCRYPTED, id="encrypted secret"),
        pytest.param("POST wstoken=planted&wsfunction=x", "planted", id="Moodle token in a form"),
        pytest.param('{"wstoken": "planted"}', "planted", id="Moodle token in JSON"),
        pytest.param("w\u017fToken=planted", "planted", id="Moodle token in other case"),
        pytest.param("authorization: bEARER   hunter2", "hunter2", id="bearer in other case"),
        pytest.param("Authorization: Bearer <hunter2>", "hunter2", id="bearer in brackets"),
        pytest.param("Bearer <admin>hunter2", "hunter2", id="bearer after a word in brackets"),
        pytest.param("postgresql+psycopg://me:hunter2@db/x", "hunter2", id="password in a URL"),
        pytest.param("https://:hunter2@example.com/", "hunter2", id="password without a user"),
    ],
)
def test_redact_replaces_secrets_only(text: str, secret: str) -> None:
    before, marker, _ = logs.redact(text).partition(logs.REDACTED)

    assert marker
    assert text.startswith(before)
    assert secret not in logs.redact(text)


@pytest.mark.parametrize(
    "text",
    [
        "the bearer",
        "Send `Authorization: Bearer <admin key>`; the key is in the service's settings.",
        "https://example.com:8443/hook?x=a@b",
        "eas_",
    ],
)
def test_redact_leaves_other_text_unchanged(text: str) -> None:
    assert logs.redact(text) == text


@each_format
def test_secret_is_redacted_in_messages_fields_and_tracebacks(read: Read, form: Format) -> None:
    logs.configure("INFO", form)

    ours.info(f"sent {TOKEN}", text=TOKEN, raw=TOKEN.encode(), error=ValueError(TOKEN))
    ours.info("nested", value={"deep": {"deeper": [1, TOKEN]}})
    library.warning("request: %s", TOKEN)
    for log in (ours, library):
        try:
            raise ValueError(TOKEN)
        except ValueError:
            log.exception("failed")

    written = read()
    assert all(name in written for name in ("text", "raw", "error", "deeper", "request: "))
    assert written.count("Traceback (most recent call last)") == 2
    assert written.count("ValueError: ") == 2
    assert TOKEN not in written


@each_format
def test_fields_are_redacted_by_their_names(read: Read, form: Format) -> None:
    logs.configure("INFO", form)

    for name in SECRET_NAMES:
        ours.info("requested", **{name: "hunter2"})
        ours.info("requested", headers=[{name: ["hunter2"]}])
    for name in OTHER_NAMES:
        ours.info("requested", **{name: "k7Qx2mPa"})

    written = read()
    assert "hunter2" not in written
    assert all(name in written for name in SECRET_NAMES)
    assert written.count("k7Qx2mPa") == len(OTHER_NAMES)


@each_format
def test_value_can_neither_forge_a_line_nor_control_the_terminal(
    read: Read, form: Format
) -> None:  # B7
    logs.configure("INFO", form)

    ours.info("requested", title=HOSTILE, why=[HOSTILE], odd="\ud800")
    library.info("requested %s", HOSTILE)

    written = read()
    assert len(written.splitlines()) == 2
    assert all(map(str.isprintable, written.split("\n")))
    assert "\\u202e" in written


def test_traceback_cannot_control_the_terminal(read: Read) -> None:
    logs.configure("INFO", "text")

    try:
        raise ValueError(HOSTILE)
    except ValueError:
        ours.exception("failed")

    assert not {"\x1b", "\u202e", "\x9b"} & set(read())


class SlowStream(io.StringIO):
    """A stream that notices if it is written to by two threads at once."""

    overlaps = 0
    _busy = False

    def write(self, text: str) -> int:
        self.overlaps += self._busy
        self._busy = True
        time.sleep(0.001)
        self._busy = False
        return super().write(text)


def test_threads_write_one_line_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = SlowStream()
    monkeypatch.setattr(sys, "stderr", stream)
    logs.configure("INFO", "json")

    with ThreadPoolExecutor(4) as pool:
        for log in (ours, library) * 10:
            pool.submit(log.warning, "requested")

    assert stream.overlaps == 0
    assert len([json.loads(line) for line in stream.getvalue().splitlines()]) == 20


class Unprintable:
    """A value that cannot be logged."""

    def __str__(self) -> str:
        raise LookupError("no text")


@each_format
def test_line_that_cannot_be_rendered_is_reported_and_does_not_raise(
    read: Read, form: Format
) -> None:
    logs.configure("INFO", form)

    ours.info("requested", value=Unprintable())
    library.info(Unprintable())

    assert read().count("LookupError: no text") == 2


def test_line_that_cannot_be_written_does_not_raise(monkeypatch: pytest.MonkeyPatch) -> None:
    logs.configure("INFO", "json")
    full = Path("/dev/full").open("w", buffering=1)  # noqa: SIM115 - closing it fails
    monkeypatch.setattr(sys, "stderr", full)

    ours.info("requested")
    library.warning("requested")
    with logs.batch():
        ours.info("requested")

    with pytest.raises(OSError, match="No space left"):
        full.close()


def test_lines_go_to_what_is_stderr_at_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    logs.configure("INFO", "json")
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)

    ours.info("requested")
    library.info("requested")

    assert len(stream.getvalue().splitlines()) == 2


def test_lines_of_a_batch_are_written_together_at_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    monkeypatch.setattr(sys.stderr, "write", written.append)
    logs.configure("INFO", "json")

    with logs.batch():
        for number in range(100):
            ours.info("deleted ä", number=number)
        with ThreadPoolExecutor(1) as other:
            other.submit(ours.info, "of another thread").result()
        assert [json.loads(text)["event"] for text in written] == ["of another thread"]
    ours.info("after it")

    lines = [json.loads(line) for text in written for line in text.splitlines()]
    assert [line.get("number") for line in lines] == [None, *range(100), None]
    assert len(written) < 10
    assert max(len(text.encode()) for text in written) <= select.PIPE_BUF


def test_long_line_of_a_batch_is_written_whole(read: Read) -> None:
    logs.configure("INFO", "json")

    with logs.batch():
        ours.info("short")
        ours.info("long", text="x" * select.PIPE_BUF)

    assert [len(json.loads(line).get("text", "")) for line in read().splitlines()] == [
        0,
        select.PIPE_BUF,
    ]
