"""The check of entered tokens: they replace valid ones only if their site accepts them."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest
from flask import Flask

from contract.problems import ProblemType
from contract.tokens import CourseToken
from foundation.errors import Advice
from receiver import course_state, services
from receiver.course_advice import CourseStatusDetails
from receiver.course_state import (
    CourseStatus,
    Deleted,
    Fact,
    TokenAccepted,
    TokenAnnounced,
    TokenRejected,
)
from receiver.errors import TokenNotEnteredError, TokenOfAnotherCourseError
from receiver.models import Entry, HistoryEntry
from receiver.registry import entries as registry
from receiver.registry.csv_files import RegistryRow
from receiver.registry.history import Actor, ActorKind
from receiver.sources.base import (
    DeletedOutcome,
    FetchOutcome,
    Grades,
    Misconfigured,
    RegeneratedOutcome,
    RejectedOutcome,
    Transient,
    Unchanged,
)
from receiver.sync.token_check import TokenCheck
from tests.receiver.conftest import NINE, Clients, Store
from tests.receiver.sync.conftest import StubSource

pytestmark = pytest.mark.parametrize("database_kind", ["sqlite"], indirect=True)

ADA = Actor(ActorKind.ADMINISTRATOR, "ada@elms")
STORED, NEW = CourseToken.generate(), CourseToken.generate()
STORED_ID, NEW_ID = STORED.token_id, NEW.token_id
ANNOUNCED, ACCEPTED = TokenAnnounced(4, STORED_ID, NINE), TokenAccepted(STORED_ID, NINE)
AWAY = Transient("responded 503", unreachable=True)
REFUSED = RejectedOutcome("token-unknown", "no course has it")
WRONG_COURSE = RejectedOutcome(ProblemType.TOKEN_WRONG_COURSE, "it is for another course")
NEW_GRADES = Grades((), None, 5, NEW_ID)

Check = Callable[[StubSource], TokenCheck]


@pytest.fixture
def check_with(make_app: Callable[..., Flask]) -> Check:
    """Return a function that makes a token check with a stub source."""
    here = services.of(make_app(sync_concurrency=1))
    return lambda stub: TokenCheck(here, Clients(stub), ADA)


def responding(*outcomes: FetchOutcome) -> StubSource:
    """Return a source that responds to CS101 with these outcomes."""
    return StubSource({"CS101": list(outcomes)})


def status_of(entry: Entry) -> CourseStatus:
    """Return the status of an entry."""
    return course_state.status_of(registry.state_of(entry), now=NINE)


@pytest.mark.parametrize(
    ("facts", "is_checked"),
    [
        pytest.param((), False, id="nothing is known of the stored token"),
        pytest.param((TokenAnnounced(4, "another", NINE),), True, id="another token announced"),
        pytest.param((ANNOUNCED,), True, id="stored token announced"),
        pytest.param((ACCEPTED,), True, id="stored token accepted"),
        pytest.param((TokenAnnounced(4, NEW_ID, NINE),), False, id="entered token announced"),
        pytest.param(
            (ACCEPTED, TokenRejected(STORED_ID, "unknown", NINE)), False, id="stored token rejected"
        ),
        pytest.param((Deleted(4, NINE),), True, id="course deleted"),
    ],
)
def test_token_is_checked_if_only_its_site_knows(
    check_with: Check, store: Store, facts: tuple[Fact, ...], is_checked: bool
) -> None:
    source, entry = responding(NEW_GRADES), store.add_course("CS101", *facts, token=STORED)

    check_with(source).enter(entry.id, NEW)

    assert bool(source.fetched) is is_checked
    assert store.entry("CS101").stored_token_id == NEW_ID


@pytest.mark.parametrize(
    ("outcome", "reason"),
    [
        pytest.param(
            RegeneratedOutcome(4, STORED_ID, NINE),
            f"it was regenerated, and the current token is {STORED_ID}",
            id="regenerated",
        ),
        pytest.param(
            REFUSED, "eAssessment rejected it: token-unknown: no course has it", id="rejected"
        ),
        pytest.param(
            DeletedOutcome(5, NINE), "the course was deleted in eAssessment", id="deleted"
        ),
        pytest.param(AWAY, "it could not be checked: responded 503", id="no answer"),
    ],
)
def test_token_that_is_not_accepted_does_not_replace_a_valid_one(
    check_with: Check, store: Store, outcome: FetchOutcome, reason: str
) -> None:
    entry = store.add_course("CS101", ANNOUNCED, token=STORED)

    with pytest.raises(TokenNotEnteredError) as refused:
        check_with(responding(outcome)).enter(entry.id, NEW)

    assert str(refused.value) == (
        f"the token {NEW_ID} was not entered: {reason}; "
        f"{STORED_ID}, which is known to be valid, is still in use"
    )
    assert store.entry("CS101").stored_token_id == STORED_ID


def test_token_entered_at_the_same_time_is_not_overwritten(check_with: Check, store: Store) -> None:
    current = CourseToken.generate()
    entry = store.add_course("CS101", ANNOUNCED, token=STORED)
    source = responding(NEW_GRADES, RegeneratedOutcome(6, current.token_id, NINE))

    def enter_the_current_one() -> None:
        source.on_fetch = lambda: None
        store.apply("CS101", TokenAnnounced(6, current.token_id, NINE))
        check_with(StubSource()).enter(entry.id, current)

    source.on_fetch = enter_the_current_one

    with pytest.raises(TokenNotEnteredError, match=f"the current token is {current.token_id}"):
        check_with(source).enter(entry.id, NEW)

    assert len(source.fetched) == 2
    assert store.entry("CS101").stored_token_id == current.token_id
    assert status_of(store.entry("CS101")) is CourseStatus.ACTIVE


@pytest.fixture
def rows(store: Store) -> list[RegistryRow]:
    """Rows with new tokens for five courses, whose stored tokens are old but for the first."""
    announced = {1: "", 2: "other", 3: "other", 4: "other", 5: "other"}
    for number, token_id in announced.items():
        stored = CourseToken.generate()
        fact = TokenAnnounced(4, token_id or stored.token_id, NINE)
        store.add_course(f"CS{number}", fact, token=stored)
    source = store.source("one")
    return [
        RegistryRow(number + 1, source, f"CS{number}", CourseToken.generate(), None, None)
        for number in announced
    ]


def test_tokens_of_a_file_are_checked_together(
    check_with: Check, store: Store, rows: list[RegistryRow]
) -> None:
    outcomes = {
        "CS1": [REFUSED],
        "CS2": [Unchanged()],
        "CS3": [WRONG_COURSE],
        "CS4": [AWAY],
        "CS5": [DeletedOutcome(5, NINE)],
    }
    stub = StubSource({name: [*some] for name, some in outcomes.items()}, max_queries=10)

    entered, refused = check_with(stub).enter_all(rows)

    assert stub.fetched == [["CS1", "CS2", "CS3", "CS4", "CS5"]]
    assert [token.row.course_id for token in refused] == ["CS1", "CS3"]
    assert [(token.entry.course_id, token.is_active, token.reason) for token in entered] == [
        ("CS2", True, None),
        ("CS4", False, "the token could not be verified: responded 503"),
        ("CS5", False, "the course was deleted in eAssessment"),
    ]
    stored = [store.entry(row.course_id).stored_token_id == row.token.token_id for row in rows]
    assert stored == [False, True, False, True, True]


def test_import_checks_only_what_would_replace_a_valid_token(
    check_with: Check, store: Store, rows: list[RegistryRow]
) -> None:
    stub = StubSource({"CS1": [REFUSED]})

    refused = check_with(stub).refuse_unconfirmed(rows)

    assert [token.row.course_id for token in refused] == ["CS1"]
    assert stub.fetched == [["CS1"]]


@pytest.mark.parametrize(
    ("outcome", "status"),
    [
        pytest.param(Grades((), None, 5, NEW_ID), CourseStatus.ACTIVE, id="grades"),
        pytest.param(Grades((), None), CourseStatus.ACTIVE, id="grades without a token id"),
        pytest.param(Unchanged(), CourseStatus.ACTIVE, id="unchanged grades"),
        pytest.param(DeletedOutcome(5, NINE), CourseStatus.COURSE_DELETED, id="course deleted"),
        pytest.param(REFUSED, CourseStatus.TOKEN_INVALID, id="rejected"),
    ],
)
def test_token_is_stored_with_the_status_that_follows(
    check_with: Check, store: Store, outcome: FetchOutcome, status: CourseStatus
) -> None:
    announced = TokenAnnounced(4, "other", NINE - timedelta(hours=1))
    entry = store.add_course("CS101", announced, token=STORED)

    checked = check_with(responding(outcome)).enter(entry.id, NEW).checked

    assert isinstance(checked, CourseStatusDetails)
    assert checked.status is status
    assert status_of(store.entry("CS101")) is status
    assert store.entry("CS101").stored_token_id == NEW_ID


@pytest.mark.parametrize(
    ("version", "status"),
    [
        pytest.param(6, CourseStatus.ACTIVE, id="restored since"),
        pytest.param(3, CourseStatus.COURSE_DELETED, id="response from before the deletion"),
    ],
)
def test_token_of_a_deleted_course_shows_that_it_was_restored(
    check_with: Check, store: Store, version: int, status: CourseStatus
) -> None:
    entry = store.add_course("CS101", Deleted(4, NINE), token=STORED)

    check_with(responding(Grades((), None, version, NEW_ID))).enter(entry.id, NEW)

    assert status_of(store.entry("CS101")) is status


@pytest.mark.parametrize(
    ("outcome", "next_step"),
    [
        pytest.param(AWAY, "Enter it again when eAssessment responds.", id="no answer"),
        pytest.param(
            Transient("no data for 20 s", timed_out=True),
            "which waits for RECEIVER_MOODLE_TIMEOUT seconds.",
            id="time-out",
        ),
        pytest.param(
            Misconfigured("responded 302", Advice("Check the URL.")),
            "Check the URL.",
            id="redirect",
        ),
    ],
)
def test_token_that_cannot_be_checked_is_stored_with_what_to_do(
    check_with: Check, store: Store, outcome: FetchOutcome, next_step: str
) -> None:
    entry = store.add_course("CS101", TokenAnnounced(4, "other", NINE))

    checked = check_with(responding(outcome)).enter(entry.id, NEW).checked

    assert not isinstance(checked, CourseStatusDetails)
    assert checked.detail == outcome.detail
    assert next_step in str(checked.advice)
    assert store.entry("CS101").stored_token_id == NEW_ID


@pytest.mark.parametrize("facts", [(ANNOUNCED,), (TokenRejected(STORED_ID, "unknown", NINE),)])
def test_token_of_another_course_is_not_stored(
    check_with: Check, store: Store, facts: tuple[Fact, ...]
) -> None:
    other = TokenAnnounced(4, "other", NINE)
    entry = store.add_course("CS101", *facts, other, token=STORED)
    before = registry.state_of(entry)

    with pytest.raises(TokenOfAnotherCourseError, match="belongs to another course"):
        check_with(responding(WRONG_COURSE)).enter(entry.id, NEW)

    assert registry.state_of(store.entry("CS101")) == before


def test_token_known_to_belong_to_another_course_is_refused_without_a_request(
    check_with: Check, store: Store
) -> None:
    store.add_course("CS101", ANNOUNCED, token=STORED)
    entry, stub = store.add_course("CS102"), StubSource()

    with pytest.raises(TokenOfAnotherCourseError, match="it belongs to the course 'CS101'"):
        check_with(stub).enter(entry.id, STORED)

    assert stub.fetched == []


def test_accepted_token_is_recorded_once(check_with: Check, store: Store) -> None:
    entry = store.add_course("CS101", TokenAnnounced(4, "other", NINE))

    for _ in range(2):
        check_with(responding(Unchanged())).enter(entry.id, NEW)

    lines = [line.event for line in store.rows(HistoryEntry)]
    assert lines == [
        "course.added",
        "token.regenerated",
        "token.entered",
        "token.accepted",
        "token.entered",
    ]


def test_unreachable_site_is_tried_once_and_never_again(
    check_with: Check, rows: list[RegistryRow]
) -> None:
    stub = StubSource({"CS2": [AWAY]})

    entered, _ = check_with(stub).enter_all(rows[1:])

    assert stub.fetched == [["CS2"]]
    assert {token.reason for token in entered} == {"the token could not be verified: responded 503"}


def test_nothing_is_requested_after_the_time_limit(
    check_with: Check, store: Store, rows: list[RegistryRow]
) -> None:
    stub = StubSource()

    entered, _ = replace(check_with(stub), max_seconds=0.0).enter_all(rows[1:])

    assert stub.fetched == []
    assert {token.reason for token in entered} == {
        "the token could not be verified: not reached within 0 seconds"
    }
