"""Compact JSON output and strict parsing."""

import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract import strict_json
from contract.strict_json import MAX_DEPTH, StrictJsonError

texts = st.text().filter(strict_json.is_storable)
documents = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63) + 1, 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


def nested(levels: int) -> bytes:
    """Return nested arrays of this depth."""
    return b"[" * levels + b"]" * levels


def test_dump_is_compact_and_unescaped() -> None:
    text = strict_json.dump({"b": [1, "Übung 😀"], "a": None})

    assert text == '{"b":[1,"Übung 😀"],"a":null}'


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_dump_refuses_non_finite_numbers(number: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        strict_json.dump([number])


@given(documents)
def test_dumped_document_is_loaded_unchanged(document: object) -> None:
    assert strict_json.load(strict_json.dump(document).encode()) == document


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        pytest.param(b"", "not JSON: .* at character 0", id="empty"),
        pytest.param(b"{", "not JSON", id="cut off"),
        pytest.param(b"{} x", "not JSON: .* at character 3", id="trailing junk"),
        pytest.param(b"{'a':1}", "not JSON", id="single quotes"),
        pytest.param(b"\xef\xbb\xbf{}", "BOM", id="BOM"),
        pytest.param('{"a":1}'.encode("utf-16"), "not UTF-8: byte 0", id="UTF-16"),
        pytest.param(b'{"a":"\xe9"}', "not UTF-8: byte 6", id="Latin-1"),
        pytest.param(b'"\xed\xa0\x80"', "not UTF-8: byte 1", id="surrogate in UTF-8"),
        pytest.param(b'{"a":1,"a":1}', "duplicate key", id="duplicate key"),
        pytest.param(b'[{"b":{"a":1,"\\u0061":2}}]', "duplicate key", id="escaped duplicate key"),
        pytest.param(b"NaN", "NaN", id="NaN"),
        pytest.param(b"[-Infinity]", "-Infinity", id="infinity"),
        pytest.param(b"[-1e999]", "too large", id="infinite by size"),
        pytest.param(b"1." + b"0" * 5000, "too long", id="5,000 decimals"),
        pytest.param(b"9" * 5000, "64 bits", id="5,000 digits"),
        pytest.param(b"9223372036854775808", "64 bits", id="2^63"),
        pytest.param(b"-9223372036854775808", "64 bits", id="-2^63"),
        pytest.param(b'{"\\u0000":1}', "NUL", id="NUL in a key"),
        pytest.param(b'[["\\ud83d"]]', "surrogate", id="lone surrogate"),
        pytest.param(b'"\\udc00\\ud800"', "surrogate", id="reversed surrogates"),
        pytest.param(nested(MAX_DEPTH + 1), "deeper than 32", id="33 levels"),
        pytest.param(nested(200_000), "deeper than 32", id="200,000 levels"),
        pytest.param(b'{"a":' * 1000 + b"1" + b"}" * 1000, "deeper than 32", id="1,000 objects"),
        pytest.param(b"[" + b"{}," * 500_000 + b"0]", "more than 500000", id="too many objects"),
        pytest.param(b"[" + b"[]," * 500_000 + b"0]", "more than 500000", id="too many arrays"),
    ],
)
def test_load_refuses_ambiguous_json(raw: bytes, message: str) -> None:  # B4, B6
    with pytest.raises(StrictJsonError, match=message):
        strict_json.load(raw)


@pytest.mark.parametrize(
    ("raw", "document"),
    [
        pytest.param(b' \r\n{"a" : [ 1 ]}\t', {"a": [1]}, id="white space"),
        pytest.param(b"9223372036854775807", 2**63 - 1, id="2^63 - 1"),
        pytest.param(b"-0.5e1", -5.0, id="fraction"),
        pytest.param(b'"\\ud83d\\ude00"', "😀", id="surrogate pair"),
        pytest.param(b'{"a":{"a":1},"A":2}', {"a": {"a": 1}, "A": 2}, id="similar keys"),
        pytest.param(b"null", None, id="scalar"),
        pytest.param(nested(MAX_DEPTH), json.loads(nested(MAX_DEPTH)), id="32 levels"),
    ],
)
def test_load_reads_plain_json(raw: bytes, document: object) -> None:
    assert strict_json.load(raw) == document


def test_maximum_number_of_parts_is_read() -> None:
    parts = strict_json.MAX_PARTS - 1

    assert len(strict_json.load(b"[" + b"[]," * parts + b"0]")) == parts + 1


def test_exact_document_has_decimals() -> None:
    document = strict_json.load(b'{"a":[72.50,0.1],"b":7}', exact=True)

    assert document == {"a": [Decimal("72.50"), Decimal("0.1")], "b": 7}
    with pytest.raises(StrictJsonError):
        strict_json.load(b"[1e999]", exact=True)


@given(st.binary() | st.text().map(str.encode))
def test_load_raises_nothing_but_strict_json_errors(raw: bytes) -> None:
    try:
        document = strict_json.load(raw)
    except StrictJsonError:
        return

    assert strict_json.load(strict_json.dump(document).encode()) == document


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("Übung \u202e 😀\n", True, id="storable"),
        pytest.param("a\x00b", False, id="NUL"),
        pytest.param("a\ud800", False, id="first surrogate"),
        pytest.param("\udfffb", False, id="last surrogate"),
    ],
)
def test_is_storable(text: str, expected: bool) -> None:
    assert strict_json.is_storable(text) is expected
