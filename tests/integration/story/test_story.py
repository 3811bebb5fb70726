"""The demo on real processes: all its checks pass, and the README shows its output."""

import re
import subprocess
import sys
from pathlib import Path
from subprocess import CompletedProcess

import pytest

ROOT = Path(__file__).parents[3]

# A minute alone, but it starts some fifty processes and other work may share the machine.
pytestmark = pytest.mark.timeout(480)


VARYING = (
    (r"eas_\w+", "eas_…"),
    (r"\bm[0-9a-f]{16}\b", "<token id>"),
    (r"127\.0\.0\.1:\d+", "<loopback>"),
    (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ", "<time>"),
    (r"(current|stored)\s+\w+", r"\1 <token id>"),
    (r"^\s+\w{8}, held", "    <token id>, held"),
    (r"^\s+\w{8} {8,}with", "    <token id> with"),
    (r"\d+\.\d+", "<seconds>"),
    (r"\d+ ms", "<ms>"),
    (r"in \d+ seconds", "in <n> seconds"),
    (r"\s+", " "),
)


def constant(line: str) -> str:
    """Return what is the same in each run of a line."""
    for pattern, shown in VARYING:
        line = re.sub(pattern, shown, line)
    return line.strip()


@pytest.fixture(scope="module")
def printed() -> CompletedProcess[str]:
    """The demo, run once to its end."""
    return subprocess.run(
        [sys.executable, "-m", "demo"], cwd=ROOT, capture_output=True, text=True, timeout=460
    )


def test_all_checks_pass(printed: CompletedProcess[str]) -> None:
    assert printed.returncode == 0, printed.stdout + printed.stderr
    assert "All checks passed in" in printed.stdout


@pytest.mark.parametrize(
    "sentence",
    [
        pytest.param("✓ every course was requested once", id="normal sync"),
        pytest.param("✓ no request for PHIL120-2026 reached eAssessment", id="deleted"),
        pytest.param("✓ no request for STAT150-2026 reached eAssessment", id="token regenerated"),
        pytest.param("✓ the request for the deleted course got 410", id="deletion missed"),
        pytest.param("✓ the request with the old token got 401", id="regeneration missed"),
        pytest.param("✓ every course of the Moodle was requested once", id="Moodle"),
        pytest.param("✓ no request for 13 reached the Moodle", id="Moodle, deleted"),
        pytest.param("✓ no request for 14 reached the Moodle", id="Moodle, token regenerated"),
    ],
)
def test_each_run_is_checked(printed: CompletedProcess[str], sentence: str) -> None:
    assert sentence in printed.stdout


def test_no_secret_is_printed_twice(printed: CompletedProcess[str]) -> None:
    shown = [word for word in printed.stdout.split() if word.startswith(("eas_", "whsec_"))]

    assert len(shown) == len(set(shown)) == 5


def test_the_readme_shows_the_output(printed: CompletedProcess[str]) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    excerpt = re.search(r"<!-- demo -->.*?```\n(.*?)```\n<!-- /demo -->", readme, re.DOTALL)

    assert excerpt
    lines = {constant(line) for line in printed.stdout.splitlines()}
    shown = [constant(line) for line in excerpt[1].splitlines() if line.strip() not in ("", "…")]
    assert [line for line in shown if line not in lines] == []
