"""What every command begins with: the services, on a schema that is ours."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

from sqlalchemy.orm import Session

from foundation.db import session as db
from notifier import services
from notifier.models import SCHEMA
from notifier.services import Services


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
