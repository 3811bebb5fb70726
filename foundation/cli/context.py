"""What a command works with: the services of its program, on a schema that is up to date."""

from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any

import click
from sqlalchemy.orm import Session

from foundation.cli import output
from foundation.cli.lazy import load
from foundation.db.audit import Actor, Channel
from foundation.db.migrations import Schema
from foundation.db.session import Database
from foundation.services import Services

_SERVICES = f"{__name__}.services"


def program() -> str:
    """Return the name of the program that the command belongs to, which is its package."""
    name: str = click.get_current_context().find_root().obj
    return name


def schema() -> Schema:
    """Return the program's schema."""
    loaded: Schema = load(f"{program()}.models:SCHEMA")
    return loaded


def services() -> Any:
    """Return the program's services, made from the settings when they are first needed."""
    root = click.get_current_context().find_root()
    if _SERVICES not in root.meta:
        root.meta[_SERVICES] = services = load(f"{program()}.services:load")()
        root.call_on_close(services.database.dispose)
    return root.meta[_SERVICES]


def checked_services() -> Any:
    """Return the services, or raise DatabaseSetupError unless the database is at the schema."""
    loaded = services()
    schema().check(loaded.database)
    return loaded


def writing() -> AbstractContextManager[tuple[Session, datetime]]:
    """Open a writing transaction; return it with the database's time."""
    loaded: Services[Any] = checked_services()
    return loaded.writing()


def reading() -> AbstractContextManager[Session]:
    """Open a reading transaction."""
    database: Database = checked_services().database
    return database.reading()


def actor() -> Actor:
    """Return who runs the command, for the audit table."""
    return Actor(output.current_user(), Channel.COMMAND)
