"""The data of the sync benchmark: courses with grades, some of which have become invalid."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

from sqlalchemy import delete, select, update

from contract import events
from contract.grades import Score
from foundation.crypto import Vault
from foundation.db.session import Database
from notifier.courses import grades
from notifier.courses import service as courses
from notifier.models import Event
from notifier.webhooks import outbox
from receiver.models import Entry, HistoryEntry, Run, RunCourse, StoredScore
from receiver.registry import entries as registry
from receiver.registry.history import Actor, ActorKind
from receiver.sources import store as sources
from receiver.sources.store import WebhookSource
from receiver.webhooks import inbox

SOURCE = "eassessment"
_CHUNK = 250
_NINE = datetime(2026, 11, 22, 9, tzinfo=UTC)
_ACTOR = Actor(ActorKind.ADMINISTRATOR, "benchmark")


@dataclass(frozen=True)
class SyncData:
    """Both databases, the vault of ELMS, and the URL of eAssessment."""

    there: Database
    here: Database
    vault: Vault
    url: str

    def set_up(self, count: int, students: int) -> None:
        """Add courses with grades on both sides, and tell ELMS which of them became invalid.

        Three of ten courses are invalid: half of those deleted, half with a regenerated token.
        """
        outbox.subscribe()
        ids = [f"C{number:05}" for number in range(count)]
        with self.here.writing() as session:
            sources.add(session, SOURCE, self.url, now=_NINE)
        for some in _chunks(ids):
            self._add(some, students)
        for some in _chunks([one for one in ids if is_invalid(_number(one))]):
            self._invalidate(some)
        self._deliver()

    def forget(self) -> None:
        """Reset ELMS to before its first sync."""
        with self.here.writing() as session:
            for table in (StoredScore, RunCourse, Run):
                session.execute(delete(table))
            session.execute(delete(HistoryEntry).where(HistoryEntry.actor == ActorKind.SYNC.value))
            nothing = dict.fromkeys(
                ("etag", "synced_at", "announced_version", "announced_token_id", "announced_at")
            )
            session.execute(
                update(Entry)
                .where(Entry.announced_token_id == Entry.stored_token_id)
                .values(nothing)
            )

    def _add(self, ids: Sequence[str], students: int) -> None:
        with self.there.writing() as session:
            tokens = {one: courses.add_course(session, one, one, now=_NINE) for one in ids}
            grades.load(session, {one: _scores(one, students) for one in ids}, now=_NINE)
        with self.here.writing() as session:
            source = sources.get(session, SOURCE)
            for course_id, token in tokens.items():
                registry.add(
                    session, source, course_id, token,
                    vault=self.vault, actor=_ACTOR, now=_NINE,
                )  # fmt: skip

    def _invalidate(self, ids: Sequence[str]) -> None:
        with self.there.writing() as session:
            for course_id in ids:
                if _is_deleted(_number(course_id)):
                    courses.delete_course(session, course_id, now=_NINE)
                else:
                    courses.regenerate_token(session, course_id, now=_NINE)

    def _deliver(self) -> None:
        """Accept the events of eAssessment in ELMS, as if their webhooks had been verified."""
        with self.there.reading() as session:
            sent = [(one.id, one.body.encode()) for one in session.scalars(select(Event))]
        with self.here.writing() as session:
            source = WebhookSource(sources.get(session, SOURCE).id, SOURCE, ())
            for webhook_id, raw in sent:
                inbox.accept(session, source, webhook_id, events.load(raw), raw, now=_NINE)


def is_invalid(number: int) -> bool:
    """Return whether a course was deleted or its token regenerated after it was added to ELMS."""
    return number % 10 >= 7


def _is_deleted(number: int) -> bool:
    return (number // 10 + number) % 2 == 0


def _chunks(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(ids), _CHUNK):
        yield ids[start : start + _CHUNK]


def _number(course_id: str) -> int:
    return int(course_id[1:])


def _scores(course_id: str, students: int) -> list[Score]:
    return [
        Score(
            user_id=f"s{1000 + number}",
            score_given=Decimal((_number(course_id) + number) % 201) / 2,
            score_maximum=Decimal(100),
            timestamp=_NINE,
        )
        for number in range(students)
    ]
