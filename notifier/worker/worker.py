"""The worker: one thread settles and claims in the database, others post what it has claimed.

The life of a claim:

- found: its endpoint has something due (`claims.find_due`) and may be sent more (`Senders.wanted`)
- claimed: under a lease, in a transaction (`claims.claim`)
- queued, posted, finished: in memory, meanwhile, without a transaction (`senders`)
- settled: in the transaction that claims the next ones (`batch.settle`)

One that is left unsent is given back (`claims.give_back`). One whose worker was lost is settled
once its lease has expired (`claims.expired`).
"""

import queue
import random
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from sqlalchemy.orm import Session

from contract import signatures
from contract.signatures import Secret
from foundation import logging
from foundation.crypto import Vault
from foundation.db import session as db
from foundation.db import wakeup
from foundation.db.session import Database
from foundation.errors import DecryptionError
from foundation.tracing import HEADER
from notifier.courses import token_claims
from notifier.webhooks import deliveries
from notifier.webhooks.deliveries import CHANNEL, Claimed, Finished
from notifier.webhooks.failure_advice import FailureKind
from notifier.webhooks.http_client import Transport
from notifier.webhooks.retry_policy import AttemptResult, Failure
from notifier.worker import batch, claims, reporter
from notifier.worker.heartbeat import Heartbeats
from notifier.worker.reporter import WorkerTotals
from notifier.worker.senders import Senders

_log = logging.get_logger(__name__)
# Seconds that a finished attempt may wait for others, to be settled in one transaction.
_GATHER_SECONDS = 0.06
# Seconds from the end of a turn to the next one, however often the worker is woken.
_TURN_SECONDS = 0.005
# Seconds between two looks for tokens that can no longer be claimed.
_FORGET_SECONDS = 60.0
# Seconds to wait while the database is unavailable.
_FIRST_BACK_OFF, _LONGEST_BACK_OFF = 0.5, 30.0
# Decrypted secrets that are kept.
_MAX_KEYS = 4096


@dataclass(frozen=True)
class WorkerOptions:
    """Concurrency in total and by endpoint, lease, poll interval.

    `per_endpoint_rate` is the maximum number of attempts per second for one endpoint.
    """

    threads: int
    per_endpoint: int
    lease: timedelta
    poll_seconds: float
    per_endpoint_rate: float = 500.0
    disable_after: timedelta = timedelta(days=5)


@dataclass
class Worker:
    """Delivers what is due."""

    database: Database
    vault: Vault
    transport: Transport
    options: WorkerOptions
    jitter: Callable[[], float] = random.random
    totals: WorkerTotals = field(default_factory=WorkerTotals)
    heartbeats: Heartbeats | None = None
    _senders: Senders = field(init=False)

    def __post_init__(self) -> None:
        # True in this queue means "at once", False "soon".
        self._wakes: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._finished: list[Finished] = []
        self._unsent: list[Claimed] = []
        self._suspect: Claimed | None = None
        self._search_after = 0
        self._forgot_at = float("-inf")
        self._stopping = False
        self._back_off = 0.0
        self._key = lru_cache(_MAX_KEYS)(self._decrypt)

    def stop(self) -> None:
        """Stop claiming and end `run` once all attempts are settled; safe in a signal handler."""
        self._stopping = True
        if self.heartbeats is not None:
            self.heartbeats.stop()
        self.wake()

    def wake(self) -> None:
        """Look for due deliveries now; safe in any thread and in a signal handler."""
        self._wakes.put(True)

    def run(self, *, once: bool = False) -> WorkerTotals:
        """Deliver until stopped, or with `once` until nothing is due.

        While the database is unavailable the worker backs off and tries again; with `once` it
        raises. If it is stopped in that time, it leaves unsettled attempts to their leases.
        Heartbeats are sent meanwhile, but not with `once`. Connections are closed at the end.
        """
        options = self.options
        self._senders = Senders(
            self._attempt,
            self._wakes.put,
            threads=options.threads,
            per_endpoint=options.per_endpoint,
            rate=options.per_endpoint_rate,
        )
        with ExitStack() as until_end:
            until_end.enter_context(closing(self.transport))
            until_end.enter_context(closing(self._senders))
            if not once:
                until_end.enter_context(wakeup.listen(self.database, CHANNEL, self.wake))
                if self.heartbeats is not None:
                    until_end.enter_context(self.heartbeats.running())
            while True:
                found = self._turn_or_back_off(once=once)
                if not (found or self._senders.claims) and (once or self._stopping):
                    return self.totals
                if self._stopping and self._back_off and not self._senders.posting:
                    _log.warning(
                        "stopped without the database, attempts left to their leases",
                        unsettled=len(self._finished) + len(self._unsent) + self._senders.claims,
                        next_step="No action needed: they are repeated, and the receiver "
                        "recognises duplicates.",
                    )
                    return self.totals
                self._wait()

    def _turn_or_back_off(self, *, once: bool) -> bool:
        """Return whether there was something to do, or there may be."""
        try:
            found = self._turn()
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
            return True
        self._back_off = 0.0
        return found

    def _turn(self) -> bool:
        """Settle, give back and claim; return False if there is nothing to do."""
        finished, unsent = self._senders.take(all_unsent=self._stopping)
        self._finished += finished
        self._unsent += unsent
        is_busy = bool(self._finished or self._unsent)
        wanted, any_due, any_lost = dict[int, int](), False, False
        if not self._stopping:
            self._forget_tokens()
            # Without writing: a worker that has nothing to do locks no SQLite file.
            with self.database.reading() as session:
                now = db.now(session)
                wanted, any_due = self._search(session, is_busy=is_busy, now=now)
                any_lost = not is_busy and claims.any_lost(session, now=now)
        if is_busy or wanted or any_lost:
            has_claimed = self._process(wanted)
            # A busy turn has searched one page, an idle one those up to what it claimed.
            has_more = not has_claimed if is_busy else has_claimed and self._search_after > 0
            if has_more:
                self.wake()
        return is_busy or any_due or any_lost

    def _forget_tokens(self) -> None:
        """Delete the copies of tokens that can no longer be claimed, now and then."""
        begun = time.monotonic()
        if begun - self._forgot_at < _FORGET_SECONDS:
            return
        with self.database.reading() as session:
            due = token_claims.any_to_forget(session, now=db.now(session))
        if due:
            with self.database.writing() as session:
                token_claims.forget_expired(session, now=db.now(session))
        self._forgot_at = begun

    def _search(
        self, session: Session, *, is_busy: bool, now: datetime
    ) -> tuple[dict[int, int], bool]:
        """Return how many deliveries to claim for each endpoint of a page with something due.

        A busy worker looks at one page, that after the last one. Also returns whether anything was
        due, even if it may not be claimed now.
        """
        if not is_busy:
            self._search_after = 0
        any_due = False
        while True:
            due, self._search_after = claims.find_due(session, self._search_after, now=now)
            any_due = any_due or bool(due)
            # In random order: not always the same ones get what is left.
            wanted = self._senders.wanted(dict(random.sample([*due.items()], len(due))))
            if wanted or is_busy or not self._search_after:
                return wanted, any_due

    def _process(self, wanted: Mapping[int, int]) -> bool:
        """Settle, give back and claim in one transaction; return whether something was claimed."""
        begun, lease = time.monotonic(), self.options.lease
        finished, claimed, suspects = self._finished, list[Claimed](), list[Claimed]()
        with self.database.writing() as session:
            now = db.now(session)
            if self._back_off:
                finished = deliveries.not_recorded(session, finished)
            settled = batch.settle(
                session,
                finished,
                unsent=self._unsent,
                disable_after=self.options.disable_after,
                now=now,
            )
            if not self._stopping:
                # Half of the turns each: neither does a backlog of retries delay new events, nor
                # the other way round.
                newest = bool(random.getrandbits(1))
                claimed = claims.claim(session, wanted, newest=newest, lease=lease, now=now)
                if self._suspect is None:
                    suspects = claims.claim_suspect(session, lease=lease, now=now)
        suspect = suspects[0] if suspects else self._suspect
        ended = [*(attempt.claimed for attempt in self._finished), *self._unsent]
        self._suspect = None if suspect in ended else suspect
        self._senders.mark_settled(self._finished)
        self._finished, self._unsent = [], []
        # What is not begun early in its lease could outlast it, if the database is away meanwhile.
        self._senders.put(claimed + suspects, send_before=begun + lease.total_seconds() / 4)
        with logging.batch():
            reporter.report(settled, self.totals)
        return bool(claimed)

    def _attempt(self, claimed: Claimed) -> Finished:
        started_at, clock = datetime.now(UTC), time.perf_counter()
        try:
            result = self._post(claimed, now=started_at)
        except DecryptionError as error:
            result = Failure(FailureKind.SECRET_UNREADABLE, f"{error}; {error.advice.text}")
        except Exception as error:  # noqa: BLE001 - one delivery's fault must not end the worker
            _log.exception("attempt failed unexpectedly", delivery_id=claimed.delivery_id)
            result = Failure(FailureKind.INTERNAL, type(error).__name__)
        milliseconds = round((time.perf_counter() - clock) * 1000)
        return Finished(claimed, started_at, milliseconds, result, self.jitter())

    def _post(self, claimed: Claimed, *, now: datetime) -> AttemptResult:
        keys = [self._key(encrypted) for encrypted in claimed.encrypted_secrets]
        body = claimed.body.encode()
        headers = signatures.sign(keys, claimed.webhook_id, body, now=now)
        headers[HEADER] = claimed.span.header
        return self.transport.post(claimed.url, headers, body)

    def _decrypt(self, encrypted: str) -> Secret:
        return Secret.parse(self.vault.decrypt(encrypted))

    def _wait(self) -> None:
        """Wait for the next poll, a wake-up or a finished attempt, then briefly for more.

        While the database is unavailable, wait for the whole of the back-off.
        """
        begun = time.monotonic()
        with suppress(queue.Empty):
            while self._back_off and not self._stopping:
                self._wakes.get(timeout=max(0.0, begun + self._back_off - time.monotonic()))
                if self._stopping:
                    return
            at_once = self._wakes.get(timeout=self.options.poll_seconds)
            if not at_once:
                self._wakes.get(timeout=_GATHER_SECONDS)
            time.sleep(max(0.0, begun + _TURN_SECONDS - time.monotonic()))
            while True:
                self._wakes.get_nowait()
