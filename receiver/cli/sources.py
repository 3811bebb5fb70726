"""Commands about sources: the eAssessment sites and the secrets of their webhooks."""

import sys
from typing import Any

import click

from contract.signature import Secret, SecretError
from foundation import database as db
from foundation import terminal
from foundation.terminal import Commands, json_option
from receiver import sources
from receiver.cli import scope
from receiver.errors import SecretInvalidError
from receiver.models import Source


@click.group("sources", cls=Commands)
def sources_group() -> None:
    """Add and list the eAssessment sites; add and drop the secrets of their webhooks."""


@sources_group.command()
@click.argument("name")
@click.option("--url", required=True, help="Where the site is, as https://eassessment.example.")
def add(name: str, url: str) -> None:
    """Add the source NAME: the name that its events carry (NOTIFIER_SOURCE there).

    Its webhook secret is read from a prompt or standard input; leave it empty if there is none
    yet, and enter it with `receiver sources add-secret`.
    """
    here = scope.ready()
    secret = _read_secret(may_wait=True)
    with here.database.writing() as session:
        now = db.now(session)
        source = sources.add(session, name, url, now=now)
        if secret:
            sources.add_secret(session, source, secret, vault=here.vault, now=now)
        asked = source.url
    click.echo(f"the source {name} is added; its grades are asked for at {asked}")
    if secret:
        click.echo(f"webhooks to /webhooks/{name} are verified with the secret that was entered")
        return
    click.echo(f"register the URL of /webhooks/{name} there, and enter the secret it is given with")
    click.echo(f"`receiver sources add-secret {name}`; until then its webhooks are refused")


@sources_group.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List the sources, with the numbers of their secrets."""
    with scope.reading() as session:
        rows = sources.list_all(session)
    if as_json:
        terminal.print_json([_facts(row) for row in rows])
        return
    terminal.print_table(
        ("source", "URL", "door", "secrets", "added"),
        [
            (row.name, row.url, f"/webhooks/{row.name}", _secret_ids(row), row.created_at)
            for row in rows
        ],
        empty="no sources; add eAssessment with `receiver sources add NAME --url URL`",
    )


@sources_group.command("add-secret")
@click.argument("name")
def add_secret(name: str) -> None:
    """Enter a webhook secret of NAME, from a prompt or standard input; older ones still count."""
    here = scope.ready()
    secret = _read_secret()
    if secret is None:
        raise SecretInvalidError("no secret was entered")
    with here.database.writing() as session:
        source = sources.get(session, name)
        row = sources.add_secret(session, source, secret, vault=here.vault, now=db.now(session))
        secret_id, count = row.id, len(source.secrets)
    click.echo(
        f"secret {secret_id} is added; secrets that webhooks of {name} may be signed with: {count}"
    )


@sources_group.command("drop-secret")
@click.argument("name")
@click.argument("secret_id", type=click.IntRange(1, 2**31 - 1))
def drop_secret(name: str, secret_id: int) -> None:
    """Forget the secret SECRET_ID of NAME: what it signs is refused from now on."""
    with scope.writing() as (session, _):
        source = sources.get(session, name)
        left = len(source.secrets) - 1
        sources.drop_secret(session, source, secret_id)
    click.echo(f"secret {secret_id} is dropped; {name} has {left} left")
    if not left:
        click.echo("no webhook of it can be verified until `receiver sources add-secret`")


def _read_secret(*, may_wait: bool = False) -> Secret | None:
    prompt = "Webhook secret (whsec_…)" + (", empty if there is none yet" if may_wait else "")
    if sys.stdin.isatty():
        entered = str(click.prompt(prompt, hide_input=True, default="", show_default=False))
    else:
        entered = sys.stdin.readline()
    try:
        return Secret.parse(entered) if entered.strip() else None
    except SecretError as error:
        raise SecretInvalidError(str(error)) from None


def _secret_ids(source: Source) -> str:
    return ", ".join(str(secret.id) for secret in source.secrets) or "none"


def _facts(source: Source) -> dict[str, Any]:
    return {
        "source": source.name,
        "url": source.url,
        "kind": source.kind,
        "door": f"/webhooks/{source.name}",
        "created_at": source.created_at,
        "secrets": [
            {"secret_id": secret.id, "created_at": secret.created_at} for secret in source.secrets
        ],
    }
