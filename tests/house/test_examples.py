"""The receivers that the README shows take what is signed, and nothing else."""

import os
import re
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from contract import events, signatures
from contract.events import CourseDeleted, CourseDeletedData
from contract.signatures import Secret

ROOT = Path(__file__).parents[2]
SECRET, OTHER = Secret.generate(), Secret.generate()
REFUSED = "the signature is not made with our secret"
LATE = "the timestamp is missing, too old or too new"
FIVE_MINUTES = timedelta(minutes=5, seconds=5)

Headers = dict[str, str]
Verdict = tuple[bool, str]


def shown(language: str) -> str:
    """Return the README's one block of code in a language."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(rf"^```{language}\n(.*?)^```$", readme, re.DOTALL | re.MULTILINE)
    return str(code)


def body(version: int = 4) -> bytes:
    """Return the bytes of a deletion, as eAssessment writes them."""
    data = CourseDeletedData(source="eassessment", course_id="CS101", course_version=version)
    return events.dump(CourseDeleted(timestamp=datetime.now(UTC), data=data)).encode()


def signed(raw: bytes, *secrets: Secret, ago: timedelta = timedelta()) -> Headers:
    """Return the headers of an attempt that was made a while ago."""
    return signatures.sign(secrets or (SECRET,), "msg_1", raw, now=datetime.now(UTC) - ago)


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The receiver in Python, as the README shows it."""
    monkeypatch.setenv("WEBHOOK_SECRET", SECRET.reveal())
    names: dict[str, Any] = {"__name__": "receiver_of_your_own"}
    exec(shown("python"), names)
    return names["app"].test_client()


@pytest.fixture(params=["python", "shell"])
def verdict(request: pytest.FixtureRequest) -> Callable[[Headers, bytes], Verdict]:
    """Return what asks an example whether it takes a webhook, and what it says of it."""
    if request.param == "shell":
        return in_shell
    client = request.getfixturevalue("client")

    def ask(headers: Headers, raw: bytes) -> Verdict:
        answer = client.post("/webhooks", data=raw, headers=headers)
        return answer.status_code == 200, answer.json.get("detail", "signed with our secret")

    return ask


def in_shell(headers: Headers, raw: bytes) -> Verdict:
    """Return what the script says of a webhook."""
    given = [headers.get(f"webhook-{name}", "") for name in ("id", "timestamp", "signature")]
    done = subprocess.run(
        ["sh", "-c", shown("sh"), "check.sh", *given],
        input=raw,
        env={**os.environ, "WEBHOOK_SECRET": SECRET.reveal()},
        capture_output=True,
        check=False,
    )
    return done.returncode == 0, (done.stdout + done.stderr).decode().strip()


@pytest.mark.parametrize(
    "secrets",
    [
        pytest.param([SECRET], id="one secret"),
        pytest.param([OTHER, SECRET], id="two while it rotates"),
    ],
)
def test_what_is_signed_is_taken(
    verdict: Callable[[Headers, bytes], Verdict], secrets: list[Secret]
) -> None:
    raw = body()

    assert verdict(signed(raw, *secrets), raw) == (True, "signed with our secret")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        pytest.param({"webhook-id": "msg_2"}, REFUSED, id="another id"),
        pytest.param({"webhook-signature": "v1,AAAA"}, REFUSED, id="another signature"),
        pytest.param({"webhook-signature": ""}, REFUSED, id="no signature"),
        pytest.param({"webhook-signature": "*"}, REFUSED, id="a star"),
        pytest.param({"webhook-timestamp": ""}, LATE, id="no timestamp"),
        pytest.param({"webhook-timestamp": "9" * 5000}, LATE, id="thousands of digits"),
        pytest.param({"webhook-timestamp": "1e9"}, LATE, id="no whole number"),
    ],
)
def test_what_is_forged_is_refused(
    verdict: Callable[[Headers, bytes], Verdict], change: Headers, said: str
) -> None:
    raw = body()

    assert verdict({**signed(raw), **change}, raw) == (False, said)


@pytest.mark.parametrize("ago", [FIVE_MINUTES, -FIVE_MINUTES], ids=["old", "ahead"])
def test_what_is_too_old_or_too_new_is_refused(
    verdict: Callable[[Headers, bytes], Verdict], ago: timedelta
) -> None:
    raw = body()

    assert verdict(signed(raw, ago=ago), raw) == (False, LATE)


def test_another_secret_is_refused(verdict: Callable[[Headers, bytes], Verdict]) -> None:
    raw = body()

    assert verdict(signed(raw, OTHER), raw) == (False, REFUSED)


def test_each_change_is_acted_upon_once(client: Any, capsys: pytest.CaptureFixture[str]) -> None:
    ping = events.dump_ping("eassessment", datetime.now(UTC)).encode()
    told = [body(4), body(4), body(3), body(5), ping]

    answers = [client.post("/webhooks", data=raw, headers=signed(raw)).json for raw in told]

    outcomes = ["applied", "stale", "stale", "applied", "ignored"]
    assert [answer["outcome"] for answer in answers] == outcomes
    assert capsys.readouterr().out.splitlines() == ["course.deleted CS101"] * 2
