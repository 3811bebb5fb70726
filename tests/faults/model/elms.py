"""What ELMS should know, told a second time: everything it ever took in, read anew each time."""

from collections.abc import Collection
from dataclasses import dataclass, field

_TOLERATED_SECONDS = 300


@dataclass(frozen=True)
class Fact:
    """What an event says of a course; `token` is None where it was deleted."""

    event: str
    course: str
    version: int
    token: str | None


@dataclass(frozen=True)
class Letter:
    """An event on its way: the names of the secrets that signed it, and when."""

    fact: Fact
    signed_by: Collection[str]
    signed_at: int


@dataclass
class Elms:
    """The secrets and tokens that ELMS holds, and every fact it has taken in, once each."""

    secrets: set[str] = field(default_factory=set)
    tokens: dict[str, str] = field(default_factory=dict)
    facts: list[Fact] = field(default_factory=list)

    def hear(self, letter: Letter, seconds: float) -> str:
        """Take a letter in, and return what its sender is told."""
        is_ours = bool(self.secrets & set(letter.signed_by))
        if not is_ours or abs(seconds - letter.signed_at) > _TOLERATED_SECONDS:
            return "refused"
        if letter.fact in self.facts:
            return "duplicate"
        before = self._known(letter.fact.course)
        self.facts.append(letter.fact)
        return "applied" if self._known(letter.fact.course) != before else "stale"

    def status(self, course: str) -> str:
        """Return whether the sync asks for a course: deleted is final, then its token decides."""
        deleted, named = self._known(course)
        if deleted is not None:
            return "course_deleted"
        if named is not None and named.token != self.tokens.get(course):
            return "token_invalid"
        return "active"

    def _known(self, course: str) -> tuple[Fact | None, Fact | None]:
        """Return the highest version that speaks of a deletion, and of a token."""
        of_course = sorted(
            (one for one in self.facts if one.course == course), key=lambda one: one.version
        )
        deleted = [one for one in of_course if one.token is None]
        named = [one for one in of_course if one.token is not None]
        return (deleted or [None])[-1], (named or [None])[-1]
