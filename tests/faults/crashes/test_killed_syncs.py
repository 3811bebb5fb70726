"""Grade syncs that are killed anywhere, or told to stop while requests hang."""

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

from contract.tokens import CourseToken
from receiver.models import Entry, Source, StoredScore
from receiver.registry import bulk
from receiver.registry import entries as registry
from receiver.registry.csv_files import RegistryRow
from receiver.sources import store as sources
from tests.faults.counting_source import CountingSource, counting
from tests.faults.failpoints import Fault, Point
from tests.faults.processes import wait_until
from tests.faults.site import SOURCE, Site

COURSES = 400
SYNC = ("receiver", "sync-grades", "--concurrency", "4", "--json")


@pytest.fixture
def source(both: Site) -> Iterator[CountingSource]:
    """A slow site whose grades differ with each request, with hundreds of courses."""
    with counting() as made:
        with both.receiver.writing() as session:
            session.execute(update(Source).values(url=made.url))
            known = sources.get(session, SOURCE)
            wanted = [
                RegistryRow(line, known, f"C{line:03}", CourseToken.generate(), None, None)
                for line in range(COURSES)
            ]
            actor = registry.Actor("administrator", "ada@elms")
            now = datetime.now(UTC)
            list(bulk.import_in_batches(session, wanted, vault=both.vault, actor=actor, now=now))
        yield made


def etags_and_scores(both: Site) -> list[tuple[str | None, Decimal | None]]:
    query = select(Entry.etag, StoredScore.score_given).outerjoin(
        StoredScore, StoredScore.entry_id == Entry.id
    )
    with both.receiver.reading() as session:
        return [(row[0], row[1]) for row in session.execute(query)]


def assert_every_etag_has_its_score(both: Site) -> None:
    """A score without its ETag is fetched again; an ETag without its score never would be."""
    wrong = [
        (etag, score)
        for etag, score in etags_and_scores(both)
        if etag is not None and etag != f'"{score:f}"'
    ]
    assert wrong == []


def last_run(both: Site) -> dict[str, Any]:
    run: dict[str, Any] = json.loads(both.run("receiver", "runs", "list", "--json"))["runs"][0]
    return run


def draw(chance: random.Random) -> Fault:
    """Return where to kill a run."""
    point, last = chance.choice(
        [
            (Point.ANYWHERE, 120_000),
            (Point.FETCHED, 4),
            (Point.STORED, 4),
            (Point.BEFORE_COMMIT, 7),
            (Point.AFTER_COMMIT, 7),
        ]
    )
    return Fault(point, nth=chance.randint(1, last))


def kill_again_and_again(both: Site, seed: int, times: int) -> Counter[str]:
    """Kill runs, and look at what each leaves; return the number of runs by their status."""
    statuses: Counter[str] = Counter()
    chance = random.Random(seed)
    while statuses["killed"] < times:
        process = both.start(*SYNC, fault=draw(chance))
        code = process.wait_ended()
        assert code in {0, -signal.SIGKILL}, process.logged()
        assert_every_etag_has_its_score(both)
        with both.receiver.writing() as session:  # the lease of a killed run expires
            session.execute(text("UPDATE sync_lease SET leased_until = '2026-01-01 00:00:00'"))
        started = "grade sync started" in process.logged()
        statuses[last_run(both)["status"] if code and started else "not started"] += 1
        both.forget(process)
    return statuses


def test_run_killed_anywhere_leaves_no_etag_without_its_score(
    both: Site, source: CountingSource, database_kind: str
) -> None:
    statuses = kill_again_and_again(both, 2026 if database_kind == "sqlite" else 1122, 8)

    next_run = json.loads(both.run(*SYNC))

    # A run that is killed after its last commit has completed.
    assert set(statuses) <= {"killed", "not started", "completed"}
    assert next_run["synced"] == COURSES
    assert_every_etag_has_its_score(both)
    assert None not in {etag for etag, _ in etags_and_scores(both)}


@pytest.mark.torture
@pytest.mark.timeout(3600)
def test_hundreds_of_runs_are_killed(both: Site, source: CountingSource) -> None:
    kill_again_and_again(both, random.randrange(2**32), 300)

    assert json.loads(both.run(*SYNC))["synced"] == COURSES


def test_run_that_is_told_to_stop_ends_although_requests_hang(
    both: Site, source: CountingSource
) -> None:
    patient = {
        "RECEIVER_READ_TIMEOUT": "120",
        "RECEIVER_REQUEST_DEADLINE": "120",
        "RECEIVER_SYNC_LEASE": "300",
    }
    source.responses = 2
    process = both.start("receiver", "sync-grades", "--concurrency", "2", "--json", more=patient)
    wait_until(lambda: source.waiting == 2, "two requests hang")

    process.send(signal.SIGTERM)
    code = process.wait_ended()
    assert_every_etag_has_its_score(both)
    stopped, status = json.loads(process.printed()), last_run(both)["status"]
    source.continues.set()
    next_run = json.loads(both.run(*SYNC))

    assert (code, stopped["detail"]) == (143, "SIGTERM was received")
    assert {
        "synced": 200,
        "unchanged": 0,
        "skipped": 0,
        "failed": 200,
    }.items() <= stopped.items()
    assert status == "stopped"
    assert next_run["synced"] == COURSES
