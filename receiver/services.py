"""What the edges of ELMS work with, made once for each process."""

from dataclasses import dataclass

from flask import Flask, current_app

from foundation.crypto import Vault
from foundation.db.session import Database
from receiver.config import Settings

_KEY = "receiver"


@dataclass(frozen=True)
class Services:
    """The settings, and what was made of them."""

    settings: Settings
    database: Database
    vault: Vault


def attach(app: Flask, services: Services) -> None:
    """Give an app its services."""
    app.extensions[_KEY] = services


def of(app: Flask) -> Services:
    """Return the services of an app."""
    services: Services = app.extensions[_KEY]
    return services


def current() -> Services:
    """Return the services of the app that is at work."""
    return of(current_app)
