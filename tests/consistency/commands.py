"""The commands of both programs, as documentation and deployment files name them."""

import re
import shlex

import click

from notifier.cli import main as notifier
from receiver.cli import main as receiver

PROGRAMS: dict[str, click.Command] = {"notifier": notifier, "receiver": receiver}
_SEPARATOR = re.compile(r"[|;&<>]|\s#")
_OURS = re.compile(rf"(?:\$ )?(?:venv/bin/)?((?:{'|'.join(PROGRAMS)}) [a-z].*)")


def find_commands(markdown: str) -> set[str]:
    """Return the command lines of our programs in shell blocks and inline code."""
    blocks = re.findall(r"^```sh\n(.*?)^```$", markdown, re.DOTALL | re.MULTILINE)
    lines = [line for block in blocks for line in block.splitlines()]
    lines += re.findall(r"`([^`\n]+)`", markdown)
    parts = [part.strip() for line in lines for part in _SEPARATOR.split(line)]
    return {found[1] for part in parts if (found := _OURS.fullmatch(part))}


def resolve(line: str) -> tuple[click.Command, list[str]]:
    """Return the command that a line names, and the words after it."""
    program, *words = shlex.split(line)
    command = PROGRAMS[program]
    while isinstance(command, click.Group) and words:
        child = command.get_command(click.Context(command), words[0])
        assert child is not None, f"`{line}`: there is no {words[0]}"
        command, words = child, words[1:]
    return command, words


def every_command(command: click.Command, path: tuple[str, ...]) -> list[tuple[str, click.Command]]:
    """Return a command and all below it, by the words that reach them."""
    below: list[tuple[str, click.Command]] = []
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child is not None
            below += every_command(child, (*path, name))
    return [(" ".join(path), command), *below]
