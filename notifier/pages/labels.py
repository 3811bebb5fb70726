"""How each status and decision looks on a page, beside its word."""

from notifier.models import DeliveryStatus
from notifier.webhooks.circuit_breaker import EndpointState

TONES = {
    DeliveryStatus.PENDING: "wait",
    DeliveryStatus.DELIVERED: "good",
    DeliveryStatus.DEAD: "bad",
    DeliveryStatus.HELD: "warn",
    EndpointState.ENABLED: "good",
    EndpointState.FAILING: "warn",
    EndpointState.PAUSED: "warn",
    EndpointState.DISABLED: "bad",
}

DECISIONS = {
    "delivered": ("good", "it is delivered"),
    "retry": ("warn", "it is tried again"),
    "dead": ("bad", "it is given up"),
    "disable": ("bad", "the endpoint is disabled, and its deliveries are held"),
    "too late": ("calm", "nothing: it came too late, another attempt or a replay was before it"),
}
"""What was decided after an attempt: how it looks, and what that means."""
