"""The application factory of eAssessment: settings, database, API, pages, errors, outbox."""

from flask import Flask

from contract.problems import Problem, ProblemType
from foundation.errors import Refusal
from foundation.pages.site import init_site
from foundation.web import app as web
from foundation.web import health, openapi
from notifier import errors, services
from notifier.api.admin import admin_api
from notifier.api.grades import api
from notifier.api.moodle import ingest_api
from notifier.api.openapi import DESCRIPTION
from notifier.config import Settings
from notifier.models import SCHEMA
from notifier.monitoring import metrics
from notifier.pages.navigation import PAGES, SITE

# The problem type of each refusal.
REFUSALS: dict[type[Refusal], ProblemType] = {
    errors.CourseUnknownError: ProblemType.COURSE_UNKNOWN,
    errors.CourseExistsError: ProblemType.COURSE_EXISTS,
    errors.CourseDeletedError: ProblemType.COURSE_DELETED,
    errors.CourseChangedError: ProblemType.COURSE_CHANGED,
    errors.EventNotWrittenError: ProblemType.EVENT_NOT_WRITTEN,
    errors.TokenMissingError: ProblemType.TOKEN_MISSING,
    errors.TokenMalformedError: ProblemType.TOKEN_MALFORMED,
    errors.TokenUnknownError: ProblemType.TOKEN_UNKNOWN,
    errors.TokenRegeneratedError: ProblemType.TOKEN_REGENERATED,
    errors.TokenWrongCourseError: ProblemType.TOKEN_WRONG_COURSE,
    errors.BatchFullError: ProblemType.BATCH_FULL,
    errors.TokenIssuerError: ProblemType.TOKEN_NOT_OURS,
    errors.IngestOffError: ProblemType.NOT_FOUND,
    errors.IngestRefusedError: ProblemType.INGEST_REFUSED,
    errors.EndpointUnknownError: ProblemType.ENDPOINT_UNKNOWN,
    errors.EndpointExistsError: ProblemType.ENDPOINT_EXISTS,
    errors.EndpointChangedError: ProblemType.ENDPOINT_CHANGED,
    errors.EndpointUrlError: ProblemType.ENDPOINT_URL_REFUSED,
    errors.DeliveryUnknownError: ProblemType.DELIVERY_UNKNOWN,
    errors.ReplayRefusedError: ProblemType.REPLAY_REFUSED,
}

_REALM = 'Bearer realm="eassessment"'
_CHALLENGES = {
    ProblemType.TOKEN_MISSING: _REALM,
    ProblemType.ADMIN_KEY_REFUSED: _REALM,
    ProblemType.INGEST_REFUSED: _REALM,
    ProblemType.METRICS_TOKEN_REFUSED: _REALM,
    ProblemType.TOKEN_MALFORMED: f'{_REALM}, error="invalid_token"',
    ProblemType.TOKEN_UNKNOWN: f'{_REALM}, error="invalid_token"',
    ProblemType.TOKEN_REGENERATED: f'{_REALM}, error="invalid_token"',
    ProblemType.TOKEN_WRONG_COURSE: f'{_REALM}, error="insufficient_scope"',
}


def challenge(problem: Problem) -> dict[str, str]:
    """Return the `WWW-Authenticate` header of a problem (RFC 6750, 3)."""
    named = _CHALLENGES.get(problem.type)
    return {"WWW-Authenticate": named} if named else {}


def create_app(given: Settings | None = None) -> Flask:
    """Return the app of eAssessment, or raise ConfigurationError."""
    here = services.load(given)
    app = web.new_app(__name__, REFUSALS, challenge)
    services.attach(app, here)
    app.register_blueprint(health.blueprint(lambda: _monitored(services.of(app))))
    app.register_blueprint(openapi.blueprint(DESCRIPTION))
    app.register_blueprint(api)
    app.register_blueprint(admin_api)
    app.register_blueprint(ingest_api)
    keys = here.settings.encryption_keys
    init_site(app, SITE, PAGES, database=here.database, encryption_keys=keys)
    return app


def _monitored(here: services.Services) -> health.MonitoredService:
    token = here.settings.metrics_token.get_secret_value()
    return health.MonitoredService("notifier", here.database, SCHEMA, token, metrics.collect)
