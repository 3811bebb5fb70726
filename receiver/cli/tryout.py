"""Commands to try webhooks: a throw-away receiver, and the check of one saved request."""

import os
from datetime import UTC, datetime
from typing import BinaryIO

import click

from contract import signatures
from contract.signatures import Secret
from foundation.cli import output, signals
from foundation.cli.output import json_option
from foundation.cli.params import Parsed, whole_number
from foundation.errors import Advice
from foundation.text import count, format_duration, format_timestamp, printable
from receiver.cli import context, schemas
from receiver.cli.context import source_option
from receiver.errors import AddressInUseError, SecretInvalidError
from receiver.services import Services

# Characters of a body that `listen` prints.
_MAX_SHOWN = 4096
_SECRET = Parsed("secret", Secret.parse)
_secret_option = click.option(
    "--secret",
    "secrets",
    type=_SECRET,
    multiple=True,
    envvar="WEBHOOK_SECRET",
    show_envvar=True,
    help="Webhook secret (whsec_…); may be repeated. Other users of this machine can see options: "
    "prefer the variable for a secret that is in use.",
)


@click.command()
@click.option(
    "--port",
    type=whole_number(0, 65535),
    default=9000,
    show_default=True,
    help="Port on 127.0.0.1; 0 for a free one.",
)
@_secret_option
def listen(port: int, secrets: tuple[Secret, ...]) -> None:
    """Receive webhooks on this machine and print each one, until Ctrl-C.

    Prints whether the signature holds, and responds as a receiver should, but does nothing with
    them. Needs neither settings nor a database. Without a secret no signature is verified.
    """
    from receiver.webhooks.listener import HOST, Listener, ReceivedWebhook

    received = {True: 0, False: 0}

    def show(webhook: ReceivedWebhook) -> None:
        received[webhook.is_accepted] += 1
        at = format_timestamp(webhook.received_at)
        click.echo(printable(f"{at} {webhook.status.value} {webhook.path} {webhook.detail}"))
        body = webhook.body[:_MAX_SHOWN].decode("utf-8", errors="replace")
        click.echo(printable(f"    {body}"))

    def stop(_: str) -> None:
        raise SystemExit(0)

    try:
        listener = Listener(port, secrets, show)
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise AddressInUseError(f"cannot listen on {HOST}:{port}: {reason}") from None
    with listener:
        signals.on_stop(stop)
        click.echo(f"Listening on {listener.url} until Ctrl-C. Register this URL with")
        click.echo(f"`notifier endpoints add {listener.url}`")
        if not secrets:
            click.echo("No signature is verified: set WEBHOOK_SECRET to the secret that it prints.")
        try:
            listener.serve_forever()
        finally:
            accepted, refused = received[True], received[False]
            click.echo(f"{count(accepted, 'webhook')} accepted, {refused:,} refused.")


@click.command()
@click.argument("body", type=click.File("rb", lazy=True), metavar="BODY_FILE")
@click.option("--id", "webhook_id", default="", help="The header webhook-id.")
@click.option("--timestamp", default="", help="The header webhook-timestamp.")
@click.option("--signature", default="", help="The header webhook-signature.")
@source_option
@_secret_option
@json_option
def verify(
    body: BinaryIO,
    webhook_id: str,
    timestamp: str,
    signature: str,
    source: str | None,
    secrets: tuple[Secret, ...],
    as_json: bool,
) -> None:
    """Verify the signature of one saved request, whose body is BODY_FILE (- for standard input).

    With the secret that is given, or else with those that are stored for the source. Its age does
    not matter, but is shown. Exit code 1 if no secret has signed it.
    """
    from receiver.webhooks import saved_request

    headers = {
        signatures.ID_HEADER: webhook_id,
        signatures.TIMESTAMP_HEADER: timestamp,
        signatures.SIGNATURE_HEADER: signature,
    }
    found = saved_request.check(secrets or _stored_secrets(source), headers, body.read())
    now = datetime.now(UTC)
    if as_json:
        output.print_json(schemas.VerifiedResponse.of_check(found, now=now))
    elif found.reason is None:
        click.echo(f"OK: {found.detail}.")
        if found.signed_at is not None and not found.is_current(now):
            apart = format_duration(abs(now - found.signed_at))
            when = "ago" if found.signed_at < now else "ahead"
            click.echo(
                f"It was signed at {format_timestamp(found.signed_at)}, {apart} {when}: a receiver "
                f"would refuse it now."
            )
    else:
        click.echo(printable(f"Failed: {found.reason}: {found.detail}"))
        click.echo(f"  next: {output.next_step(found.advice)}")
    if found.reason is not None:
        raise click.exceptions.Exit(output.EXIT_REFUSED)


def _stored_secrets(name: str | None) -> list[Secret]:
    from receiver.sources import store as sources

    services: Services = context.checked_services()
    with services.database.reading() as session:
        source = sources.choose(session, name)
        secrets = sources.secrets_of(source, vault=services.vault)
    if not secrets:
        raise SecretInvalidError(
            f"the source {source.name} has no secret",
            advice=Advice("Add its secret.", "sources add-secret", (source.name,)),
        )
    return secrets
