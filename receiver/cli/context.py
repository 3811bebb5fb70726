"""What every command begins with: the services, on a schema that is ours."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, TypeVar

import click
from sqlalchemy.orm import Session

from foundation.cli import output
from foundation.db import session as db
from receiver import services
from receiver.models import SCHEMA
from receiver.registry.history import Actor, ActorKind
from receiver.services import Services

_Command = TypeVar("_Command", bound=Callable[..., Any])


def source_option(command: _Command) -> _Command:
    """Give a command `--source`."""
    return click.option("--source", help="Name of the source; not needed if only one is meant.")(
        command
    )


def ready() -> Services:
    """Return the services, or raise SchemaError if the database is not at our schema."""
    here = services.current()
    SCHEMA.check(here.database)
    return here


@contextmanager
def writing() -> Iterator[tuple[Session, datetime]]:
    """Open a writing transaction; give it with the database's time."""
    with ready().database.writing() as session:
        yield session, db.now(session)


@contextmanager
def reading() -> Iterator[Session]:
    """Open a reading transaction."""
    with ready().database.reading() as session:
        yield session


def actor() -> Actor:
    """Return the administrator who gives the command, for the history."""
    return Actor(ActorKind.ADMINISTRATOR, output.who())
