"""The schemas of an OpenAPI document in words: what a value is, and within which bounds."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

Schema = dict[str, Any]

_REF = "#/components/schemas/"
_KINDS = {
    "string": "text",
    "integer": "whole number",
    "number": "number",
    "boolean": "true or false",
    "null": "null",
    "object": "object",
}
_FORMATS = {"date-time": "moment (RFC 3339)"}
_RANGES = (
    ("minLength", "maxLength", "characters"),
    ("minItems", "maxItems", "items"),
    ("minimum", "maximum", ""),
)


@dataclass(frozen=True)
class Piece:
    """A piece of a sentence; `shape` is the name of the schema that it speaks of, if it does."""

    text: str
    shape: str | None = None


@dataclass(frozen=True)
class Field:
    """A member of an object, or a parameter: what it is called, what it is, how it is bounded."""

    name: str
    kind: Sequence[Piece]
    required: bool
    notes: Sequence[str]
    values: Sequence[str] = ()


def kind(schema: Schema) -> list[Piece]:
    """Return what a value of a schema is."""
    if "$ref" in schema:
        name = schema["$ref"].removeprefix(_REF)
        return [Piece(name, name)]
    if "anyOf" in schema:
        return _joined([kind(one) for one in schema["anyOf"]])
    if "const" in schema:
        return [Piece(json.dumps(schema["const"]))]
    if schema.get("type") == "array":
        return [Piece("list of "), *kind(schema["items"])]
    if "properties" in schema:
        return [Piece(f"object of {', '.join(schema['properties'])}")]
    known = _FORMATS.get(schema.get("format", "")) or _KINDS.get(schema.get("type", ""))
    return [Piece(known or "anything")]


def notes(schema: Schema) -> list[str]:
    """Return how a value is bounded, and what holds where none is given; code in backticks."""
    default = schema.get("default")
    unset = (
        []
        if default in (None, "") or "const" in schema
        else [f"unless given: `{json.dumps(default)}`"]
    )
    return [note for one in _parts(schema) for note in _bounds(one)] + unset


def fields(schema: Schema) -> list[Field]:
    """Return the members of an object, in their order."""
    required = schema.get("required", ())
    return [
        Field(name, kind(one), name in required, notes(one), one.get("enum", ()))
        for name, one in schema.get("properties", {}).items()
    ]


def _joined(every: Sequence[Sequence[Piece]]) -> list[Piece]:
    first, *others = every
    return [*first, *(piece for one in others for piece in (Piece(" or "), *one))]


def _parts(schema: Schema) -> Iterator[Schema]:
    """Yield a schema and those that it is made of, without those that have a name."""
    yield schema
    for one in (*schema.get("anyOf", ()), *(schema[key] for key in ("items",) if key in schema)):
        yield from _parts(one)


def _bounds(schema: Schema) -> Iterator[str]:
    for least, most, what in _RANGES:
        told = _range(schema.get(least), schema.get(most))
        if told:
            yield f"{told} {what}".strip()
    if "pattern" in schema:
        yield f"as `{schema['pattern']}`"


def _range(least: int | None, most: int | None) -> str:
    if least is not None and most is not None:
        return f"{least:,} to {most:,}"
    if most is not None:
        return f"at most {most:,}"
    return "" if least is None else f"at least {least:,}"
