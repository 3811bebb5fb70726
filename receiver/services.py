"""The services of ELMS: settings, database and vault."""

from foundation import config, services
from receiver.config import Settings


class Services(services.Services[Settings]):
    """The settings, the database and the vault."""


of, current = Services.of, Services.current


def load(settings: Settings | None = None) -> Services:
    """Return the services for the settings, or raise a ConfigurationError."""
    return Services.make(settings or config.load(Settings))
