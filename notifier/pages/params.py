"""Query parameters of the deliveries pages: the filter, the order and the cursor."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import BeforeValidator, ConfigDict, Field

from contract.events import EVENT_TYPES, OPERATIONAL_TYPES, wire_time
from foundation.db.pagination import PageRequest, Sort
from foundation.pages import forms
from notifier.models import MAX_ID, DeliveryStatus
from notifier.webhooks.delivery_filter import NEWEST_FIRST, SORTS, DeliveryFilter

TYPES = (*EVENT_TYPES, *OPERATIONAL_TYPES)
NUMBER = Annotated[int, Field(ge=1, le=MAX_ID)]
"""The id of a row."""


def _parse_sort(text: object) -> Sort:
    return Sort.parse(str(text), SORTS)


class DeliveryParams(DeliveryFilter):
    """A filter, an order and a page from a query string or a form."""

    model_config = ConfigDict(arbitrary_types_allowed=True, frozen=True, str_strip_whitespace=True)

    status: Annotated[DeliveryStatus, forms.one_of(list(DeliveryStatus), "a status")] | None = None
    event_type: Annotated[str, forms.one_of(TYPES, "an event type")] | None = None
    endpoint_id: NUMBER | None = None
    since: forms.Time | None = None
    until: forms.Until | None = None
    sort: Annotated[Sort, BeforeValidator(_parse_sort)] = NEWEST_FIRST
    before: NUMBER | None = None
    after: NUMBER | None = None

    @property
    def page_request(self) -> PageRequest:
        """The requested page; `before` are the older deliveries, whatever the order of the list."""
        older = (self.before,) if self.before else None
        newer = (self.after,) if self.after else None
        if self.sort.descending:
            return PageRequest(after=older, before=newer)
        return PageRequest(after=newer, before=older)


def query_of(delivery_filter: DeliveryFilter) -> dict[str, Any]:
    """Return a filter as query parameters, with timestamps to the microsecond."""
    return {
        name: wire_time(value) if isinstance(value, datetime) else value
        for name, value in delivery_filter.conditions().items()
    }
