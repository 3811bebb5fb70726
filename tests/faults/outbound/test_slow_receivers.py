"""Slow receivers: the status counts without the body, and attempts that wait cost little."""

import multiprocessing
import re
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import pytest

from notifier.webhooks.retry_policy import WebhookResponse
from notifier.worker.worker import Worker, WorkerOptions
from tests.faults.certificate_authority import Authority
from tests.faults.outbound.conftest import BODY, HEADERS, PATIENCE, MakeRawSink, MakeTransport
from tests.faults.outbound.waiting_attempts import ATTEMPTS, memory_of_waiting
from tests.faults.processes import wait_until
from tests.faults.server import FINE, OK, Behaviour, black_hole, drips, over_tls, says, withholds
from tests.notifier.conftest import MINUTE, Sink, Store, running

CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
MEGABYTE = 1024 * 1024


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize(
    ("behave", "excerpt"),
    [
        pytest.param(drips(OK + b"Content-Length: 100000\r\n\r\n"), "x+", id="slow body"),
        pytest.param(drips(OK + b"\r\n"), "x+", id="slow body without a length"),
        pytest.param(drips(CHUNKED, b"1\r\nx\r\n"), "x+", id="slow chunks"),
        pytest.param(drips(CHUNKED, b"0"), "", id="slow size of a chunk"),
        pytest.param(drips(CHUNKED + b"0\r\n", b"X: x\r\n"), "", id="slow trailers"),
        pytest.param(withholds(OK + b"Content-Length: 9\r\n\r\n"), "", id="no body"),
        pytest.param(withholds(OK + b"Content-Length: 9\r\n\r\npart"), "part", id="half a body"),
    ],
)
def test_status_counts_without_the_rest_of_the_body(
    make_raw_sink: MakeRawSink,
    make_trusting: MakeTransport,
    authority: Authority,
    behave: Behaviour,
    excerpt: str,
    scheme: str,
) -> None:
    served = over_tls(authority.server(), behave, []) if scheme == "https" else behave
    raw, transport = make_raw_sink(served), make_trusting(deadline=60)

    started = time.monotonic()
    responses = [transport.post(raw.url(scheme), HEADERS, BODY) for _ in range(2)]

    assert time.monotonic() - started < PATIENCE
    assert {one.status for one in responses if isinstance(one, WebhookResponse)} == {200}
    assert all(re.fullmatch(excerpt, one.excerpt) for one in responses)
    assert raw.connections == 2  # the rest of the body is not taken for the next response


def test_attempts_that_wait_delay_no_other(
    make_raw_sink: MakeRawSink, make_transport: MakeTransport
) -> None:
    slow = [make_raw_sink(one) for one in (black_hole, drips(OK + b"X-")) for _ in range(4)]
    healthy, transport = make_raw_sink(says(FINE)), make_transport(deadline=60)

    with ThreadPoolExecutor(len(slow)) as threads:
        waiting = [threads.submit(transport.post, one.url(), HEADERS, BODY) for one in slow]
        wait_until(lambda: all(one.connections for one in slow), "each receiver is connected")
        response = transport.post(healthy.url(), HEADERS, BODY)
        still_waiting = [not one.done() for one in waiting]
        for one in slow:
            one.stop()

    assert response == WebhookResponse(200, None, "well")
    assert still_waiting == [True] * len(slow)


def test_slow_endpoints_do_not_delay_a_healthy_one(
    store: Store, make_transport: MakeTransport, make_raw_sink: MakeRawSink, sink: Sink
) -> None:
    drip = [make_raw_sink(drips(OK + b"Content-Length: 100000\r\n\r\n")) for _ in range(4)]
    late = [make_raw_sink(one) for one in (black_hole, drips(OK + b"X-"))]
    urls = [one.url() for one in drip] + [f"{one.url()}/{n}" for one in late for n in range(75)]
    endpoints = [store.add_endpoint(url).id for url in (*urls, sink.url())]
    options = WorkerOptions(threads=32, per_endpoint=8, lease=3 * MINUTE, poll_seconds=0.01)
    transport = make_transport(deadline=120, connections=options.threads)

    with running(Worker(store.database, store.vault, transport, options)):
        events = []
        for number in range(1, 6):
            events.append([store.add_delivery(one) for one in endpoints])
            sink.wait_for(number)
        ended = [store.attempts(one) for event in events for one in event[4:-1]]
        wait_until(lambda: store.statuses(*events[0][:4]) == ["delivered"] * 4, "dripping ones")
        for one in late:
            one.stop()

    # No attempt that waits for a head had to end before the healthy endpoint got its events.
    assert not any(ended)


@pytest.mark.parametrize(
    ("scheme", "behave"),
    [
        pytest.param("http", withholds(b""), id="silence"),
        pytest.param("https", drips(OK + b"X-"), id="slow headers over TLS"),
    ],
)
def test_attempt_that_waits_needs_less_than_a_megabyte(
    make_raw_sink: MakeRawSink, authority: Authority, scheme: str, behave: Behaviour
) -> None:
    served = over_tls(authority.server(), behave, []) if scheme == "https" else behave
    raw = make_raw_sink(served)

    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        needed = process.submit(memory_of_waiting, raw.url(scheme), str(authority.bundle)).result()

    assert raw.connections > ATTEMPTS
    assert 0 < needed / ATTEMPTS < MEGABYTE
