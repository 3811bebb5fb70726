"""ELMS's database, and what its tables are built on."""

from sqlalchemy import MetaData
from sqlalchemy.orm import DeclarativeBase

from foundation.database import Database
from receiver.config import Settings


class Base(DeclarativeBase):
    """The root of the tables; every constraint has a name that a migration can use."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


def open_database(settings: Settings) -> Database:
    """Return the database that the settings name; nothing is connected yet."""
    return Database(settings.database_url.get_secret_value(), timeout=settings.database_timeout)
