"""How many there are, in words."""


def count(value: int, one: str, many: str | None = None) -> str:
    """Return how many there are, in words: 1 course, 2 courses."""
    return f"{value:,} {one if value == 1 else many or one + 's'}"
