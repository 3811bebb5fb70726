"""Tokens that were entered: what their sites say of them is learnt, and nothing more."""

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from foundation.crypto import Vault
from foundation.db.session import Database
from receiver.course_state import Status
from receiver.models import Entry, Source
from receiver.registry import entries as registry
from receiver.registry.history import Actor, ActorKind
from receiver.sources.base import (
    FetchOutcome,
    GradeQuery,
    Grades,
    SeemsGone,
    TokenRefused,
    Transient,
)
from receiver.sync import token_check
from receiver.sync.results import FetchResult
from tests.receiver.conftest import Clients

ADA = Actor(ActorKind.ADMINISTRATOR, "ada@elms")
AWAY = Transient("no answer", unreachable=True)


@dataclass
class Told:
    """A site that answers each course as told."""

    outcomes: dict[str, FetchOutcome]
    gone: bool | None = None
    batch: int = 1
    asked: list[str] = field(default_factory=list)

    @property
    def requests(self) -> int:
        """How often it was asked."""
        return len(self.asked)

    def fetch(self, questions: list[GradeQuery]) -> list[FetchOutcome]:
        """Answer as told."""
        self.asked += [one.course_id for one in questions]
        return [self.outcomes.get(one.course_id, Grades((), None)) for one in questions]

    def confirm_deleted(self, questions: list[GradeQuery]) -> list[bool | None]:
        """Say whether they are gone."""
        return [self.gone for _ in questions]

    def url_of(self, question: GradeQuery) -> str:
        """Name the course."""
        return question.course_id

    def cancel(self) -> None:
        """Be told to end."""


@pytest.fixture
def prove(
    database: Database,
    vault: Vault,
    make_source: Callable[..., Source],
    make_entry: Callable[..., Entry],
) -> Callable[..., list[FetchResult]]:
    """Return what links courses and proves their tokens at a site."""

    def proven(told: Told, *course_ids: str) -> list[FetchResult]:
        source = make_source("one")
        entries = [make_entry(source, course_id) for course_id in course_ids]
        return token_check.fetch_once(database, vault, Clients(told), entries, actor=ADA)

    return proven


@pytest.mark.parametrize(
    ("gone", "certain", "status"),
    [
        pytest.param(True, False, Status.COURSE_DELETED, id="confirmed"),
        pytest.param(None, True, Status.COURSE_DELETED, id="certain by itself"),
        pytest.param(None, False, Status.ACTIVE, id="not certain"),
        pytest.param(False, True, Status.ACTIVE, id="it is there"),
    ],
)
def test_a_course_that_seems_gone_is_confirmed_first(
    prove: Callable[..., list[FetchResult]],
    entry_of: Callable[[str], Entry],
    gone: bool | None,
    certain: bool,
    status: Status,
) -> None:
    prove(Told({"CS1": SeemsGone("no such record", certain)}, gone), "CS1")

    assert registry.course_status(entry_of("CS1")).status is status


def test_a_site_that_cannot_be_reached_is_tried_once(
    prove: Callable[..., list[FetchResult]],
) -> None:
    there = Told({"CS1": AWAY})

    proven = prove(there, "CS1", "CS2", "CS3")

    assert there.asked == ["CS1"]
    assert [(one.entry.course_id, one.outcome) for one in proven] == [
        ("CS1", AWAY),
        ("CS2", AWAY),
        ("CS3", AWAY),
    ]


def test_each_token_is_learnt_of_by_itself(
    prove: Callable[..., list[FetchResult]], entry_of: Callable[[str], Entry]
) -> None:
    prove(Told({"CS2": TokenRefused("invalidtoken", "unknown")}, batch=10), "CS1", "CS2", "CS3")

    statuses = [registry.course_status(entry_of(one)).status for one in ("CS1", "CS2", "CS3")]
    assert statuses == [Status.ACTIVE, Status.TOKEN_INVALID, Status.ACTIVE]
