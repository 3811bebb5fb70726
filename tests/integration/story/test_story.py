"""The story on real processes: what `make demo` tells comes true."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]

# A minute alone, but it starts some fifty processes and other work may share the machine.
pytestmark = pytest.mark.timeout(480)


VARYING = (
    (r"eas_\w+", "eas_…"),
    (r"\bm[0-9a-f]{16}\b", "<token id>"),
    (r"127\.0\.0\.1:\d+", "<loopback>"),
    (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ", "<moment>"),
    (r"(current|stored)\s+\w+", r"\1 <token id>"),
    (r"^\s+\w{8}, held", "    <token id>, held"),
    (r"^\s+\w{8} {8,}with", "    <token id> with"),
    (r"\d+\.\d+", "<seconds>"),
    (r"\d+ ms", "<ms>"),
    (r"in \d+ seconds", "in <n> seconds"),
    (r"\s+", " "),
)


def constant(line: str) -> str:
    """Return what is the same in each telling of a line."""
    for pattern, shown in VARYING:
        line = re.sub(pattern, shown, line)
    return line.strip()


@pytest.fixture(scope="module")
def told() -> subprocess.CompletedProcess[str]:
    """The demo, run once to its end."""
    return subprocess.run(
        [sys.executable, "-m", "demo"], cwd=ROOT, capture_output=True, text=True, timeout=460
    )


def test_every_step_is_seen_to_happen(told: subprocess.CompletedProcess[str]) -> None:
    assert told.returncode == 0, told.stdout + told.stderr
    assert "All checks passed in" in told.stdout


@pytest.mark.parametrize(
    "sentence",
    [
        pytest.param("✓ every course was requested once", id="normal sync"),
        pytest.param("✓ no request for PHIL120-2026 reached eAssessment", id="deleted, heard"),
        pytest.param("✓ no request for STAT150-2026 reached eAssessment", id="token, heard"),
        pytest.param("✓ no request for LAW201-2026 reached eAssessment", id="deleted, replayed"),
        pytest.param("✓ the request for the deleted course got 410", id="deleted, missed"),
        pytest.param("✓ the request with the old token got 401", id="token, missed"),
        pytest.param("✓ both were requested and answered", id="new tokens"),
        pytest.param("✓ the same run sent one request to eAssessment", id="both sources"),
        pytest.param("✓ every course of the Moodle was requested once", id="Moodle, normal sync"),
        pytest.param("✓ the request for 11 got 200 with invalidrecord, once", id="Moodle, deleted"),
        pytest.param("✓ the deletion of 11 was confirmed", id="Moodle, deleted, confirmed"),
        pytest.param("✓ the request for 12 got 200 with invalidtoken, once", id="Moodle, token"),
        pytest.param("✓ no request for 12 reached the Moodle", id="Moodle, remembered"),
        pytest.param("✓ no request for 13 reached the Moodle", id="Moodle, deleted, told"),
        pytest.param("✓ no request for 14 reached the Moodle", id="Moodle, token, told"),
    ],
)
def test_each_run_is_told(told: subprocess.CompletedProcess[str], sentence: str) -> None:
    assert sentence in told.stdout


def test_no_secret_is_told_but_once(told: subprocess.CompletedProcess[str]) -> None:
    shown = [word for word in told.stdout.split() if word.startswith(("eas_", "whsec_"))]

    assert len(shown) == len(set(shown)) == 4


def test_the_readme_shows_what_is_told(told: subprocess.CompletedProcess[str]) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    excerpt = re.search(r"<!-- demo -->.*?```\n(.*?)```\n<!-- /demo -->", readme, re.DOTALL)

    assert excerpt
    printed = {constant(line) for line in told.stdout.splitlines()}
    shown = [constant(line) for line in excerpt[1].splitlines() if line.strip() not in ("", "…")]
    assert [line for line in shown if line not in printed] == []
