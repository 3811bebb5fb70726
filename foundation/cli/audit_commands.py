"""`audit list`: who did what on the pages, with the API and with commands."""

import click

from foundation.cli import context, output
from foundation.cli.lazy import load
from foundation.cli.output import csv_option, json_option
from foundation.cli.params import (
    TEXT,
    Parsed,
    filter_options,
    limit_option,
    time_options,
    whole_number,
)
from foundation.db import audit
from foundation.db.audit import AuditEntry, AuditFilter
from foundation.db.pagination import PageRequest
from foundation.responses import AuditEntries, AuditResponse

_ENTRY = whole_number(1, 2**31 - 1)  # PostgreSQL refuses to compare with larger ids


def _parse_action(text: str) -> str:
    return audit.check_action(text, load(f"{context.program()}.models:ACTIONS"))


@click.command("list")
@filter_options(
    AuditFilter,
    click.option("--actor", type=TEXT, help="Only what this actor did."),
    click.option(
        "--action",
        type=Parsed("action", _parse_action),
        help="Only this action such as user.add, or kind of object such as user.",
    ),
    click.option("--object", "object_id", type=TEXT, help="Only what was done to this id."),
    click.option("--part-of", type=_ENTRY, help="Only the objects of this entry of many."),
    time_options("entries"),
)
@click.option("--before", type=_ENTRY, help="Start before this entry (next page).")
@limit_option("entries")
@csv_option
@json_option
def list_(
    criteria: AuditFilter, before: int | None, limit: int, as_csv: bool, as_json: bool
) -> None:
    """List what was done, by whom, when, and from where, newest first.

    What was done to more than 20 objects at once is one entry with their number; --part-of lists
    them, and --object finds each.
    """
    if as_csv:
        rows = audit.export(context.checked_services().database, criteria)
        output.print_csv(audit.COLUMNS, rows, as_json=as_json)
        return
    with context.reading() as session:
        page_request = PageRequest()
        if before is not None:
            entry = session.get(AuditEntry, before)
            if entry is None:
                raise click.UsageError(f"there is no entry {before}")
            page_request = PageRequest(after=audit.cursor_of(entry))
        page = audit.find(session, criteria, page_request, limit=limit)
        total = audit.count(session, criteria)
    cursor = None if page.after is None else str(page.rows[-1].id)
    if as_json:
        entries = [AuditResponse.of_entry(row) for row in page.rows]
        output.print_json(AuditEntries(entries=entries, next=cursor))
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
                row.objects,
                row.detail,
            )
            for row in page.rows
        ],
        empty="No entries match.",
    )
    more = "" if cursor is None else f"--before {cursor}"
    output.print_total(len(page.rows), total, "entry", "entries", more=more)
