"""The application factory of ELMS: settings, database, routes, pages."""

from collections.abc import Iterable

from flask import Flask, current_app
from prometheus_client.core import Metric
from sqlalchemy.orm import Session

from contract.problems import ProblemType
from foundation.pages import app as pages
from foundation.web import health, openapi
from receiver import services
from receiver.config import Settings
from receiver.models import SCHEMA
from receiver.monitoring import metrics
from receiver.pages.navigation import SITE
from receiver.webhooks.openapi import DESCRIPTION
from receiver.webhooks.refusals import RefusedWebhooks
from receiver.webhooks.views import webhooks

# The `WWW-Authenticate` headers that a 401 must have (RFC 9110, 15.5.2).
CHALLENGES = {
    ProblemType.SIGNATURE_REFUSED: 'Standard-Webhooks version="v1"',
    ProblemType.METRICS_TOKEN_REFUSED: 'Bearer realm="elms"',
}


def create_app(settings: Settings | None = None) -> Flask:
    """Return the app of ELMS, or raise a ConfigurationError."""
    return app_of(services.load(settings))


def app_of(app_services: services.Services) -> Flask:
    """Return the app that uses the services."""
    return pages.new_app(
        __name__,
        app_services,
        SITE,
        [
            health.blueprint("receiver", SCHEMA, _collect),
            openapi.blueprint(DESCRIPTION),
            webhooks,
        ],
        CHALLENGES,
    )


def _collect(session: Session) -> Iterable[Metric]:
    return [*metrics.collect(session), RefusedWebhooks.of(current_app).family()]
