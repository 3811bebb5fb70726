"""The labels and colours of statuses and decisions."""

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
    "delivered": ("good", "delivered"),
    "retry": ("warn", "retry scheduled"),
    "dead": ("bad", "failed permanently"),
    "disable": ("bad", "endpoint disabled, deliveries held"),
    "too late": ("calm", "ignored: another attempt or a replay was first"),
}
"""The decision after an attempt: its colour and its meaning."""
