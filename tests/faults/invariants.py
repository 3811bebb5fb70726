"""The invariants I1 to I3, of what two databases hold against what the observer has seen pass."""

import json
from collections import Counter
from dataclasses import dataclass
from functools import reduce
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy import select

from notifier.models import Course, Delivery, DeliveryStatus, Endpoint, Event
from receiver.models import Entry, InboxMessage
from tests.faults.ledger import Ledger, Standing
from tests.faults.observer import Post
from tests.faults.site import DOOR, PATHS, Site

_EFFECTS = {"applied", "stale"}
_ANSWERS = {*_EFFECTS, "duplicate"}


@dataclass(frozen=True)
class Told:
    """What ELMS must remember of a course: its deletion, its last token, with their versions."""

    deleted_version: int | None = None
    announced_version: int | None = None
    announced_token_id: str | None = None


@dataclass
class Books:
    """All there is to compare, read at one time at which nothing is under way.

    An event is its id, course, version, type and body; a delivery its event, path and status.
    """

    standings: dict[str, Standing]
    events: dict[str, tuple[str, int, str, bytes]]
    deliveries: list[tuple[str, str, str]]
    inbox: set[str]
    entries: dict[str, Told]
    posts: list[Post]


def read(both: Site) -> Books:
    """Read what both databases hold and what has passed."""
    with both.notifier.reading() as session:
        courses = session.execute(select(Course.course_id, Course.version, Course.deleted_at))
        standings = {name: Standing(version, at is not None) for name, version, at in courses}
        rows = session.execute(
            select(Event.id, Event.course_id, Event.course_version, Event.type, Event.body)
        )
        events = {row[0]: (row[1], row[2], row[3], row[4].encode()) for row in rows}
        sent = session.execute(
            select(Delivery.event_id, Endpoint.url, Delivery.status).join(
                Endpoint, Endpoint.id == Delivery.endpoint_id
            )
        )
        deliveries = [(event_id, urlsplit(url).path, status) for event_id, url, status in sent]
    with both.receiver.reading() as session:
        inbox = set(session.scalars(select(InboxMessage.webhook_id)))
        entries = session.execute(
            select(
                Entry.course_id,
                Entry.deleted_version,
                Entry.announced_version,
                Entry.announced_token_id,
            )
        )
        told = {row[0]: Told(*row[1:]) for row in entries}
    return Books(standings, events, deliveries, inbox, told, both.observer.everything())


def broken(books: Books, ledger: Ledger) -> list[str]:
    """Return what is not as it must be once everything is delivered; nothing if all is well."""
    return [
        *_nothing_lost(books, ledger),
        *_nothing_invented(books, ledger),
        *_one_effect(books),
    ]


def lost(books: Books) -> list[str]:
    """Return the events that a path has not taken."""
    taken = {(post.path, post.webhook_id) for post in books.posts if post.taken}
    return [
        f"lost: the event {event_id} was never taken at {path}"
        for event_id in books.events
        for path in PATHS
        if (path, event_id) not in taken
    ]


def applied_twice(books: Books) -> list[str]:
    """Return the events of which the door has said more than once that they had an effect."""
    effects = Counter(post.webhook_id for post in books.posts if post.outcome in _EFFECTS)
    return [
        f"applied {times} times: {event_id}" for event_id, times in effects.items() if times > 1
    ]


def _nothing_lost(books: Books, ledger: Ledger) -> list[str]:
    wanted = {(event_id, path) for event_id in books.events for path in PATHS}
    written = {(course_id, version, kind) for course_id, version, kind, _ in books.events.values()}
    times = Counter((event_id, path) for event_id, path, _ in books.deliveries)
    return [
        *(f"I1: committed, but no event: {one}" for one in sorted(ledger.events - written)),
        *(f"I1: no delivery: {one}" for one in sorted(wanted - set(times))),
        *(f"I1: {n} deliveries: {one}" for one, n in times.items() if n > 1),
        *(
            f"I1: {status}: {event_id} for {path}"
            for event_id, path, status in books.deliveries
            if status != DeliveryStatus.DELIVERED
        ),
        *(f"I1: {one}" for one in lost(books)),
    ]


def _nothing_invented(books: Books, ledger: Ledger) -> list[str]:
    written = {(course_id, version, kind) for course_id, version, kind, _ in books.events.values()}
    return [
        *(f"I2: an event of no change: {one}" for one in sorted(written - ledger.events)),
        *(
            f"I2: {course_id} is {found}, must be {ledger.courses.get(course_id)}"
            for course_id, found in books.standings.items()
            if found != ledger.courses.get(course_id)
        ),
        *(f"I2: courses are missing: {one}" for one in set(ledger.courses) - set(books.standings)),
        *(f"I2: sent, but no event: {post.webhook_id}" for post in _strange(books)),
    ]


def _strange(books: Books) -> list[Post]:
    """Return the posts that are not, byte by byte and well signed, what an event says."""
    bodies = {event_id: body for event_id, (*_, body) in books.events.items()}
    return [
        post
        for post in books.posts
        if not post.verified or bodies.get(post.webhook_id) != post.body
    ]


def _one_effect(books: Books) -> list[str]:
    folded = _folded(books)
    at_door = [post for post in books.posts if post.path == DOOR and post.status is not None]
    return [
        *(f"I3: not in the inbox: {one}" for one in sorted(set(books.events) - set(books.inbox))),
        *(f"I3: of no event: {one}" for one in sorted(set(books.inbox) - set(books.events))),
        *(f"I3: {one}" for one in applied_twice(books)),
        *(
            f"I3: answered {post.status} {post.outcome}: {post.webhook_id}"
            for post in at_door
            if post.outcome not in _ANSWERS and post.status != HTTPStatus.SERVICE_UNAVAILABLE
        ),
        *(
            f"I3: {course_id} is {books.entries.get(course_id)}, must be {folded.get(course_id)}"
            for course_id in sorted(set(folded) | set(books.entries))
            if books.entries.get(course_id) != folded.get(course_id)
        ),
    ]


def _folded(books: Books) -> dict[str, Told]:
    """Return the fold of the highest versions of what has passed to the door."""
    bodies = {post.body for post in books.posts if post.path == DOOR and post.taken}
    heard = sorted(
        (json.loads(body) for body in bodies), key=lambda one: one["data"]["course_version"]
    )
    return reduce(_with, heard, dict[str, Told]())


def _with(told: dict[str, Told], event: dict[str, Any]) -> dict[str, Told]:
    data = event["data"]
    before = told.get(data["course_id"], Told())
    if event["type"] == "course.deleted":
        after = Told(data["course_version"], before.announced_version, before.announced_token_id)
    else:
        after = Told(before.deleted_version, data["course_version"], data["token_id"])
    told[data["course_id"]] = after
    return told
