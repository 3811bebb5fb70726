"""The inbox: the webhooks received, and their results."""

from datetime import datetime
from typing import Annotated

from flask import Blueprint, Response, render_template, request
from pydantic import BaseModel, ConfigDict
from sqlalchemy.orm import Session

from foundation.db import session as db
from foundation.db.pagination import Page
from foundation.errors import Advice
from foundation.pages import downloads, forms, pagination
from foundation.pages.guards import signed_in
from foundation.web.app import takes
from receiver import services
from receiver.pages import labels
from receiver.pages.sources import find_criteria, source_choices
from receiver.sources import store as sources
from receiver.webhooks import inbox
from receiver.webhooks.inbox import InboxFilter, ListedMessage, WebhookOutcome

inbox_pages = Blueprint("inbox", __name__, template_folder="templates")

_CURSOR_TYPES = (datetime, int, str)
_Outcome = Annotated[WebhookOutcome, forms.one_of(list(labels.MEANINGS), "an outcome")]


class InboxParams(BaseModel):
    """A filter from a query string."""

    model_config = ConfigDict(frozen=True, str_strip_whitespace=True)

    q: forms.Search | None = None
    course_id: str | None = None
    outcome: _Outcome | None = None
    source: str | None = None
    webhook_id: str | None = None
    since: forms.Time | None = None
    until: forms.Until | None = None

    def criteria(self, session: Session) -> InboxFilter:
        """Return which webhooks are listed, or raise SourceUnknownError."""
        return InboxFilter(
            self.outcome,
            sources.get(session, self.source).id if self.source else None,
            self.course_id,
            self.webhook_id,
            self.q,
            self.since,
            self.until,
        )


@inbox_pages.get("/inbox")
@signed_in
@takes(InboxParams, *forms.CURSORS)
def show() -> str:
    """Show a page of the webhooks, newest first."""
    params = forms.from_query(InboxParams)
    page_request = pagination.read(request.args, _CURSOR_TYPES)
    page, total = Page[ListedMessage]([], None, None), 0
    with services.current().database.reading() as session:
        criteria, faults = find_criteria(params, session)
        if criteria is not None:
            page = inbox.page(session, criteria, page_request)
            total = inbox.count(session, criteria)
        all_sources = sources.list_all(session)
        now = db.now(session)
    return render_template(
        "receiver/inbox.html",
        faults=faults,
        page=page,
        total=total,
        now=now,
        outcomes=[(outcome.value, outcome.value) for outcome in labels.MEANINGS],
        sources=source_choices(all_sources),
        query=forms.entered(InboxParams.model_fields),
    )


@inbox_pages.get("/inbox.csv")
@signed_in
@takes(InboxParams)
def export() -> Response:
    """Return all webhooks that match a filter as a CSV file."""
    params = forms.require_valid(
        forms.from_query(InboxParams), advice=Advice("Go back and change the filters.")
    )
    database = services.current().database
    with database.reading() as session:
        criteria = params.criteria(session)
    return downloads.csv_file("inbox", inbox.COLUMNS, inbox.export(database, criteria))
