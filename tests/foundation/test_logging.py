"""Tests of the log format and of the redaction of secrets."""

import json
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Literal

import pytest
import structlog

from contract.signatures import Secret
from contract.tokens import CourseToken
from foundation import logging as logs
from foundation.crypto import Vault

pytestmark = pytest.mark.usefixtures("logging_restored")

TOKEN = CourseToken.generate().reveal()
WEBHOOK_SECRET = Secret.generate().reveal()
ENCRYPTED = "gAAAAABmZ-_" + "x" * 60

Form = Literal["text", "json"]
each_form = pytest.mark.parametrize("form", ["text", "json"])
Read = Callable[[], str]


@pytest.fixture
def read(capsys: pytest.CaptureFixture[str]) -> Read:
    """Return what reads all that was written to stderr; nothing goes to stdout."""

    def written() -> str:
        captured = capsys.readouterr()
        assert captured.out == ""
        return captured.err

    return written


def one_line(written: str) -> dict[str, Any]:
    """Return the one JSON line that was written."""
    (line,) = written.splitlines()
    document: dict[str, Any] = json.loads(line)
    return document


def test_json_line_has_the_message_and_its_fields(read: Read) -> None:
    logs.configure("INFO", "json")

    logs.get_logger("sample").info("course deleted", course_id="CS101-2026", version=4, well=True)

    line = one_line(read())
    assert datetime.fromisoformat(line.pop("timestamp")).utcoffset() is not None
    assert line == {
        "event": "course deleted",
        "level": "info",
        "logger": "sample",
        "course_id": "CS101-2026",
        "version": 4,
        "well": True,
    }


def test_text_line_has_the_message_and_its_fields(read: Read) -> None:
    logs.configure("INFO", "text")

    logs.get_logger("sample").warning("course deleted", course_id="CS101-2026", version=4)

    written = read()
    assert written.count("\n") == 1
    assert "\x1b" not in written
    for part in ("[warning", "course deleted", "course_id=CS101-2026", "version=4", "sample"):
        assert part in written


def test_without_a_terminal_the_lines_are_json(read: Read) -> None:
    logs.configure("INFO", "auto")

    logs.get_logger("sample").info("course deleted")

    assert one_line(read())["event"] == "course deleted"


@each_form
def test_lines_below_the_level_are_not_written(read: Read, form: Form) -> None:
    logs.configure("WARNING", form)

    logs.get_logger("sample").info("ours below")
    logging.getLogger("library").info("theirs below")
    logs.get_logger("sample").warning("ours above")
    logging.getLogger("library").warning("theirs above")

    written = read()
    assert "below" not in written
    assert "ours above" in written
    assert "theirs above" in written


@each_form
def test_noisy_libraries_are_logged_from_warnings_on(read: Read, form: Form) -> None:
    logs.configure("DEBUG", form)

    for name in ("urllib3.connectionpool", "alembic.runtime", "sqlalchemy.engine"):
        logging.getLogger(name).info("chatter")

    assert read() == ""


@each_form
def test_warnings_of_urllib3_are_not_logged(read: Read, form: Form) -> None:
    logs.configure("DEBUG", form)

    logging.getLogger("urllib3.connection").warning("Failed to parse headers")

    assert read() == ""


def test_line_of_a_library_has_the_same_format(read: Read) -> None:
    logs.configure("INFO", "json")

    logging.getLogger("library").warning("%d of %s, 100%%", 3, "ten")

    line = one_line(read())
    assert line["event"] == "3 of ten, 100%"
    assert (line["level"], line["logger"]) == ("warning", "library")


def test_bound_fields_are_in_every_line(read: Read) -> None:
    logs.configure("INFO", "json")

    with structlog.contextvars.bound_contextvars(request_id="r1"):
        logs.get_logger("sample").info("ours")
        logging.getLogger("library").info("theirs")

    assert [json.loads(line)["request_id"] for line in read().splitlines()] == ["r1", "r1"]


def test_configuring_again_writes_each_line_once(read: Read) -> None:
    logs.configure("INFO", "json")
    logs.configure("INFO", "json")

    logs.get_logger("sample").info("once")

    assert one_line(read())["event"] == "once"


SECRETS = [
    pytest.param(f"sent {TOKEN} there", TOKEN, id="a course token"),
    pytest.param(f"key={WEBHOOK_SECRET};", WEBHOOK_SECRET, id="a webhook secret"),
    pytest.param(f"row {ENCRYPTED}", ENCRYPTED, id="an encrypted secret"),
    pytest.param("POST wstoken=planted&wsfunction=x", "planted", id="a Moodle token in a form"),
    pytest.param('{"wstoken": "planted"}', "planted", id="a Moodle token in JSON"),
    pytest.param("Authorization: Bearer hunter2", "hunter2", id="a bearer"),
    pytest.param("authorization: bEARER   hunter2", "hunter2", id="a bearer in other case"),
    pytest.param("Authorization: Bearer <hunter2>", "hunter2", id="a bearer in brackets"),
    pytest.param("Bearer <admin>hunter2", "hunter2", id="a bearer behind a word in brackets"),
    pytest.param("postgresql+psycopg://notifier:hunter2@db/x", "hunter2", id="a password in a URL"),
    pytest.param("https://:hunter2@example.com/", "hunter2", id="a password without a user"),
]


@pytest.mark.parametrize(("text", "secret"), SECRETS)
def test_redact_replaces_secrets_only(text: str, secret: str) -> None:
    before, marker, _ = logs.redact(text).partition(logs.REDACTED)

    assert marker
    assert text.startswith(before)
    assert secret not in logs.redact(text)


@each_form
@pytest.mark.parametrize(
    "wrap",
    [
        pytest.param(lambda text: text, id="text"),
        pytest.param(lambda text: [1, text], id="list"),
        pytest.param(lambda text: {"deep": {"deeper": [text]}}, id="object"),
        pytest.param(lambda text: ValueError(text), id="exception"),
        pytest.param(lambda text: text.encode(), id="bytes"),
    ],
)
def test_secret_in_a_field_is_redacted(
    read: Read, form: Form, wrap: Callable[[str], object]
) -> None:
    logs.configure("INFO", form)

    logs.get_logger("sample").info("asked", value=wrap(f"sent {TOKEN}"))

    written = read()
    assert "value" in written
    assert TOKEN not in written


@each_form
def test_secret_in_a_message_is_redacted(read: Read, form: Form) -> None:
    logs.configure("INFO", form)

    logs.get_logger("sample").info(f"sent {TOKEN}")
    logging.getLogger("library").warning("request: %s", TOKEN)

    written = read()
    assert "request: " in written
    assert TOKEN not in written


@each_form
def test_secret_in_a_traceback_is_redacted(read: Read, form: Form) -> None:
    logs.configure("INFO", form)

    for log in (logs.get_logger("sample"), logging.getLogger("library")):
        try:
            raise ValueError(TOKEN)
        except ValueError:
            log.exception("failed")

    written = read()
    assert written.count("Traceback (most recent call last)") == 2
    assert written.count("ValueError: ") == 2
    assert TOKEN not in written


@each_form
@pytest.mark.parametrize(
    "name",
    [
        "token",
        "held_token",
        "secret",
        "secrets",
        "webhook_secret",
        "authorization",
        "Authorization",
        "password",
        "database_password",
        "admin_key",
        "X-Admin-Key",
        "encryption_key",
        "encryption_keys",
        "cookie",
        "Set-Cookie",
    ],
)
def test_field_with_the_name_of_a_secret_is_redacted(read: Read, form: Form, name: str) -> None:
    logs.configure("INFO", form)

    logs.get_logger("sample").info("asked", **{name: "hunter2"}, headers={name: ["hunter2"]})

    written = read()
    assert name in written
    assert "hunter2" not in written


@pytest.mark.parametrize("name", ["token_id", "tokens_checked", "secretary", "key", "course_id"])
def test_field_with_a_similar_name_is_not_redacted(read: Read, name: str) -> None:
    logs.configure("INFO", "json")

    logs.get_logger("sample").info("asked", **{name: "k7Qx2mPa"})

    assert one_line(read())[name] == "k7Qx2mPa"


def test_missing_secret_is_shown_as_null(read: Read) -> None:
    logs.configure("INFO", "json")

    logs.get_logger("sample").info("asked", token=None)

    assert one_line(read())["token"] is None


def test_other_values_are_written_as_text(read: Read) -> None:
    logs.configure("INFO", "json")

    logs.get_logger("sample").info(
        "asked", at=datetime(2026, 11, 22, tzinfo=UTC), points=Decimal("7.5"), which={"a"}
    )

    line = one_line(read())
    assert line["at"] == "2026-11-22 00:00:00+00:00"
    assert line["points"] == "7.5"
    assert line["which"] == ["a"]


HOSTILE = "a\nERROR forged\x1b[31m\u202e\x9b2J"


@each_form
def test_value_cannot_forge_a_line(read: Read, form: Form) -> None:
    logs.configure("INFO", form)

    logs.get_logger("sample").info("asked", title=HOSTILE)
    logging.getLogger("library").info("asked %s", HOSTILE)

    assert len(read().splitlines()) == 2


def test_value_cannot_control_the_terminal(read: Read) -> None:
    logs.configure("INFO", "text")

    logs.get_logger("sample").info("asked", title=HOSTILE, why=[HOSTILE])
    try:
        raise ValueError(HOSTILE)
    except ValueError:
        logs.get_logger("sample").exception("failed")

    written = read()
    assert not {"\x1b", "\u202e", "\x9b"} & set(written)
    assert "\\u202e" in written


@pytest.mark.parametrize(
    "text",
    [
        "",
        "course CS101-2026 is deleted",
        "the bearer",
        "Send `Authorization: Bearer <admin key>`; the key is in the service's settings.",
        "https://example.com:8443/hook?x=a@b",
        "eas_",
        "user@example.com",
    ],
)
def test_redact_leaves_plain_words_alone(text: str) -> None:
    assert logs.redact(text) == text


def test_encrypted_secret_is_redacted() -> None:
    from pydantic import SecretStr

    encrypted = Vault(SecretStr("A" * 43 + "=")).encrypt("hunter2")

    assert logs.redact(f"row: {encrypted}") == f"row: {logs.REDACTED}"


@each_form
def test_control_characters_are_escaped(read: Read, form: Form) -> None:
    """What turns a line around, ends it or colours it is spelled out in either form (B7)."""
    logs.configure("INFO", form)

    logs.get_logger("x").info("course added", title="a\u202eb\x1b[31m\x85\u2028c", odd="\ud800")

    assert all(map(str.isprintable, read().split("\n")))
