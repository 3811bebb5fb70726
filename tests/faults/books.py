"""What must have become of each course, and whether databases and observer agree (I1 to I3)."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from urllib.parse import urlsplit

from sqlalchemy import select

from notifier.models import Course, Delivery, DeliveryStatus, Endpoint, Event
from receiver.models import Entry, InboxMessage
from tests.faults.failpoints import Fault, Point
from tests.faults.observer import Post
from tests.faults.site import ELMS, PATHS, Site

_EVENTS = {"delete": "course.deleted", "regenerate-token": "token.regenerated"}
_EFFECTS = {"applied", "stale"}


@dataclass(frozen=True)
class CourseRow:
    """A course's version, and whether it is deleted."""

    version: int = 1
    deleted: bool = False

    def after(self, verb: str) -> "CourseRow":
        return CourseRow(self.version + 1, verb == "delete")


@dataclass
class Ledger:
    """What follows from how each command ended.

    Only the database knows whether the commands in `unsure` committed: those that were killed
    anywhere, or that found the database locked by a stopped process.
    """

    courses: dict[str, CourseRow] = field(default_factory=dict)
    events: set[tuple[str, int, str]] = field(default_factory=set)
    unsure: dict[str, str] = field(default_factory=dict)
    rolled_back: int = 0

    def __post_init__(self) -> None:
        self._names = (f"CS{number:06d}" for number in count(1))

    def restock(self, total: int) -> list[str]:
        """Return the ids of new courses, so that `total` can be changed."""
        names = [next(self._names) for _ in range(total - len(self._changeable()))]
        self.courses.update({name: CourseRow() for name in names})
        return names

    def choose(self, picks: Sequence[int]) -> list[str]:
        changeable = self._changeable()
        return [changeable.pop(pick % len(changeable)) for pick in picks]

    def commit(self, verb: str, course_ids: Iterable[str]) -> None:
        for course_id in course_ids:
            self.courses[course_id] = row = self.courses[course_id].after(verb)
            self.events.add((course_id, row.version, _EVENTS[verb]))

    def kill(self, verb: str, course_ids: Sequence[str], fault: Fault) -> None:
        """Record that a command was killed that changes courses one after the other."""
        match fault.point:
            case Point.ANYWHERE:
                self.doubt(verb, course_ids)
            case Point.AFTER_COMMIT:
                self.commit(verb, course_ids[: fault.nth])
            case _:
                self.commit(verb, course_ids[: fault.nth - 1])
                self.rolled_back += 1

    def doubt(self, verb: str, course_ids: Iterable[str]) -> None:
        self.unsure.update(dict.fromkeys(course_ids, verb))

    def resolve(self, rows: Mapping[str, CourseRow]) -> None:
        """Decide by the database whether the commands in doubt committed."""
        for course_id, verb in self.unsure.items():
            if rows[course_id] == self.courses[course_id].after(verb):
                self.commit(verb, [course_id])
            else:
                self.rolled_back += 1
        self.unsure.clear()

    def _changeable(self) -> list[str]:
        return [
            course_id
            for course_id, row in self.courses.items()
            if not row.deleted and course_id not in self.unsure
        ]


@dataclass
class Books:
    """All there is to compare, read while nothing is under way.

    Events are course, version, type and body by id; deliveries are event, path and status;
    entries are the deleted version, the announced version and the announced token by course.
    """

    courses: dict[str, CourseRow]
    events: dict[str, tuple[str, int, str, bytes]]
    deliveries: list[tuple[str, str, str]]
    inbox: set[str]
    entries: dict[str, tuple[int | None, int | None, str | None]]
    posts: list[Post]

    @property
    def lost(self) -> list[tuple[str, str]]:
        """The paths and events that were never accepted there."""
        accepted = {(post.path, post.webhook_id) for post in self.posts if post.taken}
        return [(p, one) for one in self.events for p in PATHS if (p, one) not in accepted]

    @property
    def applied_twice(self) -> list[str]:
        effects = Counter(post.webhook_id for post in self.posts if post.outcome in _EFFECTS)
        return [event_id for event_id, times in effects.items() if times > 1]


def read(both: Site) -> Books:
    """Read both databases and the observer."""
    with both.notifier.reading() as session:
        courses = session.execute(select(Course.course_id, Course.version, Course.deleted_at))
        rows = {name: CourseRow(version, at is not None) for name, version, at in courses}
        events = {
            one.id: (one.course_id, one.course_version, one.type, one.body.encode())
            for one in session.scalars(select(Event))
        }
        sent = session.execute(
            select(Delivery.event_id, Endpoint.url, Delivery.status).join(
                Endpoint, Endpoint.id == Delivery.endpoint_id
            )
        )
        deliveries = [(event_id, urlsplit(url).path, status) for event_id, url, status in sent]
    with both.receiver.reading() as session:
        inbox = set(session.scalars(select(InboxMessage.webhook_id)))
        entries = {
            one.course_id: (one.deleted_version, one.announced_version, one.announced_token_id)
            for one in session.scalars(select(Entry))
        }
    return Books(rows, events, deliveries, inbox, entries, both.observer.everything())


def find_broken(books: Books, ledger: Ledger) -> list[str]:
    """Return what is wrong once everything is delivered."""
    events = {(course, version, kind) for course, version, kind, _ in books.events.values()}
    due = Counter((event_id, path) for event_id in books.events for path in PATHS)
    bodies = {event_id: body for event_id, (*_, body) in books.events.items()}
    strange = [
        post.webhook_id
        for post in books.posts
        if not post.verified or bodies.get(post.webhook_id) != post.body
    ]
    refused = [
        (post.webhook_id, post.status)
        for post in books.posts
        if post.path == ELMS and post.status not in {None, 503}
        if post.outcome not in {*_EFFECTS, "duplicate"}
    ]
    undelivered = [one for one in books.deliveries if one[2] != DeliveryStatus.DELIVERED]
    stored = Counter(one[:2] for one in books.deliveries)
    found: dict[str, Iterable[object]] = {
        "I1 events that are missing": ledger.events - events,
        "I1 deliveries that are missing or double": {*(due - stored), *(stored - due)},
        "I1 not delivered": undelivered,
        "I1 never accepted": books.lost,
        "I2 events without a change": events - ledger.events,
        "I2 courses that differ": books.courses.items() ^ ledger.courses.items(),
        "I2 sent without an event, or badly signed": strange,
        "I3 inbox and events differ": books.inbox ^ books.events.keys(),
        "I3 applied twice": books.applied_twice,
        "I3 rejected by ELMS": refused,
        "I3 entries that are not the fold": books.entries.items() ^ _fold(books).items(),
    }
    return [f"{what}: {sorted(which, key=repr)[:20]}" for what, which in found.items() if which]


def _fold(books: Books) -> dict[str, tuple[int | None, int | None, str | None]]:
    """Return the entries that follow from the highest versions that ELMS accepted."""
    bodies = {post.body for post in books.posts if post.path == ELMS and post.taken}
    entries: dict[str, tuple[int | None, int | None, str | None]] = {}
    for event in sorted(map(json.loads, bodies), key=lambda one: one["data"]["course_version"]):
        data = event["data"]
        deleted, announced, token = entries.get(data["course_id"], (None, None, None))
        if event["type"] == "course.deleted":
            deleted = data["course_version"]
        else:
            announced, token = data["course_version"], data["token_id"]
        entries[data["course_id"]] = deleted, announced, token
    return entries
