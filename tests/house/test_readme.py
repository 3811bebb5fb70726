"""The README tells the truth: its commands exist, and its words are those of the code."""

import re
import shlex
from pathlib import Path

import click
import pytest

from contract.problems import ProblemType
from notifier.cli import main as notifier
from notifier.models import DeliveryStatus
from notifier.webhooks.retry_policy import SCHEDULE
from receiver.cli import main as receiver
from tests.browser import pictures

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PROGRAMS: dict[str, click.Command] = {"notifier": notifier, "receiver": receiver}


def named_commands() -> list[str]:
    """Return each command line of our two programs that the README names."""
    shown = re.findall(r"^\$ ((?:notifier|receiver) .*)$", README, re.MULTILINE)
    inline = re.findall(r"`((?:notifier|receiver) [a-z][^`]*)`", README)
    return sorted({line.split("#")[0].strip() for line in (*shown, *inline)})


def resolve(line: str) -> tuple[click.Command, list[str]]:
    """Return the command that a line names, and the words behind it."""
    program, *words = shlex.split(line)
    command = PROGRAMS[program]
    while isinstance(command, click.Group) and words:
        step = command.commands.get(words[0])
        assert step is not None, f"`{line}`: there is no {words[0]}"
        command, words = step, words[1:]
    return command, words


@pytest.mark.parametrize("line", named_commands())
def test_every_named_command_exists_with_its_options(line: str) -> None:
    command, words = resolve(line)

    options = {
        option for param in command.params for option in (*param.opts, *param.secondary_opts)
    }
    named = {word.split("=")[0] for word in words if word.startswith("--")}
    assert named <= options


def every_command(command: click.Command, path: tuple[str, ...]) -> list[tuple[str, click.Command]]:
    """Return a command and all below it, by the words that reach them."""
    below = command.commands.items() if isinstance(command, click.Group) else ()
    reached = [(" ".join(path), command)]
    return reached + [each for name, child in below for each in every_command(child, (*path, name))]


EVERY_COMMAND = [
    pytest.param(command, id=words)
    for program, top in PROGRAMS.items()
    for words, command in every_command(top, (program,))
]


@pytest.mark.parametrize("command", EVERY_COMMAND)
def test_every_command_and_option_has_a_sentence_of_help(command: click.Command) -> None:
    silent = [
        param.name
        for param in command.params
        if isinstance(param, click.Option) and not (param.help or "").endswith((".", ")"))
    ]

    assert command.help
    assert silent == []


def test_makefile_has_the_two_commands() -> None:
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)

    assert {"demo", "test"} <= set(targets)


PICTURES = re.findall(r"!\[(.*?)\]\((.*?)\)", README, re.DOTALL)
OF_PAGES = "docs/pictures"
MOST_BYTES = 80_000


@pytest.mark.parametrize(("words", "path"), PICTURES, ids=[path for _, path in PICTURES])
def test_every_picture_is_there_and_told_in_words(words: str, path: str) -> None:
    size = (ROOT / path).stat().st_size

    assert 0 < size < MOST_BYTES
    assert len(words.split()) > 5


def test_the_script_makes_the_pictures_of_pages_and_no_other() -> None:
    shown = {Path(path).stem for _, path in PICTURES if Path(path).parent == Path(OF_PAGES)}

    assert shown
    assert {one.stem for one in (ROOT / OF_PAGES).iterdir()} == shown
    assert set(pictures.README) == shown


def test_readme_names_the_schedule() -> None:
    units = {"s": 1, "min": 60, "h": 3600}
    told = re.search(r"retried after (.*?), with up to", README)

    assert told
    waits = [int(number) * units[unit] for number, unit in re.findall(r"(\d+) (s|min|h)", told[1])]
    assert waits == [int(wait.total_seconds()) for wait in SCHEDULE]


def test_readme_names_only_problems_that_exist() -> None:
    section = README.partition("Grades are read with")[2].partition("Problem types are")[0]
    named = set(re.findall(r"\b[45]\d\d(?: `([a-z-]+)`)(?: · `([a-z-]+)`)?", section))

    words = {word for pair in named for word in pair if word}
    assert words
    assert words <= {kind.value for kind in ProblemType}


def test_glossary_names_every_status_of_a_delivery() -> None:
    row = next(line for line in README.splitlines() if line.startswith("| delivery |"))

    assert [status for status in DeliveryStatus if f"`{status}`" not in row] == []
