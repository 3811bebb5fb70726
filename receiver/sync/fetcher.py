"""Who is asked when: a few requests at once, again after a while, never a site in trouble."""

import random
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from receiver.models import Entry
from receiver.runs.store import CourseResult
from receiver.sources.base import FetchOutcome, GradeQuery, GradeSource, SiteOutage, Transient
from receiver.sync import deletion_check
from receiver.sync.results import Broken, Heard

_TICK_SECONDS = 0.2
_MOST_RETRY_AFTER = 60.0


@dataclass(frozen=True)
class Pace:
    """How the asking goes: requests at once, waits in seconds before each time again, the end.

    `look_ahead` is how many entries are read again at once, `read_again` how old a reading of the
    registry may be when a course of it is asked for; `ends` is by the monotonic clock.
    """

    concurrency: int
    look_ahead: int
    waits: tuple[float, ...]
    read_again: timedelta
    ends: float
    stop: threading.Event


@dataclass(frozen=True)
class Step:
    """What has come since the last step: answers, and courses that are skipped after all."""

    heard: tuple[Heard, ...] = ()
    skipped: tuple[CourseResult, ...] = ()


@dataclass(frozen=True)
class Hands:
    """What the asking is given to work with; none of it is called from another thread.

    `read_again` gives the entries that are still active, and the reports of those that are not.
    `prepare` gives the question about an entry, or why there is none. `beat` keeps the lease.
    """

    sources: Mapping[str, GradeSource]
    read_again: Callable[[Sequence[Entry]], tuple[Sequence[Entry], Sequence[CourseResult]]]
    prepare: Callable[[Entry], GradeQuery | Broken]
    beat: Callable[[], None]
    unforeseen: Callable[[Exception], Broken]


@dataclass
class _Line:
    """The entries of one site that wait for their turn, and those read again just now."""

    waiting: deque[Entry]
    fresh: deque[Entry] = field(default_factory=deque)
    read_at: float = float("-inf")

    def __bool__(self) -> bool:
        return bool(self.waiting or self.fresh)


class Asking:
    """Asks about entries, round after round; what fails for now is asked again, smaller.

    `trouble` tells which sites were found to be out of order.
    """

    def __init__(self, pace: Pace, hands: Hands) -> None:
        self._pace = pace
        self._hands = hands
        self.trouble: dict[str, SiteOutage] = {}
        self._paused: dict[str, Transient] = {}
        self._lines: dict[str, _Line] = {}
        self._again: list[Heard] = []
        self._round = 0
        self._heard: list[Heard] = []
        self._skipped: list[CourseResult] = []

    @property
    def over(self) -> bool:
        """Whether nothing more may be asked: the time is up, or the run was told to stop."""
        return self._pace.stop.is_set() or time.monotonic() >= self._pace.ends

    def steps(self, entries: Sequence[Entry]) -> Iterator[Step]:
        """Yield what came, about as often as requests end; end when all that can be is known."""
        pool = ThreadPoolExecutor(self._pace.concurrency, thread_name_prefix="asking")
        try:
            for number in range(len(self._pace.waits) + 1):
                self._round = number
                yield from self._go_round(pool, entries)
                if self.over or not self._again:
                    break
                self._rest()
                entries, self._again = [one.entry for one in self._again], []
                self._paused.clear()
            yield Step(tuple(self._again))
        except BaseException:
            self.break_off()  # nobody will take the answers
            raise
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _go_round(self, pool: ThreadPoolExecutor, entries: Sequence[Entry]) -> Iterator[Step]:
        self._line_up(entries)
        under_way: dict[Future[list[FetchOutcome]], list[tuple[Entry, GradeQuery]]] = {}
        while True:
            while len(under_way) < self._pace.concurrency and (piece := self._next_piece()):
                source = self._hands.sources[piece[0][0].source.name]
                under_way[pool.submit(source.ask, [asked for _, asked in piece])] = piece
            if not under_way:
                break
            for future in self._ended(under_way):
                self._take(under_way.pop(future), future)
            yield self._step()
        yield self._step()

    def _ended(self, under_way: Collection[Future[Any]]) -> set[Future[Any]]:
        """Wait a moment for requests, the lease kept, and return those that have ended."""
        done, _ = wait(under_way, _TICK_SECONDS, FIRST_COMPLETED)
        self._hands.beat()
        return done

    def break_off(self) -> None:
        """End the requests that are under way, from whatever thread; no more are sent."""
        for source in list(self._hands.sources.values()):
            source.break_off()

    def _line_up(self, entries: Sequence[Entry]) -> None:
        self._lines = {}
        for entry in entries:
            self._lines.setdefault(entry.source.name, _Line(deque())).waiting.append(entry)

    def _next_piece(self) -> list[tuple[Entry, GradeQuery]]:
        """Return what one request asks next; the sites take turns, and none in trouble is asked."""
        while not self.over:
            name = next((name for name, line in self._lines.items() if line), None)
            if name is None:
                return []
            line = self._lines[name] = self._lines.pop(name)  # to the end: the others' turn first
            if name in self.trouble or name in self._paused:
                self._put_off(line)
                continue
            if piece := self._cut(line, self._size(name)):
                return piece
        return []

    def _size(self, name: str) -> int:
        """Return how many courses go in one request: fewer each time one has failed."""
        return int(max(1, self._hands.sources[name].batch // 10**self._round))

    def _cut(self, line: _Line, size: int) -> list[tuple[Entry, GradeQuery]]:
        self._freshen(line, max(size, self._pace.look_ahead))
        piece: list[tuple[Entry, GradeQuery]] = []
        while line.fresh and len(piece) < size:
            entry = line.fresh.popleft()
            asked = self._hands.prepare(entry)
            if isinstance(asked, Broken):
                self._heard.append(Heard(entry, asked))
            else:
                piece.append((entry, asked))
        return piece

    def _freshen(self, line: _Line, most: int) -> None:
        """Read the next entries again by the clock: one query for each course would be too many."""
        age = time.monotonic() - line.read_at
        if line.fresh and age < self._pace.read_again.total_seconds():
            return
        ahead = [*line.fresh]
        while line.waiting and len(ahead) < most:
            ahead.append(line.waiting.popleft())
        line.fresh.clear()
        active, skipped = self._hands.read_again(ahead)
        line.fresh.extend(active)
        self._skipped += skipped
        line.read_at = time.monotonic()

    def _take(
        self, piece: Sequence[tuple[Entry, GradeQuery]], future: "Future[list[FetchOutcome]]"
    ) -> None:
        try:
            outcomes: Sequence[FetchOutcome | Broken] = future.result()
        except Exception as error:  # noqa: BLE001 - one course never stops the run
            outcomes = [self._hands.unforeseen(error) for _ in piece]
        for (entry, asked), outcome in zip(piece, outcomes, strict=True):
            url = self._hands.sources[entry.source.name].url_of(asked)
            self._sort(Heard(entry, outcome, url, asked))

    def _sort(self, heard: Heard) -> None:
        name = heard.entry.source.name
        match heard.outcome:
            case SiteOutage():
                self.trouble.setdefault(name, heard.outcome)
            case Transient(unreachable=True):
                self._paused[name] = heard.outcome
        if isinstance(heard.outcome, Transient) and self._round < len(self._pace.waits):
            self._again.append(heard)
        else:
            self._heard.append(heard)

    def _put_off(self, line: _Line) -> None:
        """Take a site's line away: for this round, or for good."""
        entries = [*line.fresh, *line.waiting]
        line.fresh.clear()
        line.waiting.clear()
        name = entries[0].source.name
        why = self.trouble.get(name) or self._paused[name]
        for entry in entries:
            self._sort(Heard(entry, why))

    def _rest(self) -> None:
        """Wait before the next round, longer if a site asked for it; the lease is kept."""
        asked = [
            one.outcome.retry_after or 0.0
            for one in self._again
            if isinstance(one.outcome, Transient)
        ]
        seconds = self._pace.waits[self._round] * random.uniform(1.0, 1.25)  # noqa: S311 - no secret
        ends = time.monotonic() + max(seconds, min(max(asked), _MOST_RETRY_AFTER))
        while not self.over and (left := ends - time.monotonic()) > 0:
            self._pace.stop.wait(min(left, _TICK_SECONDS))
            self._hands.beat()

    def confirmed(self, heard: Sequence[Heard]) -> list[Heard]:
        """Return what was heard, as `confirming.confirmed` does; the lease is kept meanwhile."""
        return deletion_check.confirmed(heard, self._hands.sources, self._ended)

    def _step(self) -> Step:
        step = Step(tuple(self._heard), tuple(self._skipped))
        self._heard, self._skipped = [], []
        return step
