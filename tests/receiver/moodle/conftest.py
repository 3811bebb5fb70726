"""A Moodle under test on loopback, and what asks it."""

from collections.abc import Iterator

import pytest

from receiver.sources.http_client import Exchange
from tests.receiver.moodle.fake import FakeMoodle, serving


@pytest.fixture
def moodle() -> Iterator[FakeMoodle]:
    """A Moodle that does not know any function yet."""
    with serving() as there:
        yield there


@pytest.fixture
def exchange() -> Iterator[Exchange]:
    """What sends requests, with little patience."""
    opened = Exchange(connect_timeout=0.5, read_timeout=0.5, total=1.0)
    yield opened
    opened.close()
