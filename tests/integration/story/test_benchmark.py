"""The benchmark of the sync on a small scale, and what docs/benchmarks.md shows of it."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import click
import pytest

from benchmarks import chart, sync
from benchmarks.cost import COLUMNS, Cost, markdown
from benchmarks.sync import AGAIN, FIRST, OLD, RUNS, SINGLE, Size
from foundation.db.migrations import Schema
from notifier.models import SCHEMA as NOTIFIER
from receiver.models import SCHEMA as RECEIVER

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
PICTURE = ROOT / "benchmarks" / "sync.svg"
SIZE = Size(courses=200, grades=5, times=1)
VALID = 140
LARGE = {
    OLD: Cost(5000, 5000, 1500, 110_001, 8500, 19_625_000, 50.0),
    SINGLE: Cost(3500, 3502, 0, 200, 7000, 19_044_000, 12.0),
    FIRST: Cost(3500, 35, 0, 200, 105, 19_551_384, 4.0),
    AGAIN: Cost(3500, 35, 0, 110, 35, 504_133, 0.5),
}


@pytest.mark.timeout(300)
def test_the_benchmark_counts_what_each_run_did(
    make_database_url: Callable[[Schema], str], database_kind: str, tmp_path: Path
) -> None:
    urls = (make_database_url(NOTIFIER), make_database_url(RECEIVER))

    costs = sync.measure(tmp_path, urls, SIZE)

    clock = database_kind == "postgresql"  # its clock is read for each request
    old, single, first, again = (costs[name] for name in RUNS)
    assert (old.asked, old.requests, old.refused) == (200, 200, 60)
    assert (old.here, old.there) == (1 + 200 + VALID * 5 * 2, 2 * VALID + 60 + clock * 200)
    assert (single.asked, single.refused) == (VALID, 0)
    assert VALID + 1 <= single.requests <= VALID + 4  # those that found that there are no batches
    assert single.there == 2 * VALID + clock * VALID
    assert [(one.asked, one.requests, one.refused) for one in (first, again)] == [(VALID, 2, 0)] * 2
    assert (first.there, again.there) == ((3 + clock) * 2, (1 + clock) * 2)
    assert max(first.here, again.here) < 40  # a chunk more or less is stored by itself
    assert again.moved * 4 < first.moved


@pytest.mark.parametrize(
    ("run", "worse", "broken"),
    [
        pytest.param(FIRST, {}, None, id="as measured"),
        pytest.param(FIRST, {"requests": 36}, 0, id="a request too many"),
        pytest.param(FIRST, {"asked": 3501}, 1, id="an invalid course asked for"),
        pytest.param(AGAIN, {"moved": 1_000_000}, 2, id="a nineteenth of the bytes"),
        pytest.param(FIRST, {"seconds": 5.1}, 3, id="not ten times as quick"),
    ],
)
def test_claim_that_does_not_hold_is_reported(
    run: str, worse: dict[str, int], broken: int | None
) -> None:
    costs = {**LARGE, run: replace(LARGE[run], **worse)}

    kept = list(sync.claims(costs, 5000).values())

    assert [number for number, holds in enumerate(kept) if not holds] == (
        [] if broken is None else [broken]
    )


def test_the_docs_show_the_table_that_is_printed() -> None:
    head, rule, *rows = markdown(LARGE)

    shown = PAGE.partition("<!-- costs -->\n")[2].partition("<!-- /costs -->")[0].splitlines()
    assert shown[:2] == [head, rule]
    assert [row.split(" | ")[0] for row in shown[2:6]] == [row.split(" | ")[0] for row in rows]
    assert all(row.count("|") == len(COLUMNS) + 1 for row in shown[2:6])


def test_table_is_written_between_its_marks() -> None:
    page = "# Page\n<!-- costs -->\n| old |\n<!-- /costs -->\nthe rest\n"

    assert sync.with_table(page, ["| a |", "| b |"]) == (
        "# Page\n<!-- costs -->\n| a |\n| b |\n<!-- /costs -->\nthe rest\n"
    )
    with pytest.raises(click.ClickException, match="no `<!-- costs -->`"):
        sync.with_table("# Page\n", ["| a |"])


def test_the_picture_shows_the_numbers_of_the_table() -> None:
    shown = PAGE.partition("<!-- costs -->\n")[2].partition("<!-- /costs -->")[0]
    rows = [line.strip("| ").split(" | ") for line in shown.splitlines()[2:6]]
    described = PICTURE.read_text(encoding="utf-8")

    assert "(../benchmarks/sync.svg)" in PAGE
    for name, _, requests, *_, seconds in rows:
        assert re.search(rf"{name}: requests {requests}\b.*?, seconds {seconds} s\.", described)


def test_the_picture_has_a_title_and_a_description() -> None:
    drawn = ET.fromstring(chart.draw(LARGE, "5,000 courses"))

    space = "{http://www.w3.org/2000/svg}"
    bars = [rect for rect in drawn.iter(f"{space}rect") if rect.get("class") != "page"]
    assert len(bars) == 4 * len(RUNS)
    assert drawn.findtext(f"{space}title") == "What a grade sync costs: 5,000 courses"
    described = drawn.findtext(f"{space}desc") or ""
    assert described.startswith(
        "old polling: requests 5,000 (1,500 refused), queries, both sides 118,501"
    )
    assert "prefers-color-scheme: dark" in (drawn.findtext(f"{space}style") or "")
