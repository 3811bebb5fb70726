"""The shared Flask app: problem documents, request limits and parsing, guards, request logs."""

import hmac
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from functools import wraps
from logging import ERROR, INFO, WARNING
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

import structlog
from flask import Flask, Response, current_app, g, request
from pydantic import BaseModel, ValidationError
from werkzeug.exceptions import BadHost, HTTPException, NotFound, RequestEntityTooLarge

from contract import strict_json
from contract.events import wire_time
from contract.problems import MEDIA_TYPE, Problem, ProblemType
from contract.validation import validation_message
from foundation import logging, tracing
from foundation.db import session as db
from foundation.errors import Advice, Refusal, fields_of
from foundation.text import printable
from foundation.web.errors import (
    RETRY_AFTER_SECONDS,
    BodyTooLargeError,
    InternalError,
    MediaTypeError,
    RequestInvalidError,
    RequestMalformedError,
    UnavailableError,
)

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_log = logging.get_logger(__name__)
_Model = TypeVar("_Model", bound=BaseModel)
_View = Callable[..., Any]

_BY_STATUS = {
    404: (ProblemType.NOT_FOUND, Advice("Check the path; nothing is redirected here.")),
    405: (ProblemType.METHOD_NOT_ALLOWED, Advice("Use one of the methods in the Allow header.")),
    413: (ProblemType.BODY_TOO_LARGE, BodyTooLargeError.advice),
    415: (ProblemType.MEDIA_TYPE_UNSUPPORTED, MediaTypeError.advice),
}
_PROBLEMS = "problems"
# Loopback addresses; the last one if a socket listens on both IPv6 and IPv4.
_THIS_MACHINE = frozenset({"127.0.0.1", "::1", "::ffff:127.0.0.1"})
_OTHER_4XX = (ProblemType.REQUEST_MALFORMED, Advice("Check the request and send it again."))
_INTERNAL = (ProblemType.INTERNAL_ERROR, InternalError.advice)


def new_app(
    name: str,
    challenges: Mapping[ProblemType, str] = MappingProxyType({}),
    render: Callable[[Problem, Advice], Response | None] = lambda _problem, _advice: None,
) -> Flask:
    """Return a Flask app that responds to every error with a problem.

    Args:
        challenges: The `WWW-Authenticate` headers of problems (RFC 9110, 11.6.1).
        render: Returns a problem as a page, or None where a document is expected.
    """
    app = Flask(name, static_folder=None)
    app.url_map.merge_slashes = False
    app.config["MAX_CONTENT_LENGTH"] = 0
    # Flask would respond to OPTIONS itself, without running the guard.
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False
    app.extensions[_PROBLEMS] = challenges, render
    app.before_request(_start_request)
    app.after_request(_finish_request)
    app.register_error_handler(Refusal, _refuse)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(Exception, _internal_error)
    for kind in db.UNUSABLE:
        app.register_error_handler(kind, _unavailable)
    return app


class PathPrefix:
    """WSGI middleware for a service that is published under a path, which all its URLs then have.

    The web server in front of it may leave the prefix in the path or remove it.
    """

    def __init__(self, app: "WSGIApplication", prefix: str) -> None:
        self._app = app
        self._prefix = prefix

    def __call__(
        self, environ: "WSGIEnvironment", start_response: "StartResponse"
    ) -> Iterable[bytes]:
        """Run the app below the prefix."""
        environ["SCRIPT_NAME"] = self._prefix
        if f"{environ['PATH_INFO']}/".startswith(f"{self._prefix}/"):
            environ["PATH_INFO"] = environ["PATH_INFO"].removeprefix(self._prefix)
        return self._app(environ, start_response)


def guarded(
    by: str, check: Callable[[], None] = lambda: None, *, strict: bool = False
) -> Callable[[_View], _View]:
    """Declare who may call a view, and run the check before it; every route has a guard.

    If it is `strict`, query parameters that the view does not take are refused.
    """

    def mark(view: _View) -> _View:
        @wraps(view)
        def checked(*args: Any, **kwargs: Any) -> Any:
            check()
            if strict and request.args:
                _check_parameters(getattr(checked, "parameters", frozenset()))
            return view(*args, **kwargs)

        checked.guard = by  # type: ignore[attr-defined]  # read by OpenAPI and by the tests of all routes
        return checked

    return mark


def takes(*parameters: str | type[BaseModel]) -> Callable[[_View], _View]:
    """Declare the query parameters of a view: their names, or a model with them as fields."""
    names = frozenset(
        name
        for one in parameters
        for name in ((one,) if isinstance(one, str) else one.model_fields)
    )

    def mark(view: _View) -> _View:
        view.parameters = names  # type: ignore[attr-defined]  # read by its guard
        return view

    return mark


def _check_parameters(known: frozenset[str]) -> None:
    for name, values in request.args.lists():
        if name in known and len(values) == 1:
            continue
        detail = "is given more than once" if name in known else "is unknown"
        taken = f"Known parameters: {', '.join(sorted(known))}." if known else "None is known here."
        raise RequestInvalidError(
            f"the parameter '{printable(name[:40])}' {detail}",
            advice=Advice(f"Remove it from the address. {taken}"),
            errors=[{"pointer": f"/{name}", "detail": detail}],
        )


def check_bearer(expected: str, refusal: type[Refusal], noun: str) -> None:
    """Raise the refusal unless the request has the bearer token; compared in constant time."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise refusal(f"the request has no {noun}")
    if not hmac.compare_digest(token.strip().encode(), expected.encode()):
        raise refusal(f"the {noun} is wrong")


def client_address() -> str:
    """Return the client's IP address, from a web server on this machine if there is one."""
    peer = request.remote_addr or ""
    forwarded = request.headers.get("X-Forwarded-For", "").rpartition(",")[2].strip()
    return forwarded if forwarded and peer in _THIS_MACHINE else peer


def read_body(limit: int) -> bytes:
    """Return the bytes of the body, or raise BodyTooLargeError for more than `limit`."""
    stated = request.content_length or 0
    # One byte more than the limit: werkzeug silently cuts a chunked body off there.
    request.max_content_length = limit + 1
    raw = b"" if stated > limit else request.get_data(cache=False)
    if max(stated, len(raw)) > limit:
        raise BodyTooLargeError(f"the body is larger than {limit} bytes")
    if len(raw) < stated:
        raise RequestMalformedError(f"the body ended after {len(raw)} of {stated} bytes")
    return raw


def require_json() -> None:
    """Raise MediaTypeError unless the body is JSON, without a content coding."""
    if request.mimetype != "application/json":
        raise MediaTypeError(f"the content type is {request.mimetype!r}, not application/json")
    codings = (request.content_encoding or "").lower().split(",")
    if {coding.strip() for coding in codings} - {"", "identity"}:
        raise MediaTypeError(
            f"the content encoding is {request.content_encoding!r}, not identity",
            advice=Advice("Send the body as it is, without Content-Encoding."),
        )


def parse_body(model: type[_Model], limit: int) -> _Model:
    """Return the JSON body as a model, or raise a refusal that says what is wrong with it."""
    require_json()
    return parse_json(model, read_body(limit))


def parse_json(model: type[_Model], raw: bytes) -> _Model:
    """Return JSON as a model, or raise a refusal that says what is wrong with it."""
    try:
        strict_json.load(raw)
        return model.model_validate_json(raw, strict=True)
    except strict_json.StrictJsonError as error:
        raise RequestMalformedError(str(error)) from None
    except ValidationError as error:
        raise invalid_fields(error) from None


def parse_query(model: type[_Model]) -> _Model:
    """Return the query string as a model; raise RequestInvalidError also for a duplicate name."""
    fields = {}
    for name, (value, *others) in request.args.lists():
        if others:
            detail = "is given more than once"
            faults = [{"pointer": f"/{name}", "detail": detail}]
            raise RequestInvalidError(f"/{name}: {detail}", errors=faults)
        fields[name] = value
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        raise invalid_fields(error) from None


def invalid_fields(error: ValidationError) -> RequestInvalidError:
    """Return the refusal that names every invalid field of a model."""
    faults = [
        {
            "pointer": "".join(f"/{part}" for part in fault["loc"]),
            "detail": validation_message(fault),
        }
        for fault in error.errors(include_url=False, include_input=False)
    ]
    where = faults[0]["pointer"] or "the whole body"
    return RequestInvalidError(f"{where}: {faults[0]['detail']}", errors=faults)


def _start_request() -> None:
    structlog.contextvars.clear_contextvars()
    g.request_id = secrets.token_hex(8)
    g.started = time.perf_counter()
    structlog.contextvars.bind_contextvars(request_id=g.request_id)
    tracing.set_current(tracing.span_from(request.headers.get(tracing.HEADER)))
    path = request.environ["PATH_INFO"]
    if not path or path.startswith("//"):
        raise NotFound  # werkzeug would merge the slashes
    if request.environ["SERVER_PROTOCOL"] == "HTTP/1.1" and "Host" not in request.headers:
        raise RequestMalformedError("the request has no Host header (RFC 9112, 3.2)")
    if isinstance(request.routing_exception, BadHost):
        raise RequestMalformedError("the Host header is not a valid host name")
    values = (value for several in request.args.listvalues() for value in several)
    if not all(map(strict_json.is_storable, (request.path, *values))):
        raise RequestMalformedError("the URL contains a NUL character")


def _finish_request(response: Response) -> Response:
    response.headers["X-Request-Id"] = g.request_id
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers.setdefault("Cache-Control", "no-store")
    _log.log(
        g.get("log_level", INFO),
        "request completed",
        method=request.method,
        url=_url(),
        status=response.status_code,
        milliseconds=round((time.perf_counter() - g.started) * 1000, 1),
    )
    return response


def _url() -> str:
    # Not `request.base_url`, which fails if the host is not valid in IDNA.
    return f"{request.scheme}://{request.host}{request.script_root}{request.path}"


def to_problem(refusal: Refusal) -> Problem:
    """Return the problem of a refusal."""
    kind = refusal.problem
    if kind is None:
        _log.error("refusal without a problem type", refusal=type(refusal).__name__)
        kind = ProblemType.INTERNAL_ERROR
    facts = {
        name: wire_time(fact) if isinstance(fact, datetime) else fact
        for name, fact in {"action": refusal.advice.command, **refusal.facts}.items()
        if fact is not None
    }
    return Problem(kind, str(refusal), refusal.advice.text, facts)


def _refuse(refusal: Refusal) -> Response:
    return _problem_response(to_problem(refusal), refusal.advice)


def _unavailable(error: Exception) -> Response:
    _log.error("database unavailable", cause=db.cause(error))
    return _refuse(UnavailableError("the database is busy or unavailable"))


def _internal_error(error: Exception) -> Response:
    _log.exception("unexpected error", error=type(error).__name__)
    return _refuse(InternalError("the request failed because of an internal error"))


def _http_error(error: HTTPException) -> Response:
    detail = error.description or error.name
    if isinstance(error, RequestEntityTooLarge):
        detail = f"the body is larger than {request.max_content_length} bytes"
    code = error.code or 500
    kind, advice = _BY_STATUS.get(code, _OTHER_4XX if code < 500 else _INTERNAL)
    response = _problem_response(Problem(kind, detail, advice.text), advice)
    if code == 405 and (allow := error.get_response().headers.get("Allow")):
        response.headers["Allow"] = allow
    return response


def _problem_response(problem: Problem, advice: Advice) -> Response:
    _log.log(
        ERROR if problem.status == 500 else WARNING,
        "request refused",
        problem=problem.type.value,
        url=_url(),
        detail=problem.detail,
        **fields_of(advice),
    )
    challenges, render = current_app.extensions[_PROBLEMS]
    response = render(problem, advice) or Response(
        strict_json.dump({**problem.document(), "request_id": g.get("request_id")}),
        status=problem.status,
        content_type=MEDIA_TYPE,
    )
    if problem.type in challenges:
        response.headers["WWW-Authenticate"] = challenges[problem.type]
    if problem.type is ProblemType.DATABASE_UNAVAILABLE:
        response.headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    return response
