"""Kill, restart, compare: cycles over real processes, judged by an observer outside.

`python -m tests.faults.torture --cycles 500 --seed 1` runs on SQLite, and with
`--database-url postgresql://…` on databases of its own on that server.
"""

import random
import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from functools import partial
from pathlib import Path

import click
from sqlalchemy import func, select

from foundation.cli.output import EXIT_DATABASE
from foundation.db import session as db
from foundation.db.session import Database
from notifier.courses import service as courses
from notifier.models import SCHEMA as NOTIFIER_SCHEMA
from notifier.models import Attempt, Delivery
from notifier.webhooks import outbox
from receiver.models import SCHEMA as RECEIVER_SCHEMA
from tests.conftest import Postgres
from tests.faults import invariants
from tests.faults.failpoints import Action, Fault, Point
from tests.faults.invariants import Ledger, Snapshot
from tests.faults.processes import LateError, Process, wait_until
from tests.faults.site import PATHS, CommandError, Site, site

CHECK_EVERY = 50
_HIT_WITHIN = 15.0
_DRAINED_WITHIN = 120.0
_CHANGES: dict[str, Callable[..., object]] = {
    "delete": courses.delete_course,
    "restore": partial(courses.restore_course, grace=timedelta(days=1)),
    "regenerate-token": courses.regenerate_token,
}


class Part(StrEnum):
    """Whose process is hit."""

    CHANGE = "change"
    WORKER = "worker"
    ELMS = "elms"


@dataclass(frozen=True)
class Place:
    """A point at which a process is hit, up to its `last` time there.

    None stands for the number of courses that a command changes.
    """

    part: Part
    point: Point
    last: int | None
    action: Action = Action.KILL


# None stops in a transaction: on SQLite it would lock out every writer for as long.
PLACES = (
    Place(Part.CHANGE, Point.BEFORE_COMMIT, None),
    Place(Part.CHANGE, Point.AFTER_COMMIT, None),
    Place(Part.CHANGE, Point.ANYWHERE, 50_000),
    Place(Part.WORKER, Point.BEFORE_POST, 4),
    Place(Part.WORKER, Point.AFTER_POST, 4),
    Place(Part.WORKER, Point.BEFORE_COMMIT, 2),
    Place(Part.WORKER, Point.AFTER_COMMIT, 2),
    Place(Part.WORKER, Point.ANYWHERE, 90_000),
    Place(Part.WORKER, Point.BEFORE_POST, 3, Action.STOP),
    Place(Part.WORKER, Point.AFTER_POST, 3, Action.STOP),
    Place(Part.ELMS, Point.INBOX_WRITTEN, 2),
    Place(Part.ELMS, Point.BEFORE_COMMIT, 2),
    Place(Part.ELMS, Point.AFTER_COMMIT, 2),
    Place(Part.ELMS, Point.AFTER_COMMIT, 2, Action.STOP),
)


class BrokenError(AssertionError):
    """An invariant does not hold; says which."""


@dataclass
class Torture:
    """One run, with what it expects and the workers that are stopped at the moment."""

    both: Site
    ledger: Ledger = field(default_factory=Ledger)
    hit: Counter[Place] = field(default_factory=Counter)
    missed: Counter[Place] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)
    snapshot: Snapshot | None = None

    def __post_init__(self) -> None:
        outbox.subscribe()
        self._stopped: list[tuple[int, Process]] = []
        self._endpoints = {path: self.both.register(path) for path in PATHS}
        self._elms = self.both.serve_elms()

    def run(self, seed: int, cycles: int) -> Iterator[int]:
        """Run cycles that follow from a seed; yield their number after each check.

        Raises BrokenError if an invariant does not hold.
        """
        chance = random.Random(seed)
        for number in range(1, cycles + 1):
            if number % CHECK_EVERY == 1:
                self.both.add_courses(*self.ledger.restock(4 * CHECK_EVERY))
            self._resume(number)
            self._operate(chance)
            self._hit(chance, number)
            if number % CHECK_EVERY == 0 or number == cycles:
                self._check()
                yield number

    def _hit(self, chance: random.Random, number: int) -> None:
        place = chance.choice(PLACES)
        picks = [chance.randrange(10**6) for _ in range(chance.randint(1, 3))]
        verb, chosen = "restore", self.ledger.choose(picks, deleted=True)
        if not chosen or chance.random() < 0.75:
            verb = "delete" if len(picks) > 1 or chance.random() < 0.2 else "regenerate-token"
            chosen = self.ledger.choose(picks)
        nth = chance.randint(1, place.last or len(chosen))
        fault = Fault(place.point, place.action, nth)
        if place.part is Part.CHANGE:
            is_hit = self._hit_change(verb, chosen, fault)
        else:
            self._change(verb, chosen)
            if place.part is Part.WORKER:
                is_hit = self._hit_worker(fault, until=number + chance.randint(1, 15))
            else:
                is_hit = self._hit_elms(fault)
        (self.hit if is_hit else self.missed)[place] += 1

    def _hit_change(self, verb: str, chosen: list[str], fault: Fault) -> bool:
        """Kill the command that changes the courses, each in a transaction of its own."""
        sure = () if verb == "regenerate-token" else ("--yes",)
        command = self.both.start("notifier", "courses", verb, *chosen, *sure, fault=fault)
        code = command.wait_ended()
        if code == 0:
            self.ledger.commit(verb, chosen)
        elif code == -signal.SIGKILL:
            committed = fault.nth if fault.point is Point.AFTER_COMMIT else 0
            self.ledger.commit(verb, chosen[:committed])
            self.ledger.doubt(verb, chosen[committed:])
        elif code == EXIT_DATABASE:
            self._locked_out(verb, chosen)
        else:
            raise BrokenError(f"{command} ended with {code}: {command.logged()}")
        self.both.forget(command)
        return code == -signal.SIGKILL

    def _hit_worker(self, fault: Fault, *, until: int) -> bool:
        worker = self.both.start("notifier", "work", fault=fault)
        try:
            wait_until(lambda: worker.stopped or worker.code is not None, "", within=_HIT_WITHIN)
        except LateError:
            worker.disarm(fault.point)  # it would be hit while the worker stops
            self._end(worker)
            return False
        if worker.stopped:
            self._stopped.append((until, worker))
        elif worker.code != -signal.SIGKILL:
            raise BrokenError(f"{worker} ended with {worker.code}: {worker.logged()}")
        else:
            self.both.forget(worker)
        return True

    def _hit_elms(self, fault: Fault) -> bool:
        self._elms.arm(fault)
        worker = self.both.start("notifier", "work")
        try:
            wait_until(lambda: not self._elms.is_armed(fault.point), "", within=_HIT_WITHIN)
            is_hit = True
        except LateError:
            is_hit = not self._elms.disarm(fault.point)
        if is_hit and fault.action is Action.STOP:
            self._wait_quiet()
            self._elms.send(signal.SIGCONT)
        elif is_hit:
            self._elms.wait_ended()
            self._elms = self.both.serve_elms()
        self._end(worker)
        return is_hit

    def _change(self, verb: str, chosen: Sequence[str]) -> None:
        """Change courses in this process, so that there is something to send."""
        for course_id in chosen:
            try:
                with self.both.notifier.writing() as session:
                    _CHANGES[verb](session, course_id, now=db.now(session))
            except db.UNAVAILABLE:
                self._locked_out(verb, [course_id])
            else:
                self.ledger.commit(verb, [course_id])

    def _locked_out(self, verb: str, course_ids: Sequence[str]) -> None:
        """A stopped worker may hold the database: let it go on."""
        self.ledger.doubt(verb, course_ids)
        self.counts["refused while locked"] += 1
        self._resume(None)

    def _operate(self, chance: random.Random) -> None:
        """Replay deliveries and rotate a secret, as operators do meanwhile."""
        if chance.random() < 0.1:
            with self.both.notifier.reading() as session:
                known = session.scalars(select(Delivery.id).order_by(Delivery.id)).all()
            chosen = {str(chance.choice(known)) for _ in range(3)} if known else set()
            if chosen and self._replay(*sorted(chosen)):
                self.counts["replayed"] += len(chosen)
        if chance.random() < 0.02:
            self._resume(None)
            for path, endpoint_id in self._endpoints.items():
                self.both.rotate_secret(path, endpoint_id, "--overlap", "20s")
            self.counts["secrets rotated"] += 1

    def _replay(self, *which: str) -> bool:
        """Replay deliveries; return False if the database was locked."""
        try:
            self.both.run("notifier", "deliveries", "replay", *which, "--yes")
        except CommandError as error:
            if error.code != EXIT_DATABASE:
                raise
            self._resume(None)
            return False
        return True

    def _resume(self, number: int | None) -> None:
        """Resume the stopped workers that are due, or all; each must end well."""
        due = [one for until, one in self._stopped if number is None or until <= number]
        self._stopped = [pair for pair in self._stopped if pair[1] not in due]
        for worker in due:
            self._end(worker)

    def _end(self, worker: Process) -> None:
        worker.send(signal.SIGCONT)
        worker.wait_logged("worker started")  # before, SIGTERM ends it with another code
        code = self.both.stop(worker)
        if code != 0:
            raise BrokenError(f"{worker} did not stop but ended with {code}: {worker.logged()}")
        self.both.forget(worker)

    def _wait_quiet(self) -> None:
        posts = list(self.both.observer.posts)
        wait_until(lambda: all(post.over for post in posts), "every request is over")

    def _check(self) -> None:
        """Deliver all there is, and check the invariants."""
        self._resume(None)
        self._drain()
        self._wait_quiet()
        self.snapshot = invariants.read_snapshot(self.both)
        self.ledger.resolve(self.snapshot.courses)
        if broken := invariants.find_broken(self.snapshot, self.ledger):
            raise BrokenError("\n".join(broken))

    def _drain(self) -> None:
        """Let a worker deliver everything; replay the dead, as an operator would."""
        worker = self.both.start("notifier", "work")
        self._wait_settled()
        while dead := self._statuses()["dead"]:
            self._replay("--status", "dead", "--all")
            self.counts["dead and replayed"] += dead
            self._wait_settled()
        self._end(worker)

    def _wait_settled(self) -> None:
        def is_settled() -> bool:
            return set(self._statuses()) <= {"delivered", "dead"}

        wait_until(is_settled, "all is settled", within=_DRAINED_WITHIN)

    def _statuses(self) -> Counter[str]:
        with self.both.notifier.reading() as session:
            rows = session.execute(
                select(Delivery.stored_status, func.count()).group_by(Delivery.stored_status)
            )
            return Counter({row[0]: row[1] for row in rows})

    def report(self) -> Iterator[str]:
        """Yield the numbers of the run, one line each."""
        for one in PLACES:
            yield (
                f"  {one.part:8}{one.point:16}{one.action:6}"
                f"{self.hit[one]:6} hit {self.missed[one]:4} not reached"
            )
        if self.snapshot is None:
            return
        with self.both.notifier.reading() as session:
            decided = Counter(session.scalars(select(Attempt.decided)))
        outcomes = Counter(post.outcome for post in self.snapshot.posts)
        yield (
            f"  events {len(self.snapshot.events)}, courses restored {self.ledger.restored}, "
            f"changes rolled back {self.ledger.rolled_back}, "
            f"requests {len(self.snapshot.posts)}, duplicates removed {outcomes['duplicate']}, "
            f"late results {decided['too late']}"
        )
        yield "  " + ", ".join(f"{name} {number}" for name, number in self.counts.items())
        lost, applied_twice = self.snapshot.lost, self.snapshot.applied_twice
        yield f"  lost: {len(lost)}, applied twice: {len(applied_twice)}"


@contextmanager
def databases(folder: Path, server_url: str | None) -> Iterator[tuple[str, str]]:
    """Create and migrate a database for each service, and yield their URLs; dropped at the end."""
    schemas = NOTIFIER_SCHEMA, RECEIVER_SCHEMA
    if server_url is None:
        notifier, receiver = (f"sqlite:///{folder / schema.service}.db" for schema in schemas)
        for schema, url in zip(schemas, (notifier, receiver), strict=True):
            database = Database(url)
            schema.upgrade(database)
            database.dispose()
        yield notifier, receiver
        return
    server = Postgres(server_url)
    try:
        notifier, receiver = map(server.database_for, schemas)
        yield notifier, receiver
    finally:
        server.drop_all()


def _run(folder: Path, cycles: int, seed: int, database_url: str | None) -> None:
    began = time.monotonic()
    with databases(folder, database_url) as urls, site(folder, *urls) as both:
        torture = Torture(both)
        try:
            for number in torture.run(seed, cycles):
                if number % 250 == 0:
                    click.echo(f"  nothing wrong after {number} cycles", err=True)
        finally:
            for line in torture.report():
                click.echo(line)
            click.echo(f"  {time.monotonic() - began:.0f} s")


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


@click.command()
@click.option("--cycles", type=click.IntRange(1), default=500, show_default=True)
@click.option("--seed", type=int, help="Decides who is hit where; random by default.")
@click.option("--database-url", help="A PostgreSQL server to create databases on; else SQLite.")
def main(cycles: int, seed: int | None, database_url: str | None) -> None:
    """Kill and restart, and report whether every invariant holds (exit 0)."""
    seed = random.randrange(2**32) if seed is None else seed
    kind = "SQLite" if database_url is None else "PostgreSQL"
    signal.signal(signal.SIGTERM, _interrupt)
    click.echo(f"torture: {cycles} cycles on {kind}, seed {seed}")
    folder = Path(tempfile.mkdtemp(prefix="torture-"))
    try:
        _run(folder, cycles, seed, database_url)
    except AssertionError as error:
        click.echo(f"{error}\nthe processes' logs are in {folder}", err=True)
        click.echo(f"to repeat it: --cycles {cycles} --seed {seed}", err=True)
        raise click.exceptions.Exit(1) from None
    except KeyboardInterrupt:
        shutil.rmtree(folder)
        raise
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
