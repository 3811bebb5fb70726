"""Commands about sources: the eAssessment sites and the secrets of their webhooks."""

import sys
from typing import Any

import click

from contract.signatures import Secret, SecretError
from contract.tokens import MalformedTokenError, MoodleToken
from foundation.cli import output
from foundation.cli.output import Commands, json_option
from foundation.db import session as db
from receiver.cli import context
from receiver.errors import SecretInvalidError, SiteTokenInvalidError
from receiver.models import API, MOODLE, Source
from receiver.sources import store as sources


@click.group("sources", cls=Commands)
def sources_group() -> None:
    """Add and list the eAssessment sites; add and drop the secrets of their webhooks."""


@sources_group.command()
@click.argument("name")
@click.option("--url", required=True, help="Where the site is, as https://eassessment.example.")
@click.option(
    "--kind",
    type=click.Choice([API, MOODLE]),
    default=API,
    show_default=True,
    help="What it speaks: our own grades API, or Moodle's web services.",
)
def add(name: str, url: str, kind: str) -> None:
    """Add the source NAME: the name that its events carry (NOTIFIER_SOURCE there).

    Its webhook secret is read from a prompt or standard input; leave it empty if there is none
    yet, and enter it with `receiver sources add-secret`.
    """
    here = context.ready()
    secret = _read_secret(may_wait=True)
    with here.database.writing() as session:
        now = db.now(session)
        source = sources.add(session, name, url, kind, now=now)
        if secret:
            sources.add_secret(session, source, secret, vault=here.vault, now=now)
        asked = source.url
    click.echo(f"the source {name} is added; its grades are asked for at {asked}")
    if secret:
        click.echo(f"webhooks to /webhooks/{name} are verified with the secret that was entered")
        return
    who = "with the notifier beside that Moodle, if there is one" if kind == MOODLE else "there"
    click.echo(f"register the URL of /webhooks/{name} {who}, and enter the secret it is given with")
    click.echo(f"`receiver sources add-secret {name}`; until then its webhooks are refused")


@sources_group.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List the sources, with the numbers of their secrets."""
    with context.reading() as session:
        rows = sources.list_all(session)
    if as_json:
        output.print_json([_facts(row) for row in rows])
        return
    output.print_table(
        ("source", "kind", "URL", "door", "secrets", "site token", "added"),
        [
            (
                row.name,
                row.kind,
                row.url,
                f"/webhooks/{row.name}",
                _secret_ids(row),
                _site_token(row),
                row.created_at,
            )
            for row in rows
        ],
        empty="no sources; add eAssessment with `receiver sources add NAME --url URL`",
    )


@sources_group.command("add-secret")
@click.argument("name")
def add_secret(name: str) -> None:
    """Enter a webhook secret of NAME, from a prompt or standard input; older ones still count."""
    here = context.ready()
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


@sources_group.command("remove-secret")
@click.argument("name")
@click.argument("secret_id", type=click.IntRange(1, 2**31 - 1))
def remove_secret(name: str, secret_id: int) -> None:
    """Forget the secret SECRET_ID of NAME: what it signs is refused from now on."""
    with context.writing() as (session, _):
        source = sources.get(session, name)
        left = len(source.secrets) - 1
        sources.remove_secret(session, source, secret_id)
    click.echo(f"secret {secret_id} is dropped; {name} has {left} left")
    if not left:
        click.echo("no webhook of it can be verified until `receiver sources add-secret`")


@sources_group.command("set-site-token")
@click.argument("name")
def set_site_token(name: str) -> None:
    """Enter the site-wide token of the Moodle NAME, from a prompt or standard input.

    It is used for one thing: to confirm that courses which seem gone are, before their entries
    are given up. Its user needs to see every course, and its service core_course_get_courses.
    """
    here = context.ready()
    token = _read_site_token()
    with here.database.writing() as session:
        sources.set_site_token(session, sources.get(session, name), token, vault=here.vault)
    click.echo(f"the site-wide token of {name} is held; it confirms that courses are gone")


def _read_site_token() -> MoodleToken:
    if sys.stdin.isatty():
        entered = str(click.prompt("Site-wide token", hide_input=True))
    else:
        entered = sys.stdin.readline()
    try:
        return MoodleToken.parse(entered.strip())
    except MalformedTokenError as error:
        raise SiteTokenInvalidError(str(error)) from None


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


def _site_token(source: Source) -> str:
    return "held" if source.encrypted_site_token else "none"


def _facts(source: Source) -> dict[str, Any]:
    return {
        "source": source.name,
        "url": source.url,
        "kind": source.kind,
        "site_token_held": source.encrypted_site_token is not None,
        "door": f"/webhooks/{source.name}",
        "created_at": source.created_at,
        "secrets": [
            {"secret_id": secret.id, "created_at": secret.created_at} for secret in source.secrets
        ],
    }
