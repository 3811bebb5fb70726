"""The result of an import: how many of its rows were added, changed, or unchanged."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ImportResult:
    """How many rows were added, changed, or left unchanged; results of parts can be added."""

    added: int = 0
    changed: int = 0
    unchanged: int = 0

    def __add__(self, other: "ImportResult") -> "ImportResult":
        """Return the sum of both."""
        return ImportResult(
            self.added + other.added,
            self.changed + other.changed,
            self.unchanged + other.unchanged,
        )

    def __str__(self) -> str:
        """Return the numbers as a command prints them."""
        return f"{self.added:,} new, {self.changed:,} changed, {self.unchanged:,} unchanged"

    @property
    def total(self) -> int:
        """The number of rows."""
        return self.added + self.changed + self.unchanged
