"""The files in `deploy/`: their metrics and commands exist, and their programs accept them."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from foundation.db.migrations import Schema
from foundation.db.session import Database
from notifier.models import SCHEMA as NOTIFIER
from notifier.monitoring import metrics as notifier_metrics
from receiver.models import SCHEMA as RECEIVER
from receiver.monitoring import metrics as receiver_metrics
from receiver.webhooks.refusals import RefusedWebhooks
from tests.consistency.commands import find_commands, resolve
from tests.integration.services import ADMIN_KEY, ENCRYPTION_KEY

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
PROMETHEUS = DEPLOY / "prometheus"
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
DASHBOARD: dict[str, Any] = json.loads((DEPLOY / "grafana/dashboard.json").read_text("utf-8"))
RULES = (PROMETHEUS / "rules.yml").read_text("utf-8")
SUFFIXES = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}


def needs(program: str) -> pytest.MarkDecorator:
    """Return a mark that skips a test without the program."""
    return pytest.mark.skipif(not shutil.which(program), reason=f"{program} is not installed")


def run(*command: str | Path, cwd: Path, **environment: str) -> tuple[int, str]:
    """Run a command; return its exit code and what it printed."""
    done = subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


@pytest.mark.parametrize("database_kind", ["sqlite"], indirect=True)
def test_alerts_and_dashboard_use_all_metrics_and_no_others(
    make_database: Callable[[Schema], Database],
) -> None:
    exposed = {"notifier_ready", "receiver_ready"}
    for schema, collect in (
        (NOTIFIER, notifier_metrics.collect),
        (RECEIVER, receiver_metrics.collect),
    ):
        with make_database(schema).reading() as session:
            exposed |= {
                f"{one.name}{suffix}" for one in collect(session) for suffix in SUFFIXES[one.type]
            }
    exposed.add(f"{RefusedWebhooks().family().name}_total")
    targets = [target for panel in DASHBOARD["panels"] for target in panel.get("targets", ())]
    queries = [*re.findall(r"expr: (.*)", RULES), *(target["expr"] for target in targets)]

    used = set(re.findall(r"\b(?:notifier|receiver)_\w+", "\n".join(queries)))

    assert used - exposed == set()
    assert {one for one in exposed - used if not one.endswith(("_sum", "_count"))} == set()


def test_every_alert_has_a_summary_and_names_a_command_that_exists() -> None:
    alerts = RULES.split("- alert: ")[1:]

    assert alerts
    for alert in alerts:
        commands = find_commands(alert.partition("description:")[2])
        assert "summary:" in alert
        assert commands or "`systemctl" in alert or "`journalctl" in alert, alert
        for command in commands:
            resolve(command)


@needs("promtool")
@pytest.mark.parametrize(
    "check",
    [
        pytest.param(["check", "rules", "rules.yml"], id="rules"),
        pytest.param(["check", "config", "prometheus.yml"], id="configuration"),
        pytest.param(["test", "rules", "rules_test.yml"], id="behaviour of the rules"),
    ],
)
def test_prometheus_accepts_the_rules(check: list[str]) -> None:
    code, printed = run("promtool", *check, cwd=PROMETHEUS)

    assert code == 0, printed


def test_panels_of_the_dashboard_are_complete() -> None:
    panels = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]

    for panel in panels:
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert panel["title"]
        assert panel["description"]


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.name)
def test_every_unit_runs_a_command_that_exists(unit: Path) -> None:
    found = re.search(r"^ExecStart=/srv/\w+/venv/bin/(.*)$", unit.read_text("utf-8"), re.MULTILINE)

    assert found
    resolve(found[1])


@needs("systemd-analyze")
def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    for unit in (DEPLOY / "systemd").iterdir():
        text = re.sub(r"/srv/\w+/venv/bin/\w+", "/bin/true", unit.read_text("utf-8"))
        text = re.sub(r"^User=.*", "User=daemon", text, flags=re.MULTILINE)
        (tmp_path / unit.name).write_text(text)

    code, printed = run("systemd-analyze", "verify", *tmp_path.iterdir(), cwd=tmp_path)

    warnings = [line for line in printed.splitlines() if str(tmp_path) in line]
    assert (code, warnings) == (0, [])


def test_gunicorn_accepts_its_configuration_and_makes_the_app(tmp_path: Path) -> None:
    command = (sys.executable, "-m", "gunicorn", "--check-config", "notifier.app:create_app()")
    environment = {
        "NOTIFIER_ENCRYPTION_KEYS": ENCRYPTION_KEY,
        "NOTIFIER_ADMIN_KEY": ADMIN_KEY,
        "PYTHONPATH": str(ROOT),
    }

    done = run(*command, "-c", DEPLOY / "gunicorn.conf.py", cwd=tmp_path, **environment)

    assert done == (0, "")


@needs("nginx")
@pytest.mark.parametrize("name", ["eassessment", "elms", "path-prefix"])
def test_nginx_accepts_its_configuration(name: str, tmp_path: Path) -> None:
    text = (DEPLOY / f"nginx/{name}.conf").read_text("utf-8")
    if name == "path-prefix":  # it is included in a server block
        text = f"server {{ listen 127.0.0.1:8443; {text} }}"
    text = re.sub(r"^ *ssl_.*\n", "", text, flags=re.MULTILINE).replace("443 ssl", "127.0.0.1:8443")
    configuration = tmp_path / "nginx.conf"
    configuration.write_text(
        f"pid {tmp_path}/pid; error_log stderr; events {{}} http {{ access_log off; {text} }}"
    )
    command = ("nginx", "-t", "-q", "-e", "stderr", "-p", tmp_path, "-c", configuration)

    assert run(*command, cwd=tmp_path) == (0, "")
