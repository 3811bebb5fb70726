"""Both services as real processes that a test can kill or stop at named points."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from foundation.db.migrations import Schema
from notifier.models import SCHEMA as NOTIFIER_SCHEMA
from receiver.models import SCHEMA as RECEIVER_SCHEMA
from tests.faults import processes, site
from tests.faults.processes import Zygote
from tests.faults.site import Site


@pytest.fixture(scope="session")
def zygote() -> Iterator[Zygote]:
    """The process that commands are forked from."""
    with processes.zygote() as started:
        yield started


@pytest.fixture
def make_site(
    zygote: Zygote, make_database_url: Callable[[Schema], str], tmp_path: Path
) -> Iterator[Callable[..., Site]]:
    """Return what sets both services up, with no endpoint yet; all ended after the test."""
    with ExitStack() as stack:

        def make(**overrides: Any) -> Site:
            urls = make_database_url(NOTIFIER_SCHEMA), make_database_url(RECEIVER_SCHEMA)
            return stack.enter_context(site.site(zygote, tmp_path, *urls, **overrides))

        yield make


@pytest.fixture
def both(make_site: Callable[..., Site]) -> Site:
    """Both services, set up."""
    return make_site()
