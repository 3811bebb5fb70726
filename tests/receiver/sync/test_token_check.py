"""The check of tokens that were entered."""

from collections.abc import Callable

import pytest
from flask import Flask

from receiver import services
from receiver.course_state import Status
from receiver.registry import entries as registry
from receiver.registry.history import Actor, ActorKind
from receiver.sources.base import NotFoundUnconfirmed, TokenRefused, Transient
from receiver.sync.results import FetchResult
from receiver.sync.token_check import TokenCheck
from tests.receiver.conftest import Clients
from tests.receiver.sync.conftest import Lab, StubSource

pytestmark = pytest.mark.parametrize("database_kind", ["sqlite"], indirect=True)

AWAY = Transient("no answer: Connection refused", unreachable=True)
Check = Callable[..., list[FetchResult]]


@pytest.fixture
def check(make_app: Callable[..., Flask], lab: Lab) -> Check:
    """Return a function that adds courses and checks their tokens."""
    here = services.of(make_app(sync_concurrency=1))
    ada = Actor(ActorKind.ADMINISTRATOR, "ada@elms")

    def fetch(stub: StubSource, *course_ids: str) -> list[FetchResult]:
        return TokenCheck(here, Clients(stub), ada).fetch_once(lab.add_courses(*course_ids))

    return fetch


def test_each_token_is_checked_on_its_own(check: Check, lab: Lab) -> None:
    gone = [NotFoundUnconfirmed("no such record", certain=False)]
    outcomes = {"CS2": [TokenRefused("invalidtoken", "unknown")], "CS3": gone, "CS4": gone}

    check(StubSource(outcomes, batch=10, gone={"CS3": True}), "CS1", "CS2", "CS3", "CS4")

    entries = [lab.entry(course_id) for course_id in ("CS1", "CS2", "CS3", "CS4")]
    assert [registry.course_status(entry).status for entry in entries] == [
        Status.ACTIVE,
        Status.TOKEN_INVALID,
        Status.COURSE_DELETED,
        Status.ACTIVE,
    ]


def test_unreachable_site_is_tried_once_and_never_again(check: Check) -> None:
    stub = StubSource({"CS1": [AWAY]})

    results = check(stub, "CS1", "CS2", "CS3")

    assert stub.fetched == [["CS1"]]
    assert [result.outcome for result in results] == [AWAY] * 3
