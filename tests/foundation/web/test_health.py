"""Tests of the health checks and the metrics."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import text

from foundation import logging
from foundation.crypto import Vault
from foundation.db.session import Database
from foundation.services import Services, attach
from foundation.web import app as web
from foundation.web import health
from notifier.config import Settings
from notifier.models import SCHEMA

KEY = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
TOKEN = "planted-metrics-token"
ROUTES = ["/healthz", "/readyz", "/metrics"]


@pytest.fixture
def database(make_database: Callable[..., Database]) -> Database:
    """A database at our schema."""
    return make_database(SCHEMA)


@pytest.fixture
def make_client() -> Callable[..., FlaskClient]:
    """Return a factory of clients of a service with health checks."""

    def make(database: Database, token: str = "") -> FlaskClient:
        app: Flask = web.new_app("monitored")
        settings = Settings(
            _env_file=None, admin_key="x" * 32, encryption_keys=KEY, metrics_token=token
        )
        attach(app, Services(settings, database, Vault(settings.encryption_keys)))
        things = GaugeMetricFamily("notifier_things", "Things.", 7)
        app.register_blueprint(health.blueprint("notifier", SCHEMA, lambda _: [things]))
        return app.test_client()

    return make


@pytest.fixture
def away(tmp_path: Path) -> Iterator[Database]:
    """A database that cannot be reached."""
    database = Database(f"sqlite:///{tmp_path}/none/planted.db")
    yield database
    database.dispose()


def samples(page: str) -> dict[str, float]:
    """Return the samples of a page as Prometheus reads them."""
    return {
        sample.name: sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }


def test_service_with_its_database_is_ready(
    make_client: Callable[..., FlaskClient], database: Database
) -> None:
    client = make_client(database)

    alive, ready, metrics = (client.get(path) for path in ROUTES)

    assert (alive.status_code, alive.json) == (200, {"alive": True})
    assert (ready.status_code, ready.json) == (200, {"ready": True})
    assert samples(metrics.text) == {"notifier_ready": 1.0, "notifier_things": 7.0}
    assert metrics.content_type.startswith("text/plain; version=")


def test_service_without_its_database_is_alive_and_not_ready(
    make_client: Callable[..., FlaskClient], away: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    logging.configure("INFO", "json")
    client = make_client(away)

    alive, ready, metrics = (client.get(path) for path in ROUTES)

    assert alive.status_code == 200
    assert ready.status_code == 503
    assert ready.json["type"] == "urn:problem-type:not-ready"
    assert ready.json["detail"] == "the database is busy or unavailable"
    assert ready.json["action"] == "doctor"
    assert samples(metrics.text) == {"notifier_ready": 0.0}
    assert "unable to open" in capsys.readouterr().err


def test_service_on_another_schema_is_not_ready(
    make_client: Callable[..., FlaskClient], make_database: Callable[..., Database]
) -> None:
    database = make_database(SCHEMA)
    with database.writing() as session:
        session.execute(text("UPDATE alembic_version SET version_num = 'n0999'"))
    client = make_client(database)

    ready, metrics = client.get("/readyz"), client.get("/metrics")
    with database.writing() as session:
        session.execute(
            text("UPDATE alembic_version SET version_num = :head"), {"head": SCHEMA.head}
        )

    assert ready.status_code == 503
    assert "n0999" in ready.json["detail"]
    assert samples(metrics.text) == {"notifier_ready": 0.0}


def test_exhausted_pool_does_not_make_a_service_unready(
    make_client: Callable[..., FlaskClient], make_database_url: Callable[..., str]
) -> None:
    busy = Database(make_database_url(SCHEMA), pool_size=1, timeout=0.1)
    busy.engine.pool._max_overflow = 0  # type: ignore[attr-defined]
    client = make_client(busy)

    with busy.reading() as session:
        session.execute(text("SELECT 1"))
        answer = client.get("/readyz")
    busy.dispose()

    assert answer.json == {"ready": True}


@pytest.mark.parametrize(
    ("header", "detail"),
    [
        pytest.param(None, "the request has no metrics token", id="no header"),
        pytest.param(f"Basic {TOKEN}", "the request has no metrics token", id="Basic"),
        pytest.param("Bearer planted", "the metrics token is wrong", id="a beginning of it"),
    ],
)
def test_metrics_token_is_required_if_it_is_set(
    make_client: Callable[..., FlaskClient], away: Database, header: str | None, detail: str
) -> None:
    headers = {} if header is None else {"Authorization": header}

    answer = make_client(away, TOKEN).get("/metrics", headers=headers)

    assert (answer.status_code, answer.json["detail"]) == (401, detail)
    assert answer.json["type"] == "urn:problem-type:metrics-token-refused"


def test_metrics_token_is_accepted(
    make_client: Callable[..., FlaskClient], database: Database
) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}"}

    assert make_client(database, TOKEN).get("/metrics", headers=headers).status_code == 200


def test_health_checks_are_not_logged_at_info(
    make_client: Callable[..., FlaskClient],
    database: Database,
    capsys: pytest.CaptureFixture[str],
) -> None:
    logging.configure("INFO", "json")
    client = make_client(database)

    for path in ROUTES:
        client.get(path)
    client.get("/elsewhere")

    told = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert {line["url"] for line in told} == {"http://localhost/elsewhere"}
