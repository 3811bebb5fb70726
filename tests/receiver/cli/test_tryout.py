"""`receiver verify`; `receiver listen` is tried in tests/integration."""

import json
import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner

from contract import signatures
from contract.signatures import Secret
from receiver.cli import main
from tests.receiver.cli.conftest import Receiver
from tests.receiver.conftest import Store

URL = "https://eassessment.example.ac.uk"
BODY = b'{"type":"endpoint.ping"}'
SECRET = Secret.generate()


def options(age: timedelta = timedelta()) -> list[str]:
    """Return the options for a request that was signed some time ago."""
    headers = signatures.sign([SECRET], "msg_1", BODY, now=datetime.now(UTC) - age)
    return [
        word
        for name, value in headers.items()
        for word in (f"--{name.removeprefix('webhook-')}", value)
    ]


@pytest.fixture
def body(tmp_path: Path) -> str:
    """The file of the body."""
    path = tmp_path / "body.json"
    path.write_bytes(BODY)
    return str(path)


def test_verify_uses_the_stored_secrets_of_a_source(
    receiver: Receiver, store: Store, body: str
) -> None:
    store.add_source("one", URL, (Secret.generate(), SECRET))
    store.add_source("two", URL, ())

    signed = receiver("verify", body, *options(timedelta(hours=3)), "--source", "one")
    without = receiver("verify", body, *options(), "--source", "two")
    unclear = receiver("verify", body, *options())

    first, second = signed.stdout.splitlines()
    assert (signed.exit_code, first) == (0, "OK: a secret has signed this body, id and timestamp.")
    assert second.endswith("UTC, 3 h ago: a receiver would refuse it now.")
    assert (without.exit_code, unclear.exit_code) == (1, 1)
    assert "the source two has no secret\n next: Add its secret. Run `receiver" in without.stderr


def test_verify_with_a_secret_from_the_environment_needs_no_settings(
    monkeypatch: pytest.MonkeyPatch, body: str
) -> None:
    monkeypatch.setenv("WEBHOOK_SECRET", SECRET.reveal())

    signed = CliRunner().invoke(main, ["verify", body, *options()])
    changed = CliRunner().invoke(main, ["verify", "-", *options(), "--json"], input="{}")
    monkeypatch.setenv("WEBHOOK_SECRET", "whsec_planted")
    invalid = CliRunner().invoke(main, ["verify", body, *options()])

    document = json.loads(changed.stdout)
    assert (signed.exit_code, changed.exit_code, invalid.exit_code) == (0, 1, 2)
    assert signed.stdout == "OK: a secret has signed this body, id and timestamp.\n"
    assert (document["ok"], document["reason"]) == (False, "signature-mismatch")
    assert document["is_current"] is True
    assert "planted" not in invalid.output


def test_listen_refuses_a_used_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as used:
        port = used.getsockname()[1]
        result = CliRunner().invoke(main, ["listen", "--port", str(port)])

    assert result.exit_code == 1
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in result.stderr
