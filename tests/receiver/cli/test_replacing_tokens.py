"""`receiver registry`, where a token that is known to be good is to be replaced by another."""

from collections.abc import Callable, Iterator

import pytest
from click.testing import Result
from sqlalchemy import update

from contract.tokens import MoodleToken
from foundation.database import Database
from receiver.models import Entry
from receiver.moodle.grades import FUNCTION
from tests.receiver.moodle.fake import FakeMoodle, serving

GOOD, STRANGER = "0123456789abcdef0123456789abcdef", "f" * 32


@pytest.fixture
def moodle(receiver: Callable[..., Result]) -> Iterator[FakeMoodle]:
    """A Moodle that lets one token in, and is ELMS's only source."""
    with serving() as there:
        there.tokens = {GOOD}
        there.says(FUNCTION, "grades")
        receiver("sources", "add", "moodle", "--url", there.url, "--kind", "moodle", stdin="\n")
        yield there


@pytest.mark.parametrize("runs", [1, 2])
def test_a_token_that_a_moodle_took_is_not_replaced_by_one_that_it_refuses(
    receiver: Callable[..., Result],
    moodle: FakeMoodle,
    entry_of: Callable[[str], Entry],
    runs: int,
) -> None:
    """That it answered a sync with grades is proof enough, and told once."""
    receiver("registry", "add", "7", stdin=GOOD)
    for _ in range(runs):
        receiver("sync-grades")

    entered = receiver("registry", "set-token", "7", stdin=STRANGER)

    assert entered.exit_code == 1
    assert "is not taken: eAssessment refused it: invalidtoken" in entered.stderr
    assert entry_of("7").held_token_id == MoodleToken(GOOD).token_id
    told = receiver("registry", "show", "7").stdout
    assert told.count("token proven") == 1


def test_a_moodle_whose_grades_did_not_change_took_the_token_all_the_same(
    receiver: Callable[..., Result], moodle: FakeMoodle, database: Database
) -> None:
    """A course that was synced before this was remembered is known when nothing new comes."""
    receiver("registry", "add", "7", stdin=GOOD)
    receiver("sync-grades")
    with database.writing() as session:
        session.execute(update(Entry).values(proven_token_id=None, proven_at=None))
    synced = receiver("sync-grades", "--json")

    entered = receiver("registry", "set-token", "7", stdin=STRANGER)

    assert '"unchanged": 1' in synced.stdout
    assert (entered.exit_code, "is not taken" in entered.stderr) == (1, True)
