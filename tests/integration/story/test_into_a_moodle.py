"""From a served eAssessment into the gradebook of a Moodle: only what changed is written."""

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
from receiver.moodle.client import SITE_INFO
from receiver.moodle.gradebook import UPDATE, MoodleGradebook
from receiver.runs.store import RunResult
from receiver.sources.http_client import HttpClient
from tests.integration.story.test_batches import NINE, Both, both, scores  # noqa: F401 - a fixture
from tests.receiver.moodle.elms import ACTIVITY, COURSE, Elms
from tests.receiver.moodle.fake import serving

TOKEN = MoodleToken("0123456789abcdef0123456789abcdef")


@dataclass
class IntoMoodle:
    """Both services, and the Moodle into whose gradebook the grades go."""

    both: Both
    elms: Elms

    def sync(self) -> RunResult:
        """Run the sync as its command does: with a gradebook of its own."""
        http_client = HttpClient(connect_timeout=2, read_timeout=20, total=30)
        with closing(http_client):
            gradebook = MoodleGradebook(http_client, url=self.elms.moodle.url, token=TOKEN)
            return self.both.sync(gradebook)[0]


@pytest.fixture
def every(both: Both) -> Iterator[IntoMoodle]:  # noqa: F811 - the fixture that was imported
    """A course with the grades of three people, whom the Moodle knows."""
    both.add("CS101")
    with both.here.writing() as session:
        session.execute(update(Entry).values(gradebook_course=COURSE, gradebook_activity=ACTIVITY))
    with serving() as moodle:
        elms = Elms(moodle)
        for number in range(3):
            elms.enrol(14 + number, f"s{number}")
        yield IntoMoodle(both, elms)


def test_changed_grades_are_written_once(every: IntoMoodle) -> None:
    first = every.sync()
    del every.elms.moodle.called[:]
    second = every.sync()
    called_by_second = every.elms.moodle.functions()
    with every.both.there.writing() as session:
        changed = scores(1, given="8")
        grades.load(session, {"CS101": changed}, now=db.now(session) + timedelta(seconds=1))
    third = every.sync()

    assert (first.scores, first.exit_code) == (ScoreCounts(added=3), 0)
    assert (second.courses[0].outcome, second.scores) == ("unchanged", ScoreCounts())
    assert called_by_second == [SITE_INFO]
    (form,) = [one.form for one in every.elms.moodle.called if one.function == UPDATE]
    assert [key for key in form if key.startswith("grades[")] == [
        "grades[0][studentid]",
        "grades[0][grade]",
    ]
    assert third.scores == ScoreCounts(changed=1, unchanged=2)
    assert every.elms.grades == {14: Decimal(80), 15: Decimal(75), 16: Decimal(75)}
