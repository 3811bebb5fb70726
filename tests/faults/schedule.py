"""What befalls whom in which cycle: pure, from a seed alone, so that a run can be had again."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from tests.faults.failpoints import Action, Fault, Point


class Part(StrEnum):
    """Whose process is hit."""

    CHANGE = "change"
    WORKER = "worker"
    DOOR = "door"


@dataclass(frozen=True)
class Place:
    """A point of a part with what can befall it there: up to which time, and how often."""

    part: Part
    point: Point
    action: Action
    last: int
    weight: int


@dataclass(frozen=True)
class Cycle:
    """One process hit; the numbers called `picks` choose among the courses or deliveries then.

    A stopped worker goes on `stopped_for` cycles later. `replays`, `rotates` and `holds` (disabling
    an endpoint during a change) are what operators do meanwhile.
    """

    number: int
    part: Part
    fault: Fault
    verb: str
    picks: tuple[int, ...]
    stopped_for: int
    replays: tuple[int, ...]
    rotates: bool
    holds: bool


PLACES = (
    Place(Part.CHANGE, Point.COURSE_CHANGED, Action.KILL, last=3, weight=6),
    Place(Part.CHANGE, Point.BEFORE_COMMIT, Action.KILL, last=3, weight=6),
    Place(Part.CHANGE, Point.AFTER_COMMIT, Action.KILL, last=3, weight=6),
    Place(Part.CHANGE, Point.ANYWHERE, Action.KILL, last=50_000, weight=8),
    Place(Part.WORKER, Point.CLAIMED, Action.KILL, last=4, weight=6),
    Place(Part.WORKER, Point.SIGNED, Action.KILL, last=4, weight=6),
    Place(Part.WORKER, Point.POSTED, Action.KILL, last=4, weight=10),
    Place(Part.WORKER, Point.SETTLING, Action.KILL, last=2, weight=6),
    Place(Part.WORKER, Point.BEFORE_COMMIT, Action.KILL, last=2, weight=6),
    Place(Part.WORKER, Point.AFTER_COMMIT, Action.KILL, last=2, weight=6),
    Place(Part.WORKER, Point.ANYWHERE, Action.KILL, last=90_000, weight=10),
    Place(Part.WORKER, Point.CLAIMED, Action.STOP, last=3, weight=2),
    Place(Part.WORKER, Point.SIGNED, Action.STOP, last=3, weight=2),
    Place(Part.WORKER, Point.POSTED, Action.STOP, last=3, weight=2),
    Place(Part.WORKER, Point.AFTER_COMMIT, Action.STOP, last=2, weight=2),
    Place(Part.DOOR, Point.VERIFIED, Action.KILL, last=2, weight=3),
    Place(Part.DOOR, Point.INBOX_WRITTEN, Action.KILL, last=2, weight=4),
    Place(Part.DOOR, Point.BEFORE_COMMIT, Action.KILL, last=2, weight=4),
    Place(Part.DOOR, Point.AFTER_COMMIT, Action.KILL, last=2, weight=6),
    Place(Part.DOOR, Point.INBOX_WRITTEN, Action.KILL_GROUP, last=2, weight=1),
    Place(Part.DOOR, Point.BEFORE_COMMIT, Action.KILL_GROUP, last=2, weight=1),
    Place(Part.DOOR, Point.AFTER_COMMIT, Action.KILL_GROUP, last=2, weight=2),
    Place(Part.DOOR, Point.AFTER_COMMIT, Action.STOP, last=2, weight=1),
)
"""None stops in a transaction: on SQLite it would bar every writer for as long."""

_COURSES = 3
_MANY = 1_000_000


def cycles(seed: int, count: int) -> Iterator[Cycle]:
    """Yield the cycles of a seed; a longer run begins with the cycles of a shorter one."""
    drawn = random.Random(seed)
    weights = [place.weight for place in PLACES]
    for number in range(1, count + 1):
        (place,) = drawn.choices(PLACES, weights)
        yield _cycle(number, place, drawn)


def _cycle(number: int, place: Place, drawn: random.Random) -> Cycle:
    courses = drawn.randint(1, _COURSES)
    nth = drawn.randint(1, place.last)
    if place.part is Part.CHANGE and place.point is not Point.ANYWHERE:
        nth = min(nth, courses)
    return Cycle(
        number,
        place.part,
        Fault(place.point, place.action, nth),
        verb="delete" if courses > 1 or drawn.random() < 0.2 else "regenerate-token",
        picks=tuple(drawn.randrange(_MANY) for _ in range(courses)),
        stopped_for=drawn.randint(1, 15),
        replays=_picks(drawn, 4) if drawn.random() < 0.1 else (),
        rotates=drawn.random() < 0.02,
        holds=drawn.random() < 0.1,
    )


def _picks(drawn: random.Random, most: int) -> tuple[int, ...]:
    return tuple(drawn.randrange(_MANY) for _ in range(drawn.randint(1, most)))
