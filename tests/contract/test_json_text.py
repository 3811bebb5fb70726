"""JSON as the wire speaks it: one way to write it, one strict way to read it."""

import json
import re
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract import strict_json
from contract.strict_json import MAX_DEPTH, JsonTextError

documents = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63) + 1, 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text().filter(strict_json.is_storable),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text().filter(strict_json.is_storable), inner, max_size=3)
    ),
    max_leaves=8,
)


def nested(levels: int) -> bytes:
    """Return arrays in arrays, so many levels of them."""
    return b"[" * levels + b"]" * levels


def test_dump_is_compact_and_keeps_every_character() -> None:
    text = strict_json.dump({"b": [1, "Übung 😀"], "a": None})

    assert text == '{"b":[1,"Übung 😀"],"a":null}'


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_dump_refuses_what_json_has_no_word_for(number: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        strict_json.dump([number])


@given(documents)
def test_what_is_dumped_is_loaded_alike(document: object) -> None:
    loaded = strict_json.load(strict_json.dump(document).encode())

    assert loaded == document


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        pytest.param(b"", "the body is not JSON: Expecting value at character 0", id="empty"),
        pytest.param(b" \n", "the body is not JSON: Expecting value at character 2", id="blank"),
        pytest.param(b"{", "the body is not JSON: Expecting property name", id="cut short"),
        pytest.param(b"{} x", "the body is not JSON: Extra data at character 3", id="junk behind"),
        pytest.param(b"{'a':1}", "the body is not JSON: Expecting property", id="single quotes"),
        pytest.param(b"\xef\xbb\xbf{}", "the body is not JSON: Unexpected UTF-8 BOM", id="BOM"),
        pytest.param('{"a":1}'.encode("utf-16"), "not UTF-8: byte 0", id="UTF-16"),
        pytest.param(b'{"a":"\xe9"}', "the body is not UTF-8: byte 6 is invalid", id="Latin-1"),
        pytest.param(b'"\xed\xa0\x80"', "not UTF-8: byte 1", id="surrogate in UTF-8"),
        pytest.param(b'{"a":1,"a":1}', "a key stands twice in one JSON object", id="same key"),
        pytest.param(
            b'[{"b":{"a":1,"\\u0061":2}}]', "a key stands twice", id="same key, spelled otherwise"
        ),
        pytest.param(b"NaN", "NaN is not a JSON number", id="NaN"),
        pytest.param(b"[-Infinity]", "-Infinity is not a JSON number", id="infinity"),
        pytest.param(b"1e999", "a number that is too long or too large", id="infinite by size"),
        pytest.param(b"[-1e999]", "a number that is too long or too large", id="minus infinite"),
        pytest.param(b"1." + b"0" * 5000, "a number that is too long", id="5,000 decimals"),
        pytest.param(b"9" * 5000, "a whole number that 64 bits cannot hold", id="5,000 digits"),
        pytest.param(b"9223372036854775808", "64 bits cannot hold", id="2^63"),
        pytest.param(b"-9223372036854775808", "64 bits cannot hold", id="minus 2^63"),
        pytest.param(b'"\\u0000"', "a string holds NUL or a lone surrogate", id="NUL"),
        pytest.param(b'{"\\u0000":1}', "a string holds NUL", id="NUL in a key"),
        pytest.param(b'[["\\ud83d"]]', "NUL or a lone surrogate", id="lone surrogate"),
        pytest.param(b'"\\udc00\\ud800"', "NUL or a lone surrogate", id="surrogates reversed"),
        pytest.param(nested(MAX_DEPTH + 1), "nested deeper than 32 levels", id="33 levels"),
        pytest.param(nested(1000), "nested deeper than 32 levels", id="1,000 levels"),
        pytest.param(nested(200_000), "nested deeper than 32 levels", id="200,000 levels"),
        pytest.param(b'{"a":' * 1000 + b"1" + b"}" * 1000, "nested deeper", id="1,000 objects"),
    ],
)
def test_load_refuses_what_two_readers_might_read_differently(raw: bytes, message: str) -> None:
    with pytest.raises(JsonTextError, match=re.escape(message)):
        strict_json.load(raw)


@pytest.mark.parametrize(
    ("raw", "document"),
    [
        pytest.param(b' \r\n{"a" : [ 1 ]}\t', {"a": [1]}, id="white space"),
        pytest.param(b"9223372036854775807", 2**63 - 1, id="2^63 - 1"),
        pytest.param(b"-0.5e1", -5.0, id="a fraction"),
        pytest.param(b'"\\ud83d\\ude00"', "😀", id="a pair of surrogates"),
        pytest.param(b'{"a":{"a":1},"A":2}', {"a": {"a": 1}, "A": 2}, id="keys that only look it"),
        pytest.param(b"null", None, id="a scalar"),
    ],
)
def test_load_reads_plain_json(raw: bytes, document: object) -> None:
    assert strict_json.load(raw) == document


def test_an_exact_document_holds_no_float() -> None:
    document = strict_json.load(b'{"a":[72.50,0.1],"b":7}', exact=True)

    assert document == {"a": [Decimal("72.50"), Decimal("0.1")], "b": 7}
    with pytest.raises(JsonTextError, match="too long or too large"):
        strict_json.load(b"[1e999]", exact=True)


def test_the_deepest_document_allowed_is_read() -> None:
    assert strict_json.load(nested(MAX_DEPTH)) == json.loads(nested(MAX_DEPTH))


@given(st.binary() | st.text().map(str.encode))
def test_any_bytes_are_a_document_or_a_json_text_error(raw: bytes) -> None:
    try:
        document = strict_json.load(raw)
    except JsonTextError:
        return

    assert strict_json.load(strict_json.dump(document).encode()) == document


@pytest.mark.parametrize(
    ("text", "storable"),
    [
        pytest.param("", True, id="nothing"),
        pytest.param("Übung \u202e 😀\n", True, id="ugly but storable"),
        pytest.param("a\x00b", False, id="NUL"),
        pytest.param("a\ud800", False, id="the first surrogate"),
        pytest.param("\udfffb", False, id="the last surrogate"),
    ],
)
def test_is_storable_tells_what_no_database_holds(text: str, storable: bool) -> None:
    assert strict_json.is_storable(text) is storable


@pytest.mark.parametrize("part", [b"{},", b"[],"], ids=["objects", "arrays"])
def test_more_parts_than_anybody_sends_are_not_read(part: bytes) -> None:
    with pytest.raises(JsonTextError) as refused:
        strict_json.load(b"[" + part * strict_json.MAX_PARTS + b"0]")

    assert str(refused.value) == "the JSON holds more than 500000 objects and arrays"


def test_as_many_parts_as_may_be_are_read() -> None:
    parts = strict_json.MAX_PARTS - 1

    assert len(strict_json.load(b"[" + b"[]," * parts + b"0]")) == parts + 1
