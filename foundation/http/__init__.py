"""Outgoing HTTP of both services."""
