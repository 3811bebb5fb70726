"""What is in `deploy/` fits the services: its numbers and commands are theirs, its files hold."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.core import Metric
from sqlalchemy.orm import Session

from foundation.db.migrations import Schema
from foundation.db.session import Database
from notifier.models import SCHEMA as NOTIFIER
from notifier.monitoring import metrics as notifier_metrics
from receiver.models import SCHEMA as RECEIVER
from receiver.monitoring import metrics as receiver_metrics
from tests.house.commands import resolve

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
PROMETHEUS = DEPLOY / "prometheus"
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
DASHBOARD: dict[str, Any] = json.loads((DEPLOY / "grafana/dashboard.json").read_text("utf-8"))
NOT_OURS = {"up", "ALERTS"}

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed (it comes with Prometheus)"
)
needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed"
)

needs_nginx = pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed")


def expressions() -> list[str]:
    """Return every query of the alerts and of the dashboard."""
    rules = (PROMETHEUS / "rules.yml").read_text("utf-8")
    return [
        *re.findall(r"expr: (.*)", rules),
        *(target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", ())),
    ]


def exposed(
    make_database: Callable[[Schema], Database],
    schema: Schema,
    numbers: Callable[[Session], Iterable[Metric]],
) -> set[str]:
    """Return the names of the series that a service has, or will have."""
    with make_database(schema).reading() as session:
        families = list(numbers(session))
    suffixes = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}
    return {f"{one.name}{suffix}" for one in families for suffix in suffixes[one.type]}


def test_alerts_and_dashboard_ask_for_numbers_that_there_are(
    make_database: Callable[[Schema], Database],
) -> None:
    known = {
        "notifier_ready",
        "receiver_ready",
        *exposed(make_database, NOTIFIER, notifier_metrics.collect),
        *exposed(make_database, RECEIVER, receiver_metrics.collect),
    }

    asked = {
        name
        for query in expressions()
        for name in re.findall(r"\b(?:notifier|receiver)_\w+", query)
    }

    assert asked - known == set()
    assert {one for one in known - asked if not one.endswith(("_sum", "_count"))} == set()


def test_every_alert_says_what_is_wrong_and_names_a_command_that_exists() -> None:
    rules = (PROMETHEUS / "rules.yml").read_text("utf-8")
    alerts = rules.split("- alert: ")[1:]

    for alert in alerts:
        commands = re.findall(
            r"`((?:notifier|receiver) [a-z][^`]*)`", alert.partition("description:")[2]
        )
        assert "summary:" in alert
        assert commands or "`systemctl" in alert or "`journalctl" in alert, alert
        for command in commands:
            resolve(command)
    assert len(alerts) == 12


@needs_promtool
@pytest.mark.parametrize(
    "check",
    [
        pytest.param(["check", "rules", "rules.yml"], id="rules"),
        pytest.param(["check", "config", "prometheus.yml"], id="configuration"),
        pytest.param(["test", "rules", "rules_test.yml"], id="what the rules do"),
    ],
)
def test_prometheus_takes_the_rules_and_they_do_what_they_say(check: list[str]) -> None:
    done = subprocess.run(
        ["promtool", *check], cwd=PROMETHEUS, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr


def test_the_dashboard_is_one_that_grafana_imports() -> None:
    panels = DASHBOARD["panels"]
    variables = {one["name"]: one["type"] for one in DASHBOARD["templating"]["list"]}
    cells = [
        (place["x"] + x, place["y"] + y)
        for place in (panel["gridPos"] for panel in panels)
        for x in range(place["w"])
        for y in range(place["h"])
    ]

    assert DASHBOARD["schemaVersion"] == 39
    assert variables == {"datasource": "datasource"}
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24
    for panel in panels:
        if panel["type"] != "row":
            assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
            assert panel["title"]
            assert panel["description"]


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.name)
def test_every_unit_runs_a_command_that_exists(unit: Path) -> None:
    found = re.search(r"^ExecStart=/srv/\w+/venv/bin/(.*)$", unit.read_text("utf-8"), re.MULTILINE)

    assert found
    resolve(found[1])


@needs_systemd
def test_systemd_reads_the_units_without_a_warning(tmp_path: Path) -> None:
    for unit in (DEPLOY / "systemd").iterdir():
        text = re.sub(r"/srv/\w+/venv/bin/\w+", "/bin/true", unit.read_text("utf-8"))
        text = re.sub(r"^User=.*", "User=daemon", text, flags=re.MULTILINE)
        (tmp_path / unit.name).write_text(text)

    done = subprocess.run(
        ["systemd-analyze", "verify", *map(str, tmp_path.iterdir())],
        capture_output=True,
        text=True,
        check=False,
    )

    told = [line for line in done.stderr.splitlines() if str(tmp_path) in line]
    assert (done.returncode, told) == (0, [])


@pytest.mark.parametrize("service", ["notifier", "receiver"])
def test_gunicorn_takes_its_file_and_makes_the_app(service: str, tmp_path: Path) -> None:
    given = {
        f"{service.upper()}_ENCRYPTION_KEYS": "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=",
        "NOTIFIER_ADMIN_KEY": "planted-admin-key-0123456789abcdef",
        "PYTHONPATH": str(ROOT),
    }
    done = subprocess.run(
        [sys.executable, "-m", "gunicorn", "--check-config", "-c", str(DEPLOY / "gunicorn.conf.py"),
         f"{service}.app:create_app()"],
        cwd=tmp_path, env={**os.environ, **given}, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert (done.returncode, done.stderr) == (0, "")


@needs_nginx
@pytest.mark.parametrize("service", ["eassessment", "elms"])
def test_nginx_accepts_its_configuration(service: str, tmp_path: Path) -> None:
    text = (DEPLOY / f"nginx/{service}.conf").read_text("utf-8")
    text = re.sub(r"^ *ssl_.*\n", "", text, flags=re.MULTILINE).replace("443 ssl", "127.0.0.1:8443")
    configuration = tmp_path / "nginx.conf"
    configuration.write_text(
        f"pid {tmp_path}/pid; error_log stderr; events {{}} http {{ access_log off; {text} }}"
    )

    done = subprocess.run(
        ["nginx", "-t", "-q", "-e", "stderr", "-p", str(tmp_path), "-c", str(configuration)],
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")
