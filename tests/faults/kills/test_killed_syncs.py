"""Grade syncs that are killed between an answer and its place in the gradebook."""

import signal
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from sqlalchemy import select, update

from contract.grades import Score
from notifier import courses, grades
from receiver import registry, sources
from receiver.models import Source, StoredScore
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


@pytest.mark.parametrize("point", [Point.ASKED, Point.STORED])
def test_killed_sync_leaves_nothing_half_stored(linked: Site, point: Point) -> None:
    """Its lease ends by itself, and the next sync stores what it had not committed (F29)."""
    killed = linked.start("receiver", "sync-grades", fault=Fault(point)).wait_ended()
    left = stored(linked)

    wait_until(
        lambda: linked.start("receiver", "sync-grades").wait_ended() == 0,
        "the killed sync's lease has ended, and another one is well",
    )

    assert (killed, left) == (-signal.SIGKILL, [])
    assert stored(linked) == [("ada", Decimal("7.5"))]
