"""Signatures of Standard Webhooks 1.0: what we sign and what we verify."""

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import standardwebhooks
from hypothesis import given
from hypothesis import strategies as st

from contract import signatures
from contract.signatures import (
    MalformedHeaderError,
    MissingHeaderError,
    NoMatchError,
    Secret,
    SecretError,
    SignatureError,
    TimestampError,
)

VECTORS = json.loads((Path(__file__).parent / "vectors.json").read_text())["sign"]
NOW = datetime(2026, 11, 22, 9, 0, 0, 750_000, tzinfo=UTC)
SECRET = Secret(bytes(range(32)))
OTHER = Secret(bytes(range(32, 64)))
ID = "evt_2K5E7Y8J6T4Q"
BODY = b'{"type":"course.deleted"}'
ID_HEADER, TIMESTAMP, SIGNATURE = "webhook-id", "webhook-timestamp", "webhook-signature"


def make_headers(**overrides: Any) -> dict[str, str]:
    """Return the headers of `BODY` signed with `SECRET` now, with overrides."""
    made = {"keys": [SECRET], "webhook_id": ID, "body": BODY, "now": NOW, **overrides}
    return signatures.sign(**made)


GOOD = make_headers()[SIGNATURE]


def verify(headers: Mapping[str, str], body: bytes = BODY, *, now: datetime = NOW) -> str:
    return signatures.verify([SECRET], headers, body, now=now)


@pytest.mark.parametrize("vector", VECTORS, ids=[vector["id"] for vector in VECTORS])
def test_published_vectors(vector: dict[str, Any]) -> None:
    keys = [Secret.parse(text) for text in vector.get("secrets") or [vector["secret"]]]
    body, now = vector["body"].encode(), datetime.fromtimestamp(vector["timestamp"], UTC)
    headers = {
        ID_HEADER: vector["id"],
        TIMESTAMP: str(vector["timestamp"]),
        SIGNATURE: vector["signature"],
    }

    assert signatures.sign(keys, vector["id"], body, now=now) == headers
    for key in keys:
        assert signatures.verify([key], headers, body, now=now) == vector["id"]
    with pytest.raises(NoMatchError):
        signatures.verify([Secret(b"x" * 32)], headers, body, now=now)


def test_other_library_verifies_our_signature() -> None:
    headers = make_headers(now=datetime.now(UTC))

    assert standardwebhooks.Webhook(SECRET.reveal()).verify(BODY, headers) == json.loads(BODY)


def test_we_verify_signature_of_other_library() -> None:
    signed = standardwebhooks.Webhook(SECRET.reveal()).sign(ID, NOW, BODY.decode())

    headers = {ID_HEADER: ID, TIMESTAMP: str(int(NOW.timestamp())), SIGNATURE: signed}

    assert verify(headers) == ID


def test_signing_needs_a_secret() -> None:
    with pytest.raises(ValueError, match="no secret"):
        make_headers(keys=[])


@pytest.mark.parametrize("stored", [SECRET, OTHER], ids=["new secret", "old secret"])
def test_either_secret_verifies_during_rotation(stored: Secret) -> None:  # F22
    headers = make_headers(keys=[SECRET, OTHER])

    assert signatures.verify([stored], headers, BODY, now=NOW) == ID


def test_every_secret_of_the_receiver_is_tried() -> None:
    headers = make_headers(keys=[OTHER])

    assert signatures.verify([SECRET, OTHER], headers, BODY, now=NOW) == ID
    with pytest.raises(NoMatchError):
        signatures.verify([], headers, BODY, now=NOW)


class _Watched(bytes):
    """Bytes that must not be compared with `==`, which stops at the first difference."""

    def __eq__(self, other: object) -> bool:
        raise AssertionError("compared with ==")

    __hash__ = bytes.__hash__


def test_signatures_are_compared_in_constant_time() -> None:
    parsed = signatures.parse_headers(make_headers(), now=NOW)
    good = replace(parsed, signatures=(_Watched(parsed.signatures[0]),))
    wrong = replace(parsed, signatures=(_Watched(bytes(32)),))

    assert signatures.verify_body([SECRET], good, BODY) == ID
    with pytest.raises(NoMatchError):
        signatures.verify_body([SECRET], wrong, BODY)


@pytest.mark.parametrize("position", ["first", "last"])
def test_one_good_signature_among_others_is_enough(position: str) -> None:
    others = make_headers(keys=[OTHER])[SIGNATURE] + " v1a,AAAA v2,abc v1,a-b_ v1,AAA"
    listed = f"{GOOD} {others}" if position == "first" else f"{others} {GOOD}"

    assert verify({**make_headers(), SIGNATURE: listed}) == ID


def test_headers_are_parsed_without_a_secret() -> None:
    parsed = signatures.parse_headers(make_headers(keys=[SECRET, OTHER]), now=NOW)

    assert (parsed.webhook_id, parsed.timestamp) == (ID, make_headers()[TIMESTAMP])
    assert len(parsed.signatures) == 2


each_header = pytest.mark.parametrize("name", [ID_HEADER, TIMESTAMP, SIGNATURE])


@each_header
@pytest.mark.parametrize("value", [None, ""], ids=["missing", "empty"])
def test_missing_header_is_refused(name: str, value: str | None) -> None:  # B1
    headers = {**make_headers(), name: value}

    with pytest.raises(MissingHeaderError, match=name):
        verify({key: text for key, text in headers.items() if text is not None})


@each_header
@pytest.mark.parametrize(
    "value",
    [
        pytest.param("{good},{good}", id="doubled"),
        pytest.param("{good} ", id="trailing space"),
        pytest.param("é", id="Latin-1"),
        pytest.param("\ud800", id="lone surrogate"),
        pytest.param("1\x00" * 4096, id="8 kB"),
    ],
)
def test_malformed_header_is_refused(name: str, value: str) -> None:  # B1
    headers = make_headers()

    with pytest.raises(MalformedHeaderError, match=name):
        verify({**headers, name: value.replace("{good}", headers[name])})


@pytest.mark.parametrize(
    "value",
    [
        pytest.param("garbage", id="garbage"),
        pytest.param(",AAAA", id="no version"),
        pytest.param("v1,AAAA  v1,AAAA", id="two spaces"),
        pytest.param("v1,A*AA", id="not base64"),
        pytest.param(" ".join(["v1,AAAA"] * 10_000), id="10,000 signatures"),
    ],
)
def test_malformed_signature_is_refused(value: str) -> None:  # B2
    with pytest.raises(MalformedHeaderError, match="expected `v1,<base64>`"):
        verify({**make_headers(), SIGNATURE: value})


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(GOOD[:-1], id="without padding"),
        pytest.param(GOOD + "AAAA", id="longer"),
        pytest.param(GOOD.replace("v1,", "v1a,"), id="asymmetric version"),
        pytest.param("v2,AAAA v3,AAAA", id="only unknown versions"),
    ],
)
def test_wrong_signature_does_not_match(value: str) -> None:  # B2
    with pytest.raises(NoMatchError):
        verify({**make_headers(), SIGNATURE: value})


def test_only_the_canonical_base64_matches() -> None:
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

    for char in set(alphabet) - {GOOD[-2]}:
        with pytest.raises(NoMatchError):
            verify({**make_headers(), SIGNATURE: GOOD[:-2] + char + "="})


@pytest.mark.parametrize(
    ("value", "message"),
    [
        pytest.param("9e99", "expected whole seconds", id="letters"),
        pytest.param("-1", "expected whole seconds", id="sign"),
        pytest.param("1700000000.0", "expected whole seconds", id="float"),
        pytest.param("1_700_000_000", "expected whole seconds", id="underscores"),
        pytest.param("\uff11\uff17", "expected whole seconds", id="full-width digits"),
        pytest.param("1" * 5000, "expected whole seconds", id="5,000 digits"),
        pytest.param("1795338000750", "milliseconds", id="milliseconds"),
    ],
)
def test_malformed_timestamp_is_refused(value: str, message: str) -> None:  # B3
    with pytest.raises(MalformedHeaderError, match=message):
        verify({**make_headers(), TIMESTAMP: value})


@pytest.mark.parametrize("seconds", [-301, 301])
def test_timestamp_beyond_five_minutes_is_refused_with_both_times(seconds: int) -> None:  # F18
    signed = NOW + timedelta(seconds=seconds)

    with pytest.raises(TimestampError) as caught:
        verify(make_headers(now=signed))

    for time in (signed, NOW):
        assert str(int(time.timestamp())) in str(caught.value)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(-300, NoMatchError), (300, NoMatchError), (-301, TimestampError), (300.01, TimestampError)],
)
def test_tolerance_is_exact(seconds: float, expected: type[SignatureError]) -> None:  # F18
    headers = {**make_headers(), TIMESTAMP: "1700000000"}
    now = datetime.fromtimestamp(1_700_000_000, UTC) + timedelta(seconds=seconds)

    with pytest.raises(expected):
        verify(headers, now=now)


def test_every_flipped_bit_is_refused() -> None:  # F21
    headers = make_headers()

    for bit in range(len(BODY) * 8):
        changed = bytearray(BODY)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(NoMatchError):
            verify(headers, bytes(changed))
    for name in (ID_HEADER, TIMESTAMP):
        value = headers[name]
        for position, bit in ((p, b) for p in range(len(value)) for b in range(8)):
            flipped = chr(ord(value[position]) ^ 1 << bit)
            with pytest.raises(SignatureError):
                verify({**headers, name: value[:position] + flipped + value[position + 1 :]})


@pytest.mark.parametrize("webhook_id", ["a.1", "a,b", "a b", "a" * 256])
def test_ambiguous_id_is_refused(webhook_id: str) -> None:  # B1
    with pytest.raises(MalformedHeaderError, match="no comma or dot"):
        verify(make_headers(webhook_id=webhook_id))


@pytest.mark.parametrize("webhook_id", ["a" * 255, "msg_~!-/:@[`{}"])
def test_other_visible_characters_are_allowed_in_an_id(webhook_id: str) -> None:
    assert verify(make_headers(webhook_id=webhook_id)) == webhook_id


header_values = (
    st.text()
    | st.sampled_from(["", "v1,", GOOD, GOOD[:-1], f"{GOOD} {GOOD}", ID, "1795338000", "9e99"])
    | st.from_regex(r"v[12]a?,[A-Za-z0-9+/=_-]*", fullmatch=True)
)


@given(
    st.dictionaries(st.sampled_from([ID_HEADER, TIMESTAMP, SIGNATURE]), header_values),
    st.binary() | st.just(BODY),
)
def test_verify_raises_nothing_but_signature_errors(headers: dict[str, str], body: bytes) -> None:
    try:
        verified = verify(headers, body)
    except SignatureError:
        return

    assert (verified, body) == (ID, BODY)
    assert headers[TIMESTAMP] == make_headers()[TIMESTAMP]
    assert GOOD in headers[SIGNATURE].split(" ")


def test_new_secrets_have_32_random_bytes() -> None:
    keys = {Secret.generate().key for _ in range(50)}

    assert len(keys) == 50
    assert {len(key) for key in keys} == {32}


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(SECRET.reveal(), id="as revealed"),
        pytest.param(SECRET.reveal().removeprefix("whsec_"), id="without prefix"),
        pytest.param(f" {SECRET.reveal()}\n", id="with white space"),
    ],
)
def test_revealed_secret_is_parsed(text: str) -> None:
    assert Secret.parse(text) == SECRET


@pytest.mark.parametrize("length", [24, 64])
def test_24_to_64_bytes_are_allowed(length: int) -> None:
    encoded = "whsec_" + base64.b64encode(b"k" * length).decode()

    assert Secret.parse(encoded).key == b"k" * length


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param(base64.b64encode(b"k" * 23).decode(), id="23 bytes"),
        pytest.param(base64.b64encode(b"k" * 65).decode(), id="65 bytes"),
        pytest.param("whsec_hunter2!", id="not base64"),
        pytest.param("whsec_" + "A" * 33, id="cut off"),
        pytest.param("whsec_" + "é" * 32, id="not ASCII"),
    ],
)
def test_invalid_secret_is_refused_without_showing_it(text: str) -> None:
    with pytest.raises(SecretError) as caught:
        Secret.parse(text)

    assert len(text) < 10 or text not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize(
    "shown",
    [
        pytest.param(repr(SECRET), id="repr"),
        pytest.param(f"{[SECRET]}", id="in a list"),
        pytest.param("%s %r" % (SECRET, SECRET), id="percent"),  # noqa: UP031 - as logging does
    ],
)
def test_secret_is_hidden_in_text(shown: str) -> None:
    assert "Secret(hidden)" in shown
    assert not re.search(re.escape(base64.b64encode(SECRET.key).decode()), shown)
    assert repr(SECRET.key) not in shown


def test_refusal_shows_no_signature() -> None:
    with pytest.raises(NoMatchError) as caught:
        verify({**make_headers(), ID_HEADER: "other"})

    assert GOOD not in str(caught.value)
