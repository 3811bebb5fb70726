"""The settings, database and vault of a process, for views and commands."""

from dataclasses import dataclass

from flask import Flask, current_app

from foundation.crypto import Vault
from foundation.db.session import Database
from receiver.config import Settings

_KEY = "receiver"


@dataclass(frozen=True)
class Services:
    """The settings, and the objects made from them."""

    settings: Settings
    database: Database
    vault: Vault


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
