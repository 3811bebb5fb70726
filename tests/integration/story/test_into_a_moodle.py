"""From eAssessment as it is served into a Moodle that ELMS is: written once, and only what may."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal

import pytest
from sqlalchemy import update

from contract.tokens import MoodleToken
from foundation.db import session as db
from notifier.courses import grades
from receiver.gradebook.base import ScoreCounts
from receiver.models import Entry
from receiver.moodle import users
from receiver.moodle.client import SITE_INFO
from receiver.moodle.grade_report import FUNCTION
from receiver.moodle.gradebook import UPDATE, MoodleGradebook
from receiver.runs.store import RunResult
from receiver.sources.http_client import HttpClient
from tests.integration.story.test_batches import NINE, Both, both, scores  # noqa: F401 - a fixture
from tests.receiver.moodle.elms import ACTIVITY, COURSE, Elms
from tests.receiver.moodle.fake import serving

TOKEN = MoodleToken("0123456789abcdef0123456789abcdef")


@dataclass
class All:
    """Both services, and the Moodle whose gradebook the grades go into."""

    both: Both
    elms: Elms

    def sync(self) -> RunResult:
        """Run the sync as its command does: with a gradebook of its own."""
        http_client = HttpClient(connect_timeout=2, read_timeout=20, total=30)
        with closing(http_client):
            gradebook = MoodleGradebook(http_client, url=self.elms.moodle.url, token=TOKEN)
            report, _, _ = self.both.sync(gradebook)
        return report


@pytest.fixture
def every(both: Both) -> Iterator[All]:  # noqa: F811 - the fixture that was imported
    """A course with three people's grades, of whom ELMS knows all; and where they go."""
    both.add("CS101")
    with both.here.writing() as session:
        session.execute(update(Entry).values(gradebook_course=COURSE, gradebook_activity=ACTIVITY))
    with serving() as moodle:
        elms = Elms(moodle)
        for number in range(3):
            elms.enrol(14 + number, f"s{number}")
        yield All(both, elms)


def test_grades_are_written_once(every: All) -> None:
    first = every.sync()
    before = len(every.elms.moodle.called)

    second = every.sync()

    assert every.elms.grades == dict.fromkeys((14, 15, 16), Decimal(75))
    assert (first.scores, first.exit_code) == (ScoreCounts(added=3), 0)
    assert (second.courses[0].outcome, second.scores) == ("unchanged", ScoreCounts())
    assert every.elms.moodle.functions()[before:] == [SITE_INFO]


def test_of_changed_grades_only_those_are_written(every: All) -> None:
    every.sync()
    del every.elms.moodle.called[:]
    with every.both.there.writing() as session:
        changed = scores(1, given="8")
        grades.load(session, {"CS101": changed}, now=db.now(session) + timedelta(seconds=1))

    report = every.sync()

    (form,) = [one.form for one in every.elms.moodle.called if one.function == UPDATE]
    assert [key for key in form if key.startswith("grades[")] == [
        "grades[0][studentid]",
        "grades[0][grade]",
    ]
    assert every.elms.grades == {14: Decimal(80), 15: Decimal(75), 16: Decimal(75)}
    assert report.scores == ScoreCounts(changed=1, unchanged=2)


def test_a_person_whom_the_moodle_does_not_know_is_left_out_alone(every: All) -> None:
    every.elms.users[14] = "another"

    first, second = every.sync(), every.sync()

    for report in (first, second):
        assert (report.courses[0].outcome, report.courses[0].reason) == (
            "synced",
            "people_left_out",
        )
        assert str(report.courses[0].detail).startswith("left out 1: s0: no users of ELMS")
    assert every.elms.grades == {14: None, 15: Decimal(75), 16: Decimal(75)}
    assert (first.scores, second.scores) == (ScoreCounts(added=2), ScoreCounts(unchanged=2))
    assert every.elms.moodle.functions().count(UPDATE) == 1


def test_where_nothing_can_be_written_eassessment_hears_nothing(every: All) -> None:
    every.elms.moodle.says(SITE_INFO, "token_invalid")
    before = every.both.there.statements

    report = every.sync()

    assert (report.requests, every.both.there.statements) == (0, before)
    assert (report.exit_code, report.courses[0].reason) == (1, "gradebook_trouble")
    assert every.elms.moodle.functions() == [SITE_INFO]


def test_people_are_looked_up_and_courses_read_once(every: All) -> None:
    every.sync()

    assert every.elms.moodle.functions() == [SITE_INFO, users.FUNCTION, FUNCTION, UPDATE, FUNCTION]
