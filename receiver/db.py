"""ELMS's database, and what its tables are built on."""

from sqlalchemy import MetaData
from sqlalchemy.orm import DeclarativeBase

from foundation.database import NAMING, Database
from receiver.config import Settings


class Base(DeclarativeBase):
    """The root of the tables; every constraint has a name that a migration can use."""

    metadata = MetaData(naming_convention=NAMING)


def open_database(settings: Settings) -> Database:
    """Return the database that the settings name; nothing is connected yet."""
    return Database(settings.database_url.get_secret_value(), timeout=settings.database_timeout)
