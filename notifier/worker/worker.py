"""The worker: claim, sign, post, decide, settle; many at once, and a clean stop."""

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
from notifier.webhooks import circuit_breaker
from notifier.webhooks.circuit_breaker import BreakerState
from notifier.webhooks.deliveries import Claimed
from notifier.webhooks.failures import FailureKind
from notifier.webhooks.http_client import Transport
from notifier.webhooks.retry_policy import Failure, WebhookResponse, signal_of
from notifier.worker import batch, claims, reporter
from notifier.worker.batch import BatchSettings, Finished
from notifier.worker.claims import ClaimLimits
from notifier.worker.limiter import Limiter
from notifier.worker.reporter import WorkerTotals

_log = logging.get(__name__)
_GATHER_SECONDS = 0.02
"""How long finished attempts may wait for others, to be settled in one transaction."""

_FIRST_BACK_OFF, _LONGEST_BACK_OFF = 0.5, 30.0


@dataclass(frozen=True)
class WorkerOptions:
    """How many attempts at once, how many at one endpoint, and the times that bind them.

    `per_endpoint_rate` is how many may start for one endpoint in a second.
    """

    threads: int
    per_endpoint: int
    lease: timedelta
    poll_seconds: float
    per_endpoint_rate: float = 500.0
    disable_after: timedelta = timedelta(days=5)


@dataclass(frozen=True)
class _Wake:
    """Put among the finished attempts to wake the worker."""


@dataclass
class Worker:
    """Delivers what is due.

    Each attempt under way is one that a thread makes at this moment: nothing waits in memory
    under a lease, so a slow endpoint takes no more than its own places.
    """

    database: Database
    vault: Vault
    transport: Transport
    options: WorkerOptions
    jitter: Callable[[], float] = random.random
    totals: WorkerTotals = field(default_factory=WorkerTotals)

    def __post_init__(self) -> None:
        options = self.options
        self._finished: queue.SimpleQueue[Finished | _Wake] = queue.SimpleQueue()
        self._unsettled: list[Finished] = []
        self._pace = Limiter(
            threads=options.threads,
            per_endpoint=options.per_endpoint,
            rate=options.per_endpoint_rate,
        )
        self._terms = BatchSettings(options.lease, options.disable_after, self.jitter)
        self._stopping = self._throttled = False
        self._back_off = 0.0

    def stop(self) -> None:
        """Claim no more, and return once what is under way is settled; fit for a signal handler."""
        self._stopping = True
        self._finished.put(_Wake())

    def run(self, *, once: bool = False) -> WorkerTotals:
        """Deliver until stopped, or with `once` until nothing is due.

        While the database is away the worker backs off and tries again; with `once` it raises,
        and when stopped it leaves what it cannot settle to the leases.
        """
        with ThreadPoolExecutor(self.options.threads, thread_name_prefix="attempt") as pool:
            while True:
                started = self._turn_or_back_off(pool, once=once)
                if not started and not self._under_way() and self._is_over(once=once):
                    return self.totals
                if self._stopping and self._back_off and not self._pace.busy:
                    self._leave_to_leases()
                    return self.totals
                self._gather()

    def _leave_to_leases(self) -> None:
        _log.warning(
            "stopped without the database, attempts left to their leases",
            unsettled=len(self._unsettled),
            next_step="Nothing: they are made again; the receiver knows duplicates.",
        )

    def _under_way(self) -> bool:
        return bool(self._unsettled) or self._pace.busy > 0

    def _is_over(self, *, once: bool) -> bool:
        return self._stopping or (once and not self._throttled)

    def _turn_or_back_off(self, pool: ThreadPoolExecutor, *, once: bool) -> int:
        try:
            started = self._turn(pool)
        except db.UNUSABLE as error:
            if once:
                raise
            self._back_off = min(max(self._back_off * 2, _FIRST_BACK_OFF), _LONGEST_BACK_OFF)
            _log.warning(
                "database unavailable, worker backs off",
                cause=db.cause(error),
                seconds=self._back_off,
                next_step="Check that the database runs; nothing is lost meanwhile.",
            )
            return 0
        self._back_off = 0.0
        return started

    def _turn(self, pool: ThreadPoolExecutor) -> int:
        """Settle what has finished and claim for the free places; start what was claimed."""
        # Looked at before the places: between the two it may only become less true.
        self._throttled = self._pace.is_throttled()
        if not self._unsettled and not self._any_due():
            return 0
        with self.database.writing() as session:
            now = db.now(session)
            done = batch.process_batch(
                session,
                self._unsettled,
                lambda states: self._limits(states, now),
                self._terms,
                now=now,
            )
        self._unsettled = []
        reporter.tell(done, self.totals)
        for each in done.claimed:
            self._pace.start(each)
            pool.submit(self._attempt, each, done.encrypted.get(each.endpoint_id, ()))
        return len(done.claimed)

    def _any_due(self) -> bool:
        if self._stopping or self._pace.busy >= self.options.threads:
            return False
        with self.database.reading() as session:
            now = db.now(session)
            limits = self._limits(circuit_breaker.read_states(session), now).by_endpoint
            open_ids = [endpoint_id for endpoint_id, limit in limits.items() if limit.total > 0]
            return claims.any_due(session, open_ids, now=now)

    def _limits(self, states: Mapping[int, BreakerState], now: datetime) -> ClaimLimits:
        return self._pace.limits({} if self._stopping else states, now=now)

    def _attempt(self, claimed: Claimed, encrypted: tuple[str, ...]) -> None:
        started_at, clock = datetime.now(UTC), time.perf_counter()
        try:
            answer = self._post(claimed, encrypted, now=started_at)
        except Exception as error:  # noqa: BLE001 - one delivery's fault must not end the worker
            _log.exception("attempt failed unforeseen", delivery_id=claimed.delivery_id)
            answer = Failure(FailureKind.INTERNAL, type(error).__name__)
        milliseconds = round((time.perf_counter() - clock) * 1000)
        self._finished.put(Finished(claimed, started_at, milliseconds, answer))

    def _post(
        self, claimed: Claimed, encrypted: tuple[str, ...], *, now: datetime
    ) -> WebhookResponse | Failure:
        try:
            keys = [Secret.parse(self.vault.decrypt(secret)) for secret in encrypted]
        except DecryptionError as error:
            return Failure(FailureKind.SECRET_UNREADABLE, f"{error}; {error.advice}")
        body = claimed.body.encode()
        headers = signatures.sign(keys, claimed.webhook_id, body, now=now)
        return self.transport.post(claimed.url, {**headers, HEADER: claimed.span.header}, body)

    def _gather(self) -> None:
        """Wait until an attempt finishes or a poll is due; shortly on for others to join it."""
        ends = time.monotonic() + (self._back_off or self.options.poll_seconds)
        while True:
            try:
                one = self._finished.get(timeout=max(0.0, ends - time.monotonic()))
            except queue.Empty:
                return
            if isinstance(one, _Wake):
                return
            self._pace.finish(one.claimed, signal_of(one.answer))
            self._unsettled.append(one)
            if not self._pace.busy:
                return
            ends = min(ends, time.monotonic() + _GATHER_SECONDS)
