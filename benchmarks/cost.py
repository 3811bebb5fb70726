"""The cost of a grade sync, and a table of several."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Cost:
    """The cost of a run over many courses.

    `asked` and `refused` count courses, `here` and `there` the SQL statements of ELMS and of
    eAssessment, `moved` the bytes of request and response bodies, without headers.
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
        """The SQL statements of both services."""
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
    """Return the run with the median time; of an even number the faster one."""
    return sorted(costs, key=lambda cost: cost.seconds)[(len(costs) - 1) // 2]


def markdown(costs: Mapping[str, Cost]) -> list[str]:
    """Return the lines of a Markdown table with one row for each run."""
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
    """Format a number with thousands separators."""
    return f"{count:,}"
