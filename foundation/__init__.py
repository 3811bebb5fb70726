"""Shared code of both services."""
