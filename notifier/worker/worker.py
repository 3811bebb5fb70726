"""The worker: claims due deliveries, posts them on threads, settles the results."""

import queue
import random
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from contract import signatures
from contract.signatures import Secret
from foundation import logging
from foundation.crypto import Vault
from foundation.db import session as db
from foundation.db.session import Database
from foundation.errors import DecryptionError
from foundation.tracing import HEADER
from notifier.webhooks import breaker_store
from notifier.webhooks.circuit_breaker import BreakerState
from notifier.webhooks.deliveries import Claimed
from notifier.webhooks.failure_advice import FailureKind
from notifier.webhooks.http_client import Transport
from notifier.webhooks.retry_policy import AttemptResult, Failure, health_of
from notifier.worker import batch, claims, reporter
from notifier.worker.batch import Finished
from notifier.worker.claims import ClaimLimits
from notifier.worker.limiter import Limiter
from notifier.worker.reporter import WorkerTotals

_log = logging.get_logger(__name__)
# Seconds that a finished attempt may wait for others, to be settled in one transaction.
_GATHER_SECONDS = 0.02
# Seconds to wait while the database is unavailable.
_FIRST_BACK_OFF, _LONGEST_BACK_OFF = 0.5, 30.0


@dataclass(frozen=True)
class WorkerOptions:
    """Concurrency in total and by endpoint, lease, poll interval.

    `per_endpoint_rate` is the maximum number of starts per second for one endpoint.
    """

    threads: int
    per_endpoint: int
    lease: timedelta
    poll_seconds: float
    per_endpoint_rate: float = 500.0
    disable_after: timedelta = timedelta(days=5)


@dataclass
class Worker:
    """Delivers what is due.

    A delivery is claimed only when a thread is free for it: nothing waits in memory under a
    lease, so a slow endpoint uses no more than its own slots.
    """

    database: Database
    vault: Vault
    transport: Transport
    options: WorkerOptions
    jitter: Callable[[], float] = random.random
    totals: WorkerTotals = field(default_factory=WorkerTotals)

    def __post_init__(self) -> None:
        options = self.options
        self._finished: queue.SimpleQueue[Finished | None] = queue.SimpleQueue()
        self._unsettled: list[Finished] = []
        self._limiter = Limiter(
            threads=options.threads,
            per_endpoint=options.per_endpoint,
            rate=options.per_endpoint_rate,
        )
        self._stopping = self._throttled = False
        self._back_off = 0.0

    def stop(self) -> None:
        """Stop claiming and end `run` once all attempts are settled; safe in a signal handler."""
        self._stopping = True
        self._finished.put(None)  # wakes the worker

    def run(self, *, once: bool = False) -> WorkerTotals:
        """Deliver until stopped, or with `once` until nothing is due.

        While the database is unavailable the worker backs off and tries again; with `once` it
        raises. If it is stopped in that time, it leaves unsettled attempts to their leases.
        """
        with ThreadPoolExecutor(self.options.threads, thread_name_prefix="attempt") as pool:
            while True:
                started = self._step_or_back_off(pool, once=once)
                idle = not started and not self._unsettled and not self._limiter.busy
                if idle and (self._stopping or (once and not self._throttled)):
                    return self.totals
                if self._stopping and self._back_off and not self._limiter.busy:
                    _log.warning(
                        "stopped without the database, attempts left to their leases",
                        unsettled=len(self._unsettled),
                        next_step="No action needed: they are repeated, and the receiver "
                        "recognises duplicates.",
                    )
                    return self.totals
                self._gather()

    def _step_or_back_off(self, pool: ThreadPoolExecutor, *, once: bool) -> int:
        try:
            started = self._step(pool)
        except db.UNUSABLE as error:
            if once:
                raise
            self._back_off = min(max(self._back_off * 2, _FIRST_BACK_OFF), _LONGEST_BACK_OFF)
            _log.warning(
                "database unavailable, worker backs off",
                cause=db.cause(error),
                seconds=self._back_off,
                next_step="Check that the database is running; nothing is lost meanwhile.",
            )
            return 0
        self._back_off = 0.0
        return started

    def _step(self, pool: ThreadPoolExecutor) -> int:
        """Settle finished attempts, claim for the free threads, start; return how many started."""
        # Before the limits are computed: read afterwards, it could be False although the rate has
        # just kept deliveries back, and a run with `once` would end too early.
        self._throttled = self._limiter.is_throttled()
        if not self._unsettled and not self._any_due():
            return 0
        with self.database.writing() as session:
            now = db.now(session)
            settled = batch.settle(
                session, self._unsettled, disable_after=self.options.disable_after, now=now
            )
            claimed = batch.claim(
                session,
                settled.states,
                self._limits(settled.states, now),
                lease=self.options.lease,
                now=now,
            )
        self._unsettled = []
        reporter.report(settled, self.totals)
        for one in claimed.deliveries:
            self._limiter.start(one)
            pool.submit(self._attempt, one, claimed.encrypted.get(one.endpoint_id, ()))
        return len(claimed.deliveries)

    def _any_due(self) -> bool:
        if self._stopping or self._limiter.busy >= self.options.threads:
            return False
        with self.database.reading() as session:
            now = db.now(session)
            limits = self._limits(breaker_store.read_states(session), now).by_endpoint
            open_ids = [endpoint_id for endpoint_id, limit in limits.items() if limit.total > 0]
            return claims.any_due(session, open_ids, now=now)

    def _limits(self, states: Mapping[int, BreakerState], now: datetime) -> ClaimLimits:
        return self._limiter.limits({} if self._stopping else states, now=now)

    def _attempt(self, claimed: Claimed, encrypted: tuple[str, ...]) -> None:
        started_at, clock = datetime.now(UTC), time.perf_counter()
        try:
            result = self._post(claimed, encrypted, now=started_at)
        except Exception as error:  # noqa: BLE001 - one delivery's fault must not end the worker
            _log.exception("attempt failed unexpectedly", delivery_id=claimed.delivery_id)
            result = Failure(FailureKind.INTERNAL, type(error).__name__)
        milliseconds = round((time.perf_counter() - clock) * 1000)
        self._finished.put(Finished(claimed, started_at, milliseconds, result, self.jitter()))

    def _post(
        self, claimed: Claimed, encrypted: tuple[str, ...], *, now: datetime
    ) -> AttemptResult:
        try:
            keys = [Secret.parse(self.vault.decrypt(secret)) for secret in encrypted]
        except DecryptionError as error:
            return Failure(FailureKind.SECRET_UNREADABLE, f"{error}; {error.advice.text}")
        body = claimed.body.encode()
        headers = signatures.sign(keys, claimed.webhook_id, body, now=now)
        return self.transport.post(claimed.url, {**headers, HEADER: claimed.span.header}, body)

    def _gather(self) -> None:
        """Wait for the next poll or a finished attempt, then briefly for more of those."""
        ends = time.monotonic() + (self._back_off or self.options.poll_seconds)
        while True:
            try:
                one = self._finished.get(timeout=max(0.0, ends - time.monotonic()))
            except queue.Empty:
                return
            if one is None:
                return
            self._limiter.finish(one.claimed, health_of(one.result))
            self._unsettled.append(one)
            if not self._limiter.busy:
                return
            ends = min(ends, time.monotonic() + _GATHER_SECONDS)
