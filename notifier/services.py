"""The services of eAssessment: settings, database, vault, and the transport of webhooks."""

from typing import TYPE_CHECKING

from foundation import config, services
from notifier.config import Settings
from notifier.models import SOURCE
from notifier.webhooks import outbox

if TYPE_CHECKING:
    from notifier.webhooks.http_client import Transport


class Services(services.Services[Settings]):
    """The settings, the database and the vault."""

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


of, current = Services.of, Services.current


def load(settings: Settings | None = None) -> Services:
    """Return the services for the settings, or raise a ConfigurationError."""
    settings = settings or config.load(Settings)
    outbox.subscribe()
    return Services.make(settings, {SOURCE: settings.source})
