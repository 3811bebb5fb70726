"""What operations watch: whether a process lives, whether it can work, and the numbers."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from logging import DEBUG

from flask import Blueprint, Response, g, request
from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from sqlalchemy.orm import Session

from foundation import logging
from foundation.db import session as db
from foundation.db.migrations import Schema
from foundation.db.session import Database
from foundation.errors import SchemaError
from foundation.web.app import check_bearer, guarded
from foundation.web.errors import MetricsTokenError, NotReadyError

WAIT_SECONDS, ANSWER_SECONDS = 1.0, 3.0
"""How long a busy database is waited for, and how long it may take over a statement."""

_log = logging.get(__name__)


@dataclass(frozen=True)
class Watched:
    """A service as it is watched; `numbers` reads what its database knows.

    `token` is what the reader of the numbers has to bear; if it is empty, anybody may read them.
    """

    service: str
    database: Database
    schema: Schema
    token: str
    numbers: Callable[[Session], Iterable[Metric]]


def blueprint(watched: Callable[[], Watched]) -> Blueprint:
    """Return the three views; the database is asked over a connection of their own.

    So they answer in a few seconds at the most, however busy the doors are.
    """
    watch = Blueprint("watch", __name__)
    watch.before_request(_quietly)

    @watch.get("/healthz")
    @guarded("anybody")
    def alive() -> dict[str, bool]:
        """Answer: the process takes requests. Nothing else is looked at."""
        return {"alive": True}

    @watch.get("/readyz")
    @guarded("anybody")
    def ready() -> dict[str, bool]:
        """Answer whether the database can be used and has our schema; 503 says what to do."""
        _check(watched())
        return {"ready": True}

    @watch.get("/metrics")
    @guarded("metrics token, if one is set", lambda: _check_token(watched().token))
    def metrics() -> Response:
        """Answer the numbers as Prometheus reads them; one of them says whether we are ready."""
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        registry = CollectorRegistry()
        registry.register(_Numbers(_collect(watched())))
        return Response(encode(registry), content_type=content_type)

    return watch


class _Numbers(Collector):
    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def _quietly() -> None:
    # Asked every few seconds for years: a line for each would bury all others.
    g.log_level = DEBUG


def _check(watched: Watched) -> None:
    """Raise NotReadyError unless the database can be used; whoever asks is told no more."""
    try:
        with watched.database.apart(timeout=WAIT_SECONDS, answer=ANSWER_SECONDS) as database:
            watched.schema.check(database)
    except SchemaError as error:
        raise NotReadyError(str(error), next_step=error.advice) from None
    except db.UNUSABLE as error:
        raise _unusable(watched, error) from None


def _unusable(watched: Watched, error: Exception) -> NotReadyError:
    _log.error("database unavailable", cause=db.cause(error))
    return NotReadyError(
        "the database cannot be used: it is busy or away",
        next_step=f"Run `{watched.service} doctor` on that machine; it says why.",
    )


def _check_token(expected: str) -> None:
    if expected:
        check_bearer(expected, MetricsTokenError, "metrics token")


def _collect(watched: Watched) -> list[Metric]:
    meaning = "1 if the database can be used and has the schema of this release, else 0."
    name = f"{watched.service}_ready"
    try:
        with watched.database.apart(timeout=WAIT_SECONDS, answer=ANSWER_SECONDS) as database:
            watched.schema.check(database)
            with database.reading() as session:
                numbers = list(watched.numbers(session))
    except (SchemaError, *db.UNUSABLE) as error:
        _log.error("not ready", cause=db.cause(error))
        return [GaugeMetricFamily(name, meaning, 0)]
    return [GaugeMetricFamily(name, meaning, 1), *numbers]
