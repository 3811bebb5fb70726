"""The contract of every gradebook, checked with ELMS's own database and with a Moodle."""

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
class Subject:
    """A gradebook, the entry of a course in it, and what reads its grades."""

    gradebook: Gradebook
    entry_id: int
    grades: Callable[[], dict[str, Decimal | None]]


@pytest.fixture
def database_gradebook(
    database: Database,
    make_source: Callable[..., Source],
    make_entry: Callable[..., Entry],
    rows: Callable[[type[Any]], list[Any]],
) -> Subject:
    """ELMS's own database_gradebook."""
    entry_id = make_entry(make_source()).id

    def grades() -> dict[str, Decimal | None]:
        return {row.user_id: row.score_given for row in rows(StoredScore)}

    lease = RunLease(database, timedelta(minutes=5))
    with database.writing() as session:
        lease.acquire(session, "ada@elms", now=db.now(session))
    return Subject(DatabaseGradebook(lease), entry_id, grades)


@pytest.fixture
def moodle_gradebook(moodle: FakeMoodle, http_client: HttpClient) -> Subject:
    """A Moodle's assignment with two students."""
    elms = Elms(moodle)
    elms.enrol(14, "S1001")
    elms.enrol(15, "S1002")

    def grades() -> dict[str, Decimal | None]:
        return {elms.users[student]: grade for student, grade in elms.grades.items()}

    return Subject(MoodleGradebook(http_client, url=moodle.url, token=TOKEN), 1, grades)


@pytest.fixture(params=["database_gradebook", "moodle_gradebook"])
def subject(
    request: pytest.FixtureRequest, database_gradebook: Subject, moodle_gradebook: Subject
) -> Subject:
    """Each kind of gradebook."""
    return {"database_gradebook": database_gradebook, "moodle_gradebook": moodle_gradebook}[
        request.param
    ]


def course(subject: Subject, **points: str) -> CourseScores:
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
    return CourseScores(subject.entry_id, COURSE, ACTIVITY, scores)


def test_working_gradebook_has_no_outage(subject: Subject) -> None:
    assert subject.gradebook.check() is None


def test_scores_are_written_once(subject: Subject) -> None:
    first = subject.gradebook.write([course(subject, S1001="72.5", S1002="50")])
    second = subject.gradebook.write([course(subject, S1001="72.50000", S1002="50.00001")])

    assert [result.scores for result in (*first, *second)] == [
        ScoreCounts(added=2),
        ScoreCounts(changed=1, unchanged=1),
    ]
    assert subject.grades() == {"S1001": Decimal("72.5"), "S1002": Decimal("50.00001")}


def test_score_that_is_not_listed_stays(subject: Subject) -> None:
    subject.gradebook.write([course(subject, S1001="72.5", S1002="50")])

    subject.gradebook.write([course(subject, S1002="51")])

    assert subject.grades() == {"S1001": Decimal("72.5"), "S1002": Decimal(51)}


def test_course_without_scores_has_a_result(subject: Subject) -> None:
    (result,) = subject.gradebook.write([course(subject)])

    assert (result.entry_id, result.scores, result.failure) == (
        subject.entry_id,
        ScoreCounts(),
        None,
    )


def test_lost_lease_rolls_the_write_back(database_gradebook: Subject, database: Database) -> None:
    with database.writing() as session:
        session.execute(update(SyncLease).values(token="another"))

    with pytest.raises(LeaseLostError):
        database_gradebook.gradebook.write([course(database_gradebook, S1001="72.5")])

    assert database_gradebook.grades() == {}


def test_cancelled_moodle_is_not_written(moodle_gradebook: Subject) -> None:
    moodle_gradebook.gradebook.cancel()

    (written,) = moodle_gradebook.gradebook.write([course(moodle_gradebook, S1001="72.5")])

    assert isinstance(written.failure, Transient)
    assert not any(moodle_gradebook.grades().values())
