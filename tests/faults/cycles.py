"""A run of the torture: hit a process, start it again, and compare the books now and then."""

import signal
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from sqlalchemy import func, select

from foundation.cli.output import EXIT_DATABASE
from foundation.db import session as db
from notifier.courses import service as courses
from notifier.models import Attempt, Delivery
from notifier.webhooks import outbox
from notifier.webhooks.failures import FailureKind
from tests.faults import invariants, schedule
from tests.faults.failpoints import Action, Point
from tests.faults.invariants import Books
from tests.faults.ledger import Ledger
from tests.faults.processes import LateError, Process, wait_until
from tests.faults.schedule import Cycle, Part
from tests.faults.site import PATHS, PLAIN, CommandError, Site

WORKER_LOST = FailureKind.WORKER_LOST

CHECK_EVERY = 50
_HIT_WITHIN = 15.0
_DRAINED_WITHIN = 120.0
_OVERLAP = "20s"


_CHANGES: dict[str, Callable[..., object]] = {
    "delete": courses.delete_course,
    "regenerate-token": courses.regenerate_token,
}


def _silently(_: int) -> None:
    pass


class BrokenError(AssertionError):
    """An invariant does not hold; says which, and of what."""


@dataclass
class Figures:
    """What a run has done and seen."""

    taken: Counter[tuple[Part, Point, Action]] = field(default_factory=Counter)
    missed: Counter[tuple[Part, Point, Action]] = field(default_factory=Counter)
    replayed: int = 0
    rotated: int = 0
    held: int = 0
    refused: int = 0
    revived: int = 0
    lost: int = 0
    applied_twice: int = 0


@dataclass
class Torture:
    """One run: a site, its ledger, and whoever is stopped at the moment."""

    both: Site
    ledger: Ledger = field(default_factory=Ledger)
    figures: Figures = field(default_factory=Figures)
    books: Books | None = None

    def __post_init__(self) -> None:
        outbox.subscribe()
        self._stopped: list[tuple[int, Process]] = []
        self._endpoints = {path: self.both.register(path) for path in PATHS}
        self._door = self.both.open_door()

    def run(self, seed: int, cycles: int, *, checked: Callable[[int], None] = _silently) -> None:
        """Run so many cycles of a seed, and raise BrokenError if an invariant does not hold.

        `checked` is told after how many cycles all was well.
        """
        self._stock()
        for cycle in schedule.cycles(seed, cycles):
            self._cycle(cycle)
            if cycle.number % CHECK_EVERY == 0 or cycle.number == cycles:
                self._check()
                checked(cycle.number)
                self._stock()

    def _stock(self) -> None:
        self.both.add_courses(*self.ledger.stock(living=4 * CHECK_EVERY))

    def _cycle(self, cycle: Cycle) -> None:
        self._go_on(cycle.number)
        self._operate(cycle)
        match cycle.part:
            case Part.CHANGE if cycle.holds:
                self._command("endpoints", "disable", str(self._endpoints[PLAIN]))
                self._hit_change(cycle)
                self._command("endpoints", "enable", str(self._endpoints[PLAIN]))
                self.figures.held += 1
            case Part.CHANGE:
                self._hit_change(cycle)
            case Part.WORKER:
                self._change(cycle)
                self._hit_worker(cycle)
            case Part.DOOR:
                self._change(cycle)
                self._hit_door(cycle)

    def _go_on(self, number: int | None) -> None:
        """Let the stopped workers go on whose time has come, or all; each ends well."""
        due = [one for until, one in self._stopped if number is None or until <= number]
        self._stopped = [pair for pair in self._stopped if pair[1] not in due]
        for worker in due:
            self._end_well(worker)

    def _end_well(self, worker: Process) -> None:
        # Before it has begun, SIGTERM is not yet heard and ends it with another code.
        wait_until(lambda: "worker started" in worker.logged(), f"{worker} has begun")
        code = self.both.stop(worker)
        if code != 0:
            raise BrokenError(f"{worker} was told to end and did with {code}: {worker.logged()}")
        self.both.forget(worker)

    def _operate(self, cycle: Cycle) -> None:
        """Replay what is delivered and rotate a secret, as operators do meanwhile."""
        if cycle.replays:
            with self.both.notifier.reading() as session:
                known = list(session.scalars(select(Delivery.id).order_by(Delivery.id)))
            chosen = {str(known[pick % len(known)]) for pick in cycle.replays if known}
            if chosen:
                self._command("deliveries", "replay", *sorted(chosen))
                self.figures.replayed += len(chosen)
        if cycle.rotates:
            path = PATHS[cycle.number % len(PATHS)]
            self._insist(lambda: self.both.rotate_secret(path, self._endpoints[path], _OVERLAP))
            self.figures.rotated += 1

    def _command(self, *words: str) -> None:
        self._insist(lambda: self.both.run("notifier", *words))

    def _insist(self, command: Callable[[], object]) -> None:
        """Give a command, and again if it was refused while someone stopped held the database."""
        try:
            command()
        except CommandError as error:
            if error.code != EXIT_DATABASE:
                raise
            self.figures.refused += 1
            self._go_on(None)
            command()

    def _change(self, cycle: Cycle) -> None:
        """Change courses here, by what the commands call, so that there is something to send."""
        for course_id in self.ledger.choose(cycle.picks):
            try:
                with self.both.notifier.writing() as session:
                    _CHANGES[cycle.verb](session, course_id, now=db.now(session))
            except db.UNAVAILABLE:
                self._locked_out(cycle.verb, [course_id])
            else:
                self.ledger.commit(cycle.verb, [course_id])

    def _hit_change(self, cycle: Cycle) -> None:
        chosen = self.ledger.choose(cycle.picks)
        sure = ("--yes",) if cycle.verb == "delete" else ()
        words = "notifier", "courses", cycle.verb, *chosen, *sure
        command = self.both.start(*words, fault=cycle.fault)
        code = command.wait_ended()
        self._count(cycle, taken=code == -signal.SIGKILL)
        if code == 0:
            self.ledger.commit(cycle.verb, chosen)
        elif code == -signal.SIGKILL:
            self.ledger.kill(cycle.verb, chosen, cycle.fault)
        elif code == EXIT_DATABASE:
            self._locked_out(cycle.verb, chosen)
        else:
            raise BrokenError(f"{command} ended with {code}: {command.logged()}")
        self.both.forget(command)

    def _locked_out(self, verb: str, course_ids: Sequence[str]) -> None:
        """Take in a refusal: a worker may have been stopped while another thread of it writes."""
        self.ledger.doubt(verb, course_ids)
        self.figures.refused += 1
        self._go_on(None)

    def _hit_worker(self, cycle: Cycle) -> None:
        worker = self.both.start("notifier", "work", fault=cycle.fault)
        hit = worker.is_hit(within=_HIT_WITHIN)
        self._count(cycle, taken=hit)
        if not hit:
            self._end_well(worker)
        elif worker.ended:
            if worker.code != -signal.SIGKILL:
                raise BrokenError(f"{worker} ended by itself with {worker.code}: {worker.logged()}")
            self.both.forget(worker)
        else:
            self._stopped.append((cycle.number + cycle.stopped_for, worker))

    def _hit_door(self, cycle: Cycle) -> None:
        door, point = self._door, cycle.fault.point
        door.arm(cycle.fault)
        worker = self.both.start("notifier", "work")
        try:
            wait_until(lambda: not door.is_armed(point), "the door is hit", within=_HIT_WITHIN)
            hit = True
        except LateError:
            hit = not door.disarm(point)
        self._count(cycle, taken=hit)
        if hit and cycle.fault.action is Action.STOP:
            self._wait_quiet()
            door.send(signal.SIGCONT)
        if hit and cycle.fault.action is Action.KILL_GROUP:
            door.wait_ended()
            self._door = self.both.open_door()
        self._end_well(worker)

    def _count(self, cycle: Cycle, *, taken: bool) -> None:
        place = cycle.part, cycle.fault.point, cycle.fault.action
        (self.figures.taken if taken else self.figures.missed)[place] += 1

    def _wait_quiet(self) -> None:
        """Return once no request is under way."""
        posts = self.both.observer.everything()
        wait_until(lambda: all(post.over for post in posts), "every request is over")

    def _check(self) -> None:
        """Let everything settle, and compare the books."""
        self._go_on(None)
        self._drain()
        self._wait_quiet()
        self.books = invariants.read(self.both)
        self.ledger.resolve(self.books.standings)
        self.figures.lost = len(invariants.lost(self.books))
        self.figures.applied_twice = len(invariants.applied_twice(self.books))
        found = invariants.broken(self.books, self.ledger)
        if found:
            raise BrokenError("\n".join(found[:50]))

    def _drain(self) -> None:
        """Have a worker deliver all there is; the dead are replayed, as an operator would."""
        worker = self.both.start("notifier", "work")
        wait_until(self._is_settled, "all is settled", within=_DRAINED_WITHIN)
        while dead := self._counts()["dead"]:
            self._command("deliveries", "replay", "--status", "dead", "--all", "--yes")
            self.figures.revived += dead
            wait_until(self._is_settled, "all is settled", within=_DRAINED_WITHIN)
        self._end_well(worker)

    def _is_settled(self) -> bool:
        return set(self._counts()) <= {"delivered", "dead"}

    def _counts(self) -> Counter[str]:
        with self.both.notifier.reading() as session:
            rows = session.execute(select(Delivery.status, func.count()).group_by(Delivery.status))
            return Counter({row[0]: row[1] for row in rows})

    def told(self) -> Iterator[str]:
        """Yield what the run has come to, a line each."""
        figures, books = self.figures, self.books
        for place in schedule.PLACES:
            key = place.part, place.point, place.action
            yield (
                f"  {place.part:8}{place.point:16}{place.action:12}"
                f"{figures.taken[key]:6} taken {figures.missed[key]:4} not reached"
            )
        if books is None:
            return
        with self.both.notifier.reading() as session:
            decided = Counter(session.scalars(select(Attempt.decided)))
            lost = session.scalar(select(func.count()).where(Attempt.failure == WORKER_LOST))
        duplicates = sum(post.outcome == "duplicate" for post in books.posts)
        yield (
            f"  events committed {len(books.events)}, changes rolled back "
            f"{self.ledger.rolled_back}, refused while locked {figures.refused}"
        )
        yield (
            f"  posts seen by the sink {len(books.posts)}, duplicates removed {duplicates}, "
            f"replayed {figures.replayed}, secrets rotated {figures.rotated}, "
            f"endpoint disabled and enabled {figures.held}"
        )
        yield (
            f"  leases that ran out {lost}, results fenced {decided['too late']}, "
            f"dead and replayed {figures.revived}"
        )
        yield f"  lost: {figures.lost}, applied twice: {figures.applied_twice}"
