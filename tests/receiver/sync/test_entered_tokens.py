"""An entered token: it replaces a valid one only if its site accepts it."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from flask import Flask

from contract.tokens import CourseToken
from foundation.errors import Advice
from receiver import services
from receiver.course_state import (
    CourseStatus,
    Deleted,
    Fact,
    Status,
    TokenAccepted,
    TokenAnnounced,
    TokenRejected,
)
from receiver.errors import TokenNotEnteredError
from receiver.models import Entry, HistoryEntry, Source
from receiver.registry import entries as registry
from receiver.registry.csv_files import RegistryRow
from receiver.registry.history import Actor, ActorKind
from receiver.services import Services
from receiver.sources.base import (
    CourseGone,
    FetchOutcome,
    Grades,
    Misconfigured,
    TokenRefused,
    TokenReplaced,
    Transient,
    Unchanged,
)
from receiver.sync.token_check import TokenCheck, TokenCheckFailed
from tests.receiver.conftest import NINE, Clients
from tests.receiver.sync.conftest import StubSource

ADA = Actor(ActorKind.ADMINISTRATOR, "ada@elms")
STORED, NEW = CourseToken.generate(), CourseToken.generate()
STORED_ID, NEW_ID = STORED.token_id, NEW.token_id
AWAY = Transient("responded 503")
REFUSED = TokenRefused("token-unknown", "no course has it")


@pytest.fixture
def database_kind() -> str:
    """SQLite; the queries are tested on both databases, where they are."""
    return "sqlite"


@pytest.fixture
def here(make_app: Callable[..., Flask]) -> Services:
    """The services that the check of a token needs."""
    return services.of(make_app(sync_concurrency=1))


@pytest.fixture
def add_course(
    make_source: Callable[..., Source], make_entry: Callable[..., Entry]
) -> Callable[..., Entry]:
    """Return a function that adds CS101 with the stored token and these facts."""
    return lambda *facts: make_entry(make_source("one"), "CS101", STORED, facts)


def responding(*outcomes: FetchOutcome) -> StubSource:
    """Return a source that responds to CS101 with these outcomes."""
    return StubSource({"CS101": list(outcomes)})


@pytest.mark.parametrize(
    ("facts", "is_checked"),
    [
        pytest.param((), False, id="nothing is known of the stored token"),
        pytest.param((TokenAnnounced(4, STORED_ID, NINE),), True, id="stored token announced"),
        pytest.param((TokenAccepted(STORED_ID, NINE),), True, id="stored token accepted"),
        pytest.param((TokenAnnounced(4, NEW_ID, NINE),), False, id="entered token announced"),
        pytest.param(
            (TokenAccepted(STORED_ID, NINE), TokenRejected(STORED_ID, "unknown", NINE)),
            False,
            id="stored token rejected",
        ),
        pytest.param(
            (TokenAccepted(STORED_ID, NINE), Deleted(4, NINE)), False, id="course deleted"
        ),
    ],
)
def test_token_is_checked_if_the_stored_one_is_valid(
    here: Services,
    add_course: Callable[..., Entry],
    entry_of: Callable[[str], Entry],
    facts: tuple[Fact, ...],
    is_checked: bool,
) -> None:
    source = responding(Grades((), None, 5, NEW_ID))

    TokenCheck(here, Clients(source), ADA).enter(add_course(*facts).id, NEW)

    assert bool(source.fetched) is is_checked
    assert entry_of("CS101").stored_token_id == NEW_ID


@pytest.mark.parametrize(
    ("outcome", "reason"),
    [
        pytest.param(
            TokenReplaced(4, STORED_ID, NINE),
            f"it was regenerated, and the current token is {STORED_ID}",
            id="regenerated",
        ),
        pytest.param(
            REFUSED,
            "eAssessment rejected it: token-unknown: no course has it",
            id="rejected",
        ),
        pytest.param(
            CourseGone(5, NINE), "the course was deleted in eAssessment", id="course deleted"
        ),
        pytest.param(AWAY, "it could not be checked: responded 503", id="no answer"),
    ],
)
def test_token_that_is_not_accepted_does_not_replace_a_valid_one(
    here: Services,
    add_course: Callable[..., Entry],
    entry_of: Callable[[str], Entry],
    outcome: FetchOutcome,
    reason: str,
) -> None:
    entry = add_course(TokenAnnounced(4, STORED_ID, NINE))

    with pytest.raises(TokenNotEnteredError) as refused:
        TokenCheck(here, Clients(responding(outcome)), ADA).enter(entry.id, NEW)

    assert str(refused.value) == (
        f"the token {NEW_ID} was not entered: {reason}; "
        f"{STORED_ID}, which is known to be valid, is still in use"
    )
    assert entry_of("CS101").stored_token_id == STORED_ID


def test_token_entered_at_the_same_time_is_not_overwritten(
    here: Services, add_course: Callable[..., Entry], entry_of: Callable[[str], Entry]
) -> None:
    present = CourseToken.generate()
    entry = add_course(TokenAnnounced(4, STORED_ID, NINE))
    source = responding(Grades((), None, 5, NEW_ID), TokenReplaced(6, present.token_id, NINE))

    def enter_the_present_one() -> None:
        with here.database.writing() as session:
            row = session.get_one(Entry, entry.id)
            registry.set_token(session, row, present, vault=here.vault, actor=ADA, now=NINE)
            named = TokenAnnounced(6, present.token_id, NINE)
            registry.apply(session, row.source_id, "CS101", named, actor=ADA, now=NINE)
        source.on_fetch = lambda: None

    source.on_fetch = enter_the_present_one

    with pytest.raises(TokenNotEnteredError, match=f"the current token is {present.token_id}"):
        TokenCheck(here, Clients(source), ADA).enter(entry.id, NEW)

    assert len(source.fetched) == 2
    assert entry_of("CS101").stored_token_id == present.token_id
    assert registry.course_status(entry_of("CS101")).status is Status.ACTIVE


def test_tokens_of_a_file_are_rejected_on_their_own(
    here: Services,
    make_source: Callable[..., Source],
    make_entry: Callable[..., Entry],
) -> None:
    source, announced = make_source("one"), (TokenAnnounced(4, STORED_ID, NINE),)
    for course_id in ("CS101", "CS102"):
        make_entry(source, course_id, STORED, announced)
    make_entry(source, "CS103", STORED)
    rows = [
        RegistryRow(line, source, f"CS10{line}", token, None, None)
        for line, token in ((1, NEW), (2, NEW), (3, NEW), (4, NEW))
    ]
    stub = StubSource({"CS101": [REFUSED], "CS102": [Unchanged()]})

    rejected = TokenCheck(here, Clients(stub), ADA).reject_unverified(rows)

    assert [one.row.line for one in rejected] == [1]
    assert sorted(stub.fetched) == [["CS101"], ["CS102"]]


@pytest.mark.parametrize(
    ("outcome", "status"),
    [
        pytest.param(Grades((), None, 5, STORED_ID), Status.ACTIVE, id="grades"),
        pytest.param(Grades((), None), Status.ACTIVE, id="grades without a token id"),
        pytest.param(Unchanged(), Status.ACTIVE, id="unchanged grades"),
        pytest.param(CourseGone(5, NINE), Status.COURSE_DELETED, id="course deleted"),
        pytest.param(REFUSED, Status.TOKEN_INVALID, id="rejected"),
    ],
)
def test_check_returns_the_status_that_follows(
    here: Services, add_course: Callable[..., Entry], outcome: FetchOutcome, status: Status
) -> None:
    entry = add_course(TokenAnnounced(4, "lost", NINE - timedelta(hours=1)))

    checked = TokenCheck(here, Clients(responding(outcome)), ADA).check(entry)

    assert isinstance(checked, CourseStatus)
    assert checked.status is status


def test_accepted_token_is_recorded_once(
    here: Services, add_course: Callable[..., Entry], rows: Callable[..., list[HistoryEntry]]
) -> None:
    entry = add_course()

    for _ in range(2):
        TokenCheck(here, Clients(responding(Unchanged())), ADA).fetch_once([entry])
        with here.database.reading() as session:
            entry = registry.get_by_id(session, entry.id)

    assert [line.event for line in rows(HistoryEntry)] == ["course added", "token accepted"]


@pytest.mark.parametrize(
    ("outcome", "next_step"),
    [
        pytest.param(AWAY, "Enter it again when eAssessment responds.", id="no answer"),
        pytest.param(
            Misconfigured("responded 302", Advice("Check the URL.")),
            "Check the URL.",
            id="redirect",
        ),
    ],
)
def test_check_without_a_result_says_what_to_do(
    here: Services, add_course: Callable[..., Entry], outcome: FetchOutcome, next_step: str
) -> None:
    entry = add_course(TokenAnnounced(4, "lost", NINE))

    checked = TokenCheck(here, Clients(responding(outcome)), ADA).check(entry)

    assert isinstance(checked, TokenCheckFailed)
    assert checked.detail == outcome.detail
    assert next_step in str(checked.advice)
