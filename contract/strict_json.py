"""Compact JSON output, and strict parsing that leaves no room for two interpretations."""

import json
import math
import re
from collections.abc import Iterator
from decimal import Decimal
from itertools import chain
from typing import Any, NoReturn

MAX_DEPTH = 32
# The maximum number of objects and arrays: five times the scores of the largest response.
MAX_PARTS = 500_000

_MAX_DIGITS = 40
# PHP may write the binary expansion of a float to its end (serialize_precision).
_MAX_EXACT_DIGITS = 1100
_MAX_WHOLE = 2**63 - 1
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


class StrictJsonError(ValueError):
    """The text is not JSON that every parser interprets in the same way."""


def dump(document: Any) -> str:
    """Return a document as compact JSON, with non-ASCII characters unescaped."""
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def load(raw: bytes, *, exact: bool = False) -> Any:
    """Return the parsed document, or raise StrictJsonError.

    With `exact`, a number with a fraction is a Decimal instead of a float, and so is an integer
    beyond 64 bits.

    Stricter than `json.loads`, following RFC 8259 and I-JSON (RFC 7493): UTF-8 only, no byte order
    mark, no duplicate keys, no NaN or infinities, no number beyond 64 bits, no NUL and no lone
    surrogate in any string, and at most `MAX_DEPTH` levels.
    """
    check_size(raw)
    try:
        text = raw.decode("utf-8")
        document = json.loads(
            text,
            object_pairs_hook=_unique_keys,
            parse_constant=_refuse_constant,
            parse_int=_exact_whole if exact else _whole,
            parse_float=_exact if exact else _fraction,
        )
    except RecursionError:
        raise StrictJsonError(f"the JSON is nested deeper than {MAX_DEPTH} levels") from None
    except UnicodeDecodeError as error:
        raise StrictJsonError(f"the body is not UTF-8: byte {error.start} is invalid") from None
    except StrictJsonError:
        raise
    except json.JSONDecodeError as error:
        raise StrictJsonError(
            f"the body is not JSON: {error.msg} at character {error.pos}"
        ) from None
    # The only way for NUL or a lone surrogate to get into a string.
    has_escapes = "\\u" in text
    for depth, level in enumerate(_levels(document), start=1):
        if depth > MAX_DEPTH:
            raise StrictJsonError(f"the JSON is nested deeper than {MAX_DEPTH} levels")
        if has_escapes and not all(map(is_storable, _strings(level))):
            raise StrictJsonError(
                "a string contains NUL or a lone surrogate, which cannot be stored"
            )
    return document


def check_size(raw: bytes) -> None:
    """Raise StrictJsonError if a text may have more than `MAX_PARTS` objects and arrays.

    Three bytes of text become a hundred bytes of memory, so a limit on the text is not enough.
    """
    if raw.count(b"{") + raw.count(b"[") > MAX_PARTS:
        raise StrictJsonError(f"the JSON has more than {MAX_PARTS} objects and arrays")


def check_duplicate_keys(raw: bytes) -> None:
    """Raise StrictJsonError if an object has a duplicate key, because parsers differ about them.

    Checks nothing else; a text that is not JSON raises ValueError.
    """
    # Parsing a huge number takes very long, or is refused by Python.
    json.loads(raw, object_pairs_hook=_unique_keys, parse_int=len, parse_float=len)


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise StrictJsonError("a JSON object has a duplicate key")
    return members


def _refuse_constant(name: str) -> NoReturn:
    raise StrictJsonError(f"{name} is not a JSON number")


def _whole(digits: str) -> int:
    if len(digits) > _MAX_DIGITS or abs(number := int(digits)) > _MAX_WHOLE:
        raise StrictJsonError("the JSON has an integer beyond 64 bits")
    return number


def _exact_whole(digits: str) -> int | Decimal:
    number = _exact(digits)
    return int(number) if abs(number) <= _MAX_WHOLE else number


def _fraction(digits: str, max_digits: int = _MAX_DIGITS) -> float:
    if len(digits) > max_digits or math.isinf(number := float(digits)):
        raise StrictJsonError("the JSON has a number that is too long or too large")
    return number


def _exact(digits: str) -> Decimal:
    _fraction(digits, _MAX_EXACT_DIGITS)
    return Decimal(digits)


def _levels(document: Any) -> Iterator[list[Any]]:
    level = [document]
    while level:
        yield level
        lists = (value for value in level if isinstance(value, list))
        members = (value.values() for value in level if isinstance(value, dict))
        level = list(chain.from_iterable((*lists, *members)))


def _strings(level: list[Any]) -> Iterator[str]:
    for value in level:
        if isinstance(value, dict):
            yield from value
        elif isinstance(value, str):
            yield value


def is_storable(text: str) -> bool:
    """Return True if a text can be stored in every database: no NUL, no lone surrogate."""
    return _UNSTORABLE.search(text) is None
