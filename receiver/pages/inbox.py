"""The inbox: the webhooks received, and their results."""

from datetime import datetime

from flask import Blueprint, render_template, request

from foundation.pages import pagination
from foundation.pages.guards import signed_in
from receiver import services
from receiver.pages import labels
from receiver.pages.sources import chosen_source_id, source_choices
from receiver.sources import store as sources
from receiver.webhooks import inbox
from receiver.webhooks.inbox import InboxFilter, WebhookOutcome

inbox_pages = Blueprint("inbox", __name__, template_folder="templates")

_CURSOR_TYPES = (datetime, int, str)
_FIELDS = ("outcome", "source", "course_id", "webhook_id")


@inbox_pages.get("/inbox")
@signed_in
def show() -> str:
    """Show a page of the webhooks, newest first."""
    page_request = pagination.read(request.args, _CURSOR_TYPES)
    chosen = {name: value for name in _FIELDS if (value := request.args.get(name, "").strip())}
    with services.current().database.reading() as session:
        all_sources = sources.list_all(session)
        outcome = chosen.get("outcome")
        inbox_filter = InboxFilter(
            WebhookOutcome(outcome) if outcome in set(WebhookOutcome) else None,
            chosen_source_id(all_sources),
            chosen.get("course_id"),
            chosen.get("webhook_id"),
        )
        page = inbox.page(session, inbox_filter, page_request)
    return render_template(
        "receiver/inbox.html",
        page=page,
        outcomes=[(outcome.value, outcome.value) for outcome in labels.MEANINGS],
        sources=source_choices(all_sources),
        chosen=chosen,
    )
