"""The objects that commands, API and pages share, created once per process."""

from dataclasses import dataclass

from flask import Flask, current_app

from foundation.crypto import Vault
from foundation.db.session import Database
from notifier.config import Settings
from notifier.webhooks.http_client import Transport

_KEY = "notifier"


@dataclass(frozen=True)
class Services:
    """The settings, the database and the vault."""

    settings: Settings
    database: Database
    vault: Vault

    def transport(self, connections: int) -> Transport:
        """Return a transport with the settings' timeouts and address rules."""
        return Transport(
            connect_timeout=self.settings.connect_timeout,
            deadline=self.settings.attempt_deadline,
            connections=connections,
            guard=self.settings.guard,
            bundle=self.settings.ca_bundle,
        )


def attach(app: Flask, services: Services) -> None:
    """Attach the services to an app."""
    app.extensions[_KEY] = services


def of(app: Flask) -> Services:
    """Return the services of an app."""
    services: Services = app.extensions[_KEY]
    return services


def current() -> Services:
    """Return the services of the current app."""
    return of(current_app)
