"""The status of an endpoint, as people see it."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from foundation.text import count
from notifier.models import Endpoint


class EndpointStatus(StrEnum):
    """The status of an endpoint."""

    ENABLED = "enabled"
    FAILING = "failing"
    PAUSED = "paused"
    DISABLED = "disabled"
    REMOVED = "removed"


@dataclass(frozen=True)
class EndpointStatusDetails:
    """The status of an endpoint: since when, why, and when it is tried again if it is paused."""

    status: EndpointStatus
    since: datetime | None
    reason: str | None = None
    tried_at: datetime | None = None


def status_details(endpoint: Endpoint) -> EndpointStatusDetails:
    """Return the status of an endpoint with its details."""
    if endpoint.removed_at:
        return EndpointStatusDetails(
            EndpointStatus.REMOVED, endpoint.removed_at, endpoint.disabled_reason
        )
    if endpoint.disabled_at:
        return EndpointStatusDetails(
            EndpointStatus.DISABLED, endpoint.disabled_at, endpoint.disabled_reason
        )
    since = endpoint.failing_since
    failures = count(endpoint.failures, "failure in a row", "failures in a row")
    if endpoint.paused_until:
        return EndpointStatusDetails(EndpointStatus.PAUSED, since, failures, endpoint.paused_until)
    if since:
        return EndpointStatusDetails(EndpointStatus.FAILING, since, failures)
    return EndpointStatusDetails(EndpointStatus.ENABLED, endpoint.created_at)
