"""Course tokens (`eas_` + public id + `_` + secret + checksum) and Moodle tokens."""

import hashlib
import math

import pytest

from contract.tokens import MOODLE_TOKEN_ID, CourseToken, MalformedTokenError, MoodleToken

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
TOKEN = CourseToken("k7Qx2mPa", "0123456789abcdefghijABCD")
TEXT = TOKEN.reveal()
MOODLE = MoodleToken("0123456789abcdef" * 2)


def test_token_has_one_form() -> None:
    assert TEXT == "eas_k7Qx2mPa_0123456789abcdefghijABCD1QTWV6"
    assert CourseToken.parse(TEXT) == TOKEN
    assert TOKEN.secret_sha256() == hashlib.sha256(b"0123456789abcdefghijABCD").hexdigest()


def test_secret_has_at_least_128_random_bits() -> None:
    tokens = [CourseToken.generate() for _ in range(300)]

    used = set("".join(token.secret for token in tokens))
    assert used == set(ALPHABET)
    assert all(len(token.secret) * math.log2(len(used)) >= 128 for token in tokens)
    assert len({token.secret for token in tokens}) == 300
    assert len({token.token_id for token in tokens}) == 300


def test_every_mistyped_or_swapped_character_is_detected() -> None:
    wrong = [
        TEXT[:position] + char + TEXT[position + 1 :]
        for position in range(len(TEXT))
        for char in ALPHABET + "_- é"
        if char != TEXT[position]
    ] + [
        TEXT[:position] + TEXT[position + 1] + TEXT[position] + TEXT[position + 2 :]
        for position in range(len(TEXT) - 1)
        if TEXT[position] != TEXT[position + 1]
    ]

    assert len(wrong) > 2500
    for text in wrong:
        with pytest.raises(MalformedTokenError):
            CourseToken.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param(TEXT[:-1], id="cut off"),
        pytest.param(TEXT + "\n", id="line break"),
        pytest.param(" " + TEXT, id="leading space"),
        pytest.param(TEXT.replace("eas_", "whsec_"), id="other prefix"),
        pytest.param(TEXT.replace("01", "\u0966\u0967"), id="Devanagari digits"),
        pytest.param("x" * 100_000, id="100 kB"),
    ],
)
def test_malformed_token_is_refused_without_showing_it(text: str) -> None:  # B13
    with pytest.raises(MalformedTokenError, match="has the form eas_…_…") as caught:
        CourseToken.parse(text)

    assert len(text) < 10 or text not in str(caught.value)


@pytest.mark.parametrize("text", ["short", "0" * 129, "é" * 32, f"{MOODLE.text} "])
def test_malformed_moodle_token_is_refused(text: str) -> None:
    with pytest.raises(MalformedTokenError):
        MoodleToken.parse(text)


def test_moodle_token_has_a_derived_id() -> None:
    assert MoodleToken.parse(MOODLE.reveal()) == MOODLE
    assert MOODLE_TOKEN_ID.fullmatch(MOODLE.token_id)
    assert not MOODLE_TOKEN_ID.fullmatch(MOODLE.reveal())


@pytest.mark.parametrize(("token", "secret"), [(TOKEN, TOKEN.secret), (MOODLE, MOODLE.text)])
def test_token_shows_only_its_public_id(token: CourseToken | MoodleToken, secret: str) -> None:
    for shown in (repr(token), str(token), f"{[token]}"):
        assert token.token_id in shown
        assert secret not in shown
