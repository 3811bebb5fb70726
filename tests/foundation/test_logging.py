"""Logs: readable on a terminal, JSON elsewhere, and never a secret in them."""

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
SEALED = "gAAAAABmZ-_" + "x" * 60

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


def test_a_json_line_holds_the_message_and_its_fields(read: Read) -> None:
    logs.configure("INFO", "json")

    logs.get_logger("ground.test").info(
        "course deleted", course_id="CS101-2026", version=4, well=True
    )

    line = one_line(read())
    assert datetime.fromisoformat(line.pop("timestamp")).utcoffset() is not None
    assert line == {
        "event": "course deleted",
        "level": "info",
        "logger": "ground.test",
        "course_id": "CS101-2026",
        "version": 4,
        "well": True,
    }


def test_a_text_line_holds_the_message_and_its_fields(read: Read) -> None:
    logs.configure("INFO", "text")

    logs.get_logger("ground.test").warning("course deleted", course_id="CS101-2026", version=4)

    written = read()
    assert written.count("\n") == 1
    assert "\x1b" not in written
    for part in ("[warning", "course deleted", "course_id=CS101-2026", "version=4", "ground.test"):
        assert part in written


def test_without_a_terminal_the_lines_are_json(read: Read) -> None:
    logs.configure("INFO", "auto")

    logs.get_logger("ground.test").info("course deleted")

    assert one_line(read())["event"] == "course deleted"


@each_form
def test_lines_below_the_level_are_not_written(read: Read, form: Form) -> None:
    logs.configure("WARNING", form)

    logs.get_logger("ground.test").info("ours below")
    logging.getLogger("library").info("theirs below")
    logs.get_logger("ground.test").warning("ours above")
    logging.getLogger("library").warning("theirs above")

    written = read()
    assert "below" not in written
    assert "ours above" in written
    assert "theirs above" in written


@each_form
def test_noisy_libraries_speak_from_warnings_on(read: Read, form: Form) -> None:
    logs.configure("DEBUG", form)

    for name in ("urllib3.connectionpool", "alembic.runtime", "sqlalchemy.engine"):
        logging.getLogger(name).info("chatter")

    assert read() == ""


@each_form
def test_nobody_outside_makes_urllib3_warn(read: Read, form: Form) -> None:
    logs.configure("DEBUG", form)

    logging.getLogger("urllib3.connection").warning("Failed to parse headers")

    assert read() == ""


def test_a_librarys_line_goes_the_same_way(read: Read) -> None:
    logs.configure("INFO", "json")

    logging.getLogger("library").warning("%d of %s, 100%%", 3, "ten")

    line = one_line(read())
    assert line["event"] == "3 of ten, 100%"
    assert (line["level"], line["logger"]) == ("warning", "library")


def test_what_is_bound_to_a_request_is_in_each_line(read: Read) -> None:
    logs.configure("INFO", "json")

    with structlog.contextvars.bound_contextvars(request_id="r1"):
        logs.get_logger("ground.test").info("ours")
        logging.getLogger("library").info("theirs")

    assert [json.loads(line)["request_id"] for line in read().splitlines()] == ["r1", "r1"]


def test_configuring_again_writes_each_line_once(read: Read) -> None:
    logs.configure("INFO", "json")
    logs.configure("INFO", "json")

    logs.get_logger("ground.test").info("once")

    assert one_line(read())["event"] == "once"


SECRETS = [
    pytest.param(f"sent {TOKEN} there", TOKEN, id="a course token"),
    pytest.param(f"key={WEBHOOK_SECRET};", WEBHOOK_SECRET, id="a webhook secret"),
    pytest.param(f"row {SEALED}", SEALED, id="a sealed secret"),
    pytest.param("POST wstoken=planted&wsfunction=x", "planted", id="a Moodle token in a form"),
    pytest.param('{"wstoken": "planted"}', "planted", id="a Moodle token in JSON"),
    pytest.param("Authorization: Bearer hunter2", "hunter2", id="a bearer"),
    pytest.param("authorization: bEARER   hunter2", "hunter2", id="a bearer in other case"),
    pytest.param("Authorization: Bearer <hunter2>", "hunter2", id="a bearer in brackets"),
    pytest.param("Bearer <admin>hunter2", "hunter2", id="a bearer behind a word in brackets"),
    pytest.param("postgresql+psycopg://notifier:hunter2@db/x", "hunter2", id="a password in a URL"),
    pytest.param("https://:hunter2@example.com/", "hunter2", id="a password without a user"),
]


@each_form
@pytest.mark.parametrize(("text", "secret"), SECRETS)
class TestRedaction:
    """Whatever looks like a secret is taken out, wherever it stands."""

    def test_of_a_field(self, read: Read, form: Form, text: str, secret: str) -> None:
        logs.configure("INFO", form)

        logs.get_logger("ground.test").info("asked", url=text)

        written = read()
        assert secret not in written
        assert logs.REDACTED in written

    def test_of_a_message(self, read: Read, form: Form, text: str, secret: str) -> None:
        logs.configure("INFO", form)

        logs.get_logger("ground.test").info(text)

        assert secret not in read()

    def test_of_a_librarys_line(self, read: Read, form: Form, text: str, secret: str) -> None:
        logs.configure("INFO", form)

        logging.getLogger("library").warning("request: %s", text)

        written = read()
        assert "request: " in written
        assert secret not in written

    @pytest.mark.parametrize(
        "wrap",
        [
            pytest.param(lambda text: [1, text], id="a list"),
            pytest.param(lambda text: (text,), id="a tuple"),
            pytest.param(lambda text: {"deep": {"deeper": [text]}}, id="an object"),
            pytest.param(lambda text: ValueError(text), id="an exception"),
            pytest.param(lambda text: text.encode(), id="bytes"),
        ],
    )
    def test_of_what_stands_deeper(
        self, read: Read, form: Form, text: str, secret: str, wrap: Callable[[str], object]
    ) -> None:
        logs.configure("INFO", form)

        logs.get_logger("ground.test").info("asked", value=wrap(text))

        written = read()
        assert "value" in written
        assert secret not in written

    def test_of_a_traceback(self, read: Read, form: Form, text: str, secret: str) -> None:
        logs.configure("INFO", form)

        for log in (logs.get_logger("ground.test"), logging.getLogger("library")):
            try:
                raise ValueError(text)
            except ValueError:
                log.exception("failed")

        written = read()
        assert written.count("Traceback (most recent call last)") == 2
        assert written.count("ValueError: ") == 2
        assert secret not in written


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
def test_a_field_that_is_named_like_a_secret_is_not_written(
    read: Read, form: Form, name: str
) -> None:
    logs.configure("INFO", form)

    logs.get_logger("ground.test").info("asked", **{name: "hunter2"}, headers={name: ["hunter2"]})

    written = read()
    assert name in written
    assert "hunter2" not in written


@pytest.mark.parametrize("name", ["token_id", "tokens_checked", "secretary", "key", "course_id"])
def test_a_field_that_only_looks_it_is_written(read: Read, name: str) -> None:
    logs.configure("INFO", "json")

    logs.get_logger("ground.test").info("asked", **{name: "k7Qx2mPa"})

    assert one_line(read())[name] == "k7Qx2mPa"


def test_a_secret_that_is_not_there_is_told(read: Read) -> None:
    logs.configure("INFO", "json")

    logs.get_logger("ground.test").info("asked", token=None)

    assert one_line(read())["token"] is None


def test_values_that_json_has_no_word_for_are_text(read: Read) -> None:
    logs.configure("INFO", "json")

    logs.get_logger("ground.test").info(
        "asked", at=datetime(2026, 11, 22, tzinfo=UTC), points=Decimal("7.5"), which={"a"}
    )

    line = one_line(read())
    assert line["at"] == "2026-11-22 00:00:00+00:00"
    assert line["points"] == "7.5"
    assert line["which"] == ["a"]


HOSTILE = "a\nERROR forged\x1b[31m\u202e\x9b2J"


@each_form
def test_a_value_cannot_forge_a_line(read: Read, form: Form) -> None:
    logs.configure("INFO", form)

    logs.get_logger("ground.test").info("asked", title=HOSTILE)
    logging.getLogger("library").info("asked %s", HOSTILE)

    assert len(read().splitlines()) == 2


def test_a_value_cannot_act_on_the_terminal(read: Read) -> None:
    logs.configure("INFO", "text")

    logs.get_logger("ground.test").info("asked", title=HOSTILE, why=[HOSTILE])
    try:
        raise ValueError(HOSTILE)
    except ValueError:
        logs.get_logger("ground.test").exception("failed")

    written = read()
    assert not {"\x1b", "\u202e", "\x9b"} & set(written)
    assert "\\u202e" in written


@pytest.mark.parametrize(("text", "secret"), SECRETS)
def test_redact_is_for_other_texts_too(text: str, secret: str) -> None:
    cleaned = logs.redact(text)

    assert secret not in cleaned
    assert logs.REDACTED in cleaned
    assert cleaned.split("[", 1)[0] == text[: len(cleaned.split("[", 1)[0])]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "course CS101-2026 is deleted",
        "the bearer",
        "Send `Authorization: Bearer <admin key>`; the key stands in the service's settings.",
        "https://example.com:8443/hook?x=a@b",
        "eas_",
        "user@example.com",
    ],
)
def test_redact_leaves_plain_words_alone(text: str) -> None:
    assert logs.redact(text) == text


def test_what_a_vault_seals_is_known_by_its_looks() -> None:
    from pydantic import SecretStr

    encrypted = Vault(SecretStr("A" * 43 + "=")).encrypt("hunter2")

    assert logs.redact(f"row: {encrypted}") == f"row: {logs.REDACTED}"


@each_form
def test_no_character_acts_on_what_shows_the_log(read: Read, form: Form) -> None:
    """What turns a line around, ends it or colours it is spelled out in either form (B7)."""
    logs.configure("INFO", form)

    logs.get_logger("x").info("course added", title="a\u202eb\x1b[31m\x85\u2028c", odd="\ud800")

    assert all(map(str.isprintable, read().split("\n")))
