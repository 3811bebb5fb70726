"""The tests and commands that docs/guarantees.md names: all of them exist."""

import ast
import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "guarantees.md").read_text(encoding="utf-8")
TESTS = sorted(set(re.findall(r"\btests/[\w/]+(?:\.py)?(?:::\w+)?", PAGE)))
MODULES = sorted(set(re.findall(r"python -m ([\w.]+)", PAGE)))


def last_cells(title: str) -> list[str]:
    """Return the last cell of each row of the table below a heading."""
    _, _, section = PAGE.partition(f"\n## {title}\n")
    rows = [row for row in section.partition("\n## ")[0].splitlines() if row.startswith("| ")]
    return [row.strip("| ").rpartition(" | ")[2] for row in rows[2:]]


@pytest.mark.parametrize("name", TESTS)
def test_named_test_exists(name: str) -> None:
    path, _, function = name.partition("::")

    assert (ROOT / path).exists()
    if function:
        tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
        assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("module", MODULES)
def test_named_module_exists(module: str) -> None:
    assert importlib.util.find_spec(module)


@pytest.mark.parametrize("title", ["Guarantees and limits", "Faults", "Invalid input"])
def test_every_row_names_a_test_or_a_command(title: str) -> None:
    cells = last_cells(title)

    assert cells
    assert [cell for cell in cells if not re.search(r"`.*\btests[./]", cell)] == []
