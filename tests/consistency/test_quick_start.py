"""The quick start for both services on one machine, run as the README shows it."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from sqlalchemy import make_url

from tests.conftest import Postgres
from tests.integration.services import free_port

ROOT = Path(__file__).parents[2]


def blocks() -> list[str]:
    """Return the blocks for one machine, without the lines that make the environment."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    section = readme.partition("### Both services on one machine\n")[2].partition("\n### ")[0]
    found = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
    return ["\n".join(line for line in block.splitlines() if "venv" not in line) for block in found]


def on_sqlite() -> str:
    return blocks()[0]


def on_postgres(names: dict[str, str]) -> str:
    """Return the first block with the second one instead of `init`.

    The server of the tests has a user already; `names` replaces those of the databases.
    """
    block, databases = blocks()
    databases = "\n".join(line for line in databases.splitlines() if "createuser" not in line)
    databases = databases.replace("sudo -u postgres ", "").replace('--owner="$USER" ', "")
    for name, replacement in names.items():
        databases = re.sub(
            rf"(template0 |postgresql:///){name}\b", rf"\g<1>{replacement}", databases
        )
    return re.sub("^notifier init.*$", databases, block, count=1, flags=re.MULTILINE)


@pytest.fixture
def run_block(tmp_path: Path) -> Callable[..., str]:
    """Return a function that runs a block in an empty folder and returns what it printed."""

    def run(block: str, **variables: str) -> str:
        ports = {"NOTIFIER_PORT": str(free_port()), "RECEIVER_PORT": str(free_port())}
        block = block.replace("8001", ports["NOTIFIER_PORT"])
        block = block.replace("8002", ports["RECEIVER_PORT"])
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        output = tmp_path / "output"  # not a pipe, which the services would keep open
        with output.open("w") as file:
            shell = subprocess.Popen(
                ["bash", "-c", f"set -e\n{block}\n"],
                cwd=tmp_path,
                env={**os.environ, **ports, **variables, "PATH": path, "PYTHONPATH": str(ROOT)},
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                code = shell.wait(timeout=100)
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(shell.pid, signal.SIGTERM)
        printed = output.read_text(encoding="utf-8")
        assert code == 0, printed
        return printed

    return run


@pytest.mark.long
def test_quick_start_skips_deleted_course(run_block: Callable[..., str], tmp_path: Path) -> None:
    printed = run_block(on_sqlite())

    assert "... 1 skipped: course deleted" in printed
    assert (tmp_path / ".env").stat().st_mode & 0o077 == 0


@pytest.mark.long
@pytest.mark.skipif(not shutil.which("createdb"), reason="createdb is not installed")
def test_quick_start_on_postgresql_skips_deleted_course(
    run_block: Callable[..., str], postgres: Postgres
) -> None:
    names = {name: postgres.new_name(name) for name in ("eassessment", "elms")}
    server = make_url(postgres.url_of("postgres"))
    variables = {
        "PGHOST": server.host or "",
        "PGPORT": str(server.port or 5432),
        "PGUSER": server.username or "",
        "PGPASSWORD": server.password or "",
    }

    printed = run_block(on_postgres(names), **variables)

    assert "... 1 skipped: course deleted" in printed
