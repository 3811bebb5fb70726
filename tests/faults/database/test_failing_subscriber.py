"""A change whose subscriber fails is refused as a whole: course, event and deliveries."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from blinker import NamedSignal
from click.testing import Result
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from notifier import signals
from notifier.models import SCHEMA
from tests.faults.database.conftest import COURSE, Route, rows

RunCommand = Callable[[str, str], Result]


class PlantedError(Exception):
    """What no subscriber should raise; its words hold a secret."""


@pytest.fixture(
    params=[signals.course_deleted, signals.token_regenerated], ids=lambda one: one.name
)
def signal(request: pytest.FixtureRequest) -> NamedSignal:
    """Each signal."""
    named: NamedSignal = request.param
    return named


@pytest.fixture
def failing(signal: NamedSignal) -> Iterator[None]:
    """A second subscriber, which fails once the outbox has written its part or before it."""

    def fail(_: Session, change: Any) -> None:
        raise PlantedError("whsec_planted")

    with signal.connected_to(fail):
        yield


CHANGES = {"course-deleted": "deletion_route", "token-regenerated": "regeneration_route"}
COMMANDS = {
    "course-deleted": "notifier courses delete",
    "token-regenerated": "notifier courses regenerate-token",
}


@pytest.fixture
def route(
    signal: NamedSignal,
    make_database_url: Callable[..., str],
    request: pytest.FixtureRequest,
) -> Route:
    """The route at which the change is asked for."""
    asked: Route = request.getfixturevalue(CHANGES[signal.name])
    return asked


def test_the_admin_api_says_that_nothing_was_changed(route: Route, failing: None) -> None:
    app = route.make_app(route.url)
    before = rows(route.url, SCHEMA)

    answer = route.call(app)

    document = answer.get_json(force=True)
    assert (answer.status_code, answer.mimetype) == (500, "application/problem+json")
    assert document["type"] == "urn:problem-type:event-not-written"
    assert document["detail"].startswith(f"the course '{COURSE}' was not changed: a subscriber")
    assert document["detail"].endswith("failed: PlantedError")
    assert document["next_step"].startswith("Nothing was changed. Tell the operators")
    assert "planted" not in answer.text.replace("PlantedError", "")
    assert rows(route.url, SCHEMA) == before


def test_a_change_is_taken_once_the_subscriber_is_mended(route: Route, signal: NamedSignal) -> None:
    app = route.make_app(route.url)

    def fail(_: Session, change: Any) -> None:
        raise PlantedError

    with signal.connected_to(fail):
        during = route.call(app)
    after = route.call(app)

    assert during.status_code == 500
    assert after.status_code in route.taken
    assert route.done() == {True}


def test_a_command_says_that_nothing_was_changed(
    route: Route, signal: NamedSignal, failing: None, run_command: RunCommand
) -> None:
    before = rows(route.url, SCHEMA)

    result = run_command(COMMANDS[signal.name], route.url)

    assert result.exit_code == 1
    assert f"the course '{COURSE}' was not changed" in result.output
    assert "Nothing was changed. Tell the operators of eAssessment" in result.output
    assert "Traceback" not in result.output
    assert rows(route.url, SCHEMA) == before


def test_a_database_that_fails_in_a_subscriber_is_still_a_database_that_fails(
    route: Route, signal: NamedSignal, refused: Callable[..., None]
) -> None:
    app = route.make_app(route.url)

    def fail(_: Session, change: Any) -> None:
        raise OperationalError("INSERT", None, Exception("away"))

    with signal.connected_to(fail):
        answer = route.call(app)

    refused(answer)
    assert route.done() == {False}
