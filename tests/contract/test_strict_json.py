"""Compact JSON output and strict parsing."""

import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract import strict_json
from contract.strict_json import MAX_DEPTH, StrictJsonError


def nested(levels: int) -> bytes:
    return b"[" * levels + b"]" * levels


def test_dump_is_compact_and_unescaped() -> None:
    text = strict_json.dump({"b": [1, "Übung 😀"], "a": None})

    assert text == '{"b":[1,"Übung 😀"],"a":null}'


@pytest.mark.parametrize("number", [float("nan"), float("-inf")])
def test_dump_refuses_non_finite_numbers(number: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        strict_json.dump([number])


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        pytest.param(b"{} x", "not JSON: .* at character 3", id="trailing bytes"),
        pytest.param(b"\xef\xbb\xbf{}", "BOM", id="BOM"),
        pytest.param('{"a":1}'.encode("utf-16"), "not UTF-8: byte 0", id="UTF-16"),
        pytest.param(b'"\xed\xa0\x80"', "not UTF-8: byte 1", id="surrogate in UTF-8"),
        pytest.param(b'[{"b":{"a":1,"\\u0061":2}}]', "duplicate key", id="duplicate key"),
        pytest.param(b"NaN", "NaN", id="NaN"),
        pytest.param(b"[-Infinity]", "-Infinity", id="infinity"),
        pytest.param(b"[-1e999]", "too large", id="infinite by size"),
        pytest.param(b"1." + b"0" * 5000, "too long", id="5,000 decimals"),
        pytest.param(b"9" * 5000, "64 bits", id="5,000 digits"),
        pytest.param(b"9223372036854775808", "64 bits", id="2^63"),
        pytest.param(b"-9223372036854775808", "64 bits", id="-2^63"),
        pytest.param(b'{"\\u0000":1}', "NUL", id="NUL in a key"),
        pytest.param(b'[["\\ud83d"]]', "surrogate", id="lone surrogate"),
        pytest.param(nested(MAX_DEPTH + 1), "deeper than 32", id="33 levels"),
        pytest.param(nested(200_000), "deeper than 32", id="200,000 levels"),
        pytest.param(b'{"a":' * 1000 + b"1" + b"}" * 1000, "deeper than 32", id="1,000 objects"),
    ],
)
def test_load_refuses_ambiguous_json(raw: bytes, message: str) -> None:  # B4, B6
    with pytest.raises(StrictJsonError, match=message):
        strict_json.load(raw)


@pytest.mark.parametrize("part", [b"{},", b"[],"], ids=["objects", "arrays"])
def test_load_refuses_too_many_parts(part: bytes) -> None:
    strict_json.check_size(b"[" + part * (strict_json.MAX_PARTS - 1) + b"0]")

    with pytest.raises(StrictJsonError, match="more than 500000"):
        strict_json.load(b"[" + part * strict_json.MAX_PARTS + b"0]")


@pytest.mark.parametrize(
    ("raw", "document"),
    [
        pytest.param(b' \r\n{"a" : [ 1 ]}\t', {"a": [1]}, id="white space"),
        pytest.param(b"9223372036854775807", 2**63 - 1, id="2^63 - 1"),
        pytest.param(b"-0.5e1", -5.0, id="fraction"),
        pytest.param(b'"\\ud83d\\ude00"', "😀", id="surrogate pair"),
        pytest.param(b'{"a":{"a":1},"A":2}', {"a": {"a": 1}, "A": 2}, id="similar keys"),
        pytest.param(nested(MAX_DEPTH), json.loads(nested(MAX_DEPTH)), id="32 levels"),
    ],
)
def test_load_reads_plain_json(raw: bytes, document: object) -> None:
    assert strict_json.load(raw) == document


def test_exact_document_has_decimals() -> None:
    document = strict_json.load(b'{"a":[72.50,0.1],"b":7}', exact=True)

    assert document == {"a": [Decimal("72.50"), Decimal("0.1")], "b": 7}
    with pytest.raises(StrictJsonError):
        strict_json.load(b"[1e999]", exact=True)


def test_duplicate_keys_are_found_without_parsing_numbers() -> None:
    strict_json.check_duplicate_keys(b'{"a":' + b"9" * 5000 + b"}")

    with pytest.raises(StrictJsonError, match="duplicate key"):
        strict_json.check_duplicate_keys(b'{"a":1,"a":1}')


@given(st.binary() | st.text().map(str.encode) | st.text().map(lambda text: json.dumps([text])))
def test_load_raises_nothing_but_strict_json_errors(raw: bytes | str) -> None:
    try:
        document = strict_json.load(raw.encode() if isinstance(raw, str) else raw)
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
