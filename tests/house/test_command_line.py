"""The command lines: cheap to start, and every command and option explained."""

import subprocess
import sys

import click
import pytest

from tests.house.commands import PROGRAMS, every_command

EXPENSIVE = ("flask", "sqlalchemy", "requests", "pydantic", "psycopg")
COMMANDS = [one for name, program in PROGRAMS.items() for one in every_command(program, (name,))]


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize(
    ("arguments", "environment"),
    [
        pytest.param(["--help"], {}, id="help"),
        pytest.param(["--version"], {}, id="version"),
        pytest.param(["db", "--help"], {}, id="help of a group"),
        pytest.param([], {"COMP_WORDS": "{} db u", "COMP_CWORD": "2"}, id="completion"),
    ],
)
def test_help_and_completion_import_little(
    program: str, arguments: list[str], environment: dict[str, str]
) -> None:
    code = (
        f"import atexit, sys; from {program}.cli import main\n"
        f"atexit.register(lambda: print('imported:', *{EXPENSIVE} & sys.modules.keys()))\n"
        f"main(prog_name={program!r})"
    ).replace(f"*{EXPENSIVE}", f"*set({EXPENSIVE})")
    if environment:
        environment = {name: value.format(program) for name, value in environment.items()}
        environment[f"_{program.upper()}_COMPLETE"] = "bash_complete"

    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout.splitlines()[-1] == "imported:"
    assert len(done.stdout.splitlines()) > 1


@pytest.mark.parametrize(("path", "command"), COMMANDS, ids=[path for path, _ in COMMANDS])
def test_command_and_its_options_are_explained(path: str, command: click.Command) -> None:
    options = [one for one in command.params if isinstance(one, click.Option)]

    assert command.help
    assert [one.name for one in options if not one.help] == []
