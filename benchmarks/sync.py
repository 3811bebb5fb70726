"""What a grade sync costs: the run of old, single requests, batches, and nothing changed.

`python -m benchmarks.sync` starts eAssessment's server, loads both databases, and runs all four
against it, one after another. It prints the table that stands in the README and tells whether what
is promised of it holds; `--svg FILE` draws it, `--readme FILE` puts it where it stands.
"""

import gc
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import click
from pydantic import SecretStr

from benchmarks import eassessment, old_run, picture
from benchmarks.cost import Cost, markdown, median
from benchmarks.stage import SOURCE, Stage, is_invalid
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
from receiver.sync import run as grade_sync
from receiver.sync.run import SyncOptions
from tests.faults.torture import databases

OLD = "run of old"
SINGLE = "today, without batches"
FIRST = "today, in batches"
AGAIN = "today, nothing changed"
RUNS = (OLD, SINGLE, FIRST, AGAIN)

_ROOT = Path(__file__).parents[1]
_SERVER = "eassessment"


@dataclass(frozen=True)
class OneClient:
    """Opens the same client for every source, so that its counters can be read."""

    client: EAssessmentClient

    def open(self, _: Source) -> EAssessmentClient:
        """Return the client."""
        return self.client


@dataclass(frozen=True)
class Size:
    """How many courses of how many grades each, and how often what is noisy is measured."""

    courses: int = 5000
    grades: int = 30
    times: int = 3


@dataclass(frozen=True)
class Bench:
    """Both sides, and the folder where eAssessment's processes count their statements."""

    both: Machines
    stage: Stage

    @contextmanager
    def served(self, *options: str) -> Iterator[None]:
        """Run eAssessment's server meanwhile."""
        folder = str(self.both.folder)
        self.both.start(_SERVER, "python", "-m", "benchmarks.eassessment", folder, *options)
        self.both.wait_until_answers(_SERVER, self.both.eassessment_url)
        yield
        self.both.stop(_SERVER)

    def old(self) -> Cost:
        """Return what the run of old costs."""
        return self._with_there(lambda: old_run.run(self.stage.here, self.stage.vault))

    def sync(self) -> Cost:
        """Return what today's sync costs, with the settings that it has unless told otherwise."""
        return self._with_there(self._sync)

    def first(self) -> Cost:
        """Return what a sync costs at an ELMS that has no grades yet."""
        self.stage.forget()
        return self.sync()

    def _with_there(self, run: Callable[[], Cost]) -> Cost:
        before = eassessment.statements(self.both.folder)
        cost = run()
        return replace(cost, there=eassessment.statements(self.both.folder) - before)

    def _sync(self) -> Cost:
        began = time.perf_counter()
        unless_set = {name: field.default for name, field in Settings.model_fields.items()}
        http_client = HttpClient(
            connect_timeout=unless_set["connect_timeout"],
            read_timeout=unless_set["read_timeout"],
            total=unless_set["request_deadline"],
            connections=unless_set["sync_concurrency"],
        )
        options = SyncOptions("benchmark", timedelta(seconds=unless_set["sync_lease"]))
        with EAssessmentClient(http_client) as client:
            report = grade_sync.run(self.stage.here, self.stage.vault, OneClient(client), options)
        refused = report.count(CourseOutcome.FAILED)
        return Cost(
            asked=len(report.courses) - report.count(CourseOutcome.SKIPPED),
            requests=report.requests,
            refused=refused,
            here=report.statements,
            there=0,
            moved=client.bytes_transferred,
            seconds=time.perf_counter() - began,
        )


def measure(folder: Path, urls: tuple[str, str], size: Size) -> dict[str, Cost]:
    """Return what each run costs, by its name; `urls` are the databases of both, empty.

    The runs against batches are measured several times, and the one of median time is told.
    """
    with ExitStack() as stack:
        both = stack.enter_context(machines(folder))
        bench = Bench(both, _stage(both, urls, stack))
        bench.stage.set_up(size.courses, size.grades)
        gc.freeze()  # as `receiver sync-grades` does
        with bench.served():
            old = bench.old()
            pairs = [(bench.first(), bench.sync()) for _ in range(size.times)]
        with bench.served("--without-batch"):
            single = bench.first()
    first, again = (median(costs) for costs in zip(*pairs, strict=True))
    return {OLD: old, SINGLE: single, FIRST: first, AGAIN: again}


def _stage(both: Machines, urls: tuple[str, str], stack: ExitStack) -> Stage:
    both.environment |= {
        "PYTHONPATH": str(_ROOT),
        "NOTIFIER_DATABASE_URL": urls[0],
        "NOTIFIER_LOG_LEVEL": "INFO",
    }
    there, here = Database(urls[0], info={SOURCE_KEY: SOURCE}), Database(urls[1])
    stack.callback(there.dispose)
    stack.callback(here.dispose)
    vault = Vault(SecretStr(both.environment["RECEIVER_ENCRYPTION_KEYS"]))
    return Stage(there, here, vault, both.eassessment_url)


def claims(costs: dict[str, Cost], courses: int) -> dict[str, bool]:
    """Return what is promised of the costs, and whether it holds."""
    old, first, again = costs[OLD], costs[FIRST], costs[AGAIN]
    invalid = sum(map(is_invalid, range(courses)))
    valid = courses - invalid
    few = (old.requests, first.requests) == (courses, -(-valid // MAX_BATCH))
    spared = (first.asked, first.refused, old.refused) == (valid, 0, invalid)
    fewer_bytes, quicker = first.moved / again.moved, old.seconds / first.seconds
    return {
        f"requests fall from {old.requests:,} to {first.requests}: "
        f"a hundred in each for the {valid:,} courses that are valid": few,
        f"nothing is asked about the {invalid:,} that are not, "
        f"of which the run of old was refused {old.refused:,}": spared,
        f"with nothing changed {fewer_bytes:.1f} times fewer bytes move: "
        "20 times at the least": fewer_bytes > 20,
        f"a first run in batches is {quicker:.1f} times as quick as the run of old: "
        "10 times at the least": quicker >= 10,
    }


def with_table(page: str, lines: Sequence[str]) -> str:
    """Return a page with the lines between its two marks, in place of those that were there."""
    before, opened, rest = page.partition("<!-- costs -->\n")
    _, closed, after = rest.partition("<!-- /costs -->")
    if not closed:
        raise click.ClickException("there is no `<!-- costs -->` with its end in the README")
    return "".join((before, opened, *(f"{line}\n" for line in lines), closed, after))


@click.command(help=__doc__)
@click.option("--courses", type=click.IntRange(10), default=Size.courses, show_default=True)
@click.option("--grades", type=click.IntRange(1), default=Size.grades, show_default=True)
@click.option("--times", type=click.IntRange(1), default=Size.times, show_default=True)
@click.option("--database-url", help="A PostgreSQL server to make databases on; SQLite without.")
@click.option("--svg", type=click.Path(path_type=Path), help="The file to draw the costs into.")
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
    """Measure, print, and exit 1 if a promise does not hold."""
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
        svg.write_text(picture.drawn(costs, f"{courses:,} courses of {grades} grades"), "utf-8")
    if readme:
        readme.write_text(with_table(readme.read_text("utf-8"), markdown(costs)), "utf-8")
    raise click.exceptions.Exit(0 if all(kept.values()) else 1)


if __name__ == "__main__":
    main()
