"""Kill, restart, look: cycles over real processes, and what an outside observer makes of them.

`python -m tests.faults.torture --cycles 5000 --seed 1` runs on SQLite, and with
`--database-url postgresql://…` on databases of its own on that server.
"""

import random
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import click

from foundation.db.migrations import Schema
from foundation.db.session import Database
from notifier.models import SCHEMA as NOTIFIER_SCHEMA
from receiver.models import SCHEMA as RECEIVER_SCHEMA
from tests.conftest import Postgres
from tests.faults import processes
from tests.faults.cycles import Torture
from tests.faults.site import site

_TOLD_EVERY = 250


@contextmanager
def databases(folder: Path, server_url: str | None) -> Iterator[tuple[str, str]]:
    """Make and migrate a database for each service, and yield their URLs; dropped at the end."""
    if server_url is None:
        yield _sqlite(folder, NOTIFIER_SCHEMA), _sqlite(folder, RECEIVER_SCHEMA)
        return
    server = Postgres(server_url)
    try:
        yield server.database_for(NOTIFIER_SCHEMA), server.database_for(RECEIVER_SCHEMA)
    finally:
        server.drop_all()


def _sqlite(folder: Path, schema: Schema) -> str:
    url = f"sqlite:///{folder / schema.service}.db"
    database = Database(url)
    schema.upgrade(database)
    database.dispose()
    return url


def _interrupted(*_: object) -> None:
    raise KeyboardInterrupt


@click.command()
@click.option("--cycles", type=click.IntRange(1), default=5000, show_default=True)
@click.option("--seed", type=int, help="What befalls whom follows from it; random unless given.")
@click.option("--database-url", help="A PostgreSQL server to make databases on; SQLite without.")
def main(cycles: int, seed: int | None, database_url: str | None) -> None:
    """Run cycles of kill and restart, and tell whether every invariant holds (exit 0)."""
    seed = random.randrange(2**32) if seed is None else seed
    kind = "sqlite" if database_url is None else "postgresql"
    signal.signal(signal.SIGTERM, _interrupted)
    click.echo(f"torture: {cycles} cycles on {kind}, seed {seed}")
    folder = Path(tempfile.mkdtemp(prefix="torture-"))
    try:
        _run(folder, cycles, seed, database_url)
    except AssertionError as error:
        click.echo(f"{error}\nwhat the processes logged is in {folder}", err=True)
        click.echo(f"the same faults again: --cycles {cycles} --seed {seed}", err=True)
        raise click.exceptions.Exit(1) from None
    except KeyboardInterrupt:
        shutil.rmtree(folder)
        raise
    shutil.rmtree(folder)


def _progress(cycles: int) -> None:
    if cycles % _TOLD_EVERY == 0:
        click.echo(f"  after {cycles} cycles all is well", err=True)


def _run(folder: Path, cycles: int, seed: int, database_url: str | None) -> None:
    began = time.monotonic()
    with ExitStack() as stack:
        urls = stack.enter_context(databases(folder, database_url))
        zygote = stack.enter_context(processes.zygote())
        torture = Torture(stack.enter_context(site(zygote, folder, *urls)))
        try:
            torture.run(seed, cycles, checked=_progress)
        finally:
            for line in torture.told():
                click.echo(line)
            click.echo(f"  {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
