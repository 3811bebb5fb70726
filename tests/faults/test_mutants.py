"""The check by mutants is itself in order."""

import pytest

from tests.faults.mutants import MUTANTS, ROOT, Mutant

every_mutant = pytest.mark.parametrize(
    "mutant", [pytest.param(one, id=one.safeguard) for one in MUTANTS]
)


@every_mutant
def test_safeguard_stands_where_it_is_taken_away(mutant: Mutant) -> None:
    """The text of a safeguard stands once in its module, and without it the module compiles."""
    source = mutant.source()

    assert source.count(mutant.old) == 1
    compile(source.replace(mutant.old, mutant.new), mutant.path, "exec")


@every_mutant
def test_who_must_notice_is_there(mutant: Mutant) -> None:
    """Each test that is named exists."""
    for named in mutant.tests:
        path, _, function = named.partition("::")
        assert f"def {function}" in (ROOT / path).read_text(encoding="utf-8")
