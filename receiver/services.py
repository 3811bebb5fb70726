"""The services of ELMS: settings, database and vault."""

from foundation import config, services
from foundation.services import attach
from receiver.config import Settings

__all__ = ["Services", "attach", "current", "load", "of"]


class Services(services.Services[Settings]):
    """The settings, the database and the vault."""


of, current = Services.of, Services.current


def load(settings: Settings | None = None) -> Services:
    """Return the services for the settings, or raise a ConfigurationError."""
    return Services.make(settings or config.load(Settings))
