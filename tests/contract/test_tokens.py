"""The shape of a course token: `eas_` + public id + `_` + secret + checksum."""

import hashlib
import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.tokens import CourseToken, MalformedTokenError

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
TOKEN = CourseToken("k7Qx2mPa", "0123456789abcdefghijABCD")
TEXT = TOKEN.reveal()


def is_refused(text: str) -> bool:
    """Tell whether a text is no course token."""
    try:
        CourseToken.parse(text)
    except MalformedTokenError:
        return True
    return False


def test_a_token_has_one_spelling() -> None:
    assert TEXT == "eas_k7Qx2mPa_0123456789abcdefghijABCD1QTWV6"


def test_what_is_revealed_is_parsed_alike() -> None:
    token = CourseToken.generate()

    assert CourseToken.parse(token.reveal()) == token


def test_a_secret_has_at_least_128_bits() -> None:
    made = [CourseToken.generate() for _ in range(300)]

    used = set("".join(token.secret for token in made))
    assert used == set(ALPHABET)
    assert {len(token.secret) * math.log2(len(used)) >= 128 for token in made} == {True}
    assert len({token.secret for token in made}) == len({token.token_id for token in made}) == 300


def test_every_character_mistyped_is_told_without_a_query() -> None:
    typos = [
        TEXT[:place] + char + TEXT[place + 1 :]
        for place in range(len(TEXT))
        for char in ALPHABET + "_- é"
        if char != TEXT[place]
    ]

    assert len(typos) > 2500
    assert [typo for typo in typos if not is_refused(typo)] == []


def test_a_typo_within_is_told_by_the_checksum() -> None:
    with pytest.raises(
        MalformedTokenError, match=r"^the token's checksum is wrong: a character was mistyped$"
    ):
        CourseToken.parse(TEXT.replace("abc", "abd"))


def test_neighbours_exchanged_are_told_without_a_query() -> None:
    exchanged = [
        TEXT[:place] + TEXT[place + 1] + TEXT[place] + TEXT[place + 2 :]
        for place in range(len(TEXT) - 1)
        if TEXT[place] != TEXT[place + 1]
    ]

    assert [text for text in exchanged if not is_refused(text)] == []


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("eas_", id="a prefix alone"),
        pytest.param(TEXT[:-1], id="cut short"),
        pytest.param(TEXT + "0", id="one character more"),
        pytest.param(TEXT + "\n", id="a line break behind"),
        pytest.param(" " + TEXT, id="a space before"),
        pytest.param(TEXT.upper(), id="in capitals"),
        pytest.param(TEXT.replace("eas_", "whsec_"), id="another prefix"),
        pytest.param(TEXT.replace("01", "\u0966\u0967"), id="digits of another script"),
        pytest.param("x" * 100_000, id="100 kB"),
    ],
)
def test_another_form_is_refused_unseen(text: str) -> None:
    with pytest.raises(MalformedTokenError) as caught:
        CourseToken.parse(text)

    assert str(caught.value) == "a course token looks like eas_…_…; this is cut or mistyped"


@given(st.text() | st.from_regex(r"eas_[0-9A-Za-z]{8}_[0-9A-Za-z]{30}", fullmatch=True))
def test_any_text_is_a_token_or_malformed(text: str) -> None:
    try:
        token = CourseToken.parse(text)
    except MalformedTokenError:
        return

    assert token.reveal() == text


def test_only_the_hash_of_the_secret_is_for_storing() -> None:
    assert TOKEN.secret_sha256() == hashlib.sha256(b"0123456789abcdefghijABCD").hexdigest()


@pytest.mark.parametrize("shown", [repr(TOKEN), str(TOKEN), f"{TOKEN}", f"{[TOKEN]}"])
def test_a_token_shows_its_public_part_alone(shown: str) -> None:
    assert re.search(r"CourseToken\(k7Qx2mPa\)", shown)
    assert TOKEN.secret not in shown
