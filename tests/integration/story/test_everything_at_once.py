"""A run in which every kind of failure happens at once still syncs every healthy course."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import make_url, select, text

from foundation.db.migrations import Schema
from foundation.db.session import Database
from receiver.cli import main
from receiver.models import SCHEMA, HistoryEntry, Run, RunCourse
from tests.integration.story import far_sides
from tests.integration.story.conftest import KEY, EAssessment
from tests.integration.story.everything import (
    DELETED,
    ELSEWHERE,
    FIRST,
    INVALID,
    UNSTORABLE,
    WELL,
    Everything,
    link_all,
    seconds,
)
from tests.receiver.moodle import fake

_REFUSE_ON_SQLITE = f"""
    CREATE TRIGGER refused BEFORE INSERT ON scores WHEN NEW.user_id = '{UNSTORABLE}'
    BEGIN SELECT RAISE(ABORT, 'refused'); END
"""
_REFUSE = f"ALTER TABLE scores ADD CONSTRAINT refused CHECK (user_id <> '{UNSTORABLE}')"
_ALLOW = "ALTER TABLE scores DROP CONSTRAINT refused"


@pytest.fixture
def everything(
    eassessment: EAssessment, make_database: Callable[[Schema], Database]
) -> Iterator[Everything]:
    """ELMS with every source."""
    with ExitStack() as stack:
        others = stack.enter_context(far_sides.serving())
        names = [name for name in FIRST if name.startswith("moodle")]
        moodles = {name: stack.enter_context(fake.serving()) for name in names}
        made = Everything(make_database(SCHEMA), eassessment, others, moodles)
        link_all(made)
        yield made


@pytest.fixture
def one_is_refused(everything: Everything) -> Iterator[None]:
    """A gradebook that refuses every score of one person."""
    lite = everything.here.is_sqlite
    with everything.here.writing() as session:
        session.execute(text(_REFUSE_ON_SQLITE if lite else _REFUSE))
    yield
    if not lite:
        with everything.here.writing() as session:
            session.execute(text(_ALLOW))


@pytest.fixture
def sync(
    everything: Everything, one_is_refused: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[[], Result]:
    """Return what gives the command, with little patience."""
    url = make_url(everything.here.engine.url).set(
        drivername="sqlite" if everything.here.is_sqlite else "postgresql"
    )
    monkeypatch.chdir(tmp_path)
    for name, value in {
        "ENCRYPTION_KEYS": KEY,
        "DATABASE_URL": url.render_as_string(hide_password=False),
        "LOG_FORMAT": "json",
        "LOG_LEVEL": "DEBUG",
        "CONNECT_TIMEOUT": "0.5",
        "READ_TIMEOUT": "0.4",
        "REQUEST_DEADLINE": "0.8",
        "SYNC_RETRIES": "1",
    }.items():
        monkeypatch.setenv(f"RECEIVER_{name}", value)
    return lambda: CliRunner().invoke(main, ["sync-grades", "--json"], prog_name="receiver")


def ends(result: Result) -> dict[str, dict[str, tuple[str, str | None]]]:
    """Return what became of each course of each source."""
    told: dict[str, dict[str, tuple[str, str | None]]] = {name: {} for name in FIRST}
    for one in json.loads(result.stdout)["courses"]:
        told[one["source"]][one["course_id"]] = one["outcome"], one["reason"]
    return told


def of(
    table: dict[str, dict[str, tuple[str, str | None]]], *wanted: tuple[str, str | None]
) -> set[tuple[str, str]]:
    """Return the courses of a table of which something of this became."""
    return {
        (site, course_id)
        for site, courses in table.items()
        for course_id, end in courses.items()
        if end in wanted
    }


def assert_each_says_what_to_do(result: Result) -> None:
    """What was not synced has a detail and a next step, in the report as in the log."""
    told = [one for one in json.loads(result.stdout)["courses"] if one["reason"]]
    logged = [json.loads(line) for line in result.stderr.splitlines()]

    assert [one for one in told if not (one["detail"] and one["next_step"])] == []
    assert {(line["source"], line["course_id"]) for line in logged if "course_id" in line} >= {
        (one["source"], one["course_id"]) for one in told if one["reason"] != "site_trouble"
    }
    assert {line["source"] for line in logged if line["event"] == "site cannot be used"} == {
        one["source"] for one in told if one["reason"] == "site_trouble"
    }


def assert_only_what_was_learnt_changed(
    before: dict[tuple[str, str], Any], after: dict[tuple[str, str], Any]
) -> None:
    """A course of which nothing certain was heard has the row that it had."""
    learnt = of(FIRST, WELL, DELETED, INVALID)

    assert {name for name in before if before[name] != after[name]} == learnt
    assert {name for name in after if after[name]["etag"]} == of(FIRST, WELL)
    assert {name for name in after if after[name]["synced_at"]} == of(FIRST, WELL)


def assert_no_secret(everything: Everything, *results: Result) -> None:
    """No token stands in what was printed, logged or written down of a run."""
    with everything.here.reading() as session:
        rows = [
            str(tuple(row))
            for table in (Run.__table__, RunCourse.__table__, HistoryEntry.__table__)
            for row in session.execute(select(table))
        ]
    said = "".join(rows) + "".join(result.stdout + result.stderr for result in results)

    assert [secret for secret in everything.held if secret in said] == []


@pytest.mark.timeout(120)
def test_every_kind_of_failure_at_once_costs_no_healthy_course(
    everything: Everything, sync: Callable[[], Result]
) -> None:
    """Each course has the end and the reason that are its own, and says what to do.

    What is known to be invalid is not asked for a second time, and no secret stands anywhere.
    """
    before = everything.entries()

    first = sync()
    between, asked_before = everything.entries(), everything.requests()
    gradebook = everything.gradebook()
    second = sync()
    asked_then = everything.requests() - asked_before

    assert first.exit_code == second.exit_code == 1
    assert ends(first) == FIRST
    assert gradebook == of(FIRST, WELL)
    assert ends(second) == {
        site: {course_id: seconds(end) for course_id, end in courses.items()}
        for site, courses in FIRST.items()
    }
    assert_each_says_what_to_do(first)
    assert_only_what_was_learnt_changed(before, between)
    assert of(FIRST, DELETED, INVALID) & set(asked_then) == set()
    assert_no_secret(everything, first, second)
    assert ELSEWHERE not in {site for site, _ in everything.others.asked}
