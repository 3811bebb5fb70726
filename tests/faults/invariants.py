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
from tests.faults.observer import Post
from tests.faults.site import ELMS, PATHS, Site

EVENT_TYPES = {
    "delete": "course.deleted",
    "restore": "course.restored",
    "regenerate-token": "token.regenerated",
}
_EFFECTS = {"applied", "stale"}
# The versions of a course's deletion and of its restoration, of which the last is known, and
# version and token of its last announcement.
StoredFacts = tuple[int | None, int | None, int | None, str | None]


@dataclass
class Ledger:
    """The changes of each course that were committed, in their order.

    Only the database knows whether the changes in `unsure` were: their commands were killed, or
    found the database locked by a stopped process.
    """

    changes: dict[str, list[str]] = field(default_factory=dict)
    unsure: dict[str, str] = field(default_factory=dict)
    rolled_back: int = 0

    def __post_init__(self) -> None:
        self._names = (f"CS{number:06d}" for number in count(1))

    def restock(self, total: int) -> list[str]:
        """Return the ids of new courses, so that `total` can be changed."""
        names = [next(self._names) for _ in range(total - len(self._sure(deleted=False)))]
        self.changes.update({name: [] for name in names})
        return names

    def choose(self, picks: Sequence[int], *, deleted: bool = False) -> list[str]:
        """Return a course for each pick, or as many as there are."""
        found = self._sure(deleted=deleted)
        return [found.pop(pick % len(found)) for pick in picks if found]

    def commit(self, verb: str, course_ids: Iterable[str]) -> None:
        for course_id in course_ids:
            self.changes[course_id].append(verb)

    def doubt(self, verb: str, course_ids: Iterable[str]) -> None:
        self.unsure.update(dict.fromkeys(course_ids, verb))

    def resolve(self, courses: Mapping[str, tuple[int, bool]]) -> None:
        """Decide by the database whether the changes in doubt were committed."""
        for course_id, verb in self.unsure.items():
            if courses[course_id][0] == len(self.changes[course_id]) + 2:
                self.commit(verb, [course_id])
            else:
                self.rolled_back += 1
        self.unsure.clear()

    @property
    def courses(self) -> dict[str, tuple[int, bool]]:
        """The version of each course, and whether it is deleted."""
        return {one: (1 + len(verbs), _is_deleted(verbs)) for one, verbs in self.changes.items()}

    @property
    def events(self) -> set[tuple[str, int, str]]:
        """The course, version and type of each event."""
        return {
            (course_id, version, EVENT_TYPES[verb])
            for course_id, verbs in self.changes.items()
            for version, verb in enumerate(verbs, 2)
        }

    @property
    def restored(self) -> int:
        """The number of restorations."""
        return sum(verbs.count("restore") for verbs in self.changes.values())

    def _sure(self, *, deleted: bool) -> list[str]:
        return [
            course_id
            for course_id, verbs in self.changes.items()
            if _is_deleted(verbs) is deleted and course_id not in self.unsure
        ]


def _is_deleted(verbs: Sequence[str]) -> bool:
    return verbs[-1:] == ["delete"]


@dataclass
class Snapshot:
    """All there is to compare, read while nothing is under way.

    Courses are version and deleted; events are course, version, type and body by id; deliveries
    are event, path and status; entries are what ELMS stores by course.
    """

    courses: dict[str, tuple[int, bool]]
    events: dict[str, tuple[str, int, str, bytes]]
    deliveries: list[tuple[str, str, str]]
    inbox: set[str]
    entries: dict[str, StoredFacts]
    posts: list[Post]

    @property
    def lost(self) -> list[tuple[str, str]]:
        """The events and paths at which they were never accepted."""
        accepted = {(post.webhook_id, post.path) for post in self.posts if post.accepted}
        return [(one, p) for one in self.events for p in PATHS if (one, p) not in accepted]

    @property
    def applied_twice(self) -> list[str]:
        effects = Counter(post.webhook_id for post in self.posts if post.outcome in _EFFECTS)
        return [event_id for event_id, times in effects.items() if times > 1]


def read_snapshot(both: Site) -> Snapshot:
    """Read both databases and the observer."""
    with both.notifier.reading() as session:
        courses = {
            one.course_id: (one.version, one.deleted_at is not None)
            for one in session.scalars(select(Course))
        }
        events = {
            one.id: (one.course_id, one.course_version, one.type, one.body.encode())
            for one in session.scalars(select(Event))
        }
        query = select(Delivery.event_id, Endpoint.url, Delivery.status).join(
            Endpoint, Endpoint.id == Delivery.endpoint_id
        )
        deliveries = [(row[0], urlsplit(row[1]).path, row[2]) for row in session.execute(query)]
    with both.receiver.reading() as session:
        inbox = set(session.scalars(select(InboxMessage.webhook_id)))
        entries = {
            one.course_id: (
                one.deleted_version,
                one.restored_version,
                one.announced_version,
                one.announced_token_id,
            )
            for one in session.scalars(select(Entry))
        }
    return Snapshot(courses, events, deliveries, inbox, entries, list(both.observer.posts))


def find_broken(snapshot: Snapshot, ledger: Ledger) -> list[str]:
    """Return what is wrong once everything is delivered."""
    events = {(course, version, kind) for course, version, kind, _ in snapshot.events.values()}
    due = {
        (event_id, path, DeliveryStatus.DELIVERED) for event_id in snapshot.events for path in PATHS
    }
    bodies = {event_id: body for event_id, (*_, body) in snapshot.events.items()}
    strange = [
        post.webhook_id
        for post in snapshot.posts
        if not post.verified or bodies.get(post.webhook_id) != post.body
    ]
    rejected = [
        (post.webhook_id, post.status)
        for post in snapshot.posts
        if post.path == ELMS and post.status not in {None, 503}
        if post.outcome not in {*_EFFECTS, "duplicate"}
    ]
    found: dict[str, Iterable[object]] = {
        "I1 events that are missing": ledger.events - events,
        "I1 deliveries that are missing or not delivered": due - {*snapshot.deliveries},
        "I1 deliveries that are double": Counter(snapshot.deliveries) - Counter(due),
        "I1 never accepted": snapshot.lost,
        "I2 events without a change": events - ledger.events,
        "I2 courses that differ": snapshot.courses.items() ^ ledger.courses.items(),
        "I2 sent without an event, or badly signed": strange,
        "I3 inbox and events differ": snapshot.inbox ^ snapshot.events.keys(),
        "I3 applied twice": snapshot.applied_twice,
        "I3 rejected by ELMS": rejected,
        "I3 entries that are not the fold": snapshot.entries.items()
        ^ _fold(bodies.values()).items(),
    }
    return [f"{what}: {sorted(which, key=repr)[:20]}" for what, which in found.items() if which]


def _fold(bodies: Iterable[bytes]) -> dict[str, StoredFacts]:
    """Return the entries that follow from the highest versions."""
    entries: dict[str, StoredFacts] = {}
    for event in sorted(map(json.loads, bodies), key=lambda one: one["data"]["course_version"]):
        data = event["data"]
        entry, version = entries.get(data["course_id"], (None,) * 4), data["course_version"]
        match event["type"]:
            case "course.deleted":
                entry = (version, None, *entry[2:])
            case "course.restored":
                entry = (None, version, *entry[2:])
            case _:
                entry = (*entry[:2], version, data["token_id"])
        entries[data["course_id"]] = entry
    return entries
