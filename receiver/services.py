"""The objects that commands, webhooks and pages share, created once per process."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from foundation import config, logging
from foundation.crypto import Vault
from foundation.db.session import Database
from receiver.config import Settings
from receiver.models import open_database

if TYPE_CHECKING:
    from flask import Flask

_KEY = "receiver"


@dataclass(frozen=True)
class Services:
    """The settings, the database and the vault."""

    settings: Settings
    database: Database
    vault: Vault


def load(given: Settings | None = None) -> Services:
    """Return the services for the settings, or raise a ConfigurationError; configure logging."""
    settings = given or config.load(Settings)
    logging.configure(settings.log_level, settings.log_format)
    return Services(settings, open_database(settings), Vault(settings.encryption_keys))


def attach(app: "Flask", services: Services) -> None:
    """Attach the services to an app."""
    app.extensions[_KEY] = services


def of(app: "Flask") -> Services:
    """Return the services of an app."""
    services: Services = app.extensions[_KEY]
    return services


def current() -> Services:
    """Return the services of the current app."""
    from flask import current_app  # commands need no Flask

    return of(current_app)
