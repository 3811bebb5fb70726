"""The story on real processes: what `make demo` tells comes true."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def told() -> subprocess.CompletedProcess[str]:
    """The demo, run once to its end."""
    return subprocess.run(
        [sys.executable, "-m", "demo"], cwd=ROOT, capture_output=True, text=True, timeout=110
    )


def test_every_step_is_seen_to_happen(told: subprocess.CompletedProcess[str]) -> None:
    """The story ends well: both services as real processes do what it tells."""
    assert told.returncode == 0, told.stdout + told.stderr
    assert "All of it was seen to happen" in told.stdout


@pytest.mark.parametrize(
    "sentence",
    [
        pytest.param("✓ every course was asked for once", id="normal sync"),
        pytest.param("✓ no request for PHIL120-2026 reached eAssessment", id="deleted, heard"),
        pytest.param("✓ no request for STAT150-2026 reached eAssessment", id="token, heard"),
        pytest.param("✓ no request for LAW201-2026 reached eAssessment", id="deleted, replayed"),
        pytest.param("✓ the deleted course was answered 410", id="deleted, missed"),
        pytest.param("✓ the old token was answered 401", id="token, missed"),
        pytest.param("✓ both were asked and answered", id="new tokens"),
    ],
)
def test_each_run_is_told(told: subprocess.CompletedProcess[str], sentence: str) -> None:
    """Each run that those who asked for this make by hand is in the story."""
    assert sentence in told.stdout


def test_no_secret_is_told_but_once(told: subprocess.CompletedProcess[str]) -> None:
    """The story prints a token or secret only where a command shows a new one, once."""
    shown = [word for word in told.stdout.split() if word.startswith(("eas_", "whsec_"))]

    assert len(shown) == len(set(shown)) == 3
