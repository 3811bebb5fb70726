"""What a run cost, and the table that sets such costs side by side."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Cost:
    """What a run over many courses cost: what was counted on both sides, and its seconds.

    `asked` are the courses that eAssessment was asked about, `refused` those of them that it
    refused. `moved` are the bytes of bodies that went and came; heads come on top.
    """

    asked: int
    requests: int
    refused: int
    here: int
    there: int
    moved: int
    seconds: float

    @property
    def queries(self) -> int:
        """The statements that both sides sent to their databases."""
        return self.here + self.there


COLUMNS = (
    "run",
    "courses asked",
    "requests",
    "refused",
    "queries at ELMS",
    "queries at eAssessment",
    "bytes of bodies",
    "seconds",
)


def median(costs: Sequence[Cost]) -> Cost:
    """Return the run that took the median time, whole; of an even number the quicker one."""
    return sorted(costs, key=lambda cost: cost.seconds)[(len(costs) - 1) // 2]


def markdown(costs: Mapping[str, Cost]) -> list[str]:
    """Return the lines of a table in Markdown, a row for each run by its name."""
    rows = [
        (
            name,
            *map(number, (cost.asked, cost.requests, cost.refused, cost.here, cost.there)),
            number(cost.moved),
            f"{cost.seconds:.1f}",
        )
        for name, cost in costs.items()
    ]
    rule = ("---", *("---:" for _ in COLUMNS[1:]))
    return [f"| {' | '.join(cells)} |" for cells in (COLUMNS, rule, *rows)]


def number(count: int) -> str:
    """Return a whole number as people read it."""
    return f"{count:,}"
