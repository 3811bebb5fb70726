"""What a command of ELMS works with."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

from foundation.cli.context import actor as auditor
from foundation.cli.context import checked_services, reading, services, writing
from receiver.registry.history import Actor

__all__ = [
    "actor",
    "auditor",
    "checked_services",
    "reading",
    "services",
    "source_option",
    "writing",
]

_Command = TypeVar("_Command", bound=Callable[..., Any])


def source_option(command: _Command) -> _Command:
    """Add the option `--source` to a command."""
    return click.option("--source", help="Name of the source; optional if there is only one.")(
        command
    )


def actor() -> Actor:
    """Return the administrator who runs the command, for the history."""
    return Actor.person(auditor())
