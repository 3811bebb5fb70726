"""Standard Webhooks 1.0 signatures: sign to three headers, verify to an id or an error."""

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
from freezegun import freeze_time
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
    """Return the headers of `BODY` signed with `SECRET` now, but for the overrides."""
    made = {"keys": [SECRET], "webhook_id": ID, "body": BODY, "now": NOW, **overrides}
    return signatures.sign(**made)


def verify(headers: Mapping[str, str], body: bytes = BODY, *, now: datetime = NOW) -> str:
    """Verify with `SECRET`, now."""
    return signatures.verify([SECRET], headers, body, now=now)


def secrets_of(vector: dict[str, Any]) -> list[str]:
    """Return the secrets of a published vector: one, or several."""
    return vector.get("secrets") or [vector["secret"]]


def moment_of(vector: dict[str, Any]) -> datetime:
    """Return when a published vector was signed."""
    return datetime.fromtimestamp(vector["timestamp"], UTC)


def headers_of(vector: dict[str, Any]) -> dict[str, str]:
    """Return the headers of a published vector."""
    return {
        ID_HEADER: vector["id"],
        TIMESTAMP: str(vector["timestamp"]),
        SIGNATURE: vector["signature"],
    }


def with_signature(value: str) -> dict[str, str]:
    """Return good headers whose signature is replaced."""
    return {**make_headers(), SIGNATURE: value}


@pytest.mark.parametrize("vector", VECTORS, ids=[vector["id"] for vector in VECTORS])
class TestPublishedVectors:
    """What every Standard Webhooks library agrees on."""

    def test_we_make_the_published_signature(self, vector: dict[str, Any]) -> None:
        keys = [Secret.parse(text) for text in secrets_of(vector)]

        signed = signatures.sign(keys, vector["id"], vector["body"].encode(), now=moment_of(vector))

        assert signed == headers_of(vector)

    def test_we_verify_the_published_signature_with_each_secret(
        self, vector: dict[str, Any]
    ) -> None:
        body, now = vector["body"].encode(), moment_of(vector)

        verified = [
            signatures.verify([Secret.parse(text)], headers_of(vector), body, now=now)
            for text in secrets_of(vector)
        ]

        assert verified == [vector["id"]] * len(secrets_of(vector))

    def test_we_refuse_the_published_signature_with_another_secret(
        self, vector: dict[str, Any]
    ) -> None:
        stranger = Secret(b"x" * 32)

        with pytest.raises(NoMatchError, match="no signature matches: another secret, or a"):
            signatures.verify(
                [stranger], headers_of(vector), vector["body"].encode(), now=moment_of(vector)
            )


def test_another_library_verifies_what_we_sign() -> None:
    now = datetime.now(UTC)
    headers = make_headers(now=now)

    told = standardwebhooks.Webhook(SECRET.reveal()).verify(BODY, headers)

    assert told == json.loads(BODY)


def test_we_verify_what_another_library_signs() -> None:
    library = standardwebhooks.Webhook(SECRET.reveal())
    signed = library.sign(ID, NOW, BODY.decode())

    verified = verify({ID_HEADER: ID, TIMESTAMP: str(int(NOW.timestamp())), SIGNATURE: signed})

    assert verified == ID


@freeze_time(NOW)
def test_another_library_refuses_what_we_sign_with_another_secret() -> None:
    headers = make_headers(keys=[OTHER])

    with pytest.raises(standardwebhooks.WebhookVerificationError, match="No matching signature"):
        standardwebhooks.Webhook(SECRET.reveal()).verify(BODY, headers)


def test_signing_without_a_secret_is_refused() -> None:
    with pytest.raises(ValueError, match="no secret to sign with"):
        make_headers(keys=[])


def test_the_timestamp_is_whole_seconds_of_the_attempt() -> None:
    assert make_headers()[TIMESTAMP] == str(int(NOW.replace(microsecond=0).timestamp()))


@pytest.mark.parametrize("held", [SECRET, OTHER], ids=["the new secret", "the old secret"])
def test_while_a_secret_rotates_either_verifies(held: Secret) -> None:
    headers = make_headers(keys=[SECRET, OTHER])

    assert signatures.verify([held], headers, BODY, now=NOW) == ID


def test_each_secret_that_the_receiver_holds_is_tried() -> None:
    headers = make_headers(keys=[OTHER])

    assert signatures.verify([SECRET, OTHER], headers, BODY, now=NOW) == ID


def test_without_secrets_nothing_verifies() -> None:
    with pytest.raises(NoMatchError, match="no signature matches"):
        signatures.verify([], make_headers(), BODY, now=NOW)


class _Watched(bytes):
    """Bytes that must not be compared with `==`, which stops at the first difference."""

    def __eq__(self, other: object) -> bool:
        raise AssertionError("compared with ==")

    __hash__ = bytes.__hash__


def test_signatures_are_compared_in_constant_time() -> None:
    stamp = signatures.read(make_headers(), now=NOW)
    good = replace(stamp, signatures=(_Watched(stamp.signatures[0]),))
    wrong = replace(stamp, signatures=(_Watched(bytes(32)),))

    assert signatures.verify_stamp([SECRET], good, BODY) == ID
    with pytest.raises(NoMatchError):
        signatures.verify_stamp([SECRET], wrong, BODY)


@pytest.mark.parametrize("where", ["before", "behind"])
def test_one_good_signature_among_several_is_enough(where: str) -> None:
    good = make_headers()[SIGNATURE]
    others = make_headers(keys=[OTHER])[SIGNATURE] + " v1a,AAAA v2,abc v1,a-b_ v1,AAA"
    listed = f"{good} {others}" if where == "before" else f"{others} {good}"

    assert verify(with_signature(listed)) == ID


def test_an_empty_body_can_be_signed() -> None:
    headers = make_headers(body=b"")

    assert verify(headers, b"") == ID


@pytest.mark.parametrize("name", [ID_HEADER, TIMESTAMP, SIGNATURE])
class TestEachHeader:
    """What no header may be."""

    def test_a_missing_header_is_named(self, name: str) -> None:
        headers = make_headers()
        del headers[name]

        with pytest.raises(MissingHeaderError, match=f"^the header {name} is missing$"):
            verify(headers)

    def test_an_empty_header_is_missing(self, name: str) -> None:
        with pytest.raises(MissingHeaderError, match=f"^the header {name} is missing$"):
            verify({**make_headers(), name: ""})

    def test_a_doubled_header_is_malformed(self, name: str) -> None:
        headers = make_headers()
        doubled = {**headers, name: f"{headers[name]},{headers[name]}"}

        with pytest.raises(MalformedHeaderError, match=f"^the header {name} is malformed"):
            verify(doubled)

    @pytest.mark.parametrize(
        "value",
        [
            pytest.param("1" * 8192, id="8 kB"),
            pytest.param("é", id="Latin-1"),
            pytest.param("\u0661\u0667", id="digits of another script"),
            pytest.param("\ud800", id="a lone surrogate"),
            pytest.param(" ", id="a space"),
            pytest.param("1\n", id="a line break"),
            pytest.param("1\x00", id="NUL"),
        ],
    )
    def test_a_header_in_another_form_is_malformed(self, name: str, value: str) -> None:
        with pytest.raises(MalformedHeaderError, match=f"^the header {name} is malformed; expect"):
            verify({**make_headers(), name: value})

    def test_what_stands_around_a_header_is_not_taken_off(self, name: str) -> None:
        headers = make_headers()

        with pytest.raises(MalformedHeaderError, match=f"the header {name} is malformed"):
            verify({**headers, name: headers[name] + " "})


@pytest.mark.parametrize(
    "value",
    [
        pytest.param("garbage", id="garbage"),
        pytest.param("v1", id="a version alone"),
        pytest.param("v1,", id="nothing behind the comma"),
        pytest.param(",AAAA", id="nothing before the comma"),
        pytest.param("v1,a,b", id="two commas"),
        pytest.param("v1;AAAA", id="a semicolon"),
        pytest.param("v1,AAAA  v1,AAAA", id="two spaces"),
        pytest.param(" v1,AAAA", id="a space before"),
        pytest.param("v1,AAAA\tv1,AAAA", id="a tab"),
        pytest.param("v1,A*AA", id="what base64 has not"),
        pytest.param("v1, AAAA", id="a space behind the comma"),
        pytest.param(" ".join(["v1,AAAA"] * 10_000), id="10,000 signatures"),
        pytest.param("v1," + "A" * 10_000, id="one of 10,000 characters"),
    ],
)
def test_a_signature_header_in_another_form_is_malformed(value: str) -> None:
    with pytest.raises(MalformedHeaderError, match="expected `v1,<base64>`, split by one space"):
        verify(with_signature(value))


GOOD = make_headers()[SIGNATURE]


@pytest.mark.parametrize(
    "value",
    [
        pytest.param("v1,AAAA", id="a short one"),
        pytest.param("v1,A", id="bad base64"),
        pytest.param("v1,====", id="only padding"),
        pytest.param("v1,AA=A", id="padding within"),
        pytest.param(GOOD[:-1], id="its padding cut off"),
        pytest.param(GOOD[:-5], id="cut short"),
        pytest.param(GOOD + "AAAA", id="longer"),
        pytest.param(GOOD.replace("v1,", "v2,"), id="another version"),
        pytest.param(GOOD.replace("v1,", "V1,"), id="a capital V"),
        pytest.param(GOOD.replace("v1,", "v1a,"), id="the asymmetric version"),
        pytest.param("v2,AAAA v3,AAAA", id="only unknown versions"),
        pytest.param(GOOD.swapcase().replace("V1", "v1"), id="in other case"),
    ],
)
def test_a_signature_that_is_not_ours_matches_nothing(value: str) -> None:
    with pytest.raises(NoMatchError, match="no signature matches"):
        verify(with_signature(value))


def test_every_other_last_character_is_refused() -> None:
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    others = [GOOD[:-2] + char + "=" for char in alphabet if char != GOOD[-2]]

    accepted = []
    for value in others:
        try:
            verify(with_signature(value))
        except NoMatchError:
            continue
        accepted.append(value)

    assert len(others) == 63
    assert accepted == []


@pytest.mark.parametrize(
    "value",
    [
        pytest.param("abc", id="letters"),
        pytest.param("nan", id="nan"),
        pytest.param("inf", id="infinity"),
        pytest.param("9e99", id="an exponent"),
        pytest.param("-1", id="before 1970"),
        pytest.param("+1700000000", id="a plus"),
        pytest.param("1700000000.0", id="a float"),
        pytest.param(" 1700000000", id="a space before"),
        pytest.param("1700000000 ", id="a space behind"),
        pytest.param("1_700_000_000", id="underscores"),
        pytest.param("0x6553f100", id="hexadecimal"),
        pytest.param(
            "\uff11\uff17\uff10\uff10\uff10\uff10\uff10\uff10\uff10\uff10", id="full-width digits"
        ),
        pytest.param(
            "\u0661\u0667\u0660\u0660\u0660\u0660\u0660\u0660\u0660\u0660", id="Arabic digits"
        ),
        pytest.param("1²", id="a superscript"),
        pytest.param("1" * 5000, id="5,000 digits"),
        pytest.param("2026-11-22T09:00:00Z", id="a date"),
    ],
)
def test_a_timestamp_that_is_no_whole_number_is_malformed(value: str) -> None:
    with pytest.raises(
        MalformedHeaderError,
        match=f"the header {TIMESTAMP} is malformed; expected whole seconds since 1970",
    ):
        verify({**make_headers(), TIMESTAMP: value})


def test_a_timestamp_in_milliseconds_says_so() -> None:
    with pytest.raises(
        MalformedHeaderError, match=f"^{TIMESTAMP} looks like milliseconds; expected whole seconds"
    ):
        verify({**make_headers(), TIMESTAMP: str(int(NOW.timestamp() * 1000))})


@pytest.mark.parametrize("seconds", [-299, 0, 299])
def test_a_clock_within_five_minutes_is_accepted(seconds: int) -> None:
    headers = make_headers(now=NOW + timedelta(seconds=seconds))

    assert verify(headers) == ID


@pytest.mark.parametrize("seconds", [-301, 301, -86_400, 86_400])
def test_a_clock_beyond_five_minutes_is_told_both_times(seconds: int) -> None:
    signed = NOW + timedelta(seconds=seconds)
    headers = make_headers(now=signed)

    with pytest.raises(TimestampError) as caught:
        verify(headers)

    assert str(caught.value) == (
        f"signed at {int(signed.timestamp())}, but the clock here says {int(NOW.timestamp())}: "
        "more than 300 s apart"
    )


@pytest.mark.parametrize(
    ("seconds", "fresh"), [(-300, True), (300, True), (-300.001, False), (300.001, False)]
)
def test_the_bound_is_exact(seconds: float, fresh: bool) -> None:
    headers = {**make_headers(), TIMESTAMP: "1700000000"}
    now = datetime.fromtimestamp(1_700_000_000, UTC) + timedelta(seconds=seconds)
    refusal = NoMatchError if fresh else TimestampError

    with pytest.raises(SignatureError) as caught:
        verify(headers, now=now)

    assert type(caught.value) is refusal


@given(st.integers(0, len(BODY) * 8 - 1))
def test_a_bit_flipped_in_the_body_is_refused(bit: int) -> None:
    changed = bytearray(BODY)
    changed[bit // 8] ^= 1 << bit % 8

    with pytest.raises(NoMatchError):
        verify(make_headers(), bytes(changed))


@pytest.mark.parametrize("name", [ID_HEADER, TIMESTAMP])
def test_every_bit_flipped_in_id_or_timestamp_is_refused(name: str) -> None:
    headers = make_headers()
    value = headers[name]
    flipped = [
        value[:place] + chr(ord(value[place]) ^ 1 << bit) + value[place + 1 :]
        for place in range(len(value))
        for bit in range(8)
    ]

    accepted = []
    for other in flipped:
        try:
            verify({**headers, name: other})
        except SignatureError:
            continue
        accepted.append(other)

    assert len(flipped) == len(value) * 8
    assert accepted == []


@pytest.mark.parametrize(
    ("webhook_id", "body"),
    [
        pytest.param("a.1", b"", id="a dot in the id"),
        pytest.param("a,b", b"", id="a comma in the id"),
        pytest.param("a b", b"", id="a space in the id"),
        pytest.param("a" * 256, b"", id="256 characters"),
    ],
)
def test_an_id_that_could_be_read_two_ways_is_malformed(webhook_id: str, body: bytes) -> None:
    headers = make_headers(webhook_id=webhook_id, body=body)

    with pytest.raises(MalformedHeaderError, match="1 to 255 visible characters, no comma or dot"):
        verify(headers, body)


@pytest.mark.parametrize("webhook_id", ["a", "a" * 255, "msg_~!-/:@[`{}", "+-"])
def test_every_other_visible_character_may_stand_in_an_id(webhook_id: str) -> None:
    assert verify(make_headers(webhook_id=webhook_id)) == webhook_id


header_values = (
    st.text()
    | st.sampled_from(
        [
            "",
            "v1,",
            "v1,a,b",
            GOOD,
            GOOD[:-1],
            f"{GOOD} {GOOD}",
            ID,
            str(int(NOW.timestamp())),
            "9e99",
        ]
    )
    | st.from_regex(r"v[12]a?,[A-Za-z0-9+/=_-]*", fullmatch=True)
)


@given(
    st.dictionaries(st.sampled_from([ID_HEADER, TIMESTAMP, SIGNATURE]), header_values),
    st.binary() | st.just(BODY),
)
def test_any_request_is_an_id_or_a_signature_error(headers: dict[str, str], body: bytes) -> None:
    signed = make_headers()

    try:
        verified = verify(headers, body)
    except SignatureError:
        return

    assert verified == ID
    assert body == BODY
    assert {**headers, SIGNATURE: ""} == {**signed, SIGNATURE: ""}
    assert GOOD in headers[SIGNATURE].split(" ")


@given(st.lists(st.binary(min_size=24, max_size=64), min_size=1, max_size=3), st.binary())
def test_whatever_is_signed_verifies(keys: list[bytes], body: bytes) -> None:
    held = [Secret(key) for key in keys]
    headers = signatures.sign(held, ID, body, now=NOW)

    assert signatures.verify(held[-1:], headers, body, now=NOW) == ID


class TestSecret:
    """Webhook secrets, which show themselves to nobody."""

    def test_a_new_secret_has_32_bytes_and_is_like_no_other(self) -> None:
        made = {Secret.generate().key for _ in range(50)}

        assert len(made) == 50
        assert {len(key) for key in made} == {32}

    def test_what_is_revealed_is_parsed_alike(self) -> None:
        secret = Secret.generate()

        assert secret.reveal().startswith("whsec_")
        assert Secret.parse(secret.reveal()) == secret

    @pytest.mark.parametrize(
        "text",
        [
            pytest.param(SECRET.reveal().removeprefix("whsec_"), id="without its prefix"),
            pytest.param(f" {SECRET.reveal()}\n", id="with space around it"),
        ],
    )
    def test_a_secret_is_read_as_people_paste_it(self, text: str) -> None:
        assert Secret.parse(text) == SECRET

    @pytest.mark.parametrize("length", [24, 64])
    def test_the_standard_allows_24_to_64_bytes(self, length: int) -> None:
        encoded = "whsec_" + base64.b64encode(b"k" * length).decode()

        assert Secret.parse(encoded).key == b"k" * length

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            pytest.param("", "24 to 64 bytes; this one holds 0", id="empty"),
            pytest.param("whsec_", "24 to 64 bytes; this one holds 0", id="a prefix alone"),
            pytest.param(
                base64.b64encode(b"k" * 23).decode(), "this one holds 23", id="a byte too short"
            ),
            pytest.param(
                base64.b64encode(b"k" * 65).decode(), "this one holds 65", id="a byte too long"
            ),
            pytest.param("whsec_hunter2!", "is `whsec_` and base64; this is not", id="no base64"),
            pytest.param("whsec_" + "A" * 33, "base64; this is not", id="cut short"),
            pytest.param("whsec_" + "é" * 32, "base64; this is not", id="not ASCII"),
            pytest.param("whsec_" + "AAAA " * 8, "base64; this is not", id="spaces within"),
        ],
    )
    def test_what_is_no_secret_is_refused_unseen(self, text: str, message: str) -> None:
        with pytest.raises(SecretError, match=re.escape(message)) as caught:
            Secret.parse(text)

        assert len(text) < 10 or text not in str(caught.value)
        assert caught.value.__suppress_context__ or caught.value.__context__ is None

    @pytest.mark.parametrize(
        "shown",
        [
            pytest.param(repr(SECRET), id="repr"),
            pytest.param(str(SECRET), id="str"),
            pytest.param(f"{SECRET}", id="format"),
            pytest.param(f"{[SECRET]}", id="in a list"),
            pytest.param("%s %r" % (SECRET, SECRET), id="percent"),  # noqa: UP031 - as logging does
            pytest.param(str(ValueError(SECRET)), id="in an exception"),
        ],
    )
    def test_a_secret_never_shows_itself(self, shown: str) -> None:
        encoded = base64.b64encode(SECRET.key).decode()

        assert "Secret(hidden)" in shown
        assert encoded not in shown
        assert repr(SECRET.key) not in shown

    def test_a_refused_request_shows_no_secret(self) -> None:
        headers = make_headers()

        with pytest.raises(NoMatchError) as caught:
            verify({**headers, ID_HEADER: "other"})

        assert headers[SIGNATURE] not in str(caught.value)
        assert str(caught.value) == (
            "no signature matches: another secret, or a changed id, timestamp or body"
        )


def test_reading_the_headers_needs_no_secret() -> None:
    headers = make_headers(keys=[SECRET, OTHER])

    stamp = signatures.read(headers, now=NOW)

    assert (stamp.webhook_id, stamp.timestamp) == (ID, headers[TIMESTAMP])
    assert len(stamp.signatures) == 2
    assert signatures.verify_stamp([OTHER], stamp, BODY) == ID
