"""The objects that the commands, routes and pages of a service share, made once per process."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Generic, Self, TypeVar

from sqlalchemy.orm import Session

from foundation import config, logging
from foundation.config import ServiceSettings
from foundation.crypto import Vault
from foundation.db import session as db
from foundation.db.session import Database

if TYPE_CHECKING:
    from flask import Flask

_Settings = TypeVar("_Settings", bound=ServiceSettings)
_KEY = "services"
_log = logging.get_logger(__name__)


@dataclass(frozen=True)
class Services(Generic[_Settings]):
    """The settings, the database and the vault."""

    settings: _Settings
    database: Database
    vault: Vault

    @classmethod
    def make(cls, settings: _Settings, info: Mapping[str, str] | None = None) -> Self:
        """Return the services for the settings, not connected yet; configure logging.

        `info` is passed to each session of the database.
        """
        logging.configure(settings.log_level, settings.log_format)
        database = Database(
            settings.database_url.get_secret_value(),
            timeout=settings.database_timeout,
            pool_size=max(10, settings.web_threads),
            info=info,
        )
        return cls(settings, database, Vault(settings.encryption_keys))

    def warn_of_unknown_variables(self) -> None:
        """Log a warning if variables with the prefix of the settings are none of them."""
        unknown = config.unknown_variables(type(self.settings))
        if unknown:
            _log.warning("unknown settings", variables=[*unknown])

    @contextmanager
    def writing(self) -> Iterator[tuple[Session, datetime]]:
        """Open a transaction as `Database.writing`; yield it with the database's time."""
        with self.database.writing() as session:
            yield session, db.now(session)

    @classmethod
    def of(cls, app: "Flask") -> Self:
        """Return the services of an app."""
        services: Self = app.extensions[_KEY]
        return services

    @classmethod
    def current(cls) -> Self:
        """Return the services of the current app."""
        from flask import current_app  # commands need no Flask

        return cls.of(current_app)


def attach(app: "Flask", services: Services[_Settings]) -> None:
    """Attach the services to an app."""
    app.extensions[_KEY] = services
