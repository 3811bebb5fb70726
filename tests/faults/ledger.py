"""What must have become of every course, as it follows from how each command ended."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count

from tests.faults.failpoints import Fault, Point

_EVENTS = {"delete": "course.deleted", "regenerate-token": "token.regenerated"}


@dataclass(frozen=True)
class Standing:
    """A course's version, and whether it is deleted."""

    version: int = 1
    deleted: bool = False

    def after(self, verb: str) -> "Standing":
        """Return how it stands once a command has changed it."""
        return Standing(self.version + 1, verb == "delete")


@dataclass
class Ledger:
    """How each course stands, which events there are, and of which commands nobody can know.

    A command that was killed at any place whatsoever, or that found the database locked by who
    was stopped, may or may not have committed: only the database can tell, later, and it may only
    say one or the other.
    """

    courses: dict[str, Standing] = field(default_factory=dict)
    events: set[tuple[str, int, str]] = field(default_factory=set)
    unsure: dict[str, str] = field(default_factory=dict)
    rolled_back: int = 0

    def __post_init__(self) -> None:
        self._names = (f"CS{number:06d}" for number in count(1))

    def stock(self, living: int) -> list[str]:
        """Return the new courses that are needed to have so many that can be changed."""
        names = [next(self._names) for _ in range(living - len(self._changeable()))]
        self.courses.update({name: Standing() for name in names})
        return names

    def choose(self, picks: Sequence[int]) -> list[str]:
        """Return the courses that numbers choose, each once, of those that can be changed."""
        changeable = self._changeable()
        return [changeable.pop(pick % len(changeable)) for pick in picks]

    def commit(self, verb: str, course_ids: Iterable[str]) -> None:
        """Take in that courses were changed."""
        for course_id in course_ids:
            self.courses[course_id] = standing = self.courses[course_id].after(verb)
            self.events.add((course_id, standing.version, _EVENTS[verb]))

    def kill(self, verb: str, course_ids: Sequence[str], fault: Fault) -> None:
        """Take in that a command was killed that changes courses one after the other."""
        if fault.point is Point.ANYWHERE:
            self.doubt(verb, course_ids)
        elif fault.point is Point.AFTER_COMMIT:
            self.commit(verb, course_ids[: fault.nth])
        else:
            self.commit(verb, course_ids[: fault.nth - 1])
            self.rolled_back += 1

    def doubt(self, verb: str, course_ids: Iterable[str]) -> None:
        """Take in that nobody can tell which of the courses were changed."""
        self.unsure.update(dict.fromkeys(course_ids, verb))

    def resolve(self, found: Mapping[str, Standing]) -> None:
        """Take from the database what only it can tell."""
        for course_id, verb in self.unsure.items():
            if found[course_id] == self.courses[course_id].after(verb):
                self.commit(verb, [course_id])
            else:
                self.rolled_back += 1
        self.unsure.clear()

    def _changeable(self) -> list[str]:
        return [
            course_id
            for course_id, standing in self.courses.items()
            if not standing.deleted and course_id not in self.unsure
        ]
