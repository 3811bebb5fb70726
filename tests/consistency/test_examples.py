"""The sample receivers in docs/examples."""

import os
import runpy
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from contract import events, signatures
from contract.events import CourseDeleted, CourseDeletedData
from contract.signatures import Secret

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
SECRET, OTHER = Secret.generate(), Secret.generate()
BEYOND_TOLERANCE = timedelta(minutes=5, seconds=5)

Headers = dict[str, str]
Accepts = Callable[[Headers, bytes], bool]


def make_body(version: int = 4) -> bytes:
    data = CourseDeletedData(source="eassessment", course_id="CS101", course_version=version)
    return events.dump(CourseDeleted(timestamp=datetime.now(UTC), data=data)).encode()


def sign(raw: bytes, *secrets: Secret, age: timedelta = timedelta()) -> Headers:
    """Return the headers of an attempt of this age."""
    return signatures.sign(secrets or (SECRET,), "msg_1", raw, now=datetime.now(UTC) - age)


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("WEBHOOK_SECRET", SECRET.reveal())
    return runpy.run_path(str(EXAMPLES / "webhook_receiver.py"))["app"].test_client()


@pytest.fixture(params=["python", "shell"])
def accepts(request: pytest.FixtureRequest) -> Accepts:
    """A function that returns whether the example accepts a webhook."""
    if request.param == "shell":
        return accepts_in_shell
    client = request.getfixturevalue("client")
    return lambda headers, raw: (
        client.post("/webhooks", data=raw, headers=headers).status_code == 200
    )


def accepts_in_shell(headers: Headers, raw: bytes) -> bool:
    """Return whether the shell script accepts a webhook."""
    values = [headers[f"webhook-{name}"] for name in ("id", "timestamp", "signature")]
    done = subprocess.run(
        ["sh", EXAMPLES / "verify_webhook.sh", *values],
        input=raw,
        env={**os.environ, "WEBHOOK_SECRET": SECRET.reveal()},
        capture_output=True,
        check=False,
    )
    return done.returncode == 0


@pytest.mark.parametrize(
    "secrets",
    [
        pytest.param([SECRET], id="one secret"),
        pytest.param([OTHER, SECRET], id="two during rotation"),
    ],
)
def test_example_accepts_signed_webhook(accepts: Accepts, secrets: list[Secret]) -> None:
    raw = make_body()

    assert accepts(sign(raw, *secrets), raw)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"webhook-id": "msg_2"}, id="other id"),
        pytest.param({"webhook-signature": ""}, id="no signature"),
        pytest.param({"webhook-signature": "*"}, id="shell pattern"),
        pytest.param({"webhook-timestamp": "9" * 5000}, id="thousands of digits"),
        pytest.param({"webhook-timestamp": "1e9"}, id="not an integer"),
    ],
)
def test_example_rejects_forged_header(accepts: Accepts, change: Headers) -> None:
    raw = make_body()

    assert not accepts({**sign(raw), **change}, raw)


@pytest.mark.parametrize(
    ("secret", "age"),
    [
        pytest.param(SECRET, BEYOND_TOLERANCE, id="old"),
        pytest.param(SECRET, -BEYOND_TOLERANCE, id="future"),
        pytest.param(OTHER, timedelta(), id="other secret"),
    ],
)
def test_example_rejects_other_time_or_secret(
    accepts: Accepts, secret: Secret, age: timedelta
) -> None:
    raw = make_body()

    assert not accepts(sign(raw, secret, age=age), raw)


def test_example_applies_each_version_once(client: Any, capsys: pytest.CaptureFixture[str]) -> None:
    ping = events.dump_ping("eassessment", datetime.now(UTC)).encode()
    sample = events.dump_sample("course.deleted", "eassessment", "CS102", datetime.now(UTC))
    bodies = [make_body(4), make_body(4), make_body(3), make_body(5), ping, sample.encode()]

    responses = [client.post("/webhooks", data=raw, headers=sign(raw)).json for raw in bodies]

    outcomes = [response["outcome"] for response in responses]
    assert outcomes == ["applied", "stale", "stale", "applied", "ignored", "ignored"]
    assert capsys.readouterr().out.splitlines() == ["course.deleted CS101"] * 2
