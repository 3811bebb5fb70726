"""Commands that run eAssessment: schema, web server, worker, doctor."""

import signal
from datetime import timedelta
from types import FrameType

import click
from flask.cli import ScriptInfo, pass_script_info, with_appcontext

from foundation import logging
from foundation.cli import doctor as checkup
from foundation.cli.db_commands import schema_commands
from foundation.cli.output import json_option
from foundation.cli.params import AGE
from foundation.pages.user_commands import users_commands
from foundation.text import count
from notifier import services
from notifier.cli import context
from notifier.courses import moodle_events
from notifier.models import SCHEMA
from notifier.monitoring import doctor as checks
from notifier.services import Services
from notifier.webhooks import endpoints
from notifier.worker.worker import Worker, WorkerOptions

_log = logging.get_logger(__name__)
# A little over the largest body that a route accepts, so that the route itself refuses more.
_MAX_BODY_BYTES = 17 * 1024 * 1024

db_group = schema_commands(SCHEMA, lambda: services.current().database)
users_group = users_commands("notifier", context.writing, context.reading)


@db_group.command()
def rotate_key() -> None:
    """Seal every stored secret anew with the first encryption key, so that an old key can go."""
    here = context.ready()
    with here.database.writing() as session:
        encrypted = count(
            endpoints.reencrypt(session, vault=here.vault), "secret is", "secrets are"
        )
    click.echo(f"{encrypted} sealed with the first key; older keys can be taken out")


@db_group.command()
@click.option("--older-than", type=AGE, required=True, help="How old that is (400d); 30d at least.")
def prune(older_than: timedelta) -> None:
    """Forget what Moodles told so long ago, by which a telling that comes again is known.

    Courses, events, deliveries and their attempts stay.
    """
    with context.writing() as (session, now):
        count = moodle_events.delete_receipts(session, now - older_than)
    click.echo(f"forgotten: {count} tellings of Moodles")


@click.command()
@with_appcontext
@pass_script_info
def serve(script: ScriptInfo) -> None:
    """Serve the grades API, the admin API and the pages until stopped.

    SIGTERM finishes requests in progress.
    """
    from foundation.web import server  # only `serve` needs the web server

    here = context.ready()
    server.serve(script.load_app(), here.settings, max_body_bytes=_MAX_BODY_BYTES)


@click.command()
@click.option("--once", is_flag=True, help="Deliver what is due, print what came of it, and exit.")
@click.option(
    "--threads",
    type=click.IntRange(1, 100),
    help="Attempts at the same time; NOTIFIER_WORKER_THREADS unless given.",
)
@with_appcontext
def work(once: bool, threads: int | None) -> None:
    """Deliver events until stopped; SIGTERM finishes what is under way, a second one does not."""
    here = context.ready()
    worker = _worker(here, threads or here.settings.worker_threads)
    _stop_on_signals(worker)
    _log.info("worker started", threads=worker.options.threads, once=once)
    try:
        counter = worker.run(once=once)
    finally:
        worker.transport.close()
    _log.info("worker stopped", **vars(counter))
    if once:
        click.echo(
            f"delivered {counter.delivered}, to be retried {counter.to_retry}, "
            f"dead {counter.dead}, held {counter.held}"
        )


@click.command()
@json_option
@with_appcontext
def doctor(as_json: bool) -> None:
    """Look at settings, database, secrets, endpoints, backlog; exit 1 if something is wrong."""
    here = services.current()
    findings = checks.examine(here.database, here.vault)
    raise click.exceptions.Exit(checkup.report(findings, as_json=as_json))


def _worker(here: Services, threads: int) -> Worker:
    options = WorkerOptions(
        threads=threads,
        per_endpoint=min(threads, here.settings.endpoint_concurrency),
        lease=timedelta(seconds=here.settings.lease),
        poll_seconds=here.settings.poll_interval,
        per_endpoint_rate=here.settings.endpoint_rate,
        disable_after=timedelta(days=here.settings.disable_after_days),
    )
    return Worker(here.database, here.vault, here.transport(threads), options)


def _stop_on_signals(worker: Worker) -> None:
    def stop(number: int, _: FrameType | None) -> None:
        for each in (signal.SIGTERM, signal.SIGINT):
            signal.signal(each, signal.SIG_DFL)
        _log.info("worker stops, finishing what is under way", signal=signal.Signals(number).name)
        worker.stop()

    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, stop)
