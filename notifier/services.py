"""The services of eAssessment: settings, database, vault, and the transport of webhooks."""

from contextlib import closing
from typing import TYPE_CHECKING

from foundation import config, services
from notifier.config import Settings
from notifier.models import SOURCE
from notifier.webhooks import outbox

if TYPE_CHECKING:
    from notifier.webhooks.http_client import Transport
    from notifier.webhooks.retry_policy import Failure


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

    def check_host(self, url: str) -> "Failure | None":
        """Return why nothing can be sent to a URL now, by its host's addresses; None if it can.

        No transaction may be open, because a name server can be slow.
        """
        with closing(self.transport(1)) as transport:
            return transport.check_host(url)


of, current = Services.of, Services.current


def load(settings: Settings | None = None) -> Services:
    """Return the services for the settings, or raise a ConfigurationError."""
    settings = settings or config.load(Settings)
    outbox.subscribe()
    return Services.make(settings, {SOURCE: settings.source})
