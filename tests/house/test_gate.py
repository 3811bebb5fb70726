"""What is left out on a person's machine is left out nowhere else, and it is said."""

import os
import subprocess
import tomllib

import pytest

from tests.conftest import LONG, TESTS

ROOT = TESTS.parent


def told(*words: str, **environment: str) -> str:
    """Return the commands that make would run."""
    kept = {k: v for k, v in os.environ.items() if k not in {"CI", "ARGS", "MAKEFLAGS"}}
    made = subprocess.run(
        ["make", "--dry-run", *words],
        cwd=ROOT,
        env=kept | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return made.stdout


@pytest.mark.parametrize(
    ("words", "environment"),
    [
        pytest.param(["test"], {"CI": "true"}, id="CI"),
        pytest.param(["test-all"], {}, id="test-all"),
        pytest.param(["test", "ARGS=tests/story"], {}, id="named tests"),
    ],
)
def test_nothing_is_left_out_where_all_is_asked_for(
    words: list[str], environment: dict[str, str]
) -> None:
    [command] = [line for line in told(*words, **environment).splitlines() if "bin/pytest" in line]

    assert " -m " not in command


def test_what_is_left_out_is_said() -> None:
    commands = told("test")

    assert '-m "not torture and not long"' in commands
    assert "`make test-all\\` runs them too" in commands


def test_only_torture_is_left_out_by_default() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    options = settings["tool"]["pytest"]["ini_options"]["addopts"]

    assert options[options.index("-m") + 1 :] == ["not torture"]


def test_the_gate_runs_as_ci_does() -> None:
    lines = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()

    assert lines.index("export CI=true") < lines.index("make test")


@pytest.mark.parametrize("long", LONG)
def test_what_is_long_is_there(long: str) -> None:
    found = TESTS / long

    assert list(found.glob("test_*.py") if found.is_dir() else [found] * found.exists())
