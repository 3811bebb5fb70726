"""What a command of eAssessment works with."""

from foundation.cli import context
from foundation.cli.context import reading, writing
from notifier.services import Services

__all__ = ["checked_services", "reading", "services", "writing"]


def services() -> Services:
    """Return the services."""
    loaded: Services = context.services()
    return loaded


def checked_services() -> Services:
    """Return the services, or raise SchemaError unless the database is at the schema."""
    loaded: Services = context.checked_services()
    return loaded
