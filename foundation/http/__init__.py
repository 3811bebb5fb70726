"""Outgoing HTTP of both services: address guard, deadline, TLS, strict responses."""
