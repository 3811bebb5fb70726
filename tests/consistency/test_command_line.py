"""The command lines: cheap to start, and every command and option explained."""

import re
import subprocess
import sys

import click
import pytest

from tests.consistency.commands import PROGRAMS, every_command, resolve

EXPENSIVE = {"flask", "sqlalchemy", "requests", "pydantic", "psycopg"}


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("is_completing", [False, True], ids=["help", "completion"])
def test_help_and_completion_import_little(program: str, is_completing: bool) -> None:
    code = (
        f"import atexit, sys; from {program}.cli import main\n"
        f"atexit.register(lambda: print('imported:', *({EXPENSIVE} & sys.modules.keys())))\n"
        f"main(prog_name={program!r})"
    )
    completing = {
        "COMP_WORDS": f"{program} db u",
        "COMP_CWORD": "2",
        f"_{program.upper()}_COMPLETE": "bash_complete",
    }

    done = subprocess.run(
        [sys.executable, "-c", code, "db", "--help"],
        env=completing if is_completing else {},
        capture_output=True,
        text=True,
        check=True,
    )

    *printed, last = done.stdout.splitlines()
    assert printed
    assert last == "imported:"


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(command, id=path)
        for name, program in PROGRAMS.items()
        for path, command in every_command(program, (name,))
    ],
)
def test_command_and_its_options_have_help(command: click.Command) -> None:
    options = [one for one in command.params if isinstance(one, click.Option)]

    assert command.help
    assert [one.name for one in options if not one.help] == []


@pytest.mark.parametrize(
    ("path", "group"),
    [
        pytest.param(path, group, id=path)
        for name, program in PROGRAMS.items()
        for path, group in every_command(program, (name,))
        if isinstance(group, click.Group) and path != name
    ],
)
def test_help_of_a_group_has_examples_of_its_commands(path: str, group: click.Group) -> None:
    _, _, listed = (group.epilog or "").partition("Examples:\n")
    examples = [re.split(" [<>] ", line.strip())[0] for line in listed.splitlines()]

    assert examples
    for example in examples:
        command, words = resolve(example)
        options = {
            option for param in command.params for option in (*param.opts, *param.secondary_opts)
        }
        assert example.startswith(f"{path} ")
        assert {word for word in words if word.startswith("--")} <= options
