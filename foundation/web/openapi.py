"""OpenAPI: a service's routes described by their own views, guards and the models that parse."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from flask import Blueprint, Flask, Response, current_app
from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema
from werkzeug.routing import Rule

from contract import strict_json
from contract.problems import MEDIA_TYPE, STATUS, ProblemType
from foundation.pages import context
from foundation.pages.guards import open_to_all
from foundation.web import openapi_page
from foundation.web.app import guarded

VERSION = "3.1.0"
_JSON = "application/json"
_REF = "#/components/schemas/"
_PROBLEM = "Problem"
_KEY = "openapi"
Model = type[BaseModel]
Schema = dict[str, Any]


@dataclass(frozen=True)
class Answer:
    """What a route answers when all is well: in words, and its body as a model or a media type."""

    meaning: str
    body: Model | str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Operation:
    """What a route takes and answers, beyond what its view says of itself.

    `asks` is the model of its query, `takes` those of its body, any one of them; `hears` names
    headers. `refuses` are the problems to reckon with. `proof` is False where what proves the
    caller stands in the body.
    """

    answers: Mapping[int, Answer]
    takes: Sequence[Model] = ()
    asks: Model | None = None
    hears: Mapping[str, str] = field(default_factory=dict)
    refuses: Sequence[ProblemType] = ()
    example: Mapping[str, Any] | None = None
    proof: bool = True


@dataclass(frozen=True)
class Description:
    """A service described: its operations by endpoint, and the events that it sends, by type.

    `proofs` gives the security scheme of each guard; a guard that is not there asks for nothing.
    `paths` gives the schema of each name in a path.
    """

    title: str
    about: str
    operations: Mapping[str, Operation]
    proofs: Mapping[str, Mapping[str, Schema]]
    paths: Mapping[str, Schema]
    sends: Mapping[str, tuple[Model, Operation]] = field(default_factory=dict)


def document(app: Flask, described: Description) -> dict[str, Any]:
    """Return the OpenAPI document of an app; every route but pages has to be described."""
    sent = [operation for _, operation in described.sends.values()]
    schemas = _Schemas([*described.operations.values(), *sent])
    paths: dict[str, dict[str, Any]] = {}
    routes = [rule for rule in app.url_map.iter_rules() if not context.holds(app, rule.endpoint)]
    for rule in sorted(routes, key=lambda rule: rule.rule):
        method = next(iter((rule.methods or set()) - {"HEAD", "OPTIONS"})).lower()
        path = re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule)
        paths.setdefault(path, {})[method] = _operation(app, rule, described, schemas)
    return {
        "openapi": VERSION,
        "info": {"title": described.title, "description": described.about, "version": "1"},
        "paths": paths,
        "webhooks": {
            kind: {"post": _said(str(model.__doc__), operation, schemas)}
            for kind, (model, operation) in described.sends.items()
        },
        "components": {
            "schemas": {**schemas.definitions, _PROBLEM: _problem()},
            "securitySchemes": {
                name: scheme
                for proof in described.proofs.values()
                for name, scheme in proof.items()
            },
        },
    }


def blueprint(described: Description) -> Blueprint:
    """Return the views that answer a service's document, for programs and for people."""
    pages = Blueprint("openapi", __name__)

    @pages.get("/openapi.json")
    @guarded("anybody")
    def openapi() -> Response:
        """Answer this document: what this service takes and answers."""
        return Response(strict_json.dump(_made(described)), content_type=_JSON)

    @pages.get("/docs")
    @open_to_all
    def page() -> str:
        """Answer this document as a page for people."""
        return openapi_page.page(_made(described))

    return pages


def _made(described: Description) -> dict[str, Any]:
    """Return the document of the app that is at work, made when it is first asked for."""
    if _KEY not in current_app.extensions:
        current_app.extensions[_KEY] = document(current_app, described)
    made: dict[str, Any] = current_app.extensions[_KEY]
    return made


class _Schemas:
    """The schemas of every model that operations name, each defined once."""

    def __init__(self, operations: Sequence[Operation]) -> None:
        taken = [model for one in operations for model in (*one.takes, one.asks) if model]
        answered = [
            answer.body
            for one in operations
            for answer in one.answers.values()
            if isinstance(answer.body, type)
        ]
        wanted: list[tuple[Model, JsonSchemaMode]] = [
            *((model, "validation") for model in dict.fromkeys(taken)),
            *((model, "serialization") for model in dict.fromkeys(answered)),
        ]
        self._refs, rest = models_json_schema(wanted, ref_template=f"{_REF}{{model}}")
        self.definitions: Schema = rest.get("$defs", {})

    def taken(self, model: Model) -> Schema:
        return self._refs[model, "validation"]

    def answered(self, model: Model) -> Schema:
        return self._refs[model, "serialization"]

    def fields(self, model: Model) -> Mapping[str, Schema]:
        fields: Mapping[str, Schema] = self.definitions[
            self.taken(model)["$ref"].removeprefix(_REF)
        ]["properties"]
        return fields


def _operation(app: Flask, rule: Rule, described: Description, schemas: _Schemas) -> Schema:
    view = app.view_functions[rule.endpoint]
    operation = described.operations[rule.endpoint]
    said = _said(str(view.__doc__), operation, schemas)
    proof = described.proofs.get(getattr(view, "guard", ""), {}) if operation.proof else {}
    named = [
        {"name": name, "in": "path", "required": True, "schema": described.paths[name]}
        for name in sorted(rule.arguments)
    ]
    return {
        "operationId": rule.endpoint.rpartition(".")[2],
        **said,
        "parameters": [*named, *said["parameters"]],
        "security": [{name: []} for name in proof],
    }


def _said(about: str, operation: Operation, schemas: _Schemas) -> Schema:
    asked = schemas.fields(operation.asks) if operation.asks else {}
    said: Schema = {
        "summary": about.partition("\n")[0],
        "parameters": [
            *({"name": name, "in": "query", "schema": schema} for name, schema in asked.items()),
            *(
                {"name": name, "in": "header", "description": meaning, "schema": {"type": "string"}}
                for name, meaning in operation.hears.items()
            ),
        ],
        "responses": _responses(operation, schemas),
    }
    if operation.takes:
        refs = [schemas.taken(model) for model in operation.takes]
        content: Schema = {"schema": refs[0] if len(refs) == 1 else {"anyOf": refs}}
        if operation.example:
            content["example"] = operation.example
        said["requestBody"] = {"required": True, "content": {_JSON: content}}
    return said


def _responses(operation: Operation, schemas: _Schemas) -> Schema:
    refused: dict[str, list[str]] = {}
    for kind in operation.refuses:
        refused.setdefault(str(STATUS[kind]), []).append(f"`{kind}`")
    content = {MEDIA_TYPE: {"schema": {"$ref": f"{_REF}{_PROBLEM}"}}}
    return {
        **{str(code): _answer(one, schemas) for code, one in operation.answers.items()},
        **{
            code: {"description": " · ".join(kinds), "content": content}
            for code, kinds in refused.items()
        },
        "default": {"description": "Any other refusal.", "content": content},
    }


def _answer(answer: Answer, schemas: _Schemas) -> Schema:
    said: Schema = {"description": answer.meaning}
    if isinstance(answer.body, str):
        said["content"] = {answer.body: {"schema": {"type": "string"}}}
    elif answer.body is not None:
        said["content"] = {_JSON: {"schema": schemas.answered(answer.body)}}
    if answer.headers:
        said["headers"] = {
            name: {"description": meaning, "schema": {"type": "string"}}
            for name, meaning in answer.headers.items()
        }
    return said


def _problem() -> Schema:
    texts = ("title", "detail", "next_step", "request_id")
    return {
        "description": "A refusal (RFC 9457): what and why, and what to do next.",
        "type": "object",
        "properties": {
            "type": {
                "type": "string",
                "enum": [f"urn:problem-type:{kind}" for kind in ProblemType],
            },
            "status": {"type": "integer"},
            **{name: {"type": "string"} for name in texts},
            "errors": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {"pointer": {"type": "string"}, "detail": {"type": "string"}},
                },
            },
        },
        "required": ["type", "title", "status", "detail", "next_step"],
    }
