"""The app of a service with pages: sessions, forms, templates, security headers, refusals."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from flask import Blueprint, Flask, Response, g
from jinja2 import StrictUndefined

from contract.problems import ProblemType
from foundation.config import ServiceSettings, variable
from foundation.crypto import derive
from foundation.db import session as db
from foundation.db.pagination import COUNTED
from foundation.db.session import Database
from foundation.errors import ConfigurationError, DatabaseSetupError
from foundation.pages import assets, error_pages, forms, sessions
from foundation.pages.errors import SignInRequiredError
from foundation.pages.filters import FILTERS
from foundation.pages.sign_in import sign_in
from foundation.pages.site import Site, attach_site
from foundation.services import Services, attach
from foundation.web import app as web

_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
    )
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "Referrer-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Frame-Options": "DENY",
}


def new_app(
    name: str,
    services: Services[Any],
    site: Site,
    routes: Sequence[Blueprint],
    challenges: Mapping[ProblemType, str],
) -> Flask:
    """Return the app of a service: its pages, with sign-in and security headers, and its routes."""
    app = web.new_app(name, challenges, error_pages.show)
    services.warn_of_unknown_variables()
    attach(app, services)
    attach_site(app, site)
    prefix = services.settings.path_prefix
    first, *older = derive(
        services.settings.encryption_keys, f"{site.command}: sessions of its pages"
    )
    app.config.update(
        SECRET_KEY=first,
        SECRET_KEY_FALLBACKS=older,
        # Cookies ignore ports, so each service on a host has its own cookie name; one that begins
        # with __Host- must have the path /.
        SESSION_COOKIE_NAME=f"__Host-{site.command}{prefix.replace('/', '-')}",
        SESSION_COOKIE_SECURE=True,
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Lax",
        SESSION_COOKIE_PATH="/",
        PERMANENT_SESSION_LIFETIME=sessions.MAX_AGE,
    )
    forms.protect(app)
    app.jinja_env.undefined = StrictUndefined
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    app.jinja_env.filters.update(FILTERS, advice=site.render_advice)
    app.jinja_env.globals.update(
        site.globals,
        site=site,
        asset=assets.url_of,
        counted=COUNTED,
        server_time=lambda: datetime.now(UTC),
        database_problem=lambda: _database_problem(services.database),
    )
    app.context_processor(lambda: {"current_user": g.get("current_user")})
    for blueprint in (*routes, *site.pages, sign_in, assets.assets):
        app.register_blueprint(blueprint)
    app.register_error_handler(SignInRequiredError, error_pages.to_sign_in)
    app.after_request(_harden)
    if prefix:
        _publish_under(app, prefix, services.settings)
    return app


def _publish_under(app: Flask, prefix: str, settings: ServiceSettings) -> None:
    if any(f"{rule.rule}/".startswith(f"{prefix}/") for rule in app.url_map.iter_rules()):
        raise ConfigurationError(
            f"{variable(type(settings), 'path_prefix')}: {prefix} is a path of the service itself"
        )
    app.wsgi_app = web.PathPrefix(app.wsgi_app, prefix)  # type: ignore[method-assign]  # as Flask advises


def _database_problem(database: Database) -> DatabaseSetupError | None:
    """Return why nothing can be changed on the pages, if the database takes no writes."""
    try:
        database.check_writable()
    except DatabaseSetupError as error:
        return error
    except db.UNAVAILABLE:  # a page that says so is being rendered
        return None
    return None


def _harden(response: Response) -> Response:
    if response.mimetype == "text/html":
        for name, value in _HEADERS.items():
            response.headers.setdefault(name, value)
    return response
