"""The OpenAPI document as a page for people: its operations in groups, its events, its shapes."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flask import render_template

from foundation.web.openapi_words import Field, Piece, fields, kind, notes

_ADMIN = "/api/v1/admin/"
_VERSIONED = "/api/v1/"
_OWN = "The service itself"


@dataclass(frozen=True)
class Parameter:
    """What stands in a path, a query or a header, and what it means."""

    field: Field
    place: str
    meaning: str


@dataclass(frozen=True)
class Answered:
    """An answer: its status, its meaning, what its body is, and its headers by what they mean."""

    status: str
    meaning: str
    body: Sequence[Piece]
    headers: Mapping[str, str]


@dataclass(frozen=True)
class Told:
    """An operation, or a webhook, as the page tells it."""

    anchor: str
    method: str
    path: str
    summary: str
    proofs: Sequence[str]
    parameters: Sequence[Parameter]
    body: Sequence[Piece]
    example: str | None
    answers: Sequence[Answered]


@dataclass(frozen=True)
class Shape:
    """A schema by its name: its fields, or the values that there are."""

    name: str
    about: str
    fields: Sequence[Field]
    values: Sequence[str]


def page(document: dict[str, Any]) -> str:
    """Return the document as HTML, in the layout of all pages."""
    return render_template(
        "pages/docs.html",
        info=document["info"],
        groups=_groups(document),
        webhooks=[
            _told("POST", event, said["post"], {}) for event, said in document["webhooks"].items()
        ],
        proofs=[_proof(name, one) for name, one in _schemes(document).items()],
        shapes=[_shape(name, one) for name, one in document["components"]["schemas"].items()],
    )


def _groups(document: dict[str, Any]) -> dict[str, list[Told]]:
    """Return the operations by what they are about; those about the service itself come last."""
    groups: dict[str, list[Told]] = {}
    for path, methods in document["paths"].items():
        for method, said in methods.items():
            told = _told(method.upper(), path, said, _schemes(document))
            groups.setdefault(_group(path), []).append(told)
    own = groups.pop(_OWN, [])
    return {**groups, _OWN: own}


def _group(path: str) -> str:
    if path.startswith(_ADMIN):
        return f"Admin: {path.removeprefix(_ADMIN).partition('/')[0]}"
    noun, _, rest = path.removeprefix(_VERSIONED).strip("/").partition("/")
    return noun.capitalize() if rest else _OWN


def _told(method: str, path: str, said: dict[str, Any], schemes: Mapping[str, Any]) -> Told:
    content = said.get("requestBody", {}).get("content", {})
    body: dict[str, Any] = next(iter(content.values()), {})
    example = body.get("example")
    return Told(
        anchor=f"{method.lower()}-{path.strip('/')}",
        method=method,
        path=path,
        summary=said["summary"],
        proofs=[name for one in said.get("security", ()) for name in one if name in schemes],
        parameters=[_parameter(one) for one in said["parameters"]],
        body=kind(body["schema"]) if body else (),
        example=None if example is None else _written(example),
        answers=[_answered(status, one) for status, one in sorted(said["responses"].items())],
    )


def _parameter(one: dict[str, Any]) -> Parameter:
    schema = one["schema"]
    field = Field(one["name"], kind(schema), one.get("required", False), notes(schema))
    return Parameter(field, one["in"], one.get("description", ""))


def _answered(status: str, one: dict[str, Any]) -> Answered:
    body = next((content["schema"] for content in one.get("content", {}).values()), None)
    return Answered(
        "other" if status == "default" else status,
        one["description"],
        () if body is None else kind(body),
        {name: header["description"] for name, header in one.get("headers", {}).items()},
    )


def _schemes(document: dict[str, Any]) -> Mapping[str, Any]:
    schemes: Mapping[str, Any] = document["components"]["securitySchemes"]
    return schemes


def _proof(name: str, scheme: dict[str, Any]) -> tuple[str, str]:
    """Return a proof's name, and how a request bears it."""
    if scheme["type"] == "http":
        return name, "in the header `Authorization`: `Bearer` and what was given out."
    return name, f"in the header `{scheme['name']}`. {scheme.get('description', '')}"


def _shape(name: str, schema: dict[str, Any]) -> Shape:
    return Shape(name, schema.get("description", ""), fields(schema), schema.get("enum", ()))


def _written(part: Any) -> str:
    return json.dumps(part, indent=2, ensure_ascii=False)
