"""The check of entered tokens: they replace valid ones only if their site accepts them."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from flask import Flask

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
from receiver.errors import TokenNotEnteredError
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
    return course_state.status_of(registry.state_of(entry))


@pytest.mark.parametrize(
    ("facts", "is_checked"),
    [
        pytest.param((), False, id="nothing is known of the stored token"),
        pytest.param((ANNOUNCED,), True, id="stored token announced"),
        pytest.param((ACCEPTED,), True, id="stored token accepted"),
        pytest.param((TokenAnnounced(4, NEW_ID, NINE),), False, id="entered token announced"),
        pytest.param(
            (ACCEPTED, TokenRejected(STORED_ID, "unknown", NINE)), False, id="stored token rejected"
        ),
        pytest.param((ACCEPTED, Deleted(4, NINE)), False, id="course deleted"),
    ],
)
def test_token_is_checked_if_the_stored_one_is_valid(
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


def test_tokens_of_a_file_are_rejected_on_their_own(check_with: Check, store: Store) -> None:
    for course_id, facts in (("CS1", [ANNOUNCED]), ("CS2", [ANNOUNCED]), ("CS3", [])):
        store.add_course(course_id, *facts, token=STORED)
    source = store.source("one")
    rows = [RegistryRow(line, source, f"CS{line}", NEW, None, None) for line in (1, 2, 3, 4)]
    stub = StubSource({"CS1": [REFUSED], "CS2": [Unchanged()]})

    rejected = check_with(stub).refuse_unconfirmed(rows)

    assert [one.row.line for one in rejected] == [1]
    assert sorted(stub.fetched) == [["CS1"], ["CS2"]]


@pytest.mark.parametrize(
    ("outcome", "status"),
    [
        pytest.param(Grades((), None, 5, STORED_ID), CourseStatus.ACTIVE, id="grades"),
        pytest.param(Grades((), None), CourseStatus.ACTIVE, id="grades without a token id"),
        pytest.param(Unchanged(), CourseStatus.ACTIVE, id="unchanged grades"),
        pytest.param(DeletedOutcome(5, NINE), CourseStatus.COURSE_DELETED, id="course deleted"),
        pytest.param(REFUSED, CourseStatus.TOKEN_INVALID, id="rejected"),
    ],
)
def test_check_returns_the_status_that_follows(
    check_with: Check, store: Store, outcome: FetchOutcome, status: CourseStatus
) -> None:
    announced = TokenAnnounced(4, "other", NINE - timedelta(hours=1))
    entry = store.add_course("CS101", announced, token=STORED)

    checked = check_with(responding(outcome)).check(entry)

    assert isinstance(checked, CourseStatusDetails)
    assert checked.status is status


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
def test_check_without_a_result_says_what_to_do(
    check_with: Check, store: Store, outcome: FetchOutcome, next_step: str
) -> None:
    entry = store.add_course("CS101", TokenAnnounced(4, "other", NINE))

    checked = check_with(responding(outcome)).check(entry)

    assert not isinstance(checked, CourseStatusDetails)
    assert checked.detail == outcome.detail
    assert next_step in str(checked.advice)


def test_accepted_token_is_recorded_once(check_with: Check, store: Store) -> None:
    check = check_with(responding(Unchanged()))
    store.add_course("CS101")

    for _ in range(2):
        check.fetch_and_apply([store.entry("CS101")])

    assert [line.event for line in store.rows(HistoryEntry)] == ["course added", "token accepted"]


def test_each_token_is_checked_on_its_own(check_with: Check, store: Store) -> None:
    outcomes = {"CS2": [REFUSED], "CS3": [DeletedOutcome(0, NINE)], "CS4": [AWAY]}
    courses = [store.add_course(f"CS{number}") for number in (1, 2, 3, 4)]

    check_with(StubSource(outcomes, max_queries=10)).fetch_and_apply(courses)

    assert [status_of(store.entry(course.course_id)) for course in courses] == [
        CourseStatus.ACTIVE,
        CourseStatus.TOKEN_INVALID,
        CourseStatus.COURSE_DELETED,
        CourseStatus.ACTIVE,
    ]


def test_unreachable_site_is_tried_once_and_never_again(check_with: Check, store: Store) -> None:
    source = StubSource({"CS1": [AWAY]})
    courses = [store.add_course(f"CS{number}") for number in (1, 2, 3)]

    results = check_with(source).fetch_and_apply(courses)

    assert source.fetched == [["CS1"]]
    assert [result.outcome for result in results] == [AWAY] * 3
