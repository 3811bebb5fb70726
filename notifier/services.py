"""The objects that commands, API and pages share, created once per process."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from foundation import config, logging
from foundation.crypto import Vault
from foundation.db.session import Database
from notifier.config import Settings
from notifier.models import open_database
from notifier.webhooks import outbox

if TYPE_CHECKING:
    from flask import Flask

    from notifier.webhooks.http_client import Transport

_KEY = "notifier"


@dataclass(frozen=True)
class Services:
    """The settings, the database and the vault."""

    settings: Settings
    database: Database
    vault: Vault

    def transport(self, connections: int) -> "Transport":
        """Return a transport with the settings' timeouts and address rules."""
        from notifier.webhooks.http_client import Transport  # most commands send nothing

        return Transport(
            connect_timeout=self.settings.connect_timeout,
            deadline=self.settings.attempt_deadline,
            connections=connections,
            guard=self.settings.guard,
            bundle=self.settings.ca_bundle,
        )


def load(given: Settings | None = None) -> Services:
    """Return the services for the settings, or raise a ConfigurationError; configure logging."""
    settings = given or config.load(Settings)
    logging.configure(settings.log_level, settings.log_format)
    outbox.subscribe()
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
