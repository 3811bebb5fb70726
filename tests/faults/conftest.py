"""Both services as real processes, which tests kill, stop or leave running."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from foundation.db.migrations import Schema
from notifier.models import SCHEMA as NOTIFIER_SCHEMA
from receiver.models import SCHEMA as RECEIVER_SCHEMA
from tests.faults import site
from tests.faults.site import Site


@pytest.fixture
def both(make_database_url: Callable[[Schema], str], tmp_path: Path) -> Iterator[Site]:
    """Both services, without endpoints."""
    urls = make_database_url(NOTIFIER_SCHEMA), make_database_url(RECEIVER_SCHEMA)
    with site.site(tmp_path, *urls) as made:
        yield made
