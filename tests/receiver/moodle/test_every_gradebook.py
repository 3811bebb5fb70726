"""What every gradebook promises: the same cases against ELMS's own table and against a Moodle."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from contract.grades import Score
from contract.tokens import MoodleToken
from foundation.db.session import Database
from receiver.gradebook.base import CourseScores, Gradebook, TableGradebook
from receiver.gradebook.database import ScoreCounts
from receiver.models import Entry, Source, StoredScore
from receiver.moodle.gradebook import MoodleGradebook
from receiver.sources.http_client import Exchange
from tests.receiver.moodle.elms import ACTIVITY, COURSE, Elms
from tests.receiver.moodle.fake import FakeMoodle

NINE = datetime(2026, 11, 22, 9, tzinfo=UTC)
TOKEN = MoodleToken("0123456789abcdef0123456789abcdef")


@dataclass(frozen=True)
class Kind:
    """A gradebook, the entry of a course in it, and what reads the grades that it holds."""

    gradebook: Gradebook
    entry_id: int
    held: Callable[[], dict[str, Decimal | None]]


@pytest.fixture
def table(
    database: Database,
    make_source: Callable[..., Source],
    make_entry: Callable[..., Entry],
    rows: Callable[[type[Any]], list[Any]],
) -> Kind:
    """ELMS's own table."""
    entry_id = make_entry(make_source()).id

    def held() -> dict[str, Decimal | None]:
        return {row.user_id: row.score_given for row in rows(StoredScore)}

    return Kind(TableGradebook(database, lambda _: None), entry_id, held)


@pytest.fixture
def moodles(moodle: FakeMoodle, exchange: Exchange) -> Kind:
    """A Moodle's assignment with two students."""
    elms = Elms(moodle)
    elms.enrol(14, "S1001")
    elms.enrol(15, "S1002")

    def held() -> dict[str, Decimal | None]:
        return {elms.users[student]: grade for student, grade in elms.grades.items()}

    return Kind(MoodleGradebook(exchange, url=moodle.url, token=TOKEN), 1, held)


@pytest.fixture(params=["table", "moodles"])
def kind(request: pytest.FixtureRequest, table: Kind, moodles: Kind) -> Kind:
    """Each kind of gradebook."""
    return {"table": table, "moodles": moodles}[request.param]


def course(kind: Kind, **points: str) -> CourseScores:
    """Return what is to be written: points by person."""
    scores = tuple(
        Score(
            user_id=user_id,
            score_given=Decimal(given),
            score_maximum=Decimal(100),
            timestamp=NINE,
        )
        for user_id, given in points.items()
    )
    return CourseScores(kind.entry_id, COURSE, ACTIVITY, scores)


def test_a_gradebook_in_order_has_no_trouble(kind: Kind) -> None:
    assert kind.gradebook.check() is None


def test_scores_are_written_once(kind: Kind) -> None:
    first = kind.gradebook.write([course(kind, S1001="72.5", S1002="50")], beat=lambda: None)
    second = kind.gradebook.write(
        [course(kind, S1001="72.50000", S1002="50.00001")], beat=lambda: None
    )

    assert [kept.written for kept in (*first, *second)] == [
        ScoreCounts(added=2),
        ScoreCounts(changed=1, unchanged=1),
    ]
    assert kind.held() == {"S1001": Decimal("72.5"), "S1002": Decimal("50.00001")}


def test_who_is_not_named_stays(kind: Kind) -> None:
    kind.gradebook.write([course(kind, S1001="72.5", S1002="50")], beat=lambda: None)

    kind.gradebook.write([course(kind, S1002="51")], beat=lambda: None)

    assert kind.held() == {"S1001": Decimal("72.5"), "S1002": Decimal(51)}


def test_a_course_without_scores_is_answered(kind: Kind) -> None:
    (kept,) = kind.gradebook.write([course(kind)], beat=lambda: None)

    assert (kept.entry_id, kept.written, kept.failure) == (kind.entry_id, ScoreCounts(), None)


def test_a_beat_that_raises_ends_the_writing(kind: Kind) -> None:
    def lost() -> None:
        raise RuntimeError("another one has taken over")

    with pytest.raises(RuntimeError, match="taken over"):
        kind.gradebook.write([course(kind, S1001="72.5")], beat=lost)

    assert not any(kind.held().values())


def test_the_fence_is_in_the_transaction_of_the_writing(table: Kind, database: Database) -> None:
    def fence(_: object) -> None:
        raise RuntimeError("another one has taken over")

    with pytest.raises(RuntimeError, match="taken over"):
        TableGradebook(database, fence).write([course(table, S1001="72.5")], beat=lambda: None)

    assert table.held() == {}
