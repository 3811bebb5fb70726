"""Grade syncs that are killed between an answer and its place in the gradebook."""

import signal
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from sqlalchemy import select, update

from contract.grades import Score
from notifier import courses, grades
from receiver import registry, sources
from receiver.models import Entry, Source, StoredScore
from tests.faults.failpoints import Fault, Point
from tests.faults.processes import wait_until
from tests.faults.site import SOURCE, Site

NINE = datetime(2026, 11, 22, 9, tzinfo=UTC)


@pytest.fixture
def linked(both: Site) -> Site:
    """Both services, eAssessment answering for one course with one score, in grade sync at ELMS."""
    score = Score(
        user_id="ada",
        score_given=Decimal("7.5"),
        score_maximum=Decimal(10),
        timestamp=NINE,
    )
    with both.notifier.writing() as session:
        token = courses.add_course(session, "CS101", "a course", now=NINE)
        grades.load(session, {"CS101": [score]}, now=NINE)
    _, port = both.serve("notifier")
    with both.receiver.writing() as session:
        session.execute(update(Source).values(url=f"http://127.0.0.1:{port}"))
        source = sources.get(session, SOURCE)
        registry.enrol(
            session,
            source,
            "CS101",
            token,
            vault=both.vault,
            teller=registry.Teller("administrator", "ada@elms"),
            now=NINE,
        )
    return both


def stored(both: Site) -> list[tuple[str, Decimal | None]]:
    """Return what stands in the gradebook."""
    with both.receiver.reading() as session:
        return [(row.user_id, row.score_given) for row in session.scalars(select(StoredScore))]


def named(both: Site) -> list[str | None]:
    """Return what ELMS would tell that it has of the course."""
    with both.receiver.reading() as session:
        return list(session.scalars(select(Entry.etag)))


@pytest.mark.parametrize(
    ("point", "scores"),
    [
        pytest.param(Point.ASKED, [], id="before the gradebook"),
        pytest.param(Point.STORED, [("ada", Decimal("7.5"))], id="before the record"),
    ],
)
def test_killed_sync_says_of_no_grades_that_it_has_them(
    linked: Site, point: Point, scores: list[tuple[str, Decimal | None]]
) -> None:
    """Its lease ends by itself, and the next sync asks again for what was not recorded (F29).

    Grades that were written meanwhile are found as they stand, and counted as such.
    """
    killed = linked.start("receiver", "sync-grades", fault=Fault(point)).wait_ended()
    left = stored(linked), named(linked)

    wait_until(
        lambda: linked.start("receiver", "sync-grades").wait_ended() == 0,
        "the killed sync's lease has ended, and another one is well",
    )

    assert (killed, left) == (-signal.SIGKILL, (scores, [None]))
    assert stored(linked) == [("ada", Decimal("7.5"))]
    assert named(linked) != [None]
