"""Fixtures of the tests against hostile receivers."""

import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from notifier.webhooks.http_client import Transport
from tests.faults.certificate_authority import Authority
from tests.faults.server import Behaviour, RawSink
from tests.notifier.conftest import (
    database,
    make_raw_sink,
    make_sink,
    make_transport,
    shared_database,
    sink,
    store,
    vault,
)

__all__ = [
    "database",
    "make_raw_sink",
    "make_sink",
    "make_transport",
    "shared_database",
    "sink",
    "store",
    "vault",
]

MakeTransport = Callable[..., Transport]
MakeRawSink = Callable[[Behaviour], RawSink]

# Seconds: far more than any deadline of these tests, far less than the receivers stall.
PATIENCE = 20.0
HEADERS = {
    "webhook-id": "msg_1",
    "webhook-timestamp": "1795338000",
    "webhook-signature": "v1,c2lnbmF0dXJl",
}
BODY = '{"type":"course.deleted","data":{"course_id":"Größe"}}'.encode()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """The authority that the transport trusts."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def make_trusting(make_transport: MakeTransport, authority: Authority) -> MakeTransport:
    """Return a function that makes a transport which trusts the authority."""

    def make(**overrides: Any) -> Transport:
        return make_transport(bundle=str(authority.bundle), **overrides)

    return make


@pytest.fixture
def full_port() -> Iterator[int]:
    """A port on loopback that accepts no connection."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(full.getsockname())
        yield int(full.getsockname()[1])
        for one in waiting:
            one.close()
