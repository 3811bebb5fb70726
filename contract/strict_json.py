"""JSON as the wire speaks it: one way to write it, one strict way to read it."""

import json
import math
import re
from collections.abc import Iterable
from decimal import Decimal
from typing import Any, NoReturn

MAX_DEPTH = 32
MAX_PARTS = 500_000
"""How many objects and arrays are read: five times the scores that the largest answer holds."""

_MAX_DIGITS = 40
_MAX_WHOLE = 2**63 - 1
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


class JsonTextError(ValueError):
    """The text is not JSON that both sides read alike; says what was met."""


def dump(document: Any) -> str:
    """Return the compact JSON text of a document, with non-ASCII characters as they are."""
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def load(raw: bytes, *, exact: bool = False) -> Any:
    """Return the document that the bytes hold, or raise a JsonTextError.

    If it is to be exact, a number with a fraction is a Decimal instead of a float.

    Stricter than `json.loads`, by RFC 8259 and I-JSON (RFC 7493): UTF-8 only, no byte order mark,
    no duplicate keys, no NaN or infinities, no number beyond 64 bits, no NUL and no lone
    surrogate in any string, and at most `MAX_DEPTH` levels, so that two readers cannot
    understand two things.
    """
    check_extent(raw)
    try:
        text = raw.decode("utf-8")
        document = json.loads(
            text,
            object_pairs_hook=_unique_keys,
            parse_constant=_refuse_constant,
            parse_int=_whole,
            parse_float=_exact if exact else _fraction,
        )
    except RecursionError:
        raise JsonTextError(f"the JSON is nested deeper than {MAX_DEPTH} levels") from None
    except UnicodeDecodeError as error:
        raise JsonTextError(f"the body is not UTF-8: byte {error.start} is invalid") from None
    except JsonTextError:
        raise
    except json.JSONDecodeError as error:
        raise JsonTextError(f"the body is not JSON: {error.msg} at character {error.pos}") from None
    _check_depth(document)
    if "\\u" in text:  # neither NUL nor a lone surrogate gets into a string in any other way
        _check_strings(document)
    return document


def check_extent(raw: bytes) -> None:
    """Raise a JsonTextError if a text may hold more objects and arrays than anybody has to say.

    Three bytes of text become a hundred of memory, so that one's size does not bound the other's.
    """
    if raw.count(b"{") + raw.count(b"[") > MAX_PARTS:
        raise JsonTextError(f"the JSON holds more than {MAX_PARTS} objects and arrays")


def check_keys(raw: bytes) -> None:
    """Raise a JsonTextError if a key stands twice in one object: one reader takes the other value.

    Nothing else is looked at; what is no JSON at all raises a ValueError.
    """
    json.loads(
        raw, object_pairs_hook=_unique_keys, parse_int=_passed_over, parse_float=_passed_over
    )


def _passed_over(_digits: str) -> None:
    """Read no number: Python's take a time without end, and some it refuses."""


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise JsonTextError("a key stands twice in one JSON object")
    return members


def _refuse_constant(name: str) -> NoReturn:
    raise JsonTextError(f"{name} is not a JSON number")


def _whole(digits: str) -> int:
    if len(digits) > _MAX_DIGITS or abs(number := int(digits)) > _MAX_WHOLE:
        raise JsonTextError("the JSON holds a whole number that 64 bits cannot hold")
    return number


def _fraction(digits: str) -> float:
    if len(digits) > _MAX_DIGITS or math.isinf(number := float(digits)):
        raise JsonTextError("the JSON holds a number that is too long or too large to be read")
    return number


def _exact(digits: str) -> Decimal:
    _fraction(digits)
    return Decimal(digits)


def _check_depth(document: Any) -> None:
    level = [document]
    depth = 0
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            raise JsonTextError(f"the JSON is nested deeper than {MAX_DEPTH} levels")
        level = _below(level)


def _below(level: Iterable[Any]) -> list[Any]:
    below: list[Any] = []
    for value in level:
        if isinstance(value, dict):
            below.extend(value.values())
        elif isinstance(value, list):
            below.extend(value)
    return below


def _check_strings(document: Any) -> None:
    level = [document]
    while level:
        keys = (key for value in level if isinstance(value, dict) for key in value)
        strings = (value for value in level if isinstance(value, str))
        if not all(map(is_storable, (*keys, *strings))):
            raise JsonTextError("a string holds NUL or a lone surrogate, which cannot be stored")
        level = _below(level)


def is_storable(text: str) -> bool:
    """Tell whether every database and every UTF-8 reader can hold the text as it is."""
    return _UNSTORABLE.search(text) is None
