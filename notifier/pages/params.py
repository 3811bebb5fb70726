"""Query parameters of the deliveries pages: the filter and the cursor."""

from collections.abc import Collection
from datetime import datetime
from typing import Annotated, Any

from pydantic import BeforeValidator, ConfigDict, Field

from contract.events import EVENT_TYPES, OPERATIONAL_TYPES, wire_time
from foundation.db.pagination import PageRequest
from foundation.pages import forms
from notifier.models import MAX_ID, DeliveryStatus
from notifier.webhooks.delivery_filter import DeliveryFilter

TYPES = (*EVENT_TYPES, *OPERATIONAL_TYPES)
NUMBER = Annotated[int, Field(ge=1, le=MAX_ID)]
"""The id of a row."""


def _one_of(values: Collection[str], noun: str) -> BeforeValidator:
    def check(text: object) -> object:
        if text not in values:
            raise ValueError(f"{str(text)[:40]!r} is not {noun}; choose one from the list")
        return text

    return BeforeValidator(check)


class DeliveryParams(DeliveryFilter):
    """A filter from a query string or a form."""

    model_config = ConfigDict(frozen=True, str_strip_whitespace=True)

    status: Annotated[DeliveryStatus, _one_of(list(DeliveryStatus), "a status")] | None = None
    event_type: Annotated[str, _one_of(TYPES, "an event type")] | None = None
    endpoint_id: NUMBER | None = None
    since: forms.Time | None = None
    until: forms.Time | None = None
    before: NUMBER | None = None
    after: NUMBER | None = None

    @property
    def page_request(self) -> PageRequest:
        """The requested page of the list, newest first."""
        return PageRequest(
            after=(self.before,) if self.before else None,
            before=(self.after,) if self.after else None,
        )


def query_of(delivery_filter: DeliveryFilter) -> dict[str, Any]:
    """Return a filter as query parameters, with timestamps to the microsecond."""
    return {
        name: wire_time(value) if isinstance(value, datetime) else value
        for name, value in delivery_filter.conditions().items()
    }
