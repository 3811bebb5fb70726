"""Connections to the addresses of a host, and which error is reported if all fail."""

import errno
import os
import socket
from typing import Any

import pytest

from foundation.http import deadline
from foundation.http.dialer import ConnectError, Dialer

UNREACHABLE = "255.255.255.255"  # the kernel has no route for TCP to it


def dial(*addresses: str) -> ConnectError:
    """Return the error of a connection to a host that has these addresses."""
    rows = [(socket.AF_INET, 1, 6, "", (one, 9)) for one in addresses]
    with deadline.Exchange(5), pytest.raises(ConnectError) as caught:
        Dialer(5, resolve=lambda *_, **__: rows).dial("elms.example", 9, tls=False)
    return caught.value


@pytest.mark.parametrize(
    ("addresses", "code"),
    [
        pytest.param(["127.0.0.1"], errno.ECONNREFUSED, id="refused"),
        pytest.param([UNREACHABLE], errno.ENETUNREACH, id="no route"),
        pytest.param([UNREACHABLE, "127.0.0.1"], errno.ECONNREFUSED, id="refused last"),
        pytest.param(["127.0.0.1", UNREACHABLE], errno.ECONNREFUSED, id="refused first"),
    ],
)
def test_answer_of_the_host_is_reported_before_a_missing_route(
    addresses: list[str], code: int
) -> None:
    error = dial(*addresses)

    assert (error.errno, error.strerror) == (code, os.strerror(code))


@pytest.mark.parametrize(
    ("raised", "message"),
    [
        pytest.param(
            TimeoutError("timed out"),
            "the connection was not accepted within 5 s",
            id="of this program",
        ),
        pytest.param(
            TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT)),
            "Connection timed out",
            id="of the network",
        ),
    ],
)
def test_own_timeout_is_reported_only_if_the_time_has_passed(
    monkeypatch: pytest.MonkeyPatch, raised: OSError, message: str
) -> None:
    def fail(*_: Any) -> None:
        raise raised

    monkeypatch.setattr(socket.socket, "connect", fail)

    error = dial("127.0.0.1")

    assert (error.errno, error.strerror) == (errno.ETIMEDOUT, message)
