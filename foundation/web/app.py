"""Every door's manners: problems for errors, one log line a request, limits, who may come in."""

import hmac
import secrets
import time
from collections.abc import Callable, Mapping
from functools import wraps
from logging import INFO
from typing import Any, TypeVar

import structlog
from flask import Flask, Response, current_app, g, request
from pydantic import BaseModel, ValidationError
from werkzeug.exceptions import BadHost, HTTPException, NotFound, RequestEntityTooLarge

from contract import strict_json
from contract.problems import MEDIA_TYPE, Problem, ProblemType
from foundation import logging, tracing
from foundation.db import session as db
from foundation.errors import Advice, Refusal, fields_of
from foundation.web.errors import (
    PROBLEMS,
    RETRY_AFTER_SECONDS,
    AdminKeyError,
    BodyTooLargeError,
    InternalError,
    MediaTypeError,
    RequestInvalidError,
    RequestMalformedError,
    UnavailableError,
)

_log = logging.get_logger(__name__)
_Model = TypeVar("_Model", bound=BaseModel)
_View = Callable[..., Any]

_BY_STATUS = {
    404: (ProblemType.NOT_FOUND, Advice("Check the path; nothing is redirected here.")),
    405: (ProblemType.METHOD_NOT_ALLOWED, Advice("Use one of the methods in the Allow header.")),
    413: (ProblemType.BODY_TOO_LARGE, BodyTooLargeError.advice),
    415: (ProblemType.MEDIA_TYPE_UNSUPPORTED, MediaTypeError.advice),
}
_REFUSALS = "refusals"
_SHOWS = "refusals_shown_otherwise"
_OTHER_4XX = (ProblemType.REQUEST_MALFORMED, Advice("Check the request and send it again."))
_OURS = (ProblemType.INTERNAL_ERROR, InternalError.advice)


def new_app(
    name: str,
    refusals: Mapping[type[Refusal], ProblemType],
    challenge: Callable[[Problem], dict[str, str]] = lambda _: {},
) -> Flask:
    """Return a Flask app whose every error is a problem document.

    `refusals` is the one table from refusals to problem types; `challenge` names the headers
    that go with a problem (RFC 6750's `WWW-Authenticate`).
    """
    app = Flask(name, static_folder=None)
    app.url_map.merge_slashes = False
    app.config["MAX_CONTENT_LENGTH"] = 0
    # Flask would answer OPTIONS by itself, before anybody has said who is asking.
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False
    app.extensions[_REFUSALS] = {**PROBLEMS, **refusals}
    app.before_request(_begin)
    app.after_request(_end)

    def refuse(refusal: Refusal) -> Response:
        problem = to_problem(refusal)
        return _answer(problem, refusal.advice, challenge(problem))

    def unavailable(error: Exception) -> Response:
        _log.error("database unavailable", cause=db.cause(error))
        return refuse(UnavailableError("the database cannot be used: it is busy or away"))

    def unforeseen(error: Exception) -> Response:
        _log.exception("request failed unforeseen", error=type(error).__name__)
        return refuse(InternalError("the request failed for a reason that is ours"))

    app.register_error_handler(Refusal, refuse)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(Exception, unforeseen)
    for kind in db.UNUSABLE:
        app.register_error_handler(kind, unavailable)
    return app


def render_problems_with(app: Flask, show: Callable[[Problem, Advice], Response | None]) -> None:
    """Let an app show a problem otherwise than as a document, where `show` returns an answer."""
    app.extensions[_SHOWS] = show


def guarded(by: str, check: Callable[[], None] = lambda: None) -> Callable[[_View], _View]:
    """State who may call a view, and run the check before it; every route states it."""

    def mark(view: _View) -> _View:
        @wraps(view)
        def checked(*args: Any, **kwargs: Any) -> Any:
            check()
            return view(*args, **kwargs)

        checked.guard = by  # type: ignore[attr-defined]  # read by the test that walks the routes
        return checked

    return mark


def check_admin_key(expected: str) -> None:
    """Raise AdminKeyError unless the request bears the key; compared in constant time."""
    check_bearer(expected, AdminKeyError, "admin key")


def check_bearer(expected: str, refusal: type[Refusal], noun: str) -> None:
    """Raise the refusal unless the request bears what is expected; compared in constant time."""
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not given:
        raise refusal(f"the request bears no {noun}")
    if not hmac.compare_digest(given.strip().encode(), expected.encode()):
        raise refusal(f"the {noun} is wrong")


def read_body(limit: int) -> bytes:
    """Return the raw bytes of the body; more than `limit` of them is a 413, unread."""
    stated = request.content_length or 0
    # One byte more is asked for: werkzeug cuts a chunked body off at its limit without a word.
    request.max_content_length = limit + 1
    raw = b"" if stated > limit else request.get_data(cache=False)
    if max(stated, len(raw)) > limit:
        raise BodyTooLargeError(f"the body is larger than {limit} bytes")
    if len(raw) < stated:
        raise RequestMalformedError(f"the body ended after {len(raw)} of {stated} bytes")
    return raw


def require_json() -> None:
    """Raise MediaTypeError unless the body is said to be JSON."""
    if request.mimetype != "application/json":
        raise MediaTypeError(f"the body is said to be {request.mimetype or 'nothing'!r}, not JSON")


def parse_body(model: type[_Model], limit: int) -> _Model:
    """Return the request's body as a model, or raise what is wrong with it."""
    require_json()
    raw = read_body(limit)
    try:
        strict_json.load(raw)
        return model.model_validate_json(raw, strict=True)
    except strict_json.StrictJsonError as error:
        raise RequestMalformedError(str(error)) from None
    except ValidationError as error:
        raise invalid_fields(error) from None


def parse_query(model: type[_Model]) -> _Model:
    """Return the query string as a model; raise for a name that stands in it twice."""
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
    """Return the refusal that points to every field that a model refused."""
    faults = [
        {
            "pointer": "".join(f"/{part}" for part in fault["loc"]),
            "detail": fault["msg"].removeprefix("Value error, "),
        }
        for fault in error.errors(include_url=False, include_input=False, include_context=False)
    ]
    where = faults[0]["pointer"] or "the whole of it"
    return RequestInvalidError(f"{where}: {faults[0]['detail']}", errors=faults)


def _begin() -> None:
    structlog.contextvars.clear_contextvars()
    g.request_id = secrets.token_hex(8)
    g.started = time.perf_counter()
    structlog.contextvars.bind_contextvars(request_id=g.request_id)
    tracing.set_current(tracing.span_from(request.headers.get(tracing.HEADER)))
    path = request.environ["PATH_INFO"]
    if not path or path.startswith("//"):
        raise NotFound  # werkzeug takes all slashes that a path begins with for one, and adds one
    if request.environ["SERVER_PROTOCOL"] == "HTTP/1.1" and "Host" not in request.headers:
        raise RequestMalformedError("the request has no Host header (RFC 9112, 3.2)")
    if isinstance(request.routing_exception, BadHost):
        raise RequestMalformedError("the Host header holds no name of a host")
    values = (value for several in request.args.listvalues() for value in several)
    if not all(map(strict_json.is_storable, (request.path, *values))):
        raise RequestMalformedError("the URL holds NUL, which nothing here is named by")


def _end(response: Response) -> Response:
    response.headers["X-Request-Id"] = g.request_id
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers.setdefault("Cache-Control", "no-store")
    _log.log(
        g.get("log_level", INFO),
        "request answered",
        method=request.method,
        url=_url(),
        status=response.status_code,
        milliseconds=round((time.perf_counter() - g.started) * 1000, 1),
    )
    return response


def _url() -> str:
    # Not `request.base_url`, which fails on a Host that is no name in IDNA.
    return f"{request.scheme}://{request.host}{request.path}"


def to_problem(refusal: Refusal) -> Problem:
    """Return the problem that says what was refused, by the table of the app that is at work."""
    table: Mapping[type[Refusal], ProblemType] = current_app.extensions[_REFUSALS]
    kind = next((table[cls] for cls in type(refusal).__mro__ if cls in table), None)
    if kind is None:
        _log.error("a refusal has no problem type", refusal=type(refusal).__name__)
        kind = ProblemType.INTERNAL_ERROR
    facts = {"action": refusal.advice.command, **refusal.facts}
    return Problem(kind, str(refusal), refusal.advice.text, to_json(facts))


def to_json(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return facts as JSON can hold them: moments as text."""
    return {
        name: fact.isoformat() if hasattr(fact, "isoformat") else fact
        for name, fact in facts.items()
        if fact is not None
    }


def _http_error(error: HTTPException) -> Response:
    if isinstance(error, RequestEntityTooLarge):
        limit = request.max_content_length
        detail = f"the body is larger than {limit} bytes"
    else:
        detail = error.description or error.name
    code = error.code or 500
    kind, advice = _BY_STATUS.get(code, _OTHER_4XX if code < 500 else _OURS)
    headers = dict(error.get_response().headers) if code == 405 else {}
    allow = {"Allow": headers["Allow"]} if "Allow" in headers else {}
    return _answer(Problem(kind, detail, advice.text), advice, allow)


def _answer(problem: Problem, advice: Advice, headers: Mapping[str, str]) -> Response:
    _log.log(
        30 if problem.status != 500 else 40,
        "request refused",
        problem=problem.type.value,
        url=_url(),
        detail=problem.detail,
        **fields_of(advice),
    )
    show = current_app.extensions.get(_SHOWS)
    response = (show and show(problem, advice)) or _document(problem)
    response.headers.update(headers)
    if problem.type is ProblemType.DATABASE_UNAVAILABLE:
        response.headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    return response


def _document(problem: Problem) -> Response:
    return Response(
        strict_json.dump({**problem.document(), "request_id": g.get("request_id")}),
        status=problem.status,
        content_type=MEDIA_TYPE,
    )
