"""Both sides' real code on real databases, each act in a transaction of its own."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from cryptography.fernet import Fernet
from pydantic import SecretStr
from sqlalchemy import delete, func, select

from contract import events, signatures
from contract.signatures import Secret
from contract.tokens import CourseToken
from foundation.crypto import Vault
from foundation.db import session as db
from foundation.db.session import Database
from foundation.http.ssrf import Guard
from notifier.courses import service as courses
from notifier.models import SCHEMA, Attempt, Course, Delivery, Endpoint, Event, Replay
from notifier.webhooks import endpoints
from notifier.webhooks import replay as replays
from notifier.webhooks.circuit_breaker import BreakerState
from notifier.worker import batch
from notifier.worker.batch import BatchResult, BatchSettings, Finished
from notifier.worker.claims import ClaimLimits, EndpointLimit
from receiver.models import SCHEMA as ELMS_SCHEMA
from receiver.models import Entry, InboxMessage, Source
from receiver.registry import entries as registry
from receiver.sources import store as sources
from receiver.sources.store import WebhookSource
from receiver.webhooks import inbox
from tests.faults.model.elms import Fact
from tests.faults.model.sender import Room

SITE = "eassessment.example.ac.uk"
LEASE = timedelta(minutes=1)
_TERMS = BatchSettings(LEASE, timedelta(days=5), lambda: 0.0)


class RolledBackError(Exception):
    """Raised on purpose inside a transaction."""


class World:
    """eAssessment with its deliveries, and ELMS behind all of its endpoints."""

    def __init__(self, notifier: Database, receiver: Database, now: datetime) -> None:
        self.notifier, self.receiver = notifier, receiver
        self.vault = Vault(SecretStr(Fernet.generate_key().decode()))
        _empty(notifier, SCHEMA.metadata)
        _empty(receiver, ELMS_SCHEMA.metadata)
        with receiver.writing() as session:
            self._source_id = sources.add(session, SITE, "https://e.example", now=now).id

    def register(self, number: int, wants: Collection[str], *, now: datetime) -> tuple[int, Secret]:
        """Register an endpoint; return its id and secret."""
        url = f"https://elms.example.ac.uk/webhooks/{number}"
        with self.notifier.writing() as session:
            endpoint, secret = endpoints.register(
                session, url, sorted(wants), guard=Guard(), vault=self.vault, now=now
            )
            return endpoint.id, secret

    def add_course(self, course_id: str, *, now: datetime) -> CourseToken:
        """Add a course on both sides; return its token."""
        with self.notifier.writing() as session:
            token = courses.add_course(session, course_id, course_id, now=now)
        with self.receiver.writing() as session:
            source = session.get_one(Source, self._source_id)
            registry.add(
                session,
                source,
                course_id,
                token,
                vault=self.vault,
                actor=registry.Actor("administrator", "ada@elms"),
                now=now,
            )
        return token

    def change(
        self, course_id: str, kind: str, *, now: datetime, breaks: bool = False
    ) -> CourseToken | None:
        """Delete a course, or regenerate its token and return the new one."""
        with self.notifier.writing() as session:
            if kind == "course.deleted":
                courses.delete_course(session, course_id, now=now)
                token = None
            else:
                token = courses.regenerate_token(session, course_id, now=now)
            if breaks:
                raise RolledBackError
        return token

    def last_fact(self, course_id: str, token: CourseToken | None) -> tuple[Fact, dict[int, int]]:
        """Return the last event of a course, and its delivery for each endpoint."""
        with self.notifier.reading() as session:
            version = session.scalars(
                select(Course.version).where(Course.course_id == course_id)
            ).one()
            event_id = session.scalars(
                select(Event.id).where(
                    Event.course_id == course_id, Event.course_version == version
                )
            ).one()
            rows = session.execute(
                select(Delivery.endpoint_id, Delivery.id).where(Delivery.event_id == event_id)
            )
            fact = Fact(event_id, course_id, version, token.token_id if token else None)
            return fact, dict(rows.tuples().all())

    def turn(
        self, finished: Sequence[Finished], room: Room, *, now: datetime, breaks: bool = False
    ) -> BatchResult:
        """Take a turn as a worker does."""

        def limits(states: Mapping[int, BreakerState]) -> ClaimLimits:
            by_endpoint = {
                one: EndpointLimit(1, 1)
                if health.is_half_open(now)
                else EndpointLimit(room.endpoint, room.retry)
                for one, health in states.items()
                if not health.is_paused(now)
            }
            return ClaimLimits(room.total, room.retry, room.isolated, by_endpoint)

        with self.notifier.writing() as session:
            done = batch.process_batch(session, finished, limits, _TERMS, now=now)
            if breaks:
                raise RolledBackError
        return done

    def replay(self, delivery_id: int, *, now: datetime) -> None:
        """Replay a delivery."""
        with self.notifier.writing() as session:
            replays.replay(session, [delivery_id], by="ada", now=now)

    def disable(self, endpoint_id: int, *, now: datetime) -> None:
        """Disable an endpoint."""
        with self.notifier.writing() as session:
            endpoints.disable(session, endpoint_id, "out of order", now=now)

    def enable(self, endpoint_id: int, *, now: datetime) -> None:
        """Enable an endpoint."""
        with self.notifier.writing() as session:
            endpoints.enable(session, endpoint_id, now=now)

    def rotate(self, endpoint_id: int, overlap: timedelta, *, now: datetime) -> Secret:
        """Rotate an endpoint's secret; return the new one."""
        with self.notifier.writing() as session:
            return endpoints.rotate_secret(
                session, endpoint_id, overlap=overlap, vault=self.vault, now=now
            )

    def hear(
        self, secrets: Sequence[Secret], headers: dict[str, str], body: bytes, *, now: datetime
    ) -> str:
        """Take a webhook in as ELMS's door does; return the outcome, or `refused`."""
        try:
            webhook_id = signatures.verify(secrets, headers, body, now=now)
        except signatures.SignatureError:
            return "refused"
        door = WebhookSource(self._source_id, SITE, tuple(secrets))
        with self.receiver.writing() as session:
            event = events.load(body)
            return inbox.accept(session, door, webhook_id, event, body, now=now).value

    def enter_token(self, course_id: str, token: CourseToken) -> None:
        """Give ELMS another token for a course."""
        with self.receiver.writing() as session:
            source = session.get_one(Source, self._source_id)
            entry = registry.get(session, source, course_id)
            registry.set_token(
                session,
                entry,
                token,
                vault=self.vault,
                actor=registry.Actor("administrator", "ada@elms"),
                now=db.now(session),
            )

    def deliveries(self) -> dict[int, Delivery]:
        """Return every delivery by its id."""
        with self.notifier.reading() as session:
            return {one.id: one for one in session.scalars(select(Delivery))}

    def decided(self) -> dict[int, list[str]]:
        """Return what was decided of each attempt of each delivery, in order."""
        found: defaultdict[int, list[str]] = defaultdict(list)
        with self.notifier.reading() as session:
            query = select(Attempt.delivery_id, Attempt.decided).order_by(Attempt.id)
            for delivery_id, decided in session.execute(query):
                found[delivery_id].append(decided)
        return dict(found)

    def replayed(self) -> dict[int, int]:
        """Return how often each delivery was replayed."""
        with self.notifier.reading() as session:
            query = select(Replay.delivery_id, func.count()).group_by(Replay.delivery_id)
            return dict(session.execute(query).tuples().all())

    def events(self) -> set[str]:
        """Return the id of every event."""
        with self.notifier.reading() as session:
            return set(session.scalars(select(Event.id)))

    def endpoints(self) -> dict[int, Endpoint]:
        """Return every endpoint by its id."""
        with self.notifier.reading() as session:
            return {one.id: one for one in endpoints.list_all(session)}

    def statuses(self) -> dict[str, str]:
        """Return the status of each course in ELMS's registry."""
        with self.receiver.reading() as session:
            rows = session.scalars(select(Entry))
            return {row.course_id: registry.standing(row).status.value for row in rows}

    def inbox(self) -> dict[str, str]:
        """Return the outcome of each webhook id that ELMS has taken."""
        with self.receiver.reading() as session:
            rows = session.execute(select(InboxMessage.webhook_id, InboxMessage.outcome))
            return dict(rows.tuples().all())


def _empty(database: Database, metadata: Any) -> None:
    with database.writing() as session:
        for table in reversed(metadata.sorted_tables):
            session.execute(delete(table))
