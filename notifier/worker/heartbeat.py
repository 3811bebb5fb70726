"""Heartbeats: a ping to each endpoint at an interval, so that a receiver notices silence."""

import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, and_, func, or_, select
from sqlalchemy.orm import Session

from foundation import logging
from foundation.db import session as db
from foundation.errors import Advice, DecryptionError, fields_of
from foundation.text import problem_detail
from notifier.errors import NotifierError
from notifier.models import Delivery, DeliveryStatus, Endpoint
from notifier.services import Services
from notifier.webhooks import failure_advice
from notifier.webhooks.retry_policy import Failure
from notifier.worker.ping import PingResult, send_ping

_log = logging.get_logger(__name__)
# Heartbeats that a process sends at once to healthy endpoints, and as many to failing ones; and
# endpoints that one transaction looks at.
_AT_ONCE, _MAX_ENDPOINTS = 8, 200
# The shortest and the longest time between two heartbeats, as parts of the interval: if one of
# them is lost, the next one still comes before two intervals are over.
_EARLIEST, _LATEST = 0.8, 0.9
# Checks for due heartbeats in an interval, and the maximum seconds between two of them.
_CHECKS_IN_INTERVAL, _MAX_CHECK_SECONDS = 20, 30.0


class Heartbeats:
    """Sends the heartbeats that are due, on threads of their own.

    Several workers send each once: one takes what is due in a transaction. Failing endpoints
    have threads of their own, so that no healthy one waits until they time out.
    """

    def __init__(
        self,
        services: Services,
        interval: timedelta,
        *,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._services = services
        self._interval = interval
        self._jitter = jitter
        self._stopped = threading.Event()

    def stop(self) -> None:
        """Send no more heartbeats; safe in a signal handler."""
        self._stopped.set()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Send heartbeats until the end of the block; those in progress are finished."""
        threads = [
            threading.Thread(target=self._run, args=[is_failing], name="heartbeats", daemon=True)
            for is_failing in (False, True)
        ]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self.stop()
            for thread in threads:
                thread.join()

    def _run(self, is_failing: bool) -> None:
        pause = min(self._interval.total_seconds() / _CHECKS_IN_INTERVAL, _MAX_CHECK_SECONDS)
        with ThreadPoolExecutor(_AT_ONCE, "heartbeat") as pool:
            while not self._stopped.is_set():
                try:
                    due = self.take_due(is_failing=is_failing)
                except db.UNUSABLE as error:  # the worker says so, too
                    _log.debug("no heartbeats without the database", cause=db.cause(error))
                    due = []
                try:
                    list(pool.map(self._send, due))
                except RuntimeError:
                    _log.warning(
                        "no thread for heartbeats",
                        next_step="Raise the limit of threads; the heartbeats are sent next time.",
                    )
                    due = []  # The pause keeps the others due until there are threads again.
                if not due:
                    self._stopped.wait(pause)

    def take_due(self, *, is_failing: bool = False) -> list[int]:
        """Return some endpoints whose heartbeat is due, which no other worker sends then.

        They are healthy, or with `is_failing` they have failed since their last success.
        """
        database = self._services.database
        with database.reading() as session:
            is_due = _is_due(self._interval, db.now(session), is_failing=is_failing)
            if session.scalar(select(Endpoint.id).where(is_due).limit(1)) is None:
                return []
        with database.writing() as session:
            now = db.now(session)
            return take_due(
                session, self._interval, is_failing=is_failing, jitter=self._jitter, now=now
            )

    def _send(self, endpoint_id: int) -> None:
        try:
            result = send_ping(self._services, endpoint_id, is_heartbeat=True)
        except DecryptionError as error:
            _warn(endpoint_id, str(error), error.advice)
        except (NotifierError, *db.UNUSABLE) as error:
            # The endpoint was disabled or removed meanwhile, or the database went away.
            _log.debug("heartbeat given up", endpoint_id=endpoint_id, cause=str(error))
        except Exception:  # noqa: BLE001 - one endpoint's fault must not end the heartbeats
            _log.exception("heartbeat failed unexpectedly", endpoint_id=endpoint_id)
        else:
            _report(endpoint_id, result)


def take_due(
    session: Session,
    interval: timedelta,
    *,
    is_failing: bool = False,
    jitter: Callable[[], float],
    now: datetime,
) -> list[int]:
    """Return endpoints whose heartbeat is due, and set when their next one is.

    An event that was delivered counts as a heartbeat at the time of the event, so that a late
    delivery or a replay, which a receiver may know already, does not. No event counts until a
    heartbeat has carried the current interval; until then heartbeats are due at the shorter of the
    current and the previous one. `jitter` is from 0 to 1.
    """
    interval_seconds = int(interval.total_seconds())

    def wait(endpoint: Endpoint) -> timedelta:
        expected = min(interval, timedelta(seconds=endpoint.heartbeat_seconds or interval_seconds))
        return expected * (_EARLIEST + (_LATEST - _EARLIEST) * jitter())

    delivered_at = (
        select(func.max(Delivery.created_at))
        .where(
            Delivery.endpoint_id == Endpoint.id, Delivery.stored_status == DeliveryStatus.DELIVERED
        )
        .scalar_subquery()
    )
    rows = session.execute(
        select(Endpoint, delivered_at)
        .where(_is_due(interval, now, is_failing=is_failing))
        .order_by(Endpoint.heartbeat_due_at, Endpoint.id)
        .limit(_MAX_ENDPOINTS)
        .with_for_update(of=Endpoint, key_share=True, skip_locked=True)
    )
    due: list[int] = []
    for endpoint, last_at in rows:
        is_told = endpoint.heartbeat_seconds == interval_seconds
        next_at = last_at + wait(endpoint) if is_told and last_at is not None else now
        if next_at > now:
            endpoint.heartbeat_due_at = next_at
        elif len(due) < _AT_ONCE:
            endpoint.heartbeat_due_at = now + wait(endpoint)
            due.append(endpoint.id)
    return due


def _is_due(interval: timedelta, now: datetime, *, is_failing: bool) -> ColumnElement[bool]:
    """Return whether an endpoint may need a heartbeat.

    Not at once after it was added: its secret has still to be entered at the receiver. At once
    if the interval was longer when the last one was sent. In a pause too: only a heartbeat tries
    an endpoint for which nothing is pending.
    """
    return and_(
        Endpoint.disabled_at.is_(None),
        Endpoint.failures > 0 if is_failing else Endpoint.failures == 0,
        or_(
            Endpoint.heartbeat_due_at <= now,
            Endpoint.heartbeat_due_at > now + interval,
            and_(Endpoint.heartbeat_due_at.is_(None), Endpoint.created_at <= now - interval),
        ),
    )


def _report(endpoint_id: int, ping: PingResult) -> None:
    if ping.accepted:
        _log.debug("heartbeat accepted", endpoint_id=endpoint_id)
    elif isinstance(ping.result, Failure):
        advice = failure_advice.advice_for(ping.result.kind, None, endpoint_id)
        _warn(endpoint_id, f"{ping.result.kind}: {ping.result.detail}", advice)
    else:
        advice = failure_advice.advice_for(None, ping.result.status, endpoint_id)
        why = f"{ping.result.status} {problem_detail(ping.result.excerpt)}"
        _warn(endpoint_id, why.rstrip(), advice)


def _warn(endpoint_id: int, cause: str, advice: Advice | None) -> None:
    _log.warning(
        "heartbeat not accepted", endpoint_id=endpoint_id, cause=cause, **fields_of(advice)
    )
