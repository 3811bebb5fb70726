"""`audit list`: who did what on the pages, with the API and with commands."""

from datetime import datetime

import click

from foundation.cli import context, output
from foundation.cli.output import json_option
from foundation.cli.params import SINCE, TEXT, limit_option
from foundation.db import audit
from foundation.db.audit import AuditEntry, AuditFilter
from foundation.db.pagination import PageRequest
from foundation.responses import AuditResponse

_ENTRY = click.IntRange(1, 2**31 - 1)  # PostgreSQL refuses to compare with larger ids


@click.command("list")
@click.option("--actor", type=TEXT, help="Only what this actor did.")
@click.option("--action", type=TEXT, help="Only this action such as user.add, or kind of object.")
@click.option("--object", "object_id", type=TEXT, help="Only what was done to this id.")
@click.option(
    "--since", type=SINCE, help="Only since this time: 2h, yesterday, or 2026-11-22T09:00 (UTC)."
)
@click.option("--before", type=_ENTRY, help="Start before this entry (next page).")
@limit_option("entries")
@json_option
def list_(
    actor: str | None,
    action: str | None,
    object_id: str | None,
    since: datetime | None,
    before: int | None,
    limit: int,
    as_json: bool,
) -> None:
    """List what was done, by whom, when, and from where, newest first."""
    criteria = AuditFilter(actor=actor, action=action, object_id=object_id, since=since)
    with context.reading() as session:
        page_request = PageRequest()
        if before is not None:
            entry = session.get(AuditEntry, before)
            if entry is None:
                raise click.UsageError(f"there is no entry {before}")
            page_request = PageRequest(after=audit.cursor_of(entry))
        page = audit.find(session, criteria, page_request, limit=limit)
    if as_json:
        output.print_json([AuditResponse.of_entry(row) for row in page.rows])
        return
    output.print_table(
        ("entry", "time", "actor", "channel", "address", "action", "object", "detail"),
        [
            (
                row.id,
                row.recorded_at,
                row.actor,
                row.channel,
                row.address,
                row.action,
                row.object_id,
                row.detail,
            )
            for row in page.rows
        ],
        empty="No entries match.",
    )
    if page.after is not None:
        click.echo(f"More: add --before {page.rows[-1].id}")
