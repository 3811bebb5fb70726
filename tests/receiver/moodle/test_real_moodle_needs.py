"""The tests for a real Moodle, run against one on loopback: they notice when it is none."""

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


def test_tests_pass_and_restore_the_grades(moodle: FakeMoodle, elms: Elms) -> None:
    before = dict(elms.grades)

    exit_code, output = run(moodle)

    assert exit_code == 0, output
    assert re.search(r"^\d+ passed in", output, re.MULTILINE)
    assert len(moodle.called) > 12
    assert elms.grades == before


def test_tests_fail_without_a_moodle(moodle: FakeMoodle, elms: Elms) -> None:
    moodle.tokens = set()
    elms.locked = {14}

    exit_code, output = run(moodle)

    failed = set(re.findall(r"FAILED \S+::(\w+)", output))
    assert exit_code == 1
    assert failed == {
        "test_unknown_token_is_refused",
        "test_gradebook_with_an_unknown_token_has_an_outage",
        "test_grade_is_written_and_restored",
    }
