"""Commands that run and maintain eAssessment."""

import secrets
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

import click
from sqlalchemy.orm import Session

from foundation import logging
from foundation.cli import context, output, pruning, signals
from foundation.cli import doctor as report
from foundation.cli.batches import in_batches
from foundation.cli.init import database_url_option, initialize, new_encryption_key
from foundation.cli.output import json_option
from foundation.cli.params import prune_options, whole_number
from foundation.db import audit
from foundation.db import session as db
from foundation.db.pagination import Cursor
from foundation.db.session import Database
from foundation.responses import Reencrypted
from foundation.text import count
from notifier.config import Settings
from notifier.services import Services

if TYPE_CHECKING:
    from notifier.webhooks.pruning import Pruned

_log = logging.get_logger(__name__)
# A little over the largest body that a route accepts, so that the route itself refuses more.
_MAX_BODY_BYTES = 17 * 1024 * 1024
# What `prune` deletes.
_PRUNED = {
    "deliveries": ("delivery", "deliveries"),
    "attempts": ("attempt", "attempts"),
    "events": ("event", "events"),
    "moodle_event_ids": ("Moodle event id", "Moodle event ids"),
    "secrets": ("expired secret", "expired secrets"),
    **pruning.NOUNS,
}
# Rows that `prune` deletes in one transaction, and courses whose grades it deletes.
_PRUNED_AT_ONCE = 500
_COURSES_AT_ONCE = 50


@click.command()
@database_url_option
@click.option("--source", help="Name of this site in events [default: eassessment].")
@click.option(
    "--allow-loopback",
    is_flag=True,
    help="Allow sending events to this machine, over plain http: only to try both services on it.",
)
@json_option
def init(database_url: str | None, source: str | None, allow_loopback: bool, as_json: bool) -> None:
    """Write the required settings to .env, with new keys, and make the database schema.

    The file is created so that only you can read it. What is set already, in .env or the
    environment, is kept: the command can be run again, and both services can share a folder.
    """
    initialize(
        Settings,
        keys={"encryption_keys": new_encryption_key(), "admin_key": secrets.token_hex(32)},
        options={
            "database_url": database_url,
            "source": source,
            "allow_loopback": "true" if allow_loopback else None,
        },
        next_steps=[
            ("serve", "serve the pages and the APIs"),
            ("work", "send webhooks"),
            ("endpoints add URL", "register the webhook URL of ELMS"),
            ("courses add ID --title T", "add a course"),
            ("users add NAME", "add a user of the pages"),
        ],
        as_json=as_json,
    )


@click.command("rotate-key")
@json_option
def rotate_key(as_json: bool) -> None:
    """Re-encrypt all secrets with the first encryption key.

    Older keys can then be removed from NOTIFIER_ENCRYPTION_KEYS.
    """
    from notifier.courses import token_claims
    from notifier.webhooks import endpoints

    services: Services = context.checked_services()
    with services.writing() as (session, now):
        number = endpoints.reencrypt(session, vault=services.vault)
        tokens = token_claims.reencrypt(session, vault=services.vault)
        detail = f"{count(number, 'secret')} and {count(tokens, 'token')}"
        audit.record(session, context.actor(), "database.rotate-key", "", detail, now=now)
    output.print_result(
        Reencrypted(reencrypted={"secrets": number, "tokens": tokens}),
        f"re-encrypted {detail}; older keys can be removed",
        as_json=as_json,
    )


@click.command()
@prune_options
@json_option
def prune(older_than: timedelta, audit_older_than: timedelta | None, as_json: bool) -> None:
    """Delete what was delivered long ago, in short transactions.

    Deleted are delivered deliveries and those of removed endpoints, with their attempts and
    replays; events without a delivery; the ids by which repeated events of a Moodle are recognised;
    and expired secrets. Pending, held and dead deliveries, and what was replayed since, are kept.
    If NOTIFIER_FORGET_GRADES_AFTER_DAYS is set, the grades of courses that were deleted longer ago
    are deleted too. The command can be interrupted and run again.
    """
    from notifier.courses import grades, moodle_events
    from notifier.webhooks import pruning as webhooks

    services: Services = context.checked_services()
    with services.database.reading() as session:
        now = db.now(session)
    before, deleted_before = now - older_than, services.settings.forgets_grades_before(now)
    steps: dict[str, Callable[[Session], int]] = {}
    if deleted_before is not None:
        steps["grades"] = lambda session: grades.forget_deleted_courses(
            session, deleted_before, limit=_COURSES_AT_ONCE
        )
    if audit_older_than is not None:
        audited_before = now - audit_older_than
        steps["audit_entries"] = lambda session: audit.prune(
            session, audited_before, _PRUNED_AT_ONCE
        )
    with pruning.recorded(_PRUNED, as_json=as_json) as deleted:
        _prune_deliveries(services.database, before, deleted, hidden=as_json)
        with services.database.writing() as session:
            # A course that its Moodle deleted cannot be restored: they say so.
            received_before = min(before, now - services.settings.grace_period)
            deleted["moodle_event_ids"] = moodle_events.delete_receipts(session, received_before)
            deleted["secrets"] = webhooks.prune_secrets(session, before)
        pruning.delete_all(services.database, steps, deleted)


def _prune_deliveries(
    database: Database, before: datetime, deleted: Counter[str], *, hidden: bool
) -> None:
    from notifier.webhooks import pruning as webhooks

    steps: list[Callable[..., Pruned | None]] = [
        *(partial(webhooks.prune_deliveries, status=status) for status in webhooks.STATUSES),
        *(partial(webhooks.prune_events, event_type=one) for one in webhooks.TYPES),
    ]
    with database.reading() as session:
        total = webhooks.count(session, before)
    with output.progress_bar(total, "Deleting deliveries and events", hidden=hidden) as advance:
        for step in steps:
            for pruned in _pruned(database, partial(step, before=before, limit=_PRUNED_AT_ONCE)):
                deleted["deliveries"] += pruned.deliveries
                deleted["attempts"] += pruned.attempts
                deleted["events"] += pruned.events
                advance(pruned.deliveries + pruned.events)


def _pruned(database: Database, step: Callable[..., "Pruned | None"]) -> "Iterator[Pruned]":
    until: Cursor | None = None

    def prune_more(session: Session) -> "Pruned | None":
        return step(session, after=until)

    for pruned in in_batches(database, prune_more):
        until = pruned.until
        yield pruned


@click.command()
def serve() -> None:
    """Serve the grades API, the admin API and the pages until stopped.

    SIGTERM finishes requests in progress.
    """
    from foundation.web import server
    from notifier.app import app_of

    services: Services = context.checked_services()
    server.serve(app_of(services), services.settings, max_body_bytes=_MAX_BODY_BYTES)


@click.command()
@json_option
@click.option("--once", is_flag=True, help="Send what is due, print the result and exit.")
@click.option(
    "--threads",
    type=whole_number(1, 100),
    help="Number of concurrent attempts per process [default: NOTIFIER_WORKER_THREADS].",
)
@click.option(
    "--processes",
    type=whole_number(1, 64),
    default=1,
    show_default=True,
    help="Number of worker processes. They share the concurrency and the rate of each endpoint.",
)
def work(once: bool, threads: int | None, processes: int, as_json: bool) -> None:
    """Send webhooks until stopped, and heartbeats (NOTIFIER_HEARTBEAT_INTERVAL).

    SIGTERM finishes attempts in progress; a second SIGTERM stops at once.
    """
    from notifier.worker.heartbeat import Heartbeats
    from notifier.worker.processes import WorkerProcesses
    from notifier.worker.worker import Worker, WorkerOptions

    if as_json and not once:
        raise click.UsageError("--json needs --once")
    services: Services = context.checked_services()
    services.warn_of_unknown_variables()
    settings = services.settings
    threads = threads or settings.worker_threads
    options = WorkerOptions(
        threads=threads,
        per_endpoint=max(1, settings.endpoint_concurrency // processes),
        lease=timedelta(seconds=settings.lease),
        poll_seconds=settings.poll_interval,
        per_endpoint_rate=settings.endpoint_rate / processes,
        disable_after=timedelta(days=settings.disable_after_days),
    )

    interval = timedelta(seconds=settings.heartbeat_interval)

    def make() -> Worker:
        return Worker(
            services.database,
            services.vault,
            services.transport(threads),
            options,
            heartbeats=Heartbeats(services, interval) if interval else None,
        )

    services.database.dispose()  # the processes share no connection
    workers = WorkerProcesses(make, processes) if processes > 1 else make()

    def stop(signal: str) -> None:
        workers.stop()
        _log.info("worker stopping", signal=signal)

    signals.on_stop(stop)
    _log.info("worker started", processes=processes, threads=threads, once=once)
    totals = workers.run(once=once)
    _log.info("worker stopped", **vars(totals))
    if once:
        from notifier.api.schemas import WorkResponse

        output.print_result(
            WorkResponse.of(totals),
            f"delivered {totals.delivered}, to be retried {totals.to_retry}, "
            f"dead {totals.dead}, held {totals.held}",
            as_json=as_json,
        )
    if isinstance(workers, WorkerProcesses) and workers.has_failed:
        raise click.exceptions.Exit(1)


@click.command()
@json_option
def doctor(as_json: bool) -> None:
    """Check settings, database, secrets, endpoints and backlog.

    Exit code 1 if a check fails.
    """
    from notifier.monitoring import doctor as checks

    services: Services = context.services()
    findings = [
        *checks.examine(services.database, services.vault),
        report.examine_settings(type(services.settings)),
        report.examine_env_file(type(services.settings)),
    ]
    raise click.exceptions.Exit(report.report(findings, as_json=as_json))
