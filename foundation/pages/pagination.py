"""Which page of a long list an address means, and how the places beside it are spelled there."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from contract.strict_json import is_storable
from foundation.db.pagination import Place, Turn

Kinds = Sequence[type]
"""What a place is made of: text, numbers of rows, moments."""

_MAX_NUMBER = 2**31 - 1  # PostgreSQL fails over a larger one instead of finding no row


def read(args: Mapping[str, str], kinds: Kinds) -> Turn:
    """Return the turn that an address asks for; the first page where it spells no place."""
    return Turn(_place(args.get("after", ""), kinds), _place(args.get("before", ""), kinds))


def spelled(place: Place | None) -> str | None:
    """Return a place as an address has it, or None for none."""
    if place is None:
        return None
    parts = [part.isoformat() if isinstance(part, datetime) else part for part in place]
    return json.dumps(parts, separators=(",", ":"))


def _place(text: str, kinds: Kinds) -> Place | None:
    try:
        parts = json.loads(text)
        if not isinstance(parts, list):
            return None
        return tuple(_part(part, kind) for part, kind in zip(parts, kinds, strict=True))
    except (ValueError, RecursionError, OverflowError):
        return None


def _part(part: Any, kind: type) -> Any:
    if kind is int and type(part) is int and abs(part) <= _MAX_NUMBER:
        return part
    if kind is str and type(part) is str and is_storable(part):
        return part
    if kind is datetime and type(part) is str:
        return datetime.fromisoformat(part).astimezone(UTC)
    raise ValueError(f"{part!r} is no {kind.__name__}")
