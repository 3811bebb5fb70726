"""The application factory of ELMS: settings, database, routes, and the table of problems."""

from flask import Flask

from contract.problems import Problem, ProblemType
from foundation.errors import DecryptionError, Refusal
from foundation.pages.site import init_site
from foundation.web import app as web
from foundation.web import health, openapi
from receiver import errors, services
from receiver.config import Settings
from receiver.models import SCHEMA
from receiver.monitoring import metrics
from receiver.pages.navigation import PAGES, SITE
from receiver.webhooks.openapi import DESCRIPTION
from receiver.webhooks.views import webhooks

# The problem type of each refusal.
REFUSALS: dict[type[Refusal], ProblemType] = {
    errors.SourceUnknownError: ProblemType.SOURCE_UNKNOWN,
    errors.SourceMismatchError: ProblemType.SOURCE_MISMATCH,
    errors.SignatureRefusedError: ProblemType.SIGNATURE_REFUSED,
    errors.WebhookIdReusedError: ProblemType.WEBHOOK_ID_REUSED,
    errors.EntryUnknownError: ProblemType.ENTRY_UNKNOWN,
    errors.RunUnknownError: ProblemType.RUN_UNKNOWN,
    DecryptionError: ProblemType.INTERNAL_ERROR,
}


def challenge(problem: Problem) -> dict[str, str]:
    """Return the `WWW-Authenticate` that a 401 must carry (RFC 9110, 15.5.2)."""
    if problem.type is ProblemType.SIGNATURE_REFUSED:
        return {"WWW-Authenticate": 'Standard-Webhooks version="v1"'}
    if problem.type is ProblemType.METRICS_TOKEN_REFUSED:
        return {"WWW-Authenticate": 'Bearer realm="elms"'}
    return {}


def create_app(given: Settings | None = None) -> Flask:
    """Return the application, or raise a ConfigurationError."""
    here = services.load(given)
    app = web.new_app(__name__, REFUSALS, challenge)
    services.attach(app, here)
    app.register_blueprint(health.blueprint(lambda: _monitored(services.of(app))))
    app.register_blueprint(openapi.blueprint(DESCRIPTION))
    app.register_blueprint(webhooks)
    keys = here.settings.encryption_keys
    init_site(app, SITE, PAGES, database=here.database, encryption_keys=keys)
    return app


def _monitored(here: services.Services) -> health.MonitoredService:
    token = here.settings.metrics_token.get_secret_value()
    return health.MonitoredService("receiver", here.database, SCHEMA, token, metrics.collect)
