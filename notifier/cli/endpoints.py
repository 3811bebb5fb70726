"""Commands about endpoints: add, list, disable, enable, want, correct, rotate a secret, ping."""

from datetime import datetime, timedelta
from typing import Any

import click

from contract.events import EVENT_TYPES, OPERATIONAL_TYPES
from contract.signatures import Secret
from foundation.cli import output
from foundation.cli.output import Commands, json_option
from foundation.cli.params import DURATION, WORDS
from foundation.db import session as db
from foundation.text import count
from notifier.cli import context
from notifier.cli.params import ROW_ID
from notifier.models import Endpoint
from notifier.webhooks import circuit_breaker, endpoints, failures
from notifier.webhooks.retry_policy import Failure, WebhookResponse
from notifier.worker.ping import PingResult, send_ping

_TYPES = click.Choice([*EVENT_TYPES, *OPERATIONAL_TYPES])


@click.group("endpoints", cls=Commands)
def endpoints_group() -> None:
    """Register the URLs that want events, and look after them."""


@endpoints_group.command()
@click.argument("url")
@click.option(
    "--event-type",
    "event_types",
    multiple=True,
    type=_TYPES,
    help="Only events of this type; may be given more than once. All those of courses unless "
    "given; those of deliveries themselves only if named.",
)
@json_option
def add(url: str, event_types: tuple[str, ...], as_json: bool) -> None:
    """Register URL and print its secret, which is shown this once; ELMS needs it too."""
    here = context.ready()
    with here.database.writing() as session:
        endpoint, secret = endpoints.register(
            session,
            url,
            event_types,
            vault=here.vault,
            guard=here.settings.guard,
            now=db.now(session),
        )
        endpoint_id = endpoint.id
    _show_secret(endpoint_id, "is registered; its secret", secret, as_json=as_json)


@endpoints_group.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List the endpoints and their state."""
    with context.reading() as session:
        rows = endpoints.list_all(session)
    if as_json:
        output.print_json([_facts(row) for row in rows])
        return
    output.print_table(
        ("endpoint", "URL", "wants", "state", "since", "reason"),
        [
            (
                row.id,
                row.url,
                ", ".join(row.event_types or ["everything about courses"]),
                *_state(row),
            )
            for row in rows
        ],
        empty="no endpoints; register ELMS's door with `notifier endpoints add URL`",
    )


@endpoints_group.command()
@click.argument("endpoint_id", type=ROW_ID)
@click.option(
    "--reason", type=WORDS, default="disabled by hand", help="Why, for whoever finds it disabled."
)
def disable(endpoint_id: int, reason: str) -> None:
    """Stop sending to ENDPOINT_ID; what is open for it is held, nothing is dropped."""
    with context.writing() as (session, now):
        endpoints.disable(session, endpoint_id, f"{reason} ({output.who()})", now=now)
    click.echo(f"endpoint {endpoint_id} is disabled; its deliveries are held until it is enabled")


@endpoints_group.command()
@click.argument("endpoint_id", type=ROW_ID)
def enable(endpoint_id: int) -> None:
    """Send to ENDPOINT_ID again, beginning with what was held for it."""
    with context.writing() as (session, now):
        _, released = endpoints.enable(session, endpoint_id, now=now)
    held = count(released, "held delivery is", "held deliveries are")
    click.echo(f"endpoint {endpoint_id} is enabled; {held} due now")


@endpoints_group.command()
@click.argument("endpoint_id", type=ROW_ID)
@click.argument("event_types", nargs=-1, type=_TYPES, metavar="[EVENT_TYPE]...")
def set_event_types(endpoint_id: int, event_types: tuple[str, ...]) -> None:
    """Tell ENDPOINT_ID of these types alone from now on; without any, of all those of courses.

    What is open for it already is still sent.
    """
    with context.writing() as (session, _):
        row = endpoints.set_event_types(session, endpoint_id, event_types)
        wanted = ", ".join(row.event_types or EVENT_TYPES)
    click.echo(f"endpoint {endpoint_id} is told of {wanted} from now on")


@endpoints_group.command("correct-url")
@click.argument("endpoint_id", type=ROW_ID)
@click.argument("url")
def correct_url(endpoint_id: int, url: str) -> None:
    """Put the right URL in the place of the mistyped one of ENDPOINT_ID; its secret stays.

    What waits is sent there at once. An endpoint that has taken a delivery keeps its URL.
    """
    here = context.ready()
    with here.database.writing() as session:
        endpoints.correct_url(
            session, endpoint_id, url, guard=here.settings.guard, now=db.now(session)
        )
    click.echo(f"endpoint {endpoint_id} is at {url} now")


@endpoints_group.command("rotate-secret")
@click.argument("endpoint_id", type=ROW_ID)
@click.option(
    "--overlap",
    type=DURATION,
    help="How long the old secret signs beside the new one: 30m, 24h, 7d; 24h unless given.",
)
@click.option("--now", "at_once", is_flag=True, help="No overlap: the old secret has leaked.")
@json_option
def rotate_secret(
    endpoint_id: int, overlap: timedelta | None, at_once: bool, as_json: bool
) -> None:
    """Give ENDPOINT_ID a new secret and print it, shown this once; enter it at ELMS in time."""
    if at_once and overlap is not None:
        raise click.UsageError("--now means no overlap; leave out --overlap")
    if overlap is None:
        overlap = timedelta(0) if at_once else endpoints.DEFAULT_OVERLAP
    here = context.ready()
    with here.database.writing() as session:
        secret = endpoints.rotate_secret(
            session,
            endpoint_id,
            overlap=overlap,
            vault=here.vault,
            now=db.now(session),
        )
    _show_secret(endpoint_id, "has a new secret", secret, as_json=as_json)


@endpoints_group.command()
@click.argument("endpoint_id", type=ROW_ID)
@json_option
def ping(endpoint_id: int, as_json: bool) -> None:
    """POST a signed test to ENDPOINT_ID and print the answer; exit 1 unless it is taken.

    If it is, and the endpoint was failing, what waits for it is sent at once.
    """
    result = send_ping(context.ready(), endpoint_id)
    _show_ping(result, as_json=as_json)
    if not result.accepted:
        raise click.exceptions.Exit(output.EXIT_REFUSED)


def _state(row: Endpoint) -> tuple[str, datetime | None, str | None]:
    """Return an endpoint's state, since when, and why."""
    status = circuit_breaker.status_of(row)
    if status.tried_at is None:
        return status.state, status.since, status.reason
    tried = f"{status.reason}; tried at {output.cell(status.tried_at)}"
    return status.state, status.since, tried


def _show_ping(result: PingResult, *, as_json: bool) -> None:
    url, answer = result.url, result.result
    if as_json:
        match answer:
            case WebhookResponse(status, retry_after, excerpt):
                facts = {"status": status, "retry_after": retry_after, "said": excerpt}
            case Failure(kind, detail):
                step = failures.next_step(kind)
                facts = {"kind": kind, "detail": detail, "next_step": step}
        output.print_json({"url": url, "taken": result.accepted, **facts})
    elif isinstance(answer, WebhookResponse):
        verdict = "taken" if result.accepted else "refused"
        click.echo(f"{verdict}: {url} answered {answer.status} {answer.excerpt}")
        if (remedy := failures.next_step(None, answer.status)) is not None:
            click.echo(f"  next: {remedy}")
    else:
        click.echo(f"failed: {url}: {answer.kind}: {answer.detail}")
        click.echo(f"  next: {failures.next_step(answer.kind)}")
    if result.due and not as_json:
        waited = count(result.due, "delivery that waited is", "deliveries that waited are")
        click.echo(f"{waited} due now")


def _show_secret(endpoint_id: int, what: str, secret: Secret, *, as_json: bool) -> None:
    if as_json:
        output.print_json({"endpoint_id": endpoint_id, "secret": secret.reveal()})
        return
    click.echo(f"endpoint {endpoint_id} {what}, shown this once:")
    click.echo(secret.reveal())


def _facts(endpoint: Endpoint) -> dict[str, Any]:
    return {
        "endpoint_id": endpoint.id,
        "url": endpoint.url,
        "event_types": endpoint.event_types or list(EVENT_TYPES),
        "created_at": endpoint.created_at,
        "disabled_at": endpoint.disabled_at,
        "disabled_reason": endpoint.disabled_reason,
        "failures": endpoint.failures,
        "failing_since": endpoint.failing_since,
        "paused_until": endpoint.paused_until,
    }
