"""Commands about sources: the eAssessment sites and their secrets."""

import click

from contract.signatures import Secret, SecretError
from contract.tokens import MalformedTokenError, MoodleToken
from foundation.cli import output
from foundation.cli.output import csv_option, json_option
from foundation.cli.params import whole_number
from foundation.db import audit
from foundation.db import session as db
from foundation.responses import Deleted
from foundation.text import readable
from receiver.cli import context, schemas
from receiver.errors import SecretInvalidError, SiteTokenInvalidError
from receiver.models import API, MOODLE, Source
from receiver.services import Services
from receiver.sources import store as sources


@click.command()
@click.argument("name")
@click.option(
    "--url", required=True, help="URL of the site, for example https://eassessment.example.ac.uk."
)
@click.option(
    "--kind",
    type=click.Choice([API, MOODLE]),
    default=API,
    show_default=True,
    help="Its API: the grades API of eAssessment, or Moodle's web services.",
)
@json_option
def add(name: str, url: str, kind: str, as_json: bool) -> None:
    """Add the source NAME, the name that its events carry.

    It is NOTIFIER_SOURCE at that site. The webhook secret is read from a prompt or standard input;
    leave it empty if there is none yet, and add it later with `receiver sources add-secret`.
    """
    services: Services = context.checked_services()
    secret = _read_secret(may_wait=True)
    with services.writing() as (session, now):
        source = sources.add(session, name, url, kind, now=now)
        if secret:
            sources.add_secret(session, source, secret, vault=services.vault, now=now)
        url = source.url
        audit.record(session, context.auditor(), "source.add", name, url, now=now)
        response = _response(services, source)
    if as_json:
        output.print_json(response)
        return
    click.echo(f"The source {name} is added; its grades are fetched from {url}")
    webhook_path = services.settings.webhook_path(name)
    if secret:
        click.echo(f"Webhooks to {webhook_path} are verified with the secret.")
        return
    where = "at the notifier of that Moodle, if it has one" if kind == MOODLE else "there"
    click.echo(f"Register the URL of {webhook_path} {where}, then add its secret with")
    click.echo(f"`receiver sources add-secret {name}`. Until then its webhooks are refused.")


@click.command("list")
@csv_option
@json_option
def list_(as_csv: bool, as_json: bool) -> None:
    """List the sources, the ids of their secrets, and when they last sent a webhook."""
    webhook_path = context.checked_services().settings.webhook_path
    with context.reading() as session:
        rows, received = sources.list_all(session), sources.receptions(session)
        now = db.now(session)
        exported = sources.export(session, now=now) if as_csv else []
    if as_csv:
        output.print_csv(sources.COLUMNS, [exported], as_json=as_json)
        return
    if as_json:
        found = [
            schemas.ListedSource.of_listed(row, webhook_path(row.name), received[row.name], now=now)
            for row in rows
        ]
        output.print_json(schemas.Sources(sources=found))
        return
    output.print_table(
        ("source", "kind", "URL", "webhook path", "secret ids", "site token", "last webhook"),
        [
            (
                row.name,
                row.kind,
                row.url,
                webhook_path(row.name),
                ", ".join(str(secret.id) for secret in row.secrets) or "none",
                "set" if row.encrypted_site_token else "none",
                readable(received[row.name].last_at)
                + (", silent" if received[row.name].is_silent(now) else ""),
            )
            for row in rows
        ],
        empty="No sources. Add eAssessment with `receiver sources add NAME --url URL`.",
    )


@click.command("set-url")
@click.argument("name")
@click.argument("url")
@json_option
def set_url(name: str, url: str, as_json: bool) -> None:
    """Set the URL of the site NAME, if it has moved.

    Its courses, tokens and secrets stay, and its webhooks are not affected. For another site, add
    another source.
    """
    services: Services = context.checked_services()
    with services.writing() as (session, now):
        source = sources.get(session, name)
        sources.set_url(session, source, url, now=now)
        url = source.url
        audit.record(session, context.auditor(), "source.set-url", name, url, now=now)
        response = _response(services, source)
    sentence = f"The URL of {name} is {url} now; the next grade sync fetches all grades from it."
    output.print_result(response, sentence, as_json=as_json)


@click.command()
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@json_option
def remove(name: str, yes: bool, as_json: bool) -> None:
    """Remove the source NAME, which has no courses in the grade sync and no stored grades.

    Its secrets and what it reported are deleted, and its webhooks are refused. Asks for
    confirmation, unless --yes is given.
    """
    if not yes:
        with context.reading() as session:
            url = sources.get(session, name).url
        output.confirm(f"Remove the source {name}, {url}, and what it reported?")
    with context.writing() as (session, now):
        source = sources.get(session, name)
        sources.remove(session, source)
        audit.record(session, context.auditor(), "source.remove", name, source.url, now=now)
    response = Deleted(deleted={"sources": 1})
    output.print_result(response, f"The source {name} is removed.", as_json=as_json)


@click.command("add-secret")
@click.argument("name")
@json_option
def add_secret(name: str, as_json: bool) -> None:
    """Add a webhook secret of NAME; older ones stay valid.

    It is read from a prompt or standard input.
    """
    services: Services = context.checked_services()
    secret = _read_secret()
    if secret is None:
        raise SecretInvalidError("no secret was entered")
    with services.writing() as (session, now):
        source = sources.get(session, name)
        row = sources.add_secret(session, source, secret, vault=services.vault, now=now)
        secret_id, count = row.id, len(source.secrets)
        detail = f"secret {secret_id}"
        audit.record(session, context.auditor(), "source.add-secret", name, detail, now=now)
        response = _response(services, source)
    sentence = f"The secret {secret_id} is added; {name} has {count} now."
    output.print_result(response, sentence, as_json=as_json)


@click.command("remove-secret")
@click.argument("name")
@click.argument("secret_id", type=whole_number(1, 2**31 - 1))
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@json_option
def remove_secret(name: str, secret_id: int, yes: bool, as_json: bool) -> None:
    """Remove the secret SECRET_ID of NAME; webhooks signed with it are refused.

    Asks for confirmation if it is the last one, unless --yes is given.
    """
    services: Services = context.checked_services()
    with services.database.reading() as session:
        is_last = [secret.id for secret in sources.get(session, name).secrets] == [secret_id]
    if is_last and not yes:
        output.confirm(f"Remove the last secret of {name}, so that all its webhooks are refused?")
    with services.writing() as (session, now):
        source = sources.get(session, name)
        left = sources.remove_secret(session, source, secret_id, even_last=is_last or yes)
        detail = f"secret {secret_id}"
        audit.record(session, context.auditor(), "source.remove-secret", name, detail, now=now)
        session.refresh(source)
        response = _response(services, source)
    sentences = [f"The secret {secret_id} is removed; {name} has {left} left."]
    if not left:
        add = f"receiver sources add-secret {name}"
        sentences.append(f"Its webhooks are refused until you run `{add}`.")
    output.print_result(response, *sentences, as_json=as_json)


@click.command("set-site-token")
@click.argument("name")
@json_option
def set_site_token(name: str, as_json: bool) -> None:
    """Set the site-wide token of the Moodle NAME.

    It is read from a prompt or standard input, and only used to confirm that a course is deleted.
    Its user must see all courses, and its service must allow core_course_get_courses.
    """
    services: Services = context.checked_services()
    try:
        token = MoodleToken.parse(output.read_hidden_line("Site-wide token").strip())
    except MalformedTokenError as error:
        raise SiteTokenInvalidError(str(error)) from None
    with services.writing() as (session, now):
        source = sources.get(session, name)
        sources.set_site_token(session, source, token, vault=services.vault)
        audit.record(session, context.auditor(), "source.set-site-token", name, now=now)
        response = _response(services, source)
    sentence = f"The site-wide token of {name} is stored."
    output.print_result(response, sentence, as_json=as_json)


def _response(services: Services, source: Source) -> schemas.SourceResponse:
    return schemas.SourceResponse.of_source(source, services.settings.webhook_path(source.name))


def _read_secret(*, may_wait: bool = False) -> Secret | None:
    prompt = "Webhook secret (whsec_…)" + (", leave empty if there is none yet" if may_wait else "")
    entered = output.read_hidden_line(prompt, default="")
    try:
        return Secret.parse(entered) if entered.strip() else None
    except SecretError as error:
        raise SecretInvalidError(str(error)) from None
