"""A short run of regenerations under a sync every second (`make torture` runs a long one)."""

import pytest

from tests.faults.regenerations import regenerate
from tests.faults.site import PATIENT, Site

COUNT = 40


@pytest.mark.timeout(300)
def test_no_course_is_skipped_and_no_token_refused(both: Site) -> None:
    both.environment.update(PATIENT)
    both.observer.timeout = 60.0

    result = regenerate(both, count=COUNT, rate=10.0)

    assert result.statuses == {201: COUNT}
    assert (result.not_synced, result.refused, result.outdated) == ([], [], [])
    assert result.claimed >= COUNT // 2
