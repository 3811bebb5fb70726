"""Health checks and metrics."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import text

from foundation import logging
from foundation.crypto import Vault
from foundation.db.migrations import Schema
from foundation.db.session import Database
from foundation.services import Services, attach
from foundation.web import app as web
from foundation.web import health
from notifier.config import Settings
from notifier.models import SCHEMA as OTHER_SCHEMA
from tests.foundation.pages.conftest import KEY

TOKEN = "planted-metrics-token"
ROUTES = ["/healthz", "/readyz", "/metrics"]
MakeClient = Callable[..., FlaskClient]


@pytest.fixture
def make_client(schema: Schema) -> MakeClient:
    """Return a factory of clients of a service with health checks."""

    def make(database: Database, *, needed: Schema = schema, token: str = "") -> FlaskClient:
        app = web.new_app("sample")
        settings = Settings(
            _env_file=None, admin_key="x" * 32, encryption_keys=KEY, metrics_token=token
        )
        attach(app, Services(settings, database, Vault(settings.encryption_keys)))
        things = GaugeMetricFamily("sample_things", "Things.", 7)
        app.register_blueprint(health.blueprint("sample", needed, lambda _: [things]))
        return app.test_client()

    return make


@pytest.fixture
def away(tmp_path: Path) -> Database:
    return Database(f"sqlite:///{tmp_path}/none/planted.db")


def samples(page: str) -> dict[str, float]:
    """Return the samples of a page as Prometheus reads them."""
    return {
        sample.name: sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }


def test_service_with_its_database_is_ready(make_client: MakeClient, database: Database) -> None:
    client = make_client(database)

    alive, ready, metrics = (client.get(path) for path in ROUTES)

    assert (alive.status_code, alive.json) == (200, {"alive": True})
    assert (ready.status_code, ready.json) == (200, {"ready": True})
    assert samples(metrics.text) == {"sample_ready": 1.0, "sample_things": 7.0}
    assert metrics.content_type.startswith("text/plain; version=")


def test_service_without_its_database_is_alive_and_not_ready(
    make_client: MakeClient, away: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    logging.configure("INFO", "json")
    client = make_client(away)

    alive, ready, metrics = (client.get(path) for path in ROUTES)

    assert alive.status_code == 200
    assert ready.status_code == 503
    assert ready.json["type"] == "urn:problem-type:not-ready"
    assert ready.json["detail"] == "the database is busy or unavailable"
    assert ready.json["action"] == "doctor"
    assert samples(metrics.text) == {"sample_ready": 0.0}
    assert "there is no folder" in capsys.readouterr().err


def test_service_on_another_schema_is_not_ready(
    make_client: MakeClient, database: Database
) -> None:
    client = make_client(database, needed=OTHER_SCHEMA)

    ready, metrics = client.get("/readyz"), client.get("/metrics")

    assert ready.status_code == 503
    assert "the database is at schema 0001" in ready.json["detail"]
    assert samples(metrics.text) == {"sample_ready": 0.0}


def test_exhausted_pool_does_not_make_a_service_unready(
    make_client: MakeClient, make_database_url: Callable[..., str], schema: Schema
) -> None:
    busy = Database(make_database_url(schema), pool_size=1, timeout=0.1)
    busy.engine.pool._max_overflow = 0  # type: ignore[attr-defined]
    client = make_client(busy)

    with busy.reading() as session:
        session.execute(text("SELECT 1"))
        response = client.get("/readyz")
    busy.dispose()

    assert response.json == {"ready": True}


@pytest.mark.parametrize(
    ("header", "detail"),
    [
        pytest.param({}, "the request has no metrics token", id="none"),
        pytest.param(
            {"Authorization": "Bearer planted"}, "the metrics token is wrong", id="beginning of it"
        ),
    ],
)
def test_metrics_token_is_required_if_it_is_set(
    make_client: MakeClient, away: Database, header: dict[str, str], detail: str
) -> None:
    client = make_client(away, token=TOKEN)

    response = client.get("/metrics", headers=header)

    assert (response.status_code, response.json["detail"]) == (401, detail)
    assert response.json["type"] == "urn:problem-type:metrics-token-refused"
    accepted = client.get("/metrics", headers={"Authorization": f"Bearer {TOKEN}"})
    assert accepted.status_code == 200


def test_health_checks_are_not_logged_at_info(
    make_client: MakeClient, new_sqlite: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    logging.configure("INFO", "json")
    client = make_client(new_sqlite)

    for path in ("/healthz", "/elsewhere"):
        client.get(path)

    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert {line["url"] for line in lines} == {"http://localhost/elsewhere"}


@pytest.mark.parametrize("database_kind", ["postgresql"], indirect=True)
def test_service_with_a_read_only_database_is_not_ready(
    make_client: MakeClient, database: Database
) -> None:
    url = database.engine.url.update_query_dict({"options": "-ctransaction_read_only=on"})
    read_only = Database(url.render_as_string(hide_password=False))
    client = make_client(read_only)

    ready, metrics = client.get("/readyz"), client.get("/metrics")
    read_only.dispose()

    assert ready.status_code == 503
    assert "takes no writes" in ready.json["detail"]
    assert samples(metrics.text) == {"sample_ready": 0}
