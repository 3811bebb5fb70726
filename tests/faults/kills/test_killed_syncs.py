"""Grade syncs that are killed or stopped: between an answer and its place, and anywhere else."""

import json
import random
import signal
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import select, text, update

from contract.grades import Score
from contract.tokens import CourseToken
from notifier.courses import grades
from notifier.courses import service as courses
from receiver.models import Entry, Source, StoredScore
from receiver.registry import bulk
from receiver.registry import entries as registry
from receiver.registry.csv_files import RegistryRow
from receiver.sources import store as sources
from tests.faults.counting_source import CountingSource, counting
from tests.faults.failpoints import Fault, Point
from tests.faults.processes import wait_until
from tests.faults.site import SOURCE, Site

NINE = datetime(2026, 11, 22, 9, tzinfo=UTC)

COURSES = 400
SYNC = ("receiver", "sync-grades", "--concurrency", "4", "--json")


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
        registry.add(
            session,
            source,
            "CS101",
            token,
            vault=both.vault,
            actor=registry.Actor("administrator", "ada@elms"),
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


@pytest.fixture
def source(both: Site) -> Iterator[CountingSource]:
    """A site that is slow and tells others grades each time, with hundreds of courses linked."""
    with counting() as there, both.receiver.writing() as session:
        session.execute(update(Source).values(url=there.url))
        known = sources.get(session, SOURCE)
        wanted = [
            RegistryRow(line, known, f"C{line:03}", CourseToken.generate(), None, None)
            for line in range(COURSES)
        ]
        actor = registry.Actor("administrator", "ada@elms")
        bulk.import_rows(session, wanted, vault=both.vault, actor=actor, now=NINE)
        session.commit()
        yield there


def held(both: Site) -> list[tuple[str | None, Decimal | None]]:
    """Return the entity tag and the score that ELMS holds of each course."""
    query = select(Entry.etag, StoredScore.score_given).outerjoin(
        StoredScore, StoredScore.entry_id == Entry.id
    )
    with both.receiver.reading() as session:
        return [(row[0], row[1]) for row in session.execute(query)]


def assert_every_tag_is_of_its_score(both: Site) -> None:
    """A score may lack its tag, and is asked for again; no tag is of another score, or of none."""
    tags = [(tag, score and f'"{score:f}"') for tag, score in held(both)]

    assert [one for one in tags if one[0] not in {None, one[1]}] == []


def end_lease(both: Site) -> None:
    """Let the time pass for which a killed run's lease lasts."""
    with both.receiver.writing() as session:
        session.execute(text("UPDATE sync_lease SET leased_until = '2026-01-01 00:00:00'"))


def last_run(both: Site) -> dict[str, Any]:
    """Return the run that began last, as operators see it."""
    run: dict[str, Any] = json.loads(both.run("receiver", "runs", "list", "--json"))[0]
    return run


def drawn(seed: int) -> Iterator[Fault]:
    """Yield where runs are killed, by a seed."""
    chance = random.Random(seed)
    while True:
        yield chance.choice(
            [
                Fault(Point.ANYWHERE, nth=chance.randint(1, 120_000)),
                Fault(Point.ASKED, nth=chance.randint(1, 4)),
                Fault(Point.STORED, nth=chance.randint(1, 4)),
                Fault(Point.BEFORE_COMMIT, nth=chance.randint(1, 7)),
                Fault(Point.AFTER_COMMIT, nth=chance.randint(1, 7)),
            ]
        )


def kill_again_and_again(both: Site, seed: int, times: int) -> Counter[str]:
    """Kill runs, each at a place of its own, and look at what each leaves; count their ends."""
    ends: Counter[str] = Counter()
    faults = drawn(seed)
    while ends["killed"] < times:
        process = both.start(*SYNC, fault=next(faults))
        code = process.wait_ended()
        assert code in {0, -signal.SIGKILL}, process.logged()
        assert_every_tag_is_of_its_score(both)
        end_lease(both)
        began = "grade sync started" in process.logged()
        ends[last_run(both)["status"] if code and began else "not begun"] += 1
        both.forget(process)
    return ends


def test_runs_killed_anywhere_leave_no_tag_without_its_score(
    both: Site, source: CountingSource, database_kind: str
) -> None:
    """With several requests under way too, and the next run goes on where the last one ended (F29).

    Were a tag kept without its score, the score would never be asked for again.
    """
    killed = kill_again_and_again(both, 2026 if database_kind == "sqlite" else 1122, 8)

    well = json.loads(both.run(*SYNC))

    # A run that is killed after its last commit has completed.
    assert set(killed) <= {"killed", "not begun", "completed"}
    assert well["counts"]["synced"] == COURSES
    assert_every_tag_is_of_its_score(both)
    assert None not in {tag for tag, _ in held(both)}


@pytest.mark.torture
@pytest.mark.timeout(3600)
def test_hundreds_of_runs_are_killed(both: Site, source: CountingSource) -> None:
    kill_again_and_again(both, random.randrange(2**32), 300)

    assert json.loads(both.run(*SYNC))["counts"]["synced"] == COURSES


def test_a_run_that_is_told_to_stop_ends_though_requests_hang(
    both: Site, source: CountingSource
) -> None:
    patient = {
        "RECEIVER_READ_TIMEOUT": "120",
        "RECEIVER_REQUEST_DEADLINE": "120",
        "RECEIVER_SYNC_LEASE": "300",
    }
    source.answers = 2
    process = both.start("receiver", "sync-grades", "--concurrency", "2", "--json", more=patient)
    wait_until(lambda: source.waiting == 2, "two requests hang")

    process.send(signal.SIGTERM)
    code = process.wait_ended()
    assert_every_tag_is_of_its_score(both)
    stopped, ending = json.loads(process.printed()), last_run(both)["status"]
    source.goes_on.set()
    next_one = json.loads(both.run(*SYNC))

    assert (code, stopped["stopped"]) == (143, "SIGTERM was received")
    assert stopped["counts"] == {"synced": 200, "unchanged": 0, "skipped": 0, "failed": 200}
    assert ending == "stopped early"
    assert next_one["counts"]["synced"] == COURSES
