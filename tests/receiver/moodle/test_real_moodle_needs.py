"""The tests for a real Moodle are run against one on loopback: they see when it is none."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.receiver.moodle.elms import ACTIVITY, COURSE, Elms
from tests.receiver.moodle.fake import FakeMoodle

ROOT = Path(__file__).parents[3]
TESTS = "tests/receiver/moodle/test_real_moodle.py"
NO_PLUGINS = ("-p", "no:cacheprovider", "-p", "no:xdist")
TOKEN = "0123456789abcdef0123456789abcdef"  # a shape, no secret


@pytest.fixture
def elms(moodle: FakeMoodle) -> Elms:
    """A Moodle with two students, one of them graded, which knows one token."""
    moodle.tokens = {TOKEN}
    elms = Elms(moodle)
    elms.enrol(14, "S1001", "72.5")
    elms.enrol(15, "S1002")
    return elms


def run(moodle: FakeMoodle) -> tuple[int, str]:
    """Run the tests against a Moodle; return the exit code and the last line."""
    named = {
        "TEST_MOODLE_URL": moodle.url,
        "TEST_MOODLE_TOKEN": TOKEN,
        "TEST_MOODLE_COURSE": COURSE,
        "TEST_MOODLE_ACTIVITY": ACTIVITY,
    }
    env = {name: one for name, one in os.environ.items() if not name.startswith("TEST_MOODLE_")}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *NO_PLUGINS, TESTS],
        cwd=ROOT,
        env=env | named,
        capture_output=True,
        text=True,
        timeout=100,
    )
    return done.returncode, done.stdout


def test_they_pass_on_a_moodle_and_leave_it_as_it_was(moodle: FakeMoodle, elms: Elms) -> None:
    before = dict(elms.grades)

    exit_code, told = run(moodle)

    assert exit_code == 0, told
    assert re.search(r"^\d+ passed in", told, re.MULTILINE)
    assert len(moodle.called) > 12
    assert elms.grades == before


def test_they_fail_on_what_is_no_moodle(moodle: FakeMoodle, elms: Elms) -> None:
    moodle.tokens = set()
    elms.locked = {14}

    exit_code, told = run(moodle)

    failed = set(re.findall(r"FAILED \S+::(\w+)", told))
    assert exit_code == 1
    assert failed == {
        "test_a_bad_token_is_refused_and_says_nothing_of_the_course",
        "test_a_gradebook_with_a_bad_token_is_out_of_order",
        "test_a_grade_is_written_read_back_and_put_back",
    }
