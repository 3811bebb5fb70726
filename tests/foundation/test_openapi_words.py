"""Schemas in words: what a value is, and within which bounds."""

from typing import Any

import pytest

from foundation.web.openapi_words import Piece, fields, kind, notes


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        pytest.param({"type": "string"}, "text", id="text"),
        pytest.param({"type": "string", "format": "date-time"}, "moment (RFC 3339)", id="moment"),
        pytest.param({"type": "string", "format": "password"}, "text", id="unnamed format"),
        pytest.param({"type": "boolean"}, "true or false", id="boolean"),
        pytest.param(
            {"type": "array", "items": {"type": "integer"}}, "list of whole number", id="list"
        ),
        pytest.param(
            {"anyOf": [{"type": "string"}, {"type": "null"}]}, "text or null", id="or null"
        ),
        pytest.param({"const": "course.deleted", "type": "string"}, '"course.deleted"', id="const"),
        pytest.param({"$ref": "#/components/schemas/Course"}, "Course", id="named"),
        pytest.param(
            {"type": "object", "properties": {"pointer": {}, "detail": {}}},
            "object of pointer, detail",
            id="object without a name",
        ),
        pytest.param({}, "anything", id="unsaid"),
    ],
)
def test_what_a_value_is(schema: dict[str, Any], words: str) -> None:
    assert "".join(piece.text for piece in kind(schema)) == words


def test_what_has_a_name_leads_there() -> None:
    told = kind({"type": "array", "items": {"$ref": "#/components/schemas/Course"}})

    assert told == [Piece("list of "), Piece("Course", "Course")]


@pytest.mark.parametrize(
    ("schema", "told"),
    [
        pytest.param({"minLength": 1, "maxLength": 255}, ["1 to 255 characters"], id="both ends"),
        pytest.param({"maxItems": 50_000}, ["at most 50,000 items"], id="at most"),
        pytest.param({"minimum": 1}, ["at least 1"], id="at least"),
        pytest.param({"pattern": "^m[0-9]$"}, ["as `^m[0-9]$`"], id="pattern"),
        pytest.param({"default": False}, ["unless given: `false`"], id="default"),
        pytest.param({"default": None}, [], id="no default to speak of"),
        pytest.param(
            {"anyOf": [{"items": {"pattern": "x"}, "minItems": 2}, {"type": "null"}]},
            ["at least 2 items", "as `x`"],
            id="within parts",
        ),
    ],
)
def test_how_a_value_is_bounded(schema: dict[str, Any], told: list[str]) -> None:
    assert notes(schema) == told


def test_the_fields_of_an_object() -> None:
    schema = {
        "properties": {"status": {"type": "string", "enum": ["held"]}, "why": {"type": "string"}},
        "required": ["why"],
    }

    status, why = fields(schema)

    assert (status.name, status.required, list(status.values)) == ("status", False, ["held"])
    assert (why.name, why.required, list(why.values)) == ("why", True, [])
