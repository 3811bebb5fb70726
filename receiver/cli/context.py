"""What a command of ELMS works with."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

from foundation.cli import context, output
from foundation.cli.context import reading, writing
from receiver.registry.history import Actor, ActorKind
from receiver.services import Services

__all__ = ["actor", "checked_services", "reading", "services", "source_option", "writing"]

_Command = TypeVar("_Command", bound=Callable[..., Any])


def source_option(command: _Command) -> _Command:
    """Add the option `--source` to a command."""
    return click.option("--source", help="Name of the source; optional if there is only one.")(
        command
    )


def services() -> Services:
    """Return the services."""
    here: Services = context.services()
    return here


def checked_services() -> Services:
    """Return the services, or raise SchemaError unless the database is at the schema."""
    here: Services = context.checked_services()
    return here


def actor() -> Actor:
    """Return the administrator who runs the command, for the history."""
    return Actor(ActorKind.ADMINISTRATOR, output.current_user())
