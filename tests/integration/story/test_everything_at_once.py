"""A run in which every kind of failure happens at once still syncs every healthy course."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import make_url, select, text

from foundation.db.migrations import Schema
from foundation.db.session import Database
from receiver.cli import main
from receiver.models import SCHEMA, HistoryEntry, Run, RunCourse
from tests.integration.story.conftest import KEY, EAssessment
from tests.integration.story.everything import (
    DELETED,
    ELSEWHERE,
    FIRST,
    INVALID,
    SYNCED,
    UNSTORABLE,
    Everything,
    add_everything,
    in_second_run,
)
from tests.receiver.conftest import FakeSite, fake_site  # noqa: F401 - a fixture
from tests.receiver.moodle import fake

_REFUSE_ON_SQLITE = f"""
    CREATE TRIGGER refused BEFORE INSERT ON scores WHEN NEW.user_id = '{UNSTORABLE}'
    BEGIN SELECT RAISE(ABORT, 'refused'); END
"""
_REFUSE = f"ALTER TABLE scores ADD CONSTRAINT refused CHECK (user_id <> '{UNSTORABLE}')"
_ALLOW = "ALTER TABLE scores DROP CONSTRAINT refused"


@pytest.fixture
def everything(
    eassessment: EAssessment,
    fake_site: FakeSite,  # noqa: F811
    make_database: Callable[[Schema], Database],
) -> Iterator[Everything]:
    """ELMS with every source, and a gradebook that refuses the scores of one person."""
    with ExitStack() as stack:
        names = [name for name in FIRST if name.startswith("moodle")]
        moodles = {name: stack.enter_context(fake.serving()) for name in names}
        made = Everything(make_database(SCHEMA), eassessment, fake_site, moodles)
        add_everything(made)
        with made.elms.writing() as session:
            session.execute(text(_REFUSE_ON_SQLITE if made.elms.is_sqlite else _REFUSE))
        yield made
        made.over.set()
        if not made.elms.is_sqlite:
            with made.elms.writing() as session:
                session.execute(text(_ALLOW))


@pytest.fixture
def sync(
    everything: Everything, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[[], Result]:
    """Return a function that runs the command, with short time-outs."""
    url = make_url(everything.elms.engine.url)
    url = url.set(drivername=url.get_backend_name())
    monkeypatch.chdir(tmp_path)
    for name, value in {
        "ENCRYPTION_KEYS": KEY,
        "DATABASE_URL": url.render_as_string(hide_password=False),
        "LOG_FORMAT": "json",
        "LOG_LEVEL": "DEBUG",
        # Long enough for the healthy ones, however busy the machine is.
        "READ_TIMEOUT": "2",
        "REQUEST_DEADLINE": "4",
        "SYNC_RETRIES": "1",
    }.items():
        monkeypatch.setenv(f"RECEIVER_{name}", value)
    return lambda: CliRunner().invoke(main, ["sync-grades", "--json"], prog_name="receiver")


def results_of(run: Result) -> dict[str, dict[str, tuple[str, str | None]]]:
    """Return the result of each course of each source."""
    found: dict[str, dict[str, tuple[str, str | None]]] = {name: {} for name in FIRST}
    for one in json.loads(run.stdout)["courses"]:
        found[one["source"]][one["course_id"]] = one["outcome"], one["reason"]
    return found


def expected(*results: tuple[str, str | None]) -> set[tuple[str, str]]:
    """Return the courses that have one of these results in the first run."""
    return {
        (site, course_id)
        for site, courses in FIRST.items()
        for course_id, result in courses.items()
        if result in results
    }


def assert_each_says_what_to_do(run: Result) -> None:
    """What was not synced has a detail and a next step, and is in the log."""
    reported = [one for one in json.loads(run.stdout)["courses"] if one["reason"]]
    logged = [json.loads(line) for line in run.stderr.splitlines()]

    assert [one for one in reported if not (one["detail"] and one["next_step"])] == []
    assert {(line["source"], line["course_id"]) for line in logged if "course_id" in line} >= {
        (one["source"], one["course_id"]) for one in reported if one["reason"] != "site_trouble"
    }
    assert {line["source"] for line in logged if line["event"] == "site cannot be used"} == {
        one["source"] for one in reported if one["reason"] == "site_trouble"
    }


def assert_no_secret(everything: Everything, *runs: Result) -> None:
    """No token is in what was printed, logged or recorded of a run."""
    with everything.elms.reading() as session:
        rows = [
            str(tuple(row))
            for table in (Run.__table__, RunCourse.__table__, HistoryEntry.__table__)
            for row in session.execute(select(table))
        ]
    shown = "".join(rows) + "".join(run.stdout + run.stderr for run in runs)

    assert [secret for secret in everything.secrets if secret in shown] == []


@pytest.mark.timeout(300)
def test_all_failures_at_once_cost_no_healthy_course(
    everything: Everything, sync: Callable[[], Result]
) -> None:
    before = everything.entries()

    first = sync()
    after, requests = everything.entries(), everything.requests()
    graded = everything.graded()
    second = sync()
    requests_of_second = everything.requests() - requests

    assert first.exit_code == second.exit_code == 1
    assert results_of(first) == FIRST
    assert results_of(second) == {
        site: {course_id: in_second_run(result) for course_id, result in courses.items()}
        for site, courses in FIRST.items()
    }
    # Only what is certain changes an entry, and only grades that are stored leave an ETag.
    assert graded == expected(SYNCED)
    assert {one for one in after if after[one]["etag"]} == expected(SYNCED)
    assert {one for one in after if after[one]["synced_at"]} == expected(SYNCED)
    changed = {one for one in before if before[one] != after[one]}
    assert changed == expected(SYNCED, DELETED, INVALID)
    assert expected(DELETED, INVALID).isdisjoint(requests_of_second)
    assert not [one for one in everything.site.asked if ELSEWHERE in one.course_id]
    assert_each_says_what_to_do(first)
    assert_no_secret(everything, first, second)
