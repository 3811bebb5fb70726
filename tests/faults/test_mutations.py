"""The check that takes the promises' ground away keeps up with the code."""

import pytest

from tests.faults.mutation_check import MUTATIONS, ROOT, Mutation


@pytest.mark.parametrize("mutation", [pytest.param(one, id=one.name) for one in MUTATIONS])
def test_each_mutation_can_be_made(mutation: Mutation) -> None:
    path = ROOT / mutation.path

    left = mutation.applied(path.read_text(encoding="utf-8"))

    compile(left, mutation.path, "exec")


@pytest.mark.parametrize("mutation", [pytest.param(one, id=one.name) for one in MUTATIONS])
def test_each_mutation_names_a_test(mutation: Mutation) -> None:
    path, _, test = mutation.test.partition("::")

    source = (ROOT / path).read_text(encoding="utf-8")

    assert f"def {test}" in source
