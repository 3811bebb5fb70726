"""The application factory of eAssessment: settings, database, API, pages, outbox."""

from flask import Flask

from contract.problems import ProblemType
from foundation.pages import app as pages
from foundation.web import health, openapi
from notifier import services
from notifier.api.admin import admin_api
from notifier.api.claims import claims_api
from notifier.api.grades import api
from notifier.api.moodle import ingest_api
from notifier.api.openapi import DESCRIPTION
from notifier.config import Settings
from notifier.models import SCHEMA
from notifier.monitoring import metrics
from notifier.pages.navigation import SITE

_REALM = 'Bearer realm="eassessment"'
# The `WWW-Authenticate` headers of problems (RFC 6750, 3).
CHALLENGES = {
    ProblemType.SIGNATURE_REFUSED: 'Standard-Webhooks version="v1"',
    ProblemType.TOKEN_MISSING: _REALM,
    ProblemType.ADMIN_KEY_REFUSED: _REALM,
    ProblemType.INGEST_REFUSED: _REALM,
    ProblemType.METRICS_TOKEN_REFUSED: _REALM,
    ProblemType.TOKEN_MALFORMED: f'{_REALM}, error="invalid_token"',
    ProblemType.TOKEN_UNKNOWN: f'{_REALM}, error="invalid_token"',
    ProblemType.TOKEN_REGENERATED: f'{_REALM}, error="invalid_token"',
    ProblemType.TOKEN_WRONG_COURSE: f'{_REALM}, error="insufficient_scope"',
}


def create_app(settings: Settings | None = None) -> Flask:
    """Return the app of eAssessment, or raise ConfigurationError."""
    return app_of(services.load(settings))


def app_of(app_services: services.Services) -> Flask:
    """Return the app that uses the services."""
    return pages.new_app(
        __name__,
        app_services,
        SITE,
        [
            health.blueprint("notifier", SCHEMA, metrics.collect),
            openapi.blueprint(DESCRIPTION),
            api,
            admin_api,
            claims_api,
            ingest_api,
        ],
        CHALLENGES,
    )
