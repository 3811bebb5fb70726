"""Webhooks: endpoints, the outbox, deliveries, the retry policy."""
