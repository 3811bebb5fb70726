"""Commands about deliveries: list, show, replay."""

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import click

from contract.events import EVENT_TYPES, OPERATIONAL_TYPES
from foundation.cli import output
from foundation.cli.output import Commands, json_option
from foundation.cli.params import MOMENT, WORDS
from foundation.text import count
from notifier.cli import context
from notifier.cli.params import ROW_ID
from notifier.models import Attempt, Delivery, DeliveryStatus, Replay
from notifier.webhooks import delivery_queries, failures
from notifier.webhooks import replay as replays
from notifier.webhooks.delivery_filter import DeliveryFilter

_SHOWN_IDS = 20


def _filter_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of a filter, and hand it over as one."""

    @wraps(command)
    def filtered(**options: Any) -> None:
        wanted = DeliveryFilter(
            **{name: options.pop(name) for name in DeliveryFilter.__dataclass_fields__}
        )
        command(wanted=wanted, **options)

    for option in reversed(_FILTER):
        filtered = option(filtered)
    return filtered


_FILTER = (
    click.option(
        "--status",
        type=click.Choice([status.value for status in DeliveryStatus]),
        callback=lambda _, __, value: DeliveryStatus(value) if value else None,
        help="Only those of this status.",
    ),
    click.option(
        "--event-type",
        type=click.Choice([*EVENT_TYPES, *OPERATIONAL_TYPES]),
        help="Only those of events of this type.",
    ),
    click.option("--endpoint", "endpoint_id", type=ROW_ID, help="Only those for this endpoint."),
    click.option("--course", "course_id", type=WORDS, help="Only those about this course."),
    click.option("--since", type=MOMENT, help="Only events at or after this moment (ISO 8601)."),
    click.option("--until", type=MOMENT, help="Only events before this moment (ISO 8601)."),
)


@click.group("deliveries", cls=Commands)
def deliveries_group() -> None:
    """See what was sent and what came of it; send again what failed."""


@deliveries_group.command("list")
@_filter_options
@click.option("--before", type=ROW_ID, help="Begin below this delivery, to go on with a list.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=100, help="How many at the most.")
@json_option
def list_(wanted: DeliveryFilter, before: int | None, limit: int, as_json: bool) -> None:
    """List deliveries, the newest first, each with its last attempt."""
    with context.reading() as session:
        rows = delivery_queries.find(session, wanted, before=before, limit=limit)
        last = delivery_queries.last_attempts(session, [row.id for row in rows])
    if as_json:
        output.print_json([_facts(row, last.get(row.id)) for row in rows])
        return
    output.print_table(
        ("delivery", "status", "event", "course", "endpoint", "attempts", "last answer", "next"),
        [
            (
                row.id,
                row.status,
                row.event.type,
                row.event.course_id,
                row.endpoint_id,
                row.attempts,
                _answer(last.get(row.id)),
                row.due_at if row.status == DeliveryStatus.PENDING else None,
            )
            for row in rows
        ],
        empty="no such deliveries",
    )
    if len(rows) == limit:
        click.echo(f"there may be more: --before {rows[-1].id}")


@deliveries_group.command()
@click.argument("delivery_id", type=ROW_ID)
@json_option
def show(delivery_id: int, as_json: bool) -> None:
    """Show a delivery: its event's body, every attempt, every replay."""
    with context.reading() as session:
        row = delivery_queries.get(session, delivery_id)
        attempts, replayed = delivery_queries.history(session, delivery_id)
    facts = _facts(row, attempts[-1] if attempts else None)
    if as_json:
        tried = [_attempt_facts(one) for one in attempts]
        audit = [_replay_facts(one) for one in replayed]
        output.print_json(
            {**facts, "body": row.event.body, "attempts_made": tried, "replays": audit}
        )
        return
    output.print_facts([*facts.items(), ("body", row.event.body)])
    click.echo("\nattempts, the oldest first")
    output.print_table(
        ("started", "ms", "answer", "decided", "detail"),
        [
            (one.started_at, one.milliseconds, _answer(one), one.decided, one.detail)
            for one in attempts
        ],
        empty="not attempted yet",
    )
    step = failures.next_step(attempts[-1].failure, attempts[-1].status) if attempts else None
    if step is not None:
        click.echo(f"next: {step}")
    if replayed:
        click.echo("\nreplays")
        output.print_table(
            ("when", "by", "was"),
            [(one.replayed_at, one.replayed_by, one.previous_status) for one in replayed],
            empty="",
        )


@deliveries_group.command()
@click.argument("ids", nargs=-1, type=ROW_ID, metavar="[DELIVERY_ID]...")
@_filter_options
@click.option("--dry-run", is_flag=True, help="Say how many and which, and send nothing.")
@click.option(
    "--limit",
    type=click.IntRange(1, 1_000_000),
    default=delivery_queries.DEFAULT_LIMIT,
    show_default=True,
    help="How many at the most, the oldest first.",
)
@click.option("--all", "every", is_flag=True, help="No limit; needs --yes.")
@click.option("--yes", is_flag=True, help="Confirm --all.")
@json_option
def replay(
    ids: tuple[int, ...],
    wanted: DeliveryFilter,
    dry_run: bool,
    limit: int,
    every: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Make deliveries due now, by DELIVERY_ID or by filter, under their own webhook-ids.

    A pending retry is replaced; one never attempted is taken too. A filter without --status
    leaves out the delivered ones. Those of a disabled endpoint are refused. Who replayed what
    and when is written down. The worker does the sending.
    """
    _check_use(ids, wanted, every=every, yes=yes or dry_run)
    with context.writing() as (session, now):
        most = None if every else limit
        held = 0 if ids else replays.count_held(session, wanted)
        if dry_run and ids:
            found = replays.check(session, ids)
        elif dry_run:
            found = replays.replayable(session, wanted, most)
        elif ids:
            found = replays.replay(session, ids, by=output.who(), now=now)
        else:
            found = replays.replay_found(session, wanted, most, by=output.who(), now=now)
    _show_replay(found, held, dry_run=dry_run, as_json=as_json)


def _check_use(ids: Sequence[int], wanted: DeliveryFilter, *, every: bool, yes: bool) -> None:
    filtered = wanted != DeliveryFilter()
    if bool(ids) == (filtered or every):
        raise click.UsageError("name either DELIVERY_IDs or a filter such as --status dead")
    if every and not yes:
        raise click.UsageError("--all sends everything that the filter finds; confirm with --yes")


def _show_replay(ids: Sequence[int], held: int, *, dry_run: bool, as_json: bool) -> None:
    if as_json:
        output.print_json({"dry_run": dry_run, "deliveries": list(ids), "held": held})
        return
    shown = ", ".join(map(str, ids[:_SHOWN_IDS])) + (", …" if len(ids) > _SHOWN_IDS else "")
    verb = "would be replayed" if dry_run else "is due now" if len(ids) == 1 else "are due now"
    click.echo(f"{count(len(ids), 'delivery', 'deliveries')} {verb}{': ' if ids else ''}{shown}")
    if held:
        waiting = count(held, "more is held for an endpoint", "more are held for endpoints")
        verb, them = ("is", "it") if held == 1 else ("are", "them")
        click.echo(f"{waiting} that {verb} disabled; `notifier endpoints enable` sends {them}")


def _answer(attempt: Attempt | None) -> str | None:
    if attempt is None:
        return None
    return str(attempt.status) if attempt.status is not None else attempt.failure


def _facts(row: Delivery, last: Attempt | None) -> dict[str, Any]:
    return {
        "delivery_id": row.id,
        "webhook_id": row.event_id,
        "event_type": row.event.type,
        "course_id": row.event.course_id or None,
        "course_version": row.event.course_version,
        "occurred_at": row.event.occurred_at,
        "endpoint_id": row.endpoint_id,
        "url": row.endpoint.url,
        "status": row.status,
        "reason": row.reason,
        "attempts": row.attempts,
        "due_at": row.due_at if row.status == DeliveryStatus.PENDING else None,
        "settled_at": row.settled_at,
        "last_answer": _answer(last),
    }


def _attempt_facts(one: Attempt) -> dict[str, Any]:
    return {
        "started_at": one.started_at,
        "milliseconds": one.milliseconds,
        "status": one.status,
        "failure": one.failure,
        "decided": one.decided,
        "detail": one.detail,
        "next_step": failures.next_step(one.failure, one.status),
    }


def _replay_facts(one: Replay) -> dict[str, Any]:
    return {
        "replayed_at": one.replayed_at,
        "replayed_by": one.replayed_by,
        "previous_status": one.previous_status,
    }
