"""The check of tokens that were entered."""

from collections.abc import Callable

import pytest
from flask import Flask

from receiver import services
from receiver.course_state import Status
from receiver.models import Entry
from receiver.registry import entries as registry
from receiver.registry.history import Actor, ActorKind
from receiver.sources.base import NotFoundUnconfirmed, TokenRefused, Transient
from receiver.sync import token_check
from receiver.sync.results import FetchResult
from tests.receiver.conftest import Clients
from tests.receiver.sync.conftest import StubSource

ADA = Actor(ActorKind.ADMINISTRATOR, "ada@elms")
AWAY = Transient("no answer: Connection refused", unreachable=True)


@pytest.fixture
def check(
    make_app: Callable[..., Flask], add_courses: Callable[..., list[Entry]]
) -> Callable[..., list[FetchResult]]:
    """Return what adds courses and checks their tokens."""

    here = services.of(make_app(sync_concurrency=1))

    def fetch(stub: StubSource, *course_ids: str) -> list[FetchResult]:
        entries = add_courses(*course_ids)
        return token_check.fetch_once(here, Clients(stub), entries, actor=ADA)

    return fetch


@pytest.mark.parametrize(
    ("gone", "status"),
    [
        pytest.param(True, Status.COURSE_DELETED, id="confirmed"),
        pytest.param(None, Status.ACTIVE, id="not certain"),
    ],
)
def test_deletion_is_confirmed_first(
    check: Callable[..., list[FetchResult]],
    entry_of: Callable[[str], Entry],
    gone: bool | None,
    status: Status,
) -> None:
    not_found = NotFoundUnconfirmed("no such record", certain=False)

    check(StubSource({"CS1": [not_found]}, gone={"CS1": gone}), "CS1")

    assert registry.course_status(entry_of("CS1")).status is status


def test_unreachable_site_is_tried_once_and_never_again(
    check: Callable[..., list[FetchResult]],
) -> None:
    stub = StubSource({"CS1": [AWAY]})

    results = check(stub, "CS1", "CS2", "CS3")

    assert stub.fetched == [["CS1"]]
    assert [result.outcome for result in results] == [AWAY] * 3


def test_each_token_is_judged_on_its_own(
    check: Callable[..., list[FetchResult]], entry_of: Callable[[str], Entry]
) -> None:
    stub = StubSource({"CS2": [TokenRefused("invalidtoken", "unknown")]}, batch=10)

    check(stub, "CS1", "CS2", "CS3")

    statuses = [registry.course_status(entry_of(one)).status for one in ("CS1", "CS2", "CS3")]
    assert statuses == [Status.ACTIVE, Status.TOKEN_INVALID, Status.ACTIVE]
