"""What every command begins with: the services, on a schema that is ours."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime
from typing import Any, TypeVar

import click
from sqlalchemy.orm import Session

from contract.tokens import MoodleToken
from foundation import database as db
from foundation import terminal
from receiver import services
from receiver.eassessment import Client
from receiver.exchange import MAX_ANSWER_BYTES, Exchange
from receiver.grade_sync import Kinds
from receiver.gradebooks import Gradebook
from receiver.history import Teller, TellerKind
from receiver.models import API, MOODLE, SCHEMA, Source
from receiver.moodle.client import MOST_BYTES
from receiver.moodle.gradebook import MoodleGradebook
from receiver.moodle.source import MoodleGradeSource
from receiver.services import Services

_Command = TypeVar("_Command", bound=Callable[..., Any])


def source_option(command: _Command) -> _Command:
    """Give a command `--source`."""
    return click.option("--source", help="Name of the source; not needed if there is only one.")(
        command
    )


def ready() -> Services:
    """Return the services, or raise SchemaError if the database is not at our schema."""
    here = services.current()
    SCHEMA.check(here.database)
    return here


@contextmanager
def writing() -> Iterator[tuple[Session, datetime]]:
    """Open a writing transaction; give it with the database's time."""
    with ready().database.writing() as session:
        yield session, db.now(session)


@contextmanager
def reading() -> Iterator[Session]:
    """Open a reading transaction."""
    with ready().database.reading() as session:
        yield session


@contextmanager
def askers(here: Services) -> Iterator[Kinds]:
    """Open what asks sources, of each kind; closed at the end."""
    with ExitStack() as opened:
        client = opened.enter_context(Client(_exchange(here)))

        def moodle(source: Source) -> MoodleGradeSource:
            exchange = _exchange(here, most_bytes=MOST_BYTES)
            opened.callback(exchange.close)
            sealed = source.sealed_site_token
            site_token = MoodleToken.parse(here.vault.open(sealed)) if sealed else None
            return MoodleGradeSource(exchange, site_token=site_token, now=lambda: datetime.now(UTC))

        yield {API: lambda _: client, MOODLE: moodle}


@contextmanager
def gradebook(here: Services) -> Iterator[Gradebook | None]:
    """Open the Moodle that ELMS is, for one run; None where grades go into ELMS's database."""
    if not here.settings.elms_is_moodle:
        yield None
        return
    token = MoodleToken.parse(here.settings.gradebook_token.get_secret_value())
    with closing(_exchange(here, most_bytes=MOST_BYTES)) as exchange:
        yield MoodleGradebook(exchange, url=here.settings.gradebook_url, token=token)


def _exchange(here: Services, most_bytes: int = MAX_ANSWER_BYTES) -> Exchange:
    """Return what keeps the settings' times and trusts whom they name."""
    return Exchange(
        connect_timeout=here.settings.connect_timeout,
        read_timeout=here.settings.read_timeout,
        total=here.settings.request_deadline,
        bundle=here.settings.ca_bundle,
        connections=here.settings.sync_concurrency,
        most_bytes=most_bytes,
    )


def teller() -> Teller:
    """Return the administrator who gives the command, for the history."""
    return Teller(TellerKind.ADMINISTRATOR, terminal.who())
