"""Health checks and metrics: /healthz, /readyz and /metrics."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from logging import DEBUG

from flask import Blueprint, Response, g, request
from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from pydantic import BaseModel
from sqlalchemy.orm import Session

from contract.problems import ProblemType
from foundation import logging
from foundation.db import session as db
from foundation.db.migrations import Schema
from foundation.db.session import Database
from foundation.errors import Advice, DatabaseSetupError
from foundation.services import Services
from foundation.web.app import check_bearer, guarded
from foundation.web.errors import MetricsTokenError, NotReadyError
from foundation.web.openapi import ApiResponse, Operation

# Seconds to wait for a busy database, and for its response to a statement.
_BUSY_SECONDS, _STATEMENT_SECONDS = 1.0, 3.0

_READINESS = "1 if the database has the schema of this release and takes writes, else 0."

_log = logging.get_logger(__name__)


class Alive(BaseModel):
    """The process responds to requests."""

    alive: bool


class Ready(BaseModel):
    """The service can use its database: read it and write to it."""

    ready: bool


OPERATIONS = {
    "health.alive": Operation({200: ApiResponse("Alive.", Alive)}),
    "health.ready": Operation(
        {200: ApiResponse("Ready.", Ready)}, problems=[ProblemType.NOT_READY]
    ),
    "health.metrics": Operation(
        {200: ApiResponse("The metrics, in the format of Prometheus.", "text/plain")},
        problems=[ProblemType.METRICS_TOKEN_REFUSED],
    ),
}


def blueprint(
    name: str, schema: Schema, collect: Callable[[Session], Iterable[Metric]]
) -> Blueprint:
    """Return the three views of a service; `collect` reads the metrics that the database holds.

    They open a database connection of their own, so that they respond within a few seconds even
    if the pool is exhausted.
    """
    health = Blueprint("health", __name__)

    @health.before_request
    def log_at_debug() -> None:
        g.log_level = DEBUG  # these routes are polled every few seconds

    @health.get("/healthz")
    @guarded("anybody")
    def alive() -> dict[str, bool]:
        """Respond that the process is alive, without any check."""
        return {"alive": True}

    @health.get("/readyz")
    @guarded("anybody")
    def ready() -> dict[str, bool]:
        """Respond whether the database has the right schema and takes writes."""
        try:
            with _checked_database(schema):
                return {"ready": True}
        except DatabaseSetupError as error:
            raise NotReadyError(str(error), advice=error.advice) from None
        except db.UNUSABLE as error:
            # The cause may name machines; it is for the log only.
            _log.error("database unavailable", cause=db.cause(error))
            raise NotReadyError(
                "the database is busy or unavailable",
                advice=Advice("Find the cause on the server.", "doctor"),
            ) from None

    @health.get("/metrics")
    @guarded("metrics token, if one is set", _check_token)
    def metrics() -> Response:
        """Return the metrics in the format of Prometheus; one of them is readiness."""
        families = []
        try:
            with _checked_database(schema) as database, database.reading() as session:
                families = list(collect(session))
            is_ready = 1
        except (DatabaseSetupError, *db.UNUSABLE) as error:
            _log.error("service not ready", cause=db.cause(error))
            is_ready = 0
        readiness = GaugeMetricFamily(f"{name}_ready", _READINESS, is_ready)
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        registry = CollectorRegistry()
        registry.register(_Metrics([readiness, *families]))
        return Response(encode(registry), content_type=content_type)

    return health


class _Metrics(Collector):
    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


@contextmanager
def _checked_database(schema: Schema) -> Iterator[Database]:
    with Services.current().database.separate_connection(
        timeout=_BUSY_SECONDS, statement_timeout=_STATEMENT_SECONDS
    ) as database:
        schema.check(database)
        database.check_writable()
        yield database


def _check_token() -> None:
    expected: str = Services.current().settings.metrics_token.get_secret_value()
    if expected:
        check_bearer(expected, MetricsTokenError, "metrics token")
