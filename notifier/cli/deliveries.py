"""Commands about deliveries: list, show, replay."""

from collections.abc import Sequence

import click

from contract.events import EVENT_TYPES, OPERATIONAL_TYPES
from foundation.cli import context, output
from foundation.cli.output import csv_option, json_option
from foundation.cli.params import TEXT, Parsed, filter_options, limit_option, text_of, time_options
from foundation.db.pagination import COUNTED, PageRequest, Sort
from foundation.text import count
from notifier.api.schemas import (
    AttemptResponse,
    Deliveries,
    DeliveryDetails,
    Replayed,
    ReplayResponse,
)
from notifier.cli.params import ROW_ID
from notifier.models import Attempt, DeliveryStatus
from notifier.webhooks import delivery_export, delivery_queries, failure_advice
from notifier.webhooks import replay as replays
from notifier.webhooks.delivery_filter import SORTS, DeliveryFilter

_SHOWN_IDS = 20
_SORT = Parsed("column", lambda text: Sort.parse(text, SORTS))


_filter_options = filter_options(
    DeliveryFilter,
    click.option(
        "--status",
        type=click.Choice([status.value for status in DeliveryStatus]),
        help="Only deliveries with this status.",
    ),
    click.option(
        "--event-type",
        type=click.Choice([*EVENT_TYPES, *OPERATIONAL_TYPES]),
        help="Only events of this type.",
    ),
    click.option(
        "--endpoint", "endpoint_id", type=ROW_ID, help="Only deliveries to this endpoint."
    ),
    click.option("--webhook-id", type=TEXT, help="Only the event with this webhook-id."),
    click.option("--course", "course_id", type=TEXT, help="Only events about this course."),
    click.option(
        "--matching",
        type=text_of(minimum=1, maximum=255),
        help="Only events about courses whose id contains TEXT, in any case.",
    ),
    time_options("events"),
)


@click.command("list")
@_filter_options
@click.option(
    "--sort",
    type=_SORT,
    default="-occurred",
    metavar="[-]COLUMN",
    help="Sort by occurred, the time of the event; -occurred, the default, is newest first.",
)
@click.option("--before", type=ROW_ID, help="Start before this delivery id (next page).")
@click.option("--after", type=ROW_ID, help="The same for oldest first: start after this id.")
@limit_option("deliveries")
@csv_option
@json_option
def list_(
    criteria: DeliveryFilter,
    sort: Sort,
    before: int | None,
    after: int | None,
    limit: int,
    as_csv: bool,
    as_json: bool,
) -> None:
    """List deliveries, newest first, each with its last attempt."""
    if (after if sort.descending else before) is not None:
        raise click.UsageError("--before goes with newest first, --after with --sort occurred")
    if as_csv:
        batches = delivery_export.export(context.checked_services().database, criteria, sort)
        output.print_csv(delivery_export.COLUMNS, batches, as_json=as_json)
        return
    with context.reading() as session:
        cursor = before or after
        page_request = PageRequest(after=(cursor,) if cursor else None)
        page = delivery_queries.page(session, criteria, page_request, sort=sort, limit=limit)
        rows = page.rows
        total = delivery_queries.count(session, criteria)
        last = delivery_queries.last_attempts(session, [row.id for row in rows])
    if as_json:
        output.print_json(Deliveries.of_page(page, last))
        return
    output.print_table(
        ("delivery", "status", "event", "course", "endpoint", "attempts", "last response", "next"),
        [
            (
                row.id,
                row.status,
                row.event.type,
                row.event.course_id,
                f"{row.endpoint_id} {row.endpoint.name}".rstrip(),
                row.attempt_count,
                _response(last.get(row.id)),
                row.tried_at if row.status == DeliveryStatus.PENDING else None,
            )
            for row in rows
        ],
        empty="No deliveries match.",
    )
    more = f"--{'before' if sort.descending else 'after'} {page.after[0]}" if page.after else ""
    output.print_total(len(rows), total, "delivery", "deliveries", more=more)


@click.command()
@click.argument("delivery_id", type=ROW_ID)
@click.option("--csv", "as_csv", is_flag=True, help="Print only the attempts, as CSV.")
@json_option
def show(delivery_id: int, as_csv: bool, as_json: bool) -> None:
    """Show a delivery with its payload, attempts and replays."""
    if as_csv:
        database = context.checked_services().database
        with database.reading() as session:
            delivery_queries.get(session, delivery_id)
        batches = delivery_export.export_attempts(database, delivery_id)
        output.print_csv(delivery_export.ATTEMPT_COLUMNS, batches, as_json=as_json)
        return
    with context.reading() as session:
        row = delivery_queries.get(session, delivery_id)
        attempts = delivery_queries.attempts_of(session, delivery_id)
        replay_rows = delivery_queries.replays_of(session, delivery_id)
        delivery = DeliveryDetails.of_last(
            row,
            attempts[-1] if attempts else None,
            body=row.event.body,
            attempts=[AttemptResponse.of_attempt(attempt, row.endpoint) for attempt in attempts],
            replays=[ReplayResponse.of_replay(replay_row) for replay_row in replay_rows],
        )
    if as_json:
        output.print_json(delivery)
        return
    output.print_facts(
        (name, value) for name, value in delivery if name not in {"attempts", "replays"}
    )
    click.echo("\nAttempts, oldest first")
    output.print_table(
        ("started", "ms", "response", "result", "detail"),
        [
            (
                attempt.started_at,
                attempt.milliseconds,
                attempt.failure or attempt.http_status,
                attempt.outcome,
                attempt.detail,
            )
            for attempt in delivery.attempts
        ],
        empty="none yet",
    )
    advice = failure_advice.of_attempt(attempts[-1] if attempts else None, row.endpoint)
    if advice is not None:
        click.echo(f"  next: {output.next_step(advice)}")
    if delivery.replays:
        click.echo("\nReplays")
        output.print_table(
            ("replayed", "by", "channel", "status before"),
            [
                (item.replayed_at, item.replayed_by, item.channel, item.previous_status)
                for item in delivery.replays
            ],
            empty="",
        )


@click.command()
@click.argument("ids", nargs=-1, type=ROW_ID, metavar="[DELIVERY_ID]...")
@_filter_options
@click.option("--dry-run", is_flag=True, help="Only list what would be sent.")
@limit_option("deliveries, oldest first", maximum=1_000_000)
@click.option("--all", "every", is_flag=True, help="No limit; requires --yes.")
@click.option("--yes", is_flag=True, help="Confirm --all.")
@json_option
def replay(
    ids: tuple[int, ...],
    criteria: DeliveryFilter,
    dry_run: bool,
    limit: int,
    every: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Send deliveries again, by DELIVERY_ID or by filter.

    They keep their webhook-id; the worker sends them. A pending retry is replaced. A filter
    without --status skips delivered ones. Deliveries to a disabled endpoint are refused. Who
    replayed what, and when, is recorded.
    """
    if bool(ids) == (bool(criteria.conditions()) or every):
        raise click.UsageError("give either DELIVERY_IDs or a filter such as --status dead")
    if every and not (yes or dry_run):
        raise click.UsageError("--all sends everything that matches the filter; confirm with --yes")
    by = context.actor()
    with context.writing() as (session, now):
        maximum = None if every else limit
        held = 0 if ids else replays.count_held(session, criteria)
        matching = 0
        if not (ids or every):
            preview = replays.preview_replay(session, criteria, limit=COUNTED + 1)
            matching = sum(preview.replayed.values())
        if dry_run and ids:
            chosen = replays.check(session, ids)
        elif dry_run:
            chosen = replays.find_replayable(session, criteria, maximum)
        elif ids:
            chosen = replays.replay(session, ids, by=by, now=now)
        else:
            chosen = replays.replay_found(session, criteria, maximum, by=by, now=now)
    if as_json:
        output.print_json(Replayed(dry_run=dry_run, delivery_ids=chosen, held=held))
        return
    _print_replay(chosen, matching, held, "would be sent again" if dry_run else "queued")


def _print_replay(chosen: Sequence[int], matching: int, held: int, verb: str) -> None:
    shown = ", ".join(map(str, chosen[:_SHOWN_IDS])) + (", …" if len(chosen) > _SHOWN_IDS else "")
    listed = f": {shown}" if chosen else ""
    click.echo(f"{count(len(chosen), 'delivery', 'deliveries')} {verb}{listed}")
    if matching > len(chosen):
        all_of_them = count(matching, "delivery", "deliveries", limit=COUNTED)
        click.echo(f"{all_of_them} match; send the others with --limit, or with --all --yes")
    if held:
        waiting = count(held, "more delivery is", "more deliveries are")
        click.echo(
            f"{waiting} held for disabled endpoints; send them with `notifier endpoints enable`"
        )


def _response(last: Attempt | None) -> int | str | None:
    return None if last is None else last.failure or last.status
