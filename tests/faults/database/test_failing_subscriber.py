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
from tests.faults.database.conftest import COURSE, Door, rows

Give = Callable[[str, str], Result]


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


KNOCKS = {"course-deleted": "deletion_door", "token-regenerated": "regeneration_door"}
COMMANDS = {
    "course-deleted": "notifier courses delete",
    "token-regenerated": "notifier courses regenerate-token",
}


@pytest.fixture
def door(
    signal: NamedSignal,
    make_database_url: Callable[..., str],
    request: pytest.FixtureRequest,
) -> Door:
    """The door at which the change is asked for."""
    asked: Door = request.getfixturevalue(KNOCKS[signal.name])
    return asked


def test_the_admin_api_says_that_nothing_was_changed(door: Door, failing: None) -> None:
    app = door.make_app(door.url)
    before = rows(door.url, SCHEMA)

    answer = door.knock(app)

    document = answer.get_json(force=True)
    assert (answer.status_code, answer.mimetype) == (500, "application/problem+json")
    assert document["type"] == "urn:problem-type:event-not-written"
    assert document["detail"].startswith(f"the course '{COURSE}' was not changed: a subscriber")
    assert document["detail"].endswith("failed: PlantedError")
    assert document["next_step"].startswith("Nothing was changed. Tell the operators")
    assert "planted" not in answer.text.replace("PlantedError", "")
    assert rows(door.url, SCHEMA) == before


def test_a_change_is_taken_once_the_subscriber_is_mended(door: Door, signal: NamedSignal) -> None:
    app = door.make_app(door.url)

    def fail(_: Session, change: Any) -> None:
        raise PlantedError

    with signal.connected_to(fail):
        during = door.knock(app)
    after = door.knock(app)

    assert during.status_code == 500
    assert after.status_code in door.taken
    assert door.done() == {True}


def test_a_command_says_that_nothing_was_changed(
    door: Door, signal: NamedSignal, failing: None, give: Give
) -> None:
    before = rows(door.url, SCHEMA)

    result = give(COMMANDS[signal.name], door.url)

    assert result.exit_code == 1
    assert f"the course '{COURSE}' was not changed" in result.output
    assert "Nothing was changed. Tell the operators of eAssessment" in result.output
    assert "Traceback" not in result.output
    assert rows(door.url, SCHEMA) == before


def test_a_database_that_fails_in_a_subscriber_is_still_a_database_that_fails(
    door: Door, signal: NamedSignal, refused: Callable[..., None]
) -> None:
    app = door.make_app(door.url)

    def fail(_: Session, change: Any) -> None:
        raise OperationalError("INSERT", None, Exception("away"))

    with signal.connected_to(fail):
        answer = door.knock(app)

    refused(answer)
    assert door.done() == {False}
