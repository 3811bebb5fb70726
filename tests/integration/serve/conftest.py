"""Both services as they are served: one of each for all tests that change nothing."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from contract.signatures import Secret
from foundation.db.migrations import Schema
from notifier.models import SCHEMA as NOTIFIER
from receiver.models import SCHEMA as RECEIVER
from tests.integration.services import THREADS, Served, add_source, copied, serve

FEW_THREADS = {"WEB_THREADS": str(THREADS)}


@pytest.fixture(scope="session")
def secret() -> Secret:
    """The secret that the source's events are signed with."""
    return Secret.generate()


@pytest.fixture(scope="session")
def elms(
    tmp_path_factory: pytest.TempPathFactory,
    sqlite_templates: Callable[[Schema], Path],
    secret: Secret,
) -> Iterator[Served]:
    """ELMS, served by few threads; it knows one source."""
    folder = tmp_path_factory.mktemp("elms")
    url = copied(sqlite_templates(RECEIVER), folder)
    add_source(url, secret)
    served = serve("receiver", RECEIVER, url, folder, **FEW_THREADS)
    yield served
    served.stop()


@pytest.fixture(scope="session")
def eassessment(
    tmp_path_factory: pytest.TempPathFactory, sqlite_templates: Callable[[Schema], Path]
) -> Iterator[Served]:
    """An empty eAssessment, served by few threads."""
    folder = tmp_path_factory.mktemp("eassessment")
    url = copied(sqlite_templates(NOTIFIER), folder)
    served = serve("notifier", NOTIFIER, url, folder, **FEW_THREADS)
    yield served
    served.stop()
