"""A saved request: signed or not, and what explains it."""

from datetime import UTC, datetime, timedelta

import pytest

from contract import signatures
from contract.signatures import Secret
from receiver.webhooks import saved_request

NINE = datetime(2026, 11, 22, 9, tzinfo=UTC)
SECRET, OTHER = Secret.generate(), Secret.generate()
BODY = '{"type":"endpoint.ping","data":{"source":"Übung"}}'.encode()
SIGNED = signatures.sign([SECRET], "msg_1", BODY, now=NINE)


def test_signed_request_is_valid_whatever_its_age() -> None:
    found = saved_request.check([OTHER, SECRET], SIGNED, BODY)

    assert (found.reason, found.signed_at, found.advice) == (None, NINE, None)
    assert found.is_current(NINE + timedelta(minutes=5))
    assert not found.is_current(NINE + timedelta(minutes=6))


@pytest.mark.parametrize(
    ("change", "reason", "detail"),
    [
        pytest.param(
            {"webhook-signature": ""}, "header-missing", "webhook-signature is missing", id="none"
        ),
        pytest.param({"webhook-id": "a,b"}, "header-malformed", "webhook-id", id="id"),
        pytest.param(
            {"webhook-timestamp": "1795338000000"},
            "header-malformed",
            "looks like milliseconds",
            id="milliseconds",
        ),
        pytest.param(
            {"webhook-timestamp": "9" * 5000}, "header-malformed", "webhook-timestamp", id="huge"
        ),
        pytest.param(
            {"webhook-timestamp": "1795338001"}, "signature-mismatch", "no signature", id="time"
        ),
        pytest.param({"webhook-id": "msg_2"}, "signature-mismatch", "no signature", id="other id"),
    ],
)
def test_unsigned_request_has_a_reason(change: dict[str, str], reason: str, detail: str) -> None:
    found = saved_request.check([SECRET], SIGNED | change, BODY)

    assert found.reason == reason
    assert detail in found.detail
    assert found.advice is not None


@pytest.mark.parametrize(
    ("saved", "why"),
    [
        pytest.param(BODY + b"\r\n", "the line end at the end of the file", id="line end"),
        pytest.param(b"\xef\xbb\xbf" + BODY, "the byte order mark", id="byte order mark"),
        pytest.param(
            b'{"type": "endpoint.ping", "data": {"source": "\\u00dcbung"}}',
            "the body was parsed and written again",
            id="written again",
        ),
    ],
)
def test_usual_change_of_a_body_is_recognised(saved: bytes, why: str) -> None:
    found = saved_request.check([SECRET], SIGNED, saved)

    assert found.reason == "signature-mismatch"
    assert found.detail.endswith(why)
    assert found.advice is not None
    assert "byte by byte" in found.advice.text


@pytest.mark.parametrize("body", [b"", b"[" * 100_000, b"\xff", b'{"a":"\\ud800"}'])
def test_any_other_body_does_not_match(body: bytes) -> None:
    found = saved_request.check([SECRET], SIGNED, body)

    assert found.detail == "no signature matches: the secret, id, timestamp or body is different"
