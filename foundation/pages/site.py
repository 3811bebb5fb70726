"""The composition of a site of pages: keys, sessions, forms, layout, headers, refusals."""

from collections.abc import Sequence

from flask import Blueprint, Flask, Response, g
from jinja2 import StrictUndefined
from pydantic import SecretStr

from foundation.crypto import derive
from foundation.db.session import Database
from foundation.pages import assets, context, error_pages, forms, sessions
from foundation.pages.context import Site, SiteContext
from foundation.pages.errors import SignInNeeded
from foundation.pages.filters import FILTERS
from foundation.pages.sign_in import sign_in
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


def init_site(
    app: Flask,
    site: Site,
    pages: Sequence[Blueprint],
    *,
    database: Database,
    encryption_keys: SecretStr,
) -> None:
    """Add the pages to an app, with sign-in, templates and security headers."""
    every = (*pages, sign_in)
    context.attach(app, SiteContext(site, database, frozenset(page.name for page in every)))
    _set_up_sessions(app, site, encryption_keys)
    forms.protect(app)
    _set_up_templates(app, site)
    for blueprint in (*every, assets.assets):
        app.register_blueprint(blueprint)
    app.register_error_handler(SignInNeeded, error_pages.to_sign_in)
    app.after_request(_harden)
    web.render_problems_with(app, error_pages.show)


def _set_up_sessions(app: Flask, site: Site, encryption_keys: SecretStr) -> None:
    first, *older = derive(encryption_keys, f"{site.command}: sessions of its pages")
    app.config.update(
        SECRET_KEY=first,
        SECRET_KEY_FALLBACKS=older,
        # Cookies ignore ports, so each service on a host has its own cookie name.
        SESSION_COOKIE_NAME=f"__Host-{site.command}",
        SESSION_COOKIE_SECURE=True,
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Lax",
        SESSION_COOKIE_PATH="/",
        PERMANENT_SESSION_LIFETIME=sessions.MAX_AGE,
    )


def _set_up_templates(app: Flask, site: Site) -> None:
    app.jinja_env.undefined = StrictUndefined
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    app.jinja_env.filters.update(FILTERS, advice=site.render_advice)
    app.jinja_env.globals.update(site=site, asset=assets.address)
    app.context_processor(lambda: {"person": g.get("person")})


def _harden(response: Response) -> Response:
    if response.mimetype == "text/html":
        for name, value in _HEADERS.items():
            response.headers.setdefault(name, value)
    return response
