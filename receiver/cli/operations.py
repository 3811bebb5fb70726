"""Commands that run and maintain ELMS."""

from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta

import click
from sqlalchemy.orm import Session

from foundation.cli import doctor as report
from foundation.cli import output, pruning
from foundation.cli.batches import in_batches
from foundation.cli.init import database_url_option, initialize, new_encryption_key
from foundation.cli.output import json_option
from foundation.cli.params import prune_options
from foundation.db import audit
from foundation.db import session as db
from foundation.responses import Reencrypted
from foundation.text import count
from receiver.cli import context
from receiver.config import Settings
from receiver.services import Services

# Several times what a route accepts, so that the route itself refuses more.
_MAX_BODY_BYTES = 1024 * 1024
# What `prune` deletes.
_PRUNED = {
    "runs": ("run", "runs"),
    "history_lines": ("line of history", "lines of history"),
    "webhook_ids": ("webhook id", "webhook ids"),
    **pruning.NOUNS,
}
# Rows that `prune` deletes in one transaction, and courses whose grades it deletes.
_ROWS_AT_ONCE = 5000
_COURSES_AT_ONCE = 50


@click.command()
@database_url_option
@json_option
def init(database_url: str | None, as_json: bool) -> None:
    """Write the required settings to .env, with new keys, and make the database schema.

    The file is created so that only you can read it. What is set already, in .env or the
    environment, is kept: the command can be run again, and both services can share a folder.
    """
    initialize(
        Settings,
        keys={"encryption_keys": new_encryption_key()},
        options={"database_url": database_url},
        next_steps=[
            ("serve", "accept webhooks and serve the pages"),
            ("sources add NAME --url URL", "add eAssessment and the secret of its webhooks"),
            ("registry add COURSE_ID", "add a course and its token"),
            ("users add NAME", "add a user of the pages"),
            ("sync-grades", "fetch grades; schedule it"),
        ],
        as_json=as_json,
    )


@click.command("rotate-key")
@json_option
def rotate_key(as_json: bool) -> None:
    """Re-encrypt all secrets and tokens with the first encryption key.

    Older keys can then be removed from RECEIVER_ENCRYPTION_KEYS.
    """
    from receiver.registry import entries as registry
    from receiver.sources import store as sources

    services: Services = context.checked_services()
    with services.writing() as (session, now):
        secrets = sources.reencrypt(session, vault=services.vault)
        tokens = registry.reencrypt(session, vault=services.vault)
        detail = f"{count(secrets, 'secret')} and {count(tokens, 'token')}"
        audit.record(session, context.auditor(), "database.rotate-key", "", detail, now=now)
    output.print_result(
        Reencrypted(reencrypted={"secrets": secrets, "tokens": tokens}),
        f"re-encrypted {detail}; older keys can be removed",
        as_json=as_json,
    )


@click.command()
@prune_options
@json_option
def prune(older_than: timedelta, audit_older_than: timedelta | None, as_json: bool) -> None:
    """Delete old runs, webhook ids and history, in short transactions.

    The registry, the gradebook, the last run and the last webhook of each source are kept. If
    RECEIVER_FORGET_GRADES_AFTER_DAYS is set, the grades of courses that were deleted longer ago are
    deleted too. The command can be interrupted and run again.
    """
    from receiver.gradebook import database as gradebook
    from receiver.registry import history
    from receiver.runs import store as runs
    from receiver.webhooks import inbox

    services: Services = context.checked_services()
    database = services.database
    with database.reading() as session:
        now = db.now(session)
        before, deleted_before = now - older_than, services.settings.forgets_grades_before(now)
        old_runs = runs.count_old(session, before)
    steps: dict[str, Callable[[Session], int]] = {
        "history_lines": lambda session: history.prune(session, before, _ROWS_AT_ONCE),
        "webhook_ids": lambda session: inbox.prune(session, before, _ROWS_AT_ONCE),
    }
    if deleted_before is not None:
        steps["grades"] = lambda session: gradebook.forget_deleted_courses(
            session, deleted_before, limit=_COURSES_AT_ONCE
        )
    if audit_older_than is not None:
        audited_before = now - audit_older_than
        steps["audit_entries"] = lambda session: audit.prune(session, audited_before, _ROWS_AT_ONCE)
    with pruning.recorded(_PRUNED, as_json=as_json) as deleted:
        with output.progress_bar(old_runs, "Deleting runs", hidden=as_json) as advance:
            for number in in_batches(database, lambda session: runs.prune(session, before, 1)):
                deleted["runs"] += number
                advance(number)
        pruning.delete_all(database, steps, deleted)


@click.command()
def serve() -> None:
    """Serve the webhook endpoint and the pages until stopped.

    SIGTERM finishes requests in progress.
    """
    from foundation.web import server
    from receiver.app import app_of
    from receiver.sources import store as sources

    services: Services = context.checked_services()
    # Without it, a silence counts from the last webhook.
    with suppress(*db.UNUSABLE), services.writing() as (session, now):
        sources.record_start(session, now=now)
    server.serve(app_of(services), services.settings, max_body_bytes=_MAX_BODY_BYTES)


@click.command()
@json_option
def doctor(as_json: bool) -> None:
    """Check settings, database, sources, registry, last run and Moodles.

    Exit code 1 if a check fails.
    """
    from receiver.monitoring import doctor as checks
    from receiver.sources import factory

    services: Services = context.services()
    with (
        factory.open_gradebook(services.settings) as gradebook,
        factory.ClientFactory(services.settings, services.vault) as clients,
    ):
        findings = [
            *checks.examine(services.database, services.vault, gradebook, clients),
            report.examine_settings(type(services.settings)),
            report.examine_env_file(type(services.settings)),
        ]
    raise click.exceptions.Exit(report.report(findings, as_json=as_json))
