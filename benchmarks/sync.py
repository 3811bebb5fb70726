"""The cost of a grade sync: old polling, single requests, batches, and with nothing changed.

`python -m benchmarks.sync` starts eAssessment's server, fills both databases, runs all four one
after another, and prints a table and whether the claims hold. `--svg FILE` draws a chart,
`--readme FILE` replaces the table of a page.
"""

import gc
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import click
from pydantic import SecretStr

from benchmarks import chart, counting_server, polling
from benchmarks.cost import Cost, markdown, median
from benchmarks.sync_data import SOURCE, SyncData, is_invalid
from contract.grades import MAX_BATCH
from demo.processes import Machines, machines
from foundation import logging
from foundation.crypto import Vault
from foundation.db.session import Database
from notifier.models import SOURCE as SOURCE_KEY
from receiver.config import Settings
from receiver.models import Source
from receiver.runs.store import CourseOutcome
from receiver.sources.eassessment import EAssessmentClient
from receiver.sources.http_client import HttpClient
from receiver.sync.run import SyncOptions, SyncRun
from tests.faults.torture import databases

OLD = "old polling"
SINGLE = "today, without batches"
FIRST = "today, in batches"
AGAIN = "today, nothing changed"
RUNS = (OLD, SINGLE, FIRST, AGAIN)

_ROOT = Path(__file__).parents[1]
_SERVER = "eassessment"


@dataclass(frozen=True)
class OneClient:
    """A factory that returns the same client for every source, so that its counters can be read."""

    http_client: HttpClient

    @property
    def requests(self) -> int:
        """The number of requests sent."""
        return self.http_client.requests

    def cancel(self) -> None:
        """Cancel the requests in progress."""
        self.http_client.cancel()

    def open(self, _: Source) -> EAssessmentClient:
        """Return a client."""
        return EAssessmentClient(self.http_client)


@dataclass(frozen=True)
class Size:
    """The number of courses, of grades in each, and of repetitions."""

    courses: int = 5000
    grades: int = 30
    times: int = 3


@dataclass(frozen=True)
class Bench:
    """The processes and the data of a benchmark."""

    both: Machines
    data: SyncData

    @contextmanager
    def served(self, *options: str) -> Iterator[None]:
        """Run eAssessment's server during the block."""
        folder = str(self.both.folder)
        self.both.start(_SERVER, "python", "-m", "benchmarks.counting_server", folder, *options)
        self.both.wait_until_answers(_SERVER, self.both.eassessment_url)
        yield
        self.both.stop(_SERVER)

    def old(self) -> Cost:
        """Return the cost of the old polling."""
        return self._with_queries_there(lambda: polling.run(self.data.here, self.data.vault))

    def sync(self) -> Cost:
        """Return the cost of today's sync with default settings."""
        return self._with_queries_there(self._sync)

    def first(self) -> Cost:
        """Return the cost of a sync in an ELMS without grades."""
        self.data.forget()
        return self.sync()

    def _with_queries_there(self, run: Callable[[], Cost]) -> Cost:
        before = counting_server.statements(self.both.folder)
        cost = run()
        return replace(cost, there=counting_server.statements(self.both.folder) - before)

    def _sync(self) -> Cost:
        began = time.perf_counter()
        defaults = {name: field.default for name, field in Settings.model_fields.items()}
        http_client = HttpClient(
            connect_timeout=defaults["connect_timeout"],
            read_timeout=defaults["read_timeout"],
            total=defaults["request_deadline"],
            connections=defaults["sync_concurrency"],
        )
        options = SyncOptions("benchmark", timedelta(seconds=defaults["sync_lease"]))
        clients = OneClient(http_client)
        with closing(http_client):
            report = SyncRun(self.data.here, self.data.vault, clients, options).execute()
        refused = report.count(CourseOutcome.FAILED)
        return Cost(
            asked=len(report.courses) - report.count(CourseOutcome.SKIPPED),
            requests=report.requests,
            refused=refused,
            here=report.statements,
            there=0,
            moved=http_client.bytes_sent + http_client.bytes_received,
            seconds=time.perf_counter() - began,
        )


def measure(folder: Path, urls: tuple[str, str], size: Size) -> dict[str, Cost]:
    """Return the cost of each run by name; `urls` are empty databases of both services.

    The runs with batches are repeated, and the one with the median time is returned.
    """
    with ExitStack() as stack:
        both = stack.enter_context(machines(folder))
        bench = Bench(both, _make_data(both, urls, stack))
        bench.data.set_up(size.courses, size.grades)
        gc.freeze()  # as `receiver sync-grades` does
        with bench.served():
            old = bench.old()
            pairs = [(bench.first(), bench.sync()) for _ in range(size.times)]
        with bench.served("--without-batch"):
            single = bench.first()
    first, again = (median(costs) for costs in zip(*pairs, strict=True))
    return {OLD: old, SINGLE: single, FIRST: first, AGAIN: again}


def _make_data(both: Machines, urls: tuple[str, str], stack: ExitStack) -> SyncData:
    both.environment |= {
        "PYTHONPATH": str(_ROOT),
        "NOTIFIER_DATABASE_URL": urls[0],
        "NOTIFIER_LOG_LEVEL": "INFO",
    }
    there, here = Database(urls[0], info={SOURCE_KEY: SOURCE}), Database(urls[1])
    stack.callback(there.dispose)
    stack.callback(here.dispose)
    vault = Vault(SecretStr(both.environment["RECEIVER_ENCRYPTION_KEYS"]))
    return SyncData(there, here, vault, both.eassessment_url)


def claims(costs: dict[str, Cost], courses: int) -> dict[str, bool]:
    """Return the claims about the costs, and whether each holds."""
    old, first, again = costs[OLD], costs[FIRST], costs[AGAIN]
    invalid = sum(map(is_invalid, range(courses)))
    valid = courses - invalid
    few = (old.requests, first.requests) == (courses, -(-valid // MAX_BATCH))
    spared = (first.asked, first.refused, old.refused) == (valid, 0, invalid)
    fewer_bytes, faster = first.moved / again.moved, old.seconds / first.seconds
    return {
        f"requests fall from {old.requests:,} to {first.requests}: "
        f"a hundred valid courses in each, of {valid:,} courses that are valid": few,
        f"nothing is asked about the {invalid:,} that are not, "
        f"of which the old polling was refused {old.refused:,}": spared,
        f"with nothing changed {fewer_bytes:.1f} times fewer bytes move: "
        "at least 20 times": fewer_bytes > 20,
        f"a first run in batches is {faster:.1f} times as fast as the old polling: "
        "at least 10 times": faster >= 10,
    }


def with_table(page: str, lines: Sequence[str]) -> str:
    """Return a page with the table between its two marks replaced."""
    before, opened, rest = page.partition("<!-- costs -->\n")
    _, closed, after = rest.partition("<!-- /costs -->")
    if not closed:
        raise click.ClickException("the page has no `<!-- costs -->` with an end")
    return "".join((before, opened, *(f"{line}\n" for line in lines), closed, after))


@click.command(help=__doc__)
@click.option("--courses", type=click.IntRange(10), default=Size.courses, show_default=True)
@click.option("--grades", type=click.IntRange(1), default=Size.grades, show_default=True)
@click.option("--times", type=click.IntRange(1), default=Size.times, show_default=True)
@click.option("--database-url", help="A PostgreSQL server to create databases on; else SQLite.")
@click.option("--svg", type=click.Path(path_type=Path), help="The file for the chart.")
@click.option(
    "--readme",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The file whose table between `<!-- costs -->` and `<!-- /costs -->` is replaced.",
)
def main(
    courses: int,
    grades: int,
    times: int,
    database_url: str | None,
    svg: Path | None,
    readme: Path | None,
) -> None:
    """Measure, print, and exit 1 if a claim does not hold."""
    logging.configure("ERROR", "auto")
    with tempfile.TemporaryDirectory() as folder, databases(Path(folder), database_url) as urls:
        costs = measure(Path(folder), urls, Size(courses, grades, times))
    for line in markdown(costs):
        click.echo(line)
    click.echo()
    kept = claims(costs, courses)
    for claim, holds in kept.items():
        click.echo(f"{'✓' if holds else '✗'} {claim}")
    if svg:
        svg.write_text(chart.draw(costs, f"{courses:,} courses of {grades} grades"), "utf-8")
    if readme:
        readme.write_text(with_table(readme.read_text("utf-8"), markdown(costs)), "utf-8")
    raise click.exceptions.Exit(0 if all(kept.values()) else 1)


if __name__ == "__main__":
    main()
