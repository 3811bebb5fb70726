"""The stage that fetches grades: concurrency, rounds of retries, and back-off for each source."""

import random
import time
from collections import Counter, deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from contract.tokens import CourseToken, MoodleToken
from foundation.crypto import Vault
from receiver.models import MOODLE, Entry
from receiver.runs.store import CourseResult, ResultReason
from receiver.sources.base import (
    FetchOutcome,
    GradeQuery,
    GradeSource,
    SiteOutage,
    SourceFactory,
    Transient,
)
from receiver.sync.planner import Planner
from receiver.sync.results import FetchResult, InternalFailure, to_internal_failure
from receiver.sync.run_control import StopSignal

# The seconds to wait before each round of retries; RECEIVER_SYNC_RETRIES is the number of rounds.
RETRY_WAITS = (2.0, 10.0, 30.0, 60.0, 120.0)

# How often a run looks whether a batch is due while requests are in progress, in seconds.
_CHECK_SECONDS = 0.2

# Results are yielded at least this often, in seconds.
_MAX_YIELD_SECONDS = 5.0

# The longest Retry-After that is respected, in seconds.
_MAX_RETRY_AFTER = 60.0


@dataclass(frozen=True)
class FetchLimits:
    """How many requests run at once, and the seconds to wait before each round of retries.

    An entry that was read longer than `refresh_after` ago is read again before it is requested,
    `window` entries at a time. Results are yielded `batch_size` at once.
    """

    concurrency: int = 4
    retry_waits: tuple[float, ...] = RETRY_WAITS[:2]
    refresh_after: timedelta = timedelta(seconds=1)
    window: int = 100
    batch_size: int = 100


@dataclass(frozen=True)
class FetchBatch:
    """The results since the last batch, and the planned courses that are now skipped."""

    results: tuple[FetchResult, ...] = ()
    skipped: tuple[CourseResult, ...] = ()


@dataclass
class _SiteQueue:
    """The entries of one site that are still to be requested; `fresh` were just read again."""

    waiting: deque[Entry]
    fresh: deque[Entry] = field(default_factory=deque)
    read_at: float = float("-inf")

    def __bool__(self) -> bool:
        return bool(self.waiting or self.fresh)

    def clear(self) -> list[Entry]:
        entries = [*self.fresh, *self.waiting]
        self.fresh.clear()
        self.waiting.clear()
        return entries


class Fetcher:
    """Fetches the grades of entries, in rounds; what failed transiently is retried in the next one.

    With a planner, entries are read again before they are requested; without, they are used as
    they are.
    """

    def __init__(
        self,
        sources: SourceFactory,
        vault: Vault,
        limits: FetchLimits,
        stop: StopSignal,
        *,
        planner: Planner | None = None,
        modified_since: datetime | None = None,
    ) -> None:
        self._sources = sources
        self._vault = vault
        self._limits = limits
        self._stop = stop
        self._planner = planner
        self._modified_since = modified_since
        self._clients: dict[str, GradeSource] = {}
        # The sources that cannot be used, by name.
        self._outages: dict[str, SiteOutage] = {}
        self._queues: dict[str, _SiteQueue] = {}
        self._unreachable: dict[str, Transient] = {}
        self._retries: list[FetchResult] = []
        self._shared_tokens: set[tuple[int, str | None]] = set()
        self._round = 0
        self._results: list[FetchResult] = []
        self._skipped: list[CourseResult] = []
        self._yielded_at = time.monotonic()

    def fetch(self, entries: Sequence[Entry]) -> Generator[FetchBatch, None, None]:
        """Yield results in batches, or every few seconds, until all are known or the run stops.

        Closing the generator early cancels the requests in progress.
        """
        self._yielded_at = time.monotonic()
        tokens = Counter((entry.source_id, entry.stored_token_id) for entry in entries)
        self._shared_tokens = {token for token, courses in tokens.items() if courses > 1}
        self._open_sources(entries)
        entries = [entry for entry in entries if entry.source.name in self._clients]
        pool = ThreadPoolExecutor(self._limits.concurrency, thread_name_prefix="fetch")
        try:
            for number in range(len(self._limits.retry_waits) + 1):
                self._round = number
                yield from self._run_round(pool, entries)
                if self._stop.is_set or not self._retries:
                    break
                self._wait_before_retries()
                entries, self._retries = [result.entry for result in self._retries], []
                self._unreachable.clear()
        except BaseException:
            self._sources.cancel()  # no one uses the responses any more
            raise
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
        self._results += self._retries
        if self._results or self._skipped:
            yield self._take_batch()

    def _open_sources(self, entries: Sequence[Entry]) -> None:
        """Open the client of each source; the entries of those that cannot be opened fail."""
        for source in {entry.source.name: entry.source for entry in entries}.values():
            try:
                self._clients[source.name] = self._sources.open(source)
            except Exception as error:  # noqa: BLE001 - one site never stops the run
                failure = to_internal_failure(error)
                self._outages[source.name] = SiteOutage(failure.detail, failure.advice)
        for entry in entries:
            if outage := self._outages.get(entry.source.name):
                failure = InternalFailure(ResultReason.SITE_TROUBLE, outage.detail, outage.advice)
                self._results.append(FetchResult(entry, failure))

    def _run_round(
        self, pool: ThreadPoolExecutor, entries: Sequence[Entry]
    ) -> Iterator[FetchBatch]:
        self._queues = {}
        for entry in entries:
            self._queues.setdefault(entry.source.name, _SiteQueue(deque())).waiting.append(entry)
        in_progress: dict[Future[list[FetchOutcome]], list[tuple[Entry, GradeQuery]]] = {}
        while True:
            while len(in_progress) < self._limits.concurrency and (pairs := self._next_request()):
                client = self._clients[pairs[0][0].source.name]
                in_progress[pool.submit(client.fetch, [query for _, query in pairs])] = pairs
            if not in_progress:
                break
            done, _ = wait(in_progress, _CHECK_SECONDS, FIRST_COMPLETED)
            for future in done:
                self._collect(in_progress.pop(future), future)
            yield from self._due_batch()
        yield from self._due_batch()

    def _due_batch(self) -> Iterator[FetchBatch]:
        late = time.monotonic() - self._yielded_at >= _MAX_YIELD_SECONDS
        full = len(self._results) >= self._limits.batch_size
        if full or (late and (self._results or self._skipped)):
            yield self._take_batch()

    def _take_batch(self) -> FetchBatch:
        batch = FetchBatch(tuple(self._results), tuple(self._skipped))
        self._results, self._skipped, self._yielded_at = [], [], time.monotonic()
        return batch

    def _next_request(self) -> list[tuple[Entry, GradeQuery]]:
        """Return the queries of the next request; the sites take turns, outages are left out."""
        while not self._stop.is_set:
            name = next((name for name, queue in self._queues.items() if queue), None)
            if name is None:
                return []
            queue = self._queues[name] = self._queues.pop(name)  # to the end: the others' turn
            failure = self._outages.get(name) or self._unreachable.get(name)
            if failure:
                for entry in queue.clear():
                    self._add(FetchResult(entry, failure))
                continue
            # The number of courses in one request: a tenth in each round of retries.
            size = int(max(1, self._clients[name].max_queries // 10**self._round))
            if pairs := self._take_queries(queue, size):
                return pairs
        return []

    def _take_queries(self, queue: _SiteQueue, size: int) -> list[tuple[Entry, GradeQuery]]:
        self._refresh(queue, max(size, self._limits.window))
        pairs: list[tuple[Entry, GradeQuery]] = []
        while queue.fresh and len(pairs) < size:
            entry = queue.fresh.popleft()
            try:
                query = build_query(
                    entry,
                    self._vault,
                    modified_since=self._modified_since,
                    token_is_shared=(entry.source_id, entry.stored_token_id) in self._shared_tokens,
                )
            except Exception as error:  # noqa: BLE001 - one course never stops the run
                self._results.append(FetchResult(entry, to_internal_failure(error)))
            else:
                pairs.append((entry, query))
        return pairs

    def _refresh(self, queue: _SiteQueue, window: int) -> None:
        """Read the next entries again, all in one query, if they were read too long ago."""
        if self._planner is None:
            queue.fresh.extend(queue.clear())
            return
        age = time.monotonic() - queue.read_at
        if queue.fresh and age < self._limits.refresh_after.total_seconds():
            return
        while queue.waiting and len(queue.fresh) < window:
            queue.fresh.append(queue.waiting.popleft())
        plan = self._planner.refresh(queue.fresh)
        queue.fresh = deque(plan.to_fetch)
        self._skipped += plan.not_fetched
        queue.read_at = time.monotonic()

    def _collect(
        self, pairs: Sequence[tuple[Entry, GradeQuery]], future: Future[list[FetchOutcome]]
    ) -> None:
        try:
            outcomes: Sequence[FetchOutcome | InternalFailure] = future.result()
        except Exception as error:  # noqa: BLE001 - one course never stops the run
            outcomes = [to_internal_failure(error)] * len(pairs)
        for (entry, query), outcome in zip(pairs, outcomes, strict=True):
            url = self._clients[entry.source.name].url_of(query)
            self._add(FetchResult(entry, outcome, url, query))

    def _add(self, result: FetchResult) -> None:
        name = result.entry.source.name
        match result.outcome:
            case SiteOutage():
                self._outages.setdefault(name, result.outcome)
            case Transient(unreachable=True):
                self._unreachable[name] = result.outcome
        retriable = isinstance(result.outcome, Transient) and not result.outcome.timed_out
        if retriable and self._round < len(self._limits.retry_waits):
            self._retries.append(result)
        else:
            self._results.append(result)

    def _wait_before_retries(self) -> None:
        """Wait before the next round, longer if a site requests it."""
        requested = [
            result.outcome.retry_after or 0.0
            for result in self._retries
            if isinstance(result.outcome, Transient)
        ]
        seconds = self._limits.retry_waits[self._round] * random.uniform(1.0, 1.25)  # noqa: S311 - no secret
        self._stop.wait(max(seconds, min(max(requested), _MAX_RETRY_AFTER)))


def build_query(
    entry: Entry,
    vault: Vault,
    *,
    modified_since: datetime | None = None,
    token_is_shared: bool = False,
) -> GradeQuery:
    """Return the query for an entry's grades, or raise DecryptionError.

    The grades are compared with those of the last run, or those of `modified_since` if given.
    """
    kind = MoodleToken if entry.source.kind == MOODLE else CourseToken
    token = kind.parse(vault.decrypt(str(entry.encrypted_token)))
    etag = None if modified_since else entry.etag
    return GradeQuery(
        entry.source.url, entry.course_id, token, etag, modified_since, token_is_shared
    )
