"""The worker: claim, sign, post, decide, settle; many at once, and a clean stop."""

import queue
import random
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from sqlalchemy.orm import Session

from contract import signature
from contract.signature import Secret
from foundation import database as db
from foundation import logs
from foundation.database import Database
from foundation.errors import SealError
from foundation.vault import Vault
from notifier import deliveries, endpoints, failures, retry
from notifier.deliveries import Claimed, Settlement
from notifier.retry import Answer, Dead, Delivered, Disable, Failure, RetryAt
from notifier.transport import Transport

_log = logs.get(__name__)
_GATHER_SECONDS = 0.02
"""How long finished attempts may wait for others, to be settled in one transaction."""

_FIRST_BACK_OFF, _LONGEST_BACK_OFF = 0.5, 30.0


@dataclass(frozen=True)
class Options:
    """How many attempts at once, how many at one endpoint, and the times that bind them."""

    threads: int
    per_endpoint: int
    lease: timedelta
    poll_seconds: float


@dataclass
class Tally:
    """What a run of the worker did."""

    delivered: int = 0
    to_retry: int = 0
    dead: int = 0
    held: int = 0


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
    options: Options
    jitter: Callable[[], float] = random.random
    tally: Tally = field(default_factory=Tally)

    def __post_init__(self) -> None:
        self._finished: queue.SimpleQueue[Settlement | _Wake] = queue.SimpleQueue()
        self._busy: Counter[int] = Counter()
        self._unsettled: list[Settlement] = []
        self._stopping = False
        self._back_off = 0.0

    def stop(self) -> None:
        """Claim no more, and return once what is under way is settled; fit for a signal handler."""
        self._stopping = True
        self._finished.put(_Wake())

    def run(self, *, once: bool = False) -> Tally:
        """Deliver until stopped, or with `once` until nothing is due.

        While the database is away the worker backs off and tries again; with `once` it raises,
        and when stopped it leaves what it cannot settle to the leases.
        """
        with ThreadPoolExecutor(self.options.threads, thread_name_prefix="attempt") as pool:
            while True:
                started = self._turn_or_back_off(pool, once=once)
                if not started and not self._under_way() and (once or self._stopping):
                    return self.tally
                if self._stopping and self._back_off and not self._busy.total():
                    self._leave_to_leases()
                    return self.tally
                self._gather()

    def _leave_to_leases(self) -> None:
        _log.warning(
            "stopped without the database, attempts left to their leases",
            unsettled=len(self._unsettled),
            next_step="Nothing: they are made again; the receiver knows duplicates.",
        )

    def _under_way(self) -> bool:
        return bool(self._unsettled) or self._busy.total() > 0

    def _turn_or_back_off(self, pool: ThreadPoolExecutor, *, once: bool) -> int:
        try:
            started = self._turn(pool)
        except db.UNAVAILABLE as error:
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
        """Settle what has finished, claim for the free places, in one transaction; start those."""
        free = 0 if self._stopping else self.options.threads - self._busy.total()
        if not self._unsettled and not (free and self._any_due()):
            return 0
        with self.database.writing() as session:
            now = db.now(session)
            self._settle(session, now)
            claimed = self._claim(session, free, now) if free else []
            wanted = sorted({one.endpoint_id for one in claimed})
            sealed = endpoints.sealed_secrets(session, wanted, now=now)
        settled, self._unsettled = self._unsettled, []
        for one in settled:
            self._tell(one)
        for each in claimed:
            self._busy[each.endpoint_id] += 1
            pool.submit(self._attempt, each, sealed.get(each.endpoint_id, ()))
        return len(claimed)

    def _any_due(self) -> bool:
        with self.database.reading() as session:
            return deliveries.any_due(session, now=db.now(session))

    def _settle(self, session: Session, now: datetime) -> None:
        if not self._unsettled:
            return
        # Endpoints before deliveries, in their order: whoever else locks both does the same.
        disabling = [one for one in self._unsettled if isinstance(one.outcome, Disable)]
        endpoints.lock(session, {one.claimed.endpoint_id for one in disabling})
        fenced = deliveries.settle(session, self._unsettled, now=now)
        for one in disabling:
            if one not in fenced and isinstance(one.outcome, Disable):
                endpoints.disable(session, one.claimed.endpoint_id, one.outcome.reason, now=now)

    def _claim(self, session: Session, free: int, now: datetime) -> list[Claimed]:
        return deliveries.claim(
            session,
            limit=free,
            per_endpoint=self.options.per_endpoint,
            busy=self._busy,
            lease=self.options.lease,
            now=now,
        )

    def _attempt(self, claimed: Claimed, sealed: tuple[str, ...]) -> None:
        started_at, clock = datetime.now(UTC), time.perf_counter()
        try:
            answer = self._post(claimed, sealed, now=started_at)
        except Exception as error:  # noqa: BLE001 - one delivery's fault must not end the worker
            _log.exception("attempt failed unforeseen", delivery_id=claimed.delivery_id)
            answer = Failure("internal", type(error).__name__)
        milliseconds = round((time.perf_counter() - clock) * 1000)
        self._finished.put(self._settlement(claimed, answer, started_at, milliseconds))

    def _post(
        self, claimed: Claimed, sealed: tuple[str, ...], *, now: datetime
    ) -> Answer | Failure:
        try:
            keys = [Secret.parse(self.vault.open(secret)) for secret in sealed]
        except SealError as error:
            return Failure("secret-sealed", f"{error}; {error.advice}")
        body = claimed.body.encode()
        headers = signature.sign(keys, claimed.webhook_id, body, now=now)
        return self.transport.post(claimed.url, headers, body)

    def _settlement(
        self, claimed: Claimed, answer: Answer | Failure, started_at: datetime, milliseconds: int
    ) -> Settlement:
        outcome = retry.decide(
            answer, claimed.attempts, now=datetime.now(UTC), jitter=self.jitter()
        )
        match answer:
            case Answer(status, _, said):
                return Settlement(
                    claimed, started_at, milliseconds, outcome, status=status, detail=said or None
                )
            case Failure(kind, detail):
                return Settlement(
                    claimed, started_at, milliseconds, outcome, failure=kind, detail=detail
                )

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
            self._busy[one.claimed.endpoint_id] -= 1
            self._unsettled.append(one)
            if self._busy.total() == 0:
                return
            ends = min(ends, time.monotonic() + _GATHER_SECONDS)

    def _tell(self, one: Settlement) -> None:
        """Count and log what came of an attempt: the one place that does."""
        line = _log.bind(
            delivery_id=one.claimed.delivery_id,
            webhook_id=one.claimed.webhook_id,
            event_type=one.claimed.event_type,
            course_id=one.claimed.course_id,
            url=one.claimed.url.partition("?")[0],
            attempt=one.claimed.attempts,
            milliseconds=one.milliseconds,
        )
        why = {"status": one.status, "failure": one.failure, "detail": one.detail}
        match one.outcome:
            case Delivered():
                self.tally.delivered += 1
                line.info("event delivered", status=one.status)
            case RetryAt(due_at):
                self.tally.to_retry += 1
                step = failures.next_step(one.failure)
                line.warning(
                    "attempt failed, will be retried",
                    due_at=due_at.isoformat(),
                    next_step=step,
                    **why,
                )
            case Dead(reason):
                self.tally.dead += 1
                step = (
                    f"Mend the cause, then `notifier deliveries replay {one.claimed.delivery_id}`."
                )
                line.error("delivery is dead", reason=reason, next_step=step, **why)
            case Disable(reason):
                self.tally.held += 1
                step = (
                    f"Ask the receiver, then `notifier endpoints enable {one.claimed.endpoint_id}`."
                )
                line.error(
                    "endpoint disabled, its deliveries held", reason=reason, next_step=step, **why
                )
