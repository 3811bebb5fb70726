"""ELMS notices that it receives nothing, and only then.

The watcher knows what `/metrics` of ELMS says, and nothing else.
"""

import json
import random
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
import requests

from contract import events
from foundation.db import session as db
from notifier.webhooks import endpoints
from notifier.worker.heartbeat import take_due
from receiver.sources import store as sources
from receiver.sources.store import WebhookSource
from receiver.webhooks import inbox
from tests.faults.processes import PATIENCE, Process, wait_until
from tests.faults.site import ELMS, SOURCE, Site, free_port

# Seconds between two heartbeats, and that one may take on a busy machine.
INTERVAL, SLACK = 3, 2.0
HOUR = timedelta(hours=1)

pytestmark = pytest.mark.parametrize("database_kind", ["sqlite"], indirect=True)


@dataclass
class Watcher:
    """Reads the metrics of ELMS."""

    url: str

    def value(self, name: str) -> float:
        """Return the sum of a metric over its labels."""
        text = requests.get(self.url, timeout=PATIENCE).text
        return sum(map(float, re.findall(rf"^{name}{{[^}}]*}} (\S+)$", text, re.MULTILINE)))

    def received_at(self) -> float:
        """Return when the last webhook was received."""
        return self.value("receiver_source_last_received_timestamp_seconds")

    def is_silent(self) -> bool:
        """Return what the alert rule says."""
        silent_for = time.time() - self.received_at()
        return silent_for > 2 * self.value("receiver_source_heartbeat_seconds")


@dataclass
class Deployment:
    """Both services, one endpoint, and the running worker."""

    site: Site
    endpoint_id: int
    worker: Process

    def start_worker(self, source: str = SOURCE) -> None:
        self.worker = start_worker(self.site, source)

    @contextmanager
    def wrong_secret(self) -> Iterator[None]:
        self.site.run("notifier", "endpoints", "rotate-secret", str(self.endpoint_id), "--now")
        yield
        self.site.rotate_secret(ELMS, self.endpoint_id, "--now")

    @contextmanager
    def disabled_endpoint(self) -> Iterator[None]:
        self.site.run("notifier", "endpoints", "disable", str(self.endpoint_id))
        yield
        self.site.run("notifier", "endpoints", "enable", str(self.endpoint_id))

    @contextmanager
    def stopped_worker(self) -> Iterator[None]:
        self.site.stop(self.worker)
        yield
        self.start_worker()

    @contextmanager
    def blocked_port(self) -> Iterator[None]:
        servers = self.site.observer.servers
        port, servers[ELMS] = servers[ELMS], free_port()
        yield
        servers[ELMS] = port

    @contextmanager
    def wrong_name(self) -> Iterator[None]:
        self.site.stop(self.worker)
        self.start_worker("another-name")
        yield
        self.site.stop(self.worker)
        self.start_worker()


def start_worker(site: Site, source: str = SOURCE) -> Process:
    """Start a worker of a site with this name."""
    settings = {"NOTIFIER_HEARTBEAT_INTERVAL": str(INTERVAL), "NOTIFIER_SOURCE": source}
    return site.start("notifier", "work", more=settings)


@pytest.mark.parametrize(
    ("broken", "refused"),
    [
        pytest.param(Deployment.wrong_secret, "signature-mismatch", id="wrong secret"),
        pytest.param(Deployment.disabled_endpoint, None, id="disabled endpoint"),
        pytest.param(Deployment.stopped_worker, None, id="stopped worker"),
        pytest.param(Deployment.blocked_port, None, id="blocked port"),
        pytest.param(Deployment.wrong_name, "source-mismatch", id="wrong name"),
    ],
)
def test_silence_is_seen_within_two_intervals_and_its_end_too(
    both: Site, broken: Callable[[Deployment], Iterator[None]], refused: str | None
) -> None:
    server, port = both.serve("receiver")
    both.observer.servers[ELMS] = port
    deployment = Deployment(both, both.register(ELMS), start_worker(both))
    watcher = Watcher(f"http://127.0.0.1:{port}/metrics")
    wait_until(lambda: watcher.value("receiver_source_heartbeat_seconds"), "the first heartbeat")
    assert not watcher.is_silent()

    with broken(deployment):
        broken_at = time.time()
        wait_until(watcher.is_silent, "the silence is seen")
        silent_at = watcher.received_at() + 2 * INTERVAL
        is_refused = refused and f'refused_total{{reason="{refused}"}}' in metrics_of(watcher)
        found = webhooks_of_doctor(both)
    mended_at = time.time()
    wait_until(lambda: not watcher.is_silent(), "the end of the silence is seen")
    received_at = watcher.received_at()

    assert bool(is_refused) is bool(refused)
    assert ("refused with" in found) is bool(refused)
    assert silent_at - broken_at <= 2 * INTERVAL + SLACK
    assert received_at - mended_at <= 2 * INTERVAL + SLACK
    assert server.code is None


def test_worker_that_was_never_started_is_noticed_after_a_ping(both: Site) -> None:
    _, port = both.serve("receiver")
    both.observer.servers[ELMS] = port
    endpoint_id, watcher = both.register(ELMS), Watcher(f"http://127.0.0.1:{port}/metrics")

    both.start(
        *("notifier", "endpoints", "ping", str(endpoint_id)),
        more={"NOTIFIER_HEARTBEAT_INTERVAL": str(INTERVAL)},
    ).wait_ended()
    assert watcher.value("receiver_source_heartbeat_seconds") == INTERVAL
    assert not watcher.is_silent()
    wait_until(watcher.is_silent, "the silence is seen")
    silent_for = time.time() - watcher.received_at()
    start_worker(both)
    wait_until(lambda: not watcher.is_silent(), "the end of the silence is seen")

    assert silent_for <= 2 * INTERVAL + SLACK


def metrics_of(watcher: Watcher) -> str:
    """Return all metrics."""
    return requests.get(watcher.url, timeout=PATIENCE).text


def webhooks_of_doctor(site: Site) -> str:
    """Return what `receiver doctor` says of webhooks."""
    doctor = site.start("receiver", "doctor", "--json")
    doctor.wait_ended()
    findings = json.loads(doctor.printed())["findings"]
    return next(str(one["detail"]) for one in findings if one["check"] == "webhooks")


def test_downtime_of_elms_is_no_silence(both: Site) -> None:
    with both.receiver.writing() as session:
        source_id, now = sources.get(session, SOURCE).id, db.now(session)
        sources.store_heartbeat(session, source_id, 3600, now=now - 5 * HOUR)
    before = webhooks_of_doctor(both)

    _, port = both.serve("receiver")

    watcher = Watcher(f"http://127.0.0.1:{port}/metrics")
    assert "although" in before
    assert "although" not in webhooks_of_doctor(both)
    assert watcher.value("receiver_source_silent") == 0


@pytest.mark.parametrize(
    ("lost", "silent"),
    [
        pytest.param(0, False, id="all arrive"),
        pytest.param(1, False, id="every tenth is lost"),
        pytest.param(2, True, id="two in a row are lost"),
    ],
)
def test_week_without_events_raises_nothing(both: Site, lost: int, silent: bool) -> None:
    endpoint_id, chance = both.register(ELMS), random.Random(4)
    with both.receiver.reading() as session:
        source_id = sources.get(session, SOURCE).id
    source = WebhookSource(source_id, SOURCE, ())
    raw = events.dump_ping(SOURCE, datetime.now(UTC), heartbeat_seconds=3600, is_heartbeat=True)
    heartbeat = events.load(raw.encode())
    with both.notifier.reading() as session:
        begun = now = db.now(session)
    found, number = set(), 0

    while now < begun + timedelta(days=7):
        with both.notifier.writing() as session:
            [due] = take_due(session, HOUR, jitter=chance.random, now=now) or [None]
            next_at = endpoints.get(session, endpoint_id).heartbeat_due_at or begun + HOUR
        with both.receiver.writing() as session:
            found.add(sources.receptions(session)[SOURCE].is_silent(now))
            if due is not None and number % 10 >= lost:
                inbox.accept(session, source, f"msg_{number}", heartbeat, b"", now=now)
        number += due is not None
        # A worker looks every 30 seconds.
        now = next_at + timedelta(seconds=30)

    assert number > 7 * 24
    assert found == {False, silent}
