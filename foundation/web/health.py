"""Health checks and metrics: /healthz, /readyz and /metrics."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
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
from foundation.errors import Advice, SchemaError
from foundation.web.app import check_bearer, guarded
from foundation.web.errors import MetricsTokenError, NotReadyError
from foundation.web.openapi import ApiResponse, Operation

# Seconds to wait for a busy database, and for its response to a statement.
_BUSY_SECONDS, _STATEMENT_SECONDS = 1.0, 3.0

_log = logging.get_logger(__name__)


class Alive(BaseModel):
    """The process responds to requests."""

    alive: bool


class Ready(BaseModel):
    """The service can use its database."""

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


@dataclass(frozen=True)
class MonitoredService:
    """A service with the metrics of its database.

    Args:
        metrics_token: The bearer token for /metrics; if empty, anyone may read them.
        collect: Reads the metrics that the database holds.
    """

    name: str
    database: Database
    schema: Schema
    metrics_token: str
    collect: Callable[[Session], Iterable[Metric]]


def blueprint(service: Callable[[], MonitoredService]) -> Blueprint:
    """Return the three views.

    They open a database connection of their own, so that they respond within a few seconds even
    if the pool is exhausted.
    """
    health = Blueprint("health", __name__)
    health.before_request(_log_at_debug)

    @health.get("/healthz")
    @guarded("anybody")
    def alive() -> dict[str, bool]:
        """Respond that the process is alive, without any check."""
        return {"alive": True}

    @health.get("/readyz")
    @guarded("anybody")
    def ready() -> dict[str, bool]:
        """Respond whether the database can be used and has the right schema."""
        _check(service())
        return {"ready": True}

    @health.get("/metrics")
    @guarded("metrics token, if one is set", lambda: _check_token(service().metrics_token))
    def metrics() -> Response:
        """Return the metrics in the format of Prometheus; one of them is readiness."""
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        registry = CollectorRegistry()
        registry.register(_Metrics(_collect(service())))
        return Response(encode(registry), content_type=content_type)

    return health


class _Metrics(Collector):
    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def _log_at_debug() -> None:
    # These routes are polled every few seconds.
    g.log_level = DEBUG


def _check(service: MonitoredService) -> None:
    try:
        with service.database.separate_connection(
            timeout=_BUSY_SECONDS, statement_timeout=_STATEMENT_SECONDS
        ) as database:
            service.schema.check(database)
    except SchemaError as error:
        raise NotReadyError(str(error), advice=error.advice) from None
    except db.UNUSABLE as error:
        # The cause may name machines; it is for the log only.
        _log.error("database unavailable", cause=db.cause(error))
        raise NotReadyError(
            "the database is busy or unavailable",
            advice=Advice("Find the cause on the server.", "doctor"),
        ) from None


def _check_token(expected: str) -> None:
    if expected:
        check_bearer(expected, MetricsTokenError, "metrics token")


def _collect(service: MonitoredService) -> list[Metric]:
    description = "1 if the database can be used and has the schema of this release, else 0."
    name = f"{service.name}_ready"
    try:
        with service.database.separate_connection(
            timeout=_BUSY_SECONDS, statement_timeout=_STATEMENT_SECONDS
        ) as database:
            service.schema.check(database)
            with database.reading() as session:
                metrics = list(service.collect(session))
    except (SchemaError, *db.UNUSABLE) as error:
        _log.error("service not ready", cause=db.cause(error))
        return [GaugeMetricFamily(name, description, 0)]
    return [GaugeMetricFamily(name, description, 1), *metrics]
