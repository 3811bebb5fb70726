"""Commands about webhook endpoints."""

from datetime import datetime, timedelta

import click
from sqlalchemy.orm import Session

from contract.events import EVENT_TYPES, OPERATIONAL_TYPES
from foundation.cli import context, output
from foundation.cli.output import csv_option, json_option
from foundation.cli.params import COURSE_ID, DURATION, TEXT
from foundation.db import audit
from foundation.text import count, printable, problem_detail, readable
from notifier.api import schemas
from notifier.cli.params import ENDPOINT_NAME, ROW_ID
from notifier.models import Endpoint
from notifier.monitoring import endpoint_status, endpoint_summary
from notifier.services import Services
from notifier.webhooks import endpoints, failure_advice
from notifier.webhooks.receiver_probes import DESCRIPTIONS
from notifier.webhooks.retry_policy import Failure
from notifier.worker.ping import PingResult, ReceiverCheck, check_receiver, send_ping, send_sample

_TYPES = click.Choice([*EVENT_TYPES, *OPERATIONAL_TYPES])


@click.command()
@click.argument("url")
@click.option(
    "--event-type",
    "event_types",
    multiple=True,
    type=_TYPES,
    help="Only events of this type; may be repeated. Default: all events about courses, none "
    "about deliveries and endpoints.",
)
@click.option("--name", type=ENDPOINT_NAME, default="", help="Name for people, shown in lists.")
@click.option(
    "--may-claim-tokens",
    is_flag=True,
    help="Allow ELMS to take over new course tokens itself, with requests signed by the secret.",
)
@json_option
def add(
    url: str, event_types: tuple[str, ...], name: str, may_claim_tokens: bool, as_json: bool
) -> None:
    """Register URL and print its secret, which is shown only once.

    Enter the secret at the receiver (ELMS: `receiver sources add-secret`). If the host cannot be
    resolved, or an address of it is blocked, a warning says so; the URL is registered nevertheless.
    """
    services: Services = context.checked_services()
    with services.writing() as (session, now):
        endpoint, secret = endpoints.register(
            session,
            url,
            event_types,
            name=name,
            may_claim_tokens=may_claim_tokens,
            vault=services.vault,
            guard=services.settings.guard,
            now=now,
        )
        detail = endpoints.describe(endpoint)
        audit.record(session, context.actor(), "endpoint.add", endpoint.id, detail, now=now)
    warning = services.check_host(endpoint.url)
    shown = schemas.HostWarning.of_failure(warning, endpoint.id)
    response = schemas.EndpointWithSecret.of(endpoint, secret=secret.reveal(), warning=shown)
    if not as_json:
        _warn(endpoint.id, warning)
    _show_secret(response, "is registered. Its secret, shown only once:", as_json=as_json)


@click.command("list")
@click.option("--removed", is_flag=True, help="Also list removed endpoints.")
@csv_option
@json_option
def list_(removed: bool, as_csv: bool, as_json: bool) -> None:
    """List endpoints and their status."""
    with context.reading() as session:
        if as_csv:
            exported = endpoint_summary.export(session, removed=removed)
            output.print_csv(endpoint_summary.COLUMNS, [exported], as_json=as_json)
            return
        rows = endpoints.list_all(session, removed=removed)
    if as_json:
        found = [schemas.EndpointResponse.of(row) for row in rows]
        output.print_json(schemas.Endpoints(endpoints=found))
        return
    output.print_table(
        ("endpoint", "name", "URL", "event types", "status", "since", "reason"),
        [
            (
                row.id,
                row.name,
                row.url,
                ", ".join(row.event_types or ["all course events"]),
                *_status(row),
            )
            for row in rows
        ],
        empty="No endpoints. Register ELMS's webhook URL with `notifier endpoints add URL`.",
    )


@click.command()
@click.argument("endpoint_id", type=ROW_ID)
@click.option(
    "--reason",
    type=TEXT,
    default="disabled by an administrator",
    show_default=True,
    help="Reason, shown with the endpoint.",
)
@json_option
def disable(endpoint_id: int, reason: str, as_json: bool) -> None:
    """Stop sending to ENDPOINT_ID and hold its deliveries.

    Held deliveries are sent after `notifier endpoints enable`.
    """
    with context.writing() as (session, now):
        endpoints.disable(session, endpoint_id, reason, by=output.current_user(), now=now)
        audit.record(session, context.actor(), "endpoint.disable", endpoint_id, reason, now=now)
        response = _response(session, endpoint_id)
    sentence = f"Endpoint {endpoint_id} is disabled; its deliveries are held."
    output.print_result(response, sentence, as_json=as_json)


@click.command()
@click.argument("endpoint_id", type=ROW_ID)
@json_option
def enable(endpoint_id: int, as_json: bool) -> None:
    """Send to ENDPOINT_ID again, starting with its held deliveries."""
    with context.writing() as (session, now):
        endpoint, released = endpoints.enable(session, endpoint_id, now=now)
        audit.record(session, context.actor(), "endpoint.enable", endpoint_id, now=now)
        response = schemas.EndpointEnabled.of(endpoint, queued=released)
    held = count(released, "held delivery is", "held deliveries are")
    sentence = f"Endpoint {endpoint_id} is enabled; {held} queued."
    output.print_result(response, sentence, as_json=as_json)


@click.command()
@click.argument("endpoint_id", type=ROW_ID)
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@json_option
def remove(endpoint_id: int, yes: bool, as_json: bool) -> None:
    """Remove ENDPOINT_ID permanently and cancel its pending and held deliveries.

    Its history can still be read. Its URL can be added again, and then has a new secret. Asks for
    confirmation, unless --yes is given.
    """
    if not yes:
        with context.reading() as session:
            summary = endpoint_summary.read_one(session, endpoint_id)
        opened = count(summary.pending + summary.held, "delivery", "deliveries")
        url = printable(summary.endpoint.url)
        output.confirm(f"Remove endpoint {endpoint_id}, {url}, and cancel {opened}?")
    with context.writing() as (session, now):
        cancelled = endpoints.remove(session, endpoint_id, by=output.current_user(), now=now)
        audit.record(session, context.actor(), "endpoint.remove", endpoint_id, now=now)
        endpoint = endpoints.get(session, endpoint_id)
        response = schemas.EndpointRemoved.of(endpoint, cancelled=cancelled)
    deliveries = count(cancelled, "delivery is", "deliveries are")
    sentence = f"Endpoint {endpoint_id} is removed; {deliveries} cancelled."
    output.print_result(response, sentence, as_json=as_json)


@click.command("set-event-types")
@click.argument("endpoint_id", type=ROW_ID)
@click.argument("event_types", nargs=-1, type=_TYPES, metavar="[EVENT_TYPE]...")
@json_option
def set_event_types(endpoint_id: int, event_types: tuple[str, ...], as_json: bool) -> None:
    """Set the event types that ENDPOINT_ID receives.

    Without EVENT_TYPE: all events about courses. Open deliveries are still sent.
    """
    with context.writing() as (session, now):
        row = endpoints.set_event_types(session, endpoint_id, event_types)
        types = ", ".join(row.event_types or EVENT_TYPES)
        audit.record(
            session, context.actor(), "endpoint.set-event-types", endpoint_id, types, now=now
        )
        response = schemas.EndpointResponse.of(row)
    sentence = f"Endpoint {endpoint_id} now receives {types}."
    output.print_result(response, sentence, as_json=as_json)


@click.command("set-name")
@click.argument("endpoint_id", type=ROW_ID)
@click.argument("name", type=ENDPOINT_NAME)
@json_option
def set_name(endpoint_id: int, name: str, as_json: bool) -> None:
    """Set the name of ENDPOINT_ID that lists show; an empty NAME removes it."""
    with context.writing() as (session, now):
        endpoints.set_name(session, endpoint_id, name)
        audit.record(session, context.actor(), "endpoint.set-name", endpoint_id, name, now=now)
        response = _response(session, endpoint_id)
    sentence = f"Endpoint {endpoint_id} is now named '{name}'."
    output.print_result(response, sentence, as_json=as_json)


@click.command("correct-url")
@click.argument("endpoint_id", type=ROW_ID)
@click.argument("url")
@json_option
def correct_url(endpoint_id: int, url: str, as_json: bool) -> None:
    """Correct the mistyped URL of ENDPOINT_ID.

    Its secret is kept, and waiting deliveries are sent to the new URL at once. The URL of an
    endpoint that has accepted a delivery cannot be changed. If the host cannot be resolved, or an
    address of it is blocked, a warning says so.
    """
    services: Services = context.checked_services()
    with services.writing() as (session, now):
        endpoints.correct_url(session, endpoint_id, url, guard=services.settings.guard, now=now)
        endpoint = endpoints.get(session, endpoint_id)
        url = endpoint.url
        audit.record(session, context.actor(), "endpoint.correct-url", endpoint_id, url, now=now)
    warning = services.check_host(url)
    shown = schemas.HostWarning.of_failure(warning, endpoint_id)
    response = schemas.EndpointWithWarning.of(endpoint, warning=shown)
    if not as_json:
        _warn(endpoint_id, warning)
    sentence = f"Endpoint {endpoint_id} now has the URL {url}"
    output.print_result(response, sentence, as_json=as_json)


@click.command("set-token-claims")
@click.argument("endpoint_id", type=ROW_ID)
@click.argument("allowed", type=click.Choice(["on", "off"]))
@json_option
def set_token_claims(endpoint_id: int, allowed: str, as_json: bool) -> None:
    """Allow ENDPOINT_ID to claim new course tokens, or forbid it.

    With `on`, ELMS takes over a token that was regenerated with an overlap itself. Its request is
    signed with the newest secret of the endpoint.
    """
    with context.writing() as (session, now):
        endpoints.set_token_claims(session, endpoint_id, allowed=allowed == "on")
        audit.record(
            session, context.actor(), "endpoint.set-token-claims", endpoint_id, allowed, now=now
        )
        response = _response(session, endpoint_id)
    sentence = f"Token claims of endpoint {endpoint_id} are {allowed}."
    output.print_result(response, sentence, as_json=as_json)


@click.command("rotate-secret")
@click.argument("endpoint_id", type=ROW_ID)
@click.option(
    "--overlap",
    type=DURATION,
    help="How long both secrets sign, for example 30m, 24h or 7d [default: 24h].",
)
@click.option("--now", "at_once", is_flag=True, help="No overlap, because the old secret leaked.")
@json_option
def rotate_secret(
    endpoint_id: int, overlap: timedelta | None, at_once: bool, as_json: bool
) -> None:
    """Generate a new secret for ENDPOINT_ID and print it; it is shown only once.

    Enter it at the receiver before the overlap ends. New course tokens can be claimed with the new
    secret only.
    """
    if at_once and overlap is not None:
        raise click.UsageError("give either --now or --overlap")
    if overlap is None:
        overlap = timedelta(0) if at_once else endpoints.DEFAULT_OVERLAP
    services: Services = context.checked_services()
    with services.writing() as (session, now):
        secret = endpoints.rotate_secret(
            session, endpoint_id, overlap=overlap, vault=services.vault, now=now
        )
        audit.record(session, context.actor(), "endpoint.rotate-secret", endpoint_id, now=now)
        endpoint = endpoints.get(session, endpoint_id)
        response = schemas.EndpointWithSecret.of(endpoint, secret=secret.reveal(), warning=None)
    _show_secret(response, "has a new secret, shown only once:", as_json=as_json)


@click.command()
@click.argument("endpoint_id", type=ROW_ID)
@json_option
def ping(endpoint_id: int, as_json: bool) -> None:
    """Send a signed test webhook to ENDPOINT_ID and print the response.

    Exit code 1 unless it is accepted. If it is, ELMS expects heartbeats from now on (unless
    NOTIFIER_HEARTBEAT_INTERVAL is 0), and waiting deliveries of a failing endpoint are sent at
    once.
    """
    result = send_ping(context.checked_services(), endpoint_id)
    if as_json:
        output.print_json(schemas.PingResponse.of_ping(endpoint_id, result))
    else:
        _show_ping(endpoint_id, result)
    if not result.accepted:
        raise click.exceptions.Exit(output.EXIT_REFUSED)


@click.command()
@click.argument("endpoint_id", type=ROW_ID)
@json_option
def check(endpoint_id: int, as_json: bool) -> None:
    """Check that the receiver of ENDPOINT_ID verifies webhooks.

    Sends it about ten pings: some signed correctly, the others changed, unsigned, with another
    secret, or too old. Only pings: no receiver acts on any of them. Exit code 1 if it accepts what
    it should refuse or refuses what it should accept; then what it does is said in words.
    """
    result = check_receiver(context.checked_services(), endpoint_id)
    if as_json:
        output.print_json(schemas.EndpointCheck.of_check(endpoint_id, result))
    else:
        _show_check(result)
    if result.is_flawed:
        raise click.exceptions.Exit(output.EXIT_REFUSED)


@click.command()
@click.argument("event_type", type=_TYPES)
@click.option("--endpoint", "endpoint_id", type=ROW_ID, required=True, help="Id of the endpoint.")
@click.option(
    "--course",
    "course_id",
    type=COURSE_ID,
    help="Course id of the sample, which no course may have [default: a new one].",
)
@json_option
def trigger(event_type: str, endpoint_id: int, course_id: str | None, as_json: bool) -> None:
    """Send a sample of EVENT_TYPE, marked as a test, and print it with the response.

    Nothing is stored, and nothing has happened to any course: ELMS responds `ignored`. It is sent
    whatever types the endpoint subscribes to. Exit code 1 unless it is accepted.
    """
    services: Services = context.checked_services()
    sample = send_sample(services, endpoint_id, event_type, course_id)
    if as_json:
        output.print_json(schemas.SampleResponse.of_sample(endpoint_id, sample))
    else:
        click.echo(printable(f"{sample.webhook_id} {sample.body}"))
        _show_ping(endpoint_id, sample)
    if not sample.accepted:
        raise click.exceptions.Exit(output.EXIT_REFUSED)


def _status(row: Endpoint) -> tuple[str, datetime | None, str | None]:
    details = endpoint_status.status_details(row)
    if details.tried_at is None:
        return details.status, details.since, details.reason
    reason = f"{details.reason}; next attempt at {readable(details.tried_at)}"
    return details.status, details.since, reason


def _show_ping(endpoint_id: int, ping: PingResult) -> None:
    url, result = ping.url, ping.result
    if isinstance(result, Failure):
        advice = failure_advice.advice_for(result.kind, None, endpoint_id)
        line = f"Failed: {url}: {result.kind}: {result.detail}"
    else:
        advice = failure_advice.advice_for(None, result.status, endpoint_id)
        verdict = "OK" if ping.accepted else "Failed"
        line = f"{verdict} {result.status}: {url} {problem_detail(result.excerpt)}".rstrip()
    click.echo(line)
    if advice is not None:
        click.echo(f"  next: {output.next_step(advice)}")
    if ping.due:
        waiting = count(ping.due, "waiting delivery is", "waiting deliveries are")
        click.echo(f"{waiting} queued.")


def _show_check(check: ReceiverCheck) -> None:
    click.echo(printable(check.url))
    output.print_table(
        ("ping", "expected", "response", "result"),
        [
            (
                DESCRIPTIONS[one.probe],
                one.expected,
                one.response,
                "OK" if one.is_as_expected else "WRONG",
            )
            for one in check.results
        ],
        empty="",
    )
    for finding in check.findings:
        verdict = "FLAW" if finding.is_flaw else "OK"
        click.echo(printable(f"{verdict}: {finding.detail}"))
        if finding.advice is not None:
            click.echo(printable(f"  next: {output.next_step(finding.advice)}"))


def _warn(endpoint_id: int, warning: Failure | None) -> None:
    if warning is not None:
        advice = failure_advice.advice_for(warning.kind, None, endpoint_id)
        output.print_warning(warning.detail, advice)


def _response(session: Session, endpoint_id: int) -> schemas.EndpointResponse:
    return schemas.EndpointResponse.of(endpoints.get(session, endpoint_id))


def _show_secret(endpoint: schemas.EndpointWithSecret, what: str, *, as_json: bool) -> None:
    output.print_result(
        endpoint, f"Endpoint {endpoint.endpoint_id} {what}", endpoint.secret, as_json=as_json
    )
