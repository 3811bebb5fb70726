"""Each fault and each bad input that the project is tried against has a test that names it."""

import ast
import re
from collections import defaultdict
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
FAULTS = [f"F{number}" for number in range(1, 33)]
BAD_INPUTS = [f"B{number}" for number in range(1, 14)]
_NAMED = re.compile(r"\(((?:[FBI]\d{1,2})(?:, [FBI]\d{1,2})*)\)")


def named_rows() -> dict[str, list[str]]:
    """Return, by row, the tests whose docstrings name it in brackets."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for path in sorted(TESTS.rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                for names in _NAMED.findall(ast.get_docstring(node) or ""):
                    for row in names.split(", "):
                        found[row].append(f"{path.relative_to(TESTS)}::{node.name}")
    return found


@pytest.fixture(scope="module")
def named() -> dict[str, list[str]]:
    """The rows and the tests that name them."""
    return named_rows()


@pytest.mark.parametrize("row", FAULTS + BAD_INPUTS)
def test_every_row_has_a_test_that_names_it(named: dict[str, list[str]], row: str) -> None:
    assert named.get(row)


def test_no_test_names_a_row_that_there_is_not(named: dict[str, list[str]]) -> None:
    invariants = {f"I{number}" for number in range(1, 7)}

    assert set(named) <= {*FAULTS, *BAD_INPUTS, *invariants}
