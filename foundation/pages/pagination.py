"""Pagination of a list in the query string of its page."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from contract.strict_json import is_storable
from foundation.db.pagination import Cursor, PageRequest

Kinds = Sequence[type]
"""The types of a cursor's values: text, row ids, timestamps."""

_MAX_NUMBER = 2**31 - 1  # PostgreSQL fails over a larger one instead of finding no row


def read(args: Mapping[str, str], kinds: Kinds) -> PageRequest:
    """Return the page that a query string requests; the first page unless it has a valid cursor."""
    return PageRequest(
        _cursor(args.get("after", ""), kinds), _cursor(args.get("before", ""), kinds)
    )


def to_query(cursor: Cursor | None) -> str | None:
    """Return a cursor as a query string has it, or None for none."""
    if cursor is None:
        return None
    parts = [part.isoformat() if isinstance(part, datetime) else part for part in cursor]
    return json.dumps(parts, separators=(",", ":"))


def _cursor(text: str, kinds: Kinds) -> Cursor | None:
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
