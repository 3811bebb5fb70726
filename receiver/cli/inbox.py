"""`inbox list`: the webhooks that ELMS accepted, and what they did."""

from datetime import datetime

import click

from foundation.cli import output
from foundation.cli.output import csv_option, json_option
from foundation.cli.params import COURSE_ID, SEARCH, TEXT, limit_option, time_options
from foundation.db.pagination import PageRequest
from receiver.cli import context
from receiver.cli.context import source_option
from receiver.cli.schemas import WebhookResponse, Webhooks
from receiver.sources import store as sources
from receiver.webhooks import inbox
from receiver.webhooks.inbox import InboxFilter, WebhookOutcome

# A duplicate is counted, but not stored.
_OUTCOMES = [outcome.value for outcome in WebhookOutcome if outcome != WebhookOutcome.DUPLICATE]


@click.command("list")
@click.option("--webhook-id", type=TEXT, help="Only the webhook with this id.")
@click.option("--course", "course_id", type=COURSE_ID, help="Only webhooks about this course.")
@click.option(
    "--matching",
    type=SEARCH,
    help="Only webhooks about courses whose id contains TEXT, in any case.",
)
@source_option
@click.option("--outcome", type=click.Choice(_OUTCOMES), help="Only webhooks with this outcome.")
@time_options("webhooks received")
@click.option("--before", type=TEXT, help="Start before this webhook id (next page).")
@limit_option("webhooks")
@csv_option
@json_option
def list_(
    webhook_id: str | None,
    course_id: str | None,
    matching: str | None,
    source: str | None,
    outcome: str | None,
    since: datetime | None,
    until: datetime | None,
    before: str | None,
    limit: int,
    as_csv: bool,
    as_json: bool,
) -> None:
    """List the webhooks that were accepted, newest first.

    A duplicate changes nothing and is not listed; a request that was refused is in the log.
    """
    database = context.checked_services().database
    with database.reading() as session:
        source_id = sources.get(session, source).id if source else None
        chosen = WebhookOutcome(outcome) if outcome else None
        criteria = InboxFilter(chosen, source_id, course_id, webhook_id, matching, since, until)
        try:
            cursor = inbox.cursor_of(session, before, source_id) if before else None
        except ValueError as error:
            raise click.UsageError(str(error)) from None
        page = inbox.page(session, criteria, PageRequest(after=cursor), limit=limit)
        total = inbox.count(session, criteria)
    if as_csv:
        output.print_csv(inbox.COLUMNS, inbox.export(database, criteria), as_json=as_json)
        return
    rows = [WebhookResponse(**listed.row) for listed in page.rows]
    following = None if page.after is None else rows[-1].webhook_id
    if as_json:
        output.print_json(Webhooks(webhooks=rows, next=following))
        return
    output.print_table(
        ("webhook", "received", "source", "event", "course", "version", "outcome"),
        [
            (
                row.webhook_id,
                row.received_at,
                row.source,
                row.event_type,
                row.course_id,
                row.course_version,
                row.outcome,
            )
            for row in rows
        ],
        empty="No webhooks match.",
    )
    more = "" if following is None else f"--before {following}"
    output.print_total(len(rows), total, "webhook", more=more)
