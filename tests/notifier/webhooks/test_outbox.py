"""The outbox: change, event and deliveries commit together."""

import re
from datetime import timedelta

import pytest
from sqlalchemy import select

from contract import events
from contract.events import TokenRegenerated, TokenRegeneratedData
from notifier import signals
from notifier.courses import service as courses
from notifier.errors import EventNotWrittenError
from notifier.models import Delivery, Event, IssuedToken
from notifier.webhooks import outbox
from tests.notifier.conftest import NINE, SITE, Store

TEN = NINE + timedelta(hours=1)


def test_change_event_and_deliveries_commit_together(store: Store) -> None:
    endpoint_ids = [store.add_endpoint().id, store.add_endpoint().id]
    store.add_course("CS101")

    with store.database.writing() as session:
        courses.delete_course(session, "CS101", now=TEN)
        meanwhile = [store.all(Event), store.all(Delivery)]

    (event,), rows = store.all(Event), store.all(Delivery)
    assert meanwhile == [[], []]
    assert (event.type, event.course_id, event.course_version) == ("course.deleted", "CS101", 2)
    assert event.occurred_at == TEN
    assert [row.endpoint_id for row in rows] == endpoint_ids
    for row in rows:
        assert (row.event_id, row.status, row.attempts) == (event.id, "pending", 0)
        assert (row.due_at, row.created_at, row.lease_token) == (TEN, TEN, None)


def test_rollback_leaves_no_event(store: Store) -> None:
    """A change that is rolled back leaves neither event nor delivery (I2)."""
    store.add_endpoint()
    store.add_course("CS101")

    with store.database.writing() as session:
        courses.delete_course(session, "CS101", now=TEN)
        session.rollback()

    assert (store.all(Event), store.all(Delivery)) == ([], [])


def test_failing_subscriber_rolls_everything_back(store: Store) -> None:
    """If a subscriber raises, course, token and events are unchanged (F2)."""

    def fail(session: object, change: object) -> None:
        raise RuntimeError("the outbox cannot write")

    store.add_endpoint()
    store.add_course("CS101")

    with (
        signals.token_regenerated.connected_to(fail),
        pytest.raises(EventNotWrittenError, match="failed: RuntimeError") as refused,
    ):
        store.write(courses.regenerate_token, "CS101", now=TEN)

    (issued,) = store.all(IssuedToken)
    assert refused.value.advice.text.startswith("Nothing was changed.")
    assert (store.all(Event), store.all(Delivery)) == ([], [])
    assert (store.course("CS101").version, issued.superseded_at) == (1, None)


def test_body_of_a_deletion_byte_by_byte(store: Store) -> None:
    store.add_course("CS101-2026")

    store.write(courses.delete_course, "CS101-2026", now=TEN)

    (event,) = store.all(Event)
    assert event.body == (
        '{"type":"course.deleted","timestamp":"2026-11-22T10:00:00.123456Z",'
        '"data":{"source":"eassessment.example.ac.uk","course_id":"CS101-2026",'
        '"course_version":2}}'
    )


def test_event_of_a_regeneration_names_the_token_without_its_secret(store: Store) -> None:
    old = store.add_course("Größe & <b>'Ω'</b>")

    new = store.write(courses.regenerate_token, "Größe & <b>'Ω'</b>", now=TEN)

    (event,) = store.all(Event)
    data = TokenRegeneratedData(
        source=SITE, course_id="Größe & <b>'Ω'</b>", course_version=2, token_id=new.token_id
    )
    assert events.load(event.body.encode()) == TokenRegenerated(timestamp=TEN, data=data)
    for token in (old, new):
        for hidden in (token.secret, token.reveal(), token.secret_sha256()):
            assert hidden not in event.body


def test_webhook_ids_are_random() -> None:
    made = {outbox.new_webhook_id() for _ in range(1000)}

    assert len(made) == 1000
    assert all(re.fullmatch(r"msg_[0-9a-f]{32}", one) for one in made)


@pytest.mark.parametrize(
    ("wanted", "delivered"),
    [
        pytest.param(None, ["course.deleted", "token.regenerated"], id="all types"),
        pytest.param(["course.deleted"], ["course.deleted"], id="deletions"),
        pytest.param(["course.del"], [], id="part of a name"),
    ],
)
def test_endpoint_gets_its_event_types(
    store: Store, wanted: list[str] | None, delivered: list[str]
) -> None:
    store.add_endpoint(event_types=wanted)
    store.add_course("CS101")

    store.write(courses.regenerate_token, "CS101", now=NINE)
    store.write(courses.delete_course, "CS101", now=TEN)

    query = select(Event.type).join(Delivery, Delivery.event_id == Event.id)
    assert sorted(store.all(query)) == delivered
    assert len(store.all(Event)) == 2


def test_delivery_of_a_disabled_endpoint_is_held(store: Store) -> None:
    disabled, enabled = store.add_endpoint(disabled=True), store.add_endpoint()
    store.add_course("CS101")

    store.write(courses.delete_course, "CS101", now=TEN)

    assert {row.endpoint_id: row.status for row in store.all(Delivery)} == {
        disabled.id: "held",
        enabled.id: "pending",
    }
