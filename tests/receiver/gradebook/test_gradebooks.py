"""What every gradebook promises: the same cases against ELMS's own table and against a Moodle."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import update

from contract.grades import Score
from contract.tokens import MoodleToken
from foundation.db import session as db
from foundation.db.session import Database
from receiver.errors import LeaseLostError
from receiver.gradebook.base import CourseScores, Gradebook, ScoreCounts
from receiver.gradebook.database import DatabaseGradebook
from receiver.models import Entry, Source, StoredScore, SyncLease
from receiver.moodle.gradebook import MoodleGradebook
from receiver.runs.lease import RunLease
from receiver.sources.base import Transient
from receiver.sources.http_client import HttpClient
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

    lease = RunLease(database, timedelta(minutes=5))
    with database.writing() as session:
        lease.acquire(session, "ada@elms", now=db.now(session))
    return Kind(DatabaseGradebook(lease), entry_id, held)


@pytest.fixture
def moodles(moodle: FakeMoodle, http_client: HttpClient) -> Kind:
    """A Moodle's assignment with two students."""
    elms = Elms(moodle)
    elms.enrol(14, "S1001")
    elms.enrol(15, "S1002")

    def held() -> dict[str, Decimal | None]:
        return {elms.users[student]: grade for student, grade in elms.grades.items()}

    return Kind(MoodleGradebook(http_client, url=moodle.url, token=TOKEN), 1, held)


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
    first = kind.gradebook.write([course(kind, S1001="72.5", S1002="50")])
    second = kind.gradebook.write([course(kind, S1001="72.50000", S1002="50.00001")])

    assert [kept.scores for kept in (*first, *second)] == [
        ScoreCounts(added=2),
        ScoreCounts(changed=1, unchanged=1),
    ]
    assert kind.held() == {"S1001": Decimal("72.5"), "S1002": Decimal("50.00001")}


def test_who_is_not_named_stays(kind: Kind) -> None:
    kind.gradebook.write([course(kind, S1001="72.5", S1002="50")])

    kind.gradebook.write([course(kind, S1002="51")])

    assert kind.held() == {"S1001": Decimal("72.5"), "S1002": Decimal(51)}


def test_a_course_without_scores_is_answered(kind: Kind) -> None:
    (kept,) = kind.gradebook.write([course(kind)])

    assert (kept.entry_id, kept.scores, kept.failure) == (kind.entry_id, ScoreCounts(), None)


def test_a_lost_lease_takes_back_what_was_written(table: Kind, database: Database) -> None:
    with database.writing() as session:
        session.execute(update(SyncLease).values(token="another"))

    with pytest.raises(LeaseLostError):
        table.gradebook.write([course(table, S1001="72.5")])

    assert table.held() == {}


def test_a_cancelled_moodle_is_not_written(moodles: Kind) -> None:
    moodles.gradebook.cancel()

    (written,) = moodles.gradebook.write([course(moodles, S1001="72.5")])

    assert isinstance(written.failure, Transient)
    assert not any(moodles.held().values())
