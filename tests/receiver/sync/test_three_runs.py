"""The three cases: course deleted, token regenerated, normal sync; the webhook received or missed.

The runs are checked from the webhook route to the request log of the site.
"""

from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from flask.testing import FlaskClient

from contract import events, signatures
from contract.events import (
    CourseDeleted,
    CourseDeletedData,
    CourseRestored,
    CourseRestoredData,
    Event,
    TokenRegenerated,
    TokenRegeneratedData,
)
from contract.tokens import CourseToken
from receiver.course_state import CourseStatus
from receiver.models import Entry, StoredScore
from receiver.registry import entries as registry
from receiver.registry.history import Actor, ActorKind
from tests.receiver.conftest import NINE, SITE
from tests.receiver.sync.conftest import SECRET, Lab, outcomes

RECEIVED_OR_MISSED = pytest.mark.parametrize("received", [True, False], ids=["received", "missed"])
OLD, NEW = CourseToken("tokenOld", "o" * 24), CourseToken("tokenNew", "n" * 24)
DELETED = CourseDeleted(
    timestamp=NINE, data=CourseDeletedData(source=SITE, course_id="CS101", course_version=4)
)


def regenerated(token: CourseToken) -> Event:
    """Return the event that CS101 has another token."""
    return TokenRegenerated(
        timestamp=NINE,
        data=TokenRegeneratedData(
            source=SITE, course_id="CS101", course_version=5, token_id=token.token_id
        ),
    )


@pytest.fixture
def send(client: FlaskClient, lab: Lab) -> Callable[[Event], None]:
    """Add two healthy courses, CS101 and MA201, and return a function that sends a webhook."""
    lab.serve_course("CS101", token=OLD)
    lab.serve_course("MA201")

    def post(event: Event) -> None:
        body = events.dump(event).encode()
        webhook_id = f"msg_{event.data.course_version}"
        signed = signatures.sign([SECRET], webhook_id, body, now=datetime.now(UTC))
        response = client.post(
            f"/webhooks/{SITE}", data=body, headers=signed, content_type="application/json"
        )
        assert response.get_json() == {"outcome": "applied"}

    return post


@RECEIVED_OR_MISSED
def test_course_deleted(send: Callable[[Event], None], lab: Lab, received: bool) -> None:
    lab.fake_site.gone("CS101")
    if received:
        send(DELETED)

    first, second = lab.sync(), lab.sync()

    assert outcomes(first) == {"CS101": ("skipped", "course_deleted"), "MA201": ("synced", None)}
    assert outcomes(second) == {
        "CS101": ("skipped", "course_deleted"),
        "MA201": ("unchanged", None),
    }
    assert lab.requested.count("CS101") == (0 if received else 1)
    assert (first.exit_code, second.exit_code) == (0, 0)
    assert {course.since for course in (*first.courses, *second.courses)} == {NINE, None}


@RECEIVED_OR_MISSED
def test_course_restored(send: Callable[[Event], None], lab: Lab, received: bool) -> None:
    lab.fake_site.gone("CS101")
    if received:
        send(DELETED)
    lab.sync()

    send(
        CourseRestored(
            timestamp=NINE,
            data=CourseRestoredData(source=SITE, course_id="CS101", course_version=5),
        )
    )
    lab.fake_site.grades("CS101", OLD, lab.score("ada"), course_version=5)
    result = lab.sync()

    assert outcomes(result) == {"CS101": ("synced", None), "MA201": ("unchanged", None)}
    assert (result.exit_code, len(lab.rows(StoredScore))) == (0, 1)
    assert registry.status_of(lab.entry("CS101"), now=NINE) is CourseStatus.ACTIVE


def test_restoration_during_the_request_outweighs_an_older_response(
    send: Callable[[Event], None], lab: Lab
) -> None:
    restored = CourseRestoredData(source=SITE, course_id="CS101", course_version=5)
    lab.fake_site.gone("CS101")
    lab.during("CS101", lambda: send(CourseRestored(timestamp=NINE, data=restored)))

    lab.sync()

    assert registry.status_of(lab.entry("CS101"), now=NINE) is CourseStatus.ACTIVE


@RECEIVED_OR_MISSED
def test_token_regenerated(send: Callable[[Event], None], lab: Lab, received: bool) -> None:
    lab.fake_site.regenerated("CS101", NEW.token_id)
    if received:
        send(regenerated(NEW))

    first, second = lab.sync(), lab.sync()
    requested_while_invalid = lab.requested.count("CS101")
    with lab.database.writing() as session:
        entry = session.get_one(Entry, lab.entry("CS101").id)
        ada = Actor(ActorKind.ADMINISTRATOR, "ada@elms")
        registry.set_token(session, entry, NEW, vault=lab.vault, actor=ada, now=NINE)
    lab.fake_site.grades("CS101", NEW)
    third = lab.sync()

    outcome = "skipped" if received else "failed"
    assert outcomes(first) == {"CS101": (outcome, "token_invalid"), "MA201": ("synced", None)}
    assert outcomes(second)["CS101"] == ("skipped", "token_invalid")
    assert requested_while_invalid == (0 if received else 1)
    assert outcomes(third)["CS101"] == ("synced", None)
    assert (first.exit_code, second.exit_code, third.exit_code) == (1, 1, 0)
    assert registry.status_of(lab.entry("CS101"), now=NINE) is CourseStatus.ACTIVE


@RECEIVED_OR_MISSED
def test_normal_sync(send: Callable[[Event], None], lab: Lab, received: bool) -> None:
    lab.fake_site.grades("CS101", OLD, lab.score("ada"), course_version=5)
    if received:
        send(regenerated(OLD))

    result = lab.sync()

    assert outcomes(result) == {"CS101": ("synced", None), "MA201": ("synced", None)}
    assert lab.requested == ["CS101", "MA201"]
    assert (result.exit_code, len(lab.rows(StoredScore))) == (0, 1)
