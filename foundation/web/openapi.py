"""The OpenAPI document of a service, and Swagger UI to read it.

The document is made from the views, their guards, and the models that parse requests and make
responses.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from importlib.resources import files
from typing import Any

from flask import (
    Blueprint,
    Flask,
    Response,
    abort,
    current_app,
    render_template_string,
    request,
)
from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema
from werkzeug.routing import Rule

from contract import strict_json
from contract.problems import MEDIA_TYPE, ProblemType
from foundation.web.app import guarded

VERSION = "3.1.0"
_JSON = "application/json"
_REF = "#/components/schemas/"
_PROBLEM = "Problem"
Model = type[BaseModel]
JsonSchema = dict[str, Any]

_PROBLEM_SCHEMA: JsonSchema = {
    "description": "A problem (RFC 9457): what was refused, why, and what to do next.",
    "type": "object",
    "properties": {
        "type": {"type": "string", "enum": [kind.uri for kind in ProblemType]},
        "status": {"type": "integer"},
        "title": {"type": "string"},
        "detail": {"type": "string"},
        "next_step": {"type": "string"},
        "action": {"type": "string"},
        "request_id": {"type": "string"},
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

_PAGE = """<!doctype html>
<html lang="en">
<head>
  <meta charset="utf-8">
  <meta name="viewport" content="width=device-width, initial-scale=1">
  <title>API of {{ title }}</title>
  <link rel="stylesheet" href="{{ url_for('.asset', name='swagger-ui.css') }}">
</head>
<body>
  <p><a href="{{ request.script_root }}/">Back to {{ title }}</a></p>
  <div id="swagger-ui"></div>
  <script src="{{ url_for('.asset', name='swagger-ui-bundle.js') }}"></script>
  <script src="{{ url_for('.asset', name='start.js') }}"></script>
</body>
</html>
"""
# validatorUrl: by default Swagger UI sends the document to a validator of another site.
_START_SCRIPT = b"""SwaggerUIBundle({
  url: "openapi.json", dom_id: "#swagger-ui", deepLinking: true, validatorUrl: null
});
"""
# Swagger UI sets styles inline and draws its icons from data URLs.
_PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; connect-src 'self'; frame-ancestors 'none'; base-uri 'none'"
)
_MEDIA_TYPES = {"css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8"}
_CHUNK_BYTES = 64 * 1024


@dataclass(frozen=True)
class ApiResponse:
    """A successful response: what it means, its body as a model or a media type, its headers."""

    description: str
    body: Model | str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Operation:
    """What a route accepts and returns, in addition to what its view's docstring and guard say.

    Args:
        responses: The successful responses by status.
        bodies: The models of the body; any one of them is accepted.
        query: The model of the query parameters.
        headers: Request headers with their description.
        problems: The problem types to expect.
        example: An example of the body.
        has_security: False if the caller authenticates in the body.
    """

    responses: Mapping[int, ApiResponse]
    bodies: Sequence[Model] = ()
    query: Model | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    problems: Sequence[ProblemType] = ()
    example: Mapping[str, Any] | None = None
    has_security: bool = True


@dataclass(frozen=True)
class ApiDescription:
    """The description of a service's API.

    Args:
        operations: The operations by endpoint.
        security: The security schemes of each guard; other guards need no authentication.
        path_parameters: The schema of each path parameter.
        webhooks: The model and operation of each event that the service sends, by type.
    """

    title: str
    description: str
    operations: Mapping[str, Operation]
    security: Mapping[str, Mapping[str, JsonSchema]]
    path_parameters: Mapping[str, JsonSchema]
    webhooks: Mapping[str, tuple[Model, Operation]] = field(default_factory=dict)


class Document(BaseModel):
    """An OpenAPI document."""

    openapi: str


_OPERATIONS = {
    "openapi.openapi": Operation({200: ApiResponse("This document.", Document)}),
    "openapi.page": Operation({200: ApiResponse("The document as a web page.", "text/html")}),
}


def document(app: Flask, description: ApiDescription) -> JsonSchema:
    """Return the OpenAPI document of the app's described operations."""
    return _Document(app, description).make()


def blueprint(description: ApiDescription) -> Blueprint:
    """Return the views of a service's document: as JSON, and as a page with Swagger UI."""
    views = Blueprint("openapi", __name__)

    @lru_cache(maxsize=1)
    def text(root: str) -> str:
        servers = [{"url": root or "/"}]
        return strict_json.dump({**document(current_app, description), "servers": servers})

    @views.get("/openapi.json")
    @guarded("anybody")
    def openapi() -> Response:
        """Return this document: what this service accepts and returns."""
        return Response(text(request.script_root), content_type=_JSON)

    @views.get("/docs")
    @guarded("anybody")
    def page() -> Response:
        """Return this document as a web page."""
        response = Response(render_template_string(_PAGE, title=description.title))
        response.headers["Content-Security-Policy"] = _PAGE_POLICY
        return response

    @views.get("/docs/<name>")
    @guarded("anybody")
    def asset(name: str) -> Response:
        """Return a file of Swagger UI."""
        content = _assets().get(name)
        if content is None:
            abort(404)
        # Streamed without a length: waitress closes the connection after such a response, so that
        # pipelined requests for the large bundle do not pile up responses in memory.
        chunks = (content[at : at + _CHUNK_BYTES] for at in range(0, len(content), _CHUNK_BYTES))
        response = Response(chunks, content_type=_MEDIA_TYPES[name.rpartition(".")[2]])
        response.headers["Cache-Control"] = "public, max-age=86400"
        return response

    return views


@cache
def _assets() -> dict[str, bytes]:
    folder = files("flask_swagger_ui") / "dist"
    names = ("swagger-ui.css", "swagger-ui-bundle.js")
    return {**{name: (folder / name).read_bytes() for name in names}, "start.js": _START_SCRIPT}


class _Document:
    """The parts of the document of an app; each model of its operations is defined once."""

    def __init__(self, app: Flask, description: ApiDescription) -> None:
        self._app = app
        self._description = description
        self._operations = {**_OPERATIONS, **description.operations}
        models: dict[tuple[Model, JsonSchemaMode], None] = {}
        sent = (operation for _, operation in description.webhooks.values())
        for operation in (*self._operations.values(), *sent):
            requests = (*operation.bodies, operation.query)
            responses = (response.body for response in operation.responses.values())
            models |= {(model, "validation"): None for model in requests if model}
            models |= {
                (body, "serialization"): None for body in responses if isinstance(body, type)
            }
        self._refs, schemas = models_json_schema(list(models), ref_template=f"{_REF}{{model}}")
        self._definitions: JsonSchema = schemas.get("$defs", {})

    def make(self) -> JsonSchema:
        paths: dict[str, JsonSchema] = {}
        for rule in sorted(self._app.url_map.iter_rules(), key=lambda rule: rule.rule):
            if rule.endpoint not in self._operations:
                continue
            method = next(iter((rule.methods or set()) - {"HEAD", "OPTIONS"})).lower()
            path = re.sub(r"<(?:\w+(?:\([^)]*\))?:)?(\w+)>", r"{\1}", rule.rule)
            paths.setdefault(path, {})[method] = self._route(rule)
        return {
            "openapi": VERSION,
            "info": {
                "title": self._description.title,
                "description": self._description.description,
                "version": "1",
            },
            "paths": paths,
            "webhooks": {
                event_type: {"post": self._operation(str(model.__doc__), operation)}
                for event_type, (model, operation) in self._description.webhooks.items()
            },
            "components": {
                "schemas": {**self._definitions, _PROBLEM: _PROBLEM_SCHEMA},
                "securitySchemes": {
                    name: scheme
                    for schemes in self._description.security.values()
                    for name, scheme in schemes.items()
                },
            },
        }

    def _route(self, rule: Rule) -> JsonSchema:
        operation = self._operations[rule.endpoint]
        view = self._app.view_functions[rule.endpoint]
        described = self._operation(str(view.__doc__), operation)
        schemes = self._description.security.get(getattr(view, "guard", ""), {})
        path = [
            _parameter(name, "path", self._description.path_parameters[name], required=True)
            for name in sorted(rule.arguments)
        ]
        return {
            "operationId": rule.endpoint.rpartition(".")[2],
            **described,
            "parameters": [*path, *described["parameters"]],
            "security": [{name: []} for name in schemes if operation.has_security],
        }

    def _operation(self, docstring: str, operation: Operation) -> JsonSchema:
        query: JsonSchema = {}
        if operation.query:
            name = self._refs[operation.query, "validation"]["$ref"].removeprefix(_REF)
            query = self._definitions[name]["properties"]
        described: JsonSchema = {
            "summary": docstring.partition("\n")[0],
            "parameters": [
                *(_parameter(name, "query", schema) for name, schema in query.items()),
                *(
                    _parameter(name, "header", {"type": "string"}, description=text)
                    for name, text in operation.headers.items()
                ),
            ],
            "responses": self._responses(operation),
        }
        if operation.bodies:
            refs = [self._refs[model, "validation"] for model in operation.bodies]
            content: JsonSchema = {"schema": refs[0] if len(refs) == 1 else {"anyOf": refs}}
            if operation.example:
                content["example"] = operation.example
            described["requestBody"] = {"required": True, "content": {_JSON: content}}
        return described

    def _responses(self, operation: Operation) -> JsonSchema:
        problems: dict[str, list[str]] = {}
        for problem in operation.problems:
            problems.setdefault(str(problem.status), []).append(f"`{problem}`")
        content = {MEDIA_TYPE: {"schema": {"$ref": f"{_REF}{_PROBLEM}"}}}
        return {
            **{str(code): self._response(one) for code, one in operation.responses.items()},
            **{
                status: {"description": " · ".join(types), "content": content}
                for status, types in problems.items()
            },
            "default": {"description": "Any other problem.", "content": content},
        }

    def _response(self, response: ApiResponse) -> JsonSchema:
        described: JsonSchema = {"description": response.description}
        if isinstance(response.body, str):
            described["content"] = {response.body: {"schema": {"type": "string"}}}
        elif response.body is not None:
            schema = self._refs[response.body, "serialization"]
            described["content"] = {_JSON: {"schema": schema}}
        if response.headers:
            described["headers"] = {
                name: {"description": text, "schema": {"type": "string"}}
                for name, text in response.headers.items()
            }
        return described


def _parameter(name: str, place: str, schema: JsonSchema, **more: Any) -> JsonSchema:
    return {"name": name, "in": place, **more, "schema": schema}
