"""`serve`: a service under gunicorn, with its logs in ours."""

import base64
import json
import logging
from pathlib import Path

import pytest
from flask import Flask
from gunicorn.arbiter import Arbiter
from sqlalchemy.exc import OperationalError

from foundation import logging as logs
from foundation.config import ServiceSettings
from foundation.errors import SchemaError
from foundation.web.arbiter import Attentive
from foundation.web.server import Server


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ServiceSettings:
    """A service's settings, with nothing from this machine."""
    monkeypatch.chdir(tmp_path)
    return ServiceSettings(
        encryption_keys=base64.b64encode(bytes(32)).decode(),
        database_url="sqlite:///a.db",
        host="127.0.0.9",
        port=8123,
        web_processes=3,
        web_threads=5,
    )


def test_the_settings_reach_gunicorn(settings: ServiceSettings) -> None:
    server = Server(lambda: Flask("ground"), settings)

    assert server.cfg.address == [("127.0.0.9", 8123)]
    assert (server.cfg.workers, server.cfg.threads) == (3, 5)
    assert server.cfg.worker_class is Attentive


def test_gunicorns_own_variable_is_not_read(
    settings: ServiceSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GUNICORN_CMD_ARGS", "--workers=17 --bind=0.0.0.0:1")

    server = Server(lambda: Flask("ground"), settings)

    assert server.cfg.workers == 3
    assert server.cfg.address == [("127.0.0.9", 8123)]


def test_the_app_is_made_by_each_process(settings: ServiceSettings) -> None:
    made: list[Flask] = []

    def make_app() -> Flask:
        made.append(Flask("ground"))
        return made[-1]

    server = Server(make_app, settings)

    assert made == []
    assert server.load() is made[0]


def test_a_process_that_is_refused_ends_the_server(settings: ServiceSettings) -> None:
    def refuse(_: Flask) -> None:
        raise SchemaError("the database is at schema none, this program needs 0001")

    server = Server(lambda: Flask("ground"), settings, refuse)

    with pytest.raises(SystemExit) as ended:
        server.load()

    assert ended.value.code == Arbiter.APP_LOAD_ERROR == 4


def test_a_process_without_its_database_serves(settings: ServiceSettings) -> None:
    def unavailable(_: Flask) -> None:
        raise OperationalError("SELECT 1", None, Exception("away"))

    server = Server(lambda: Flask("ground"), settings, unavailable)

    assert server.load().name == "ground"


@pytest.mark.usefixtures("logging_restored")
def test_gunicorns_lines_go_the_way_of_ours(
    settings: ServiceSettings, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.configure("INFO", "json")
    server = Server(lambda: Flask("ground"), settings)

    server.cfg.logger_class(server.cfg).info("Starting gunicorn %s", "23")

    (line,) = map(json.loads, capsys.readouterr().err.splitlines())
    assert (line["event"], line["logger"]) == ("Starting gunicorn 23", "gunicorn.error")
    assert logging.getLogger("gunicorn.access").handlers == []
