"""The outbox: change, event and deliveries commit together."""

import json
import re
from datetime import timedelta

import pytest
from sqlalchemy import func, select

from contract import events
from contract.events import (
    CourseDeleted,
    CourseDeletedData,
    TokenRegenerated,
    TokenRegeneratedData,
)
from foundation.db.session import Database
from notifier import signals
from notifier.courses import service as courses
from notifier.errors import EventNotWrittenError
from notifier.models import Course, Delivery, DeliveryStatus, Event, IssuedToken
from notifier.webhooks import outbox
from tests.notifier.conftest import NINE, SITE, MakeCourse, MakeEndpoint

TEN = NINE + timedelta(hours=1)


def counts(database: Database) -> dict[str, int]:
    """Return the number of events and deliveries."""
    with database.reading() as session:
        return {
            table.__tablename__: session.scalar(select(func.count()).select_from(table)) or 0
            for table in (Event, Delivery)
        }


def only_event(database: Database) -> Event:
    """Return the only event."""
    with database.reading() as session:
        return session.scalars(select(Event)).one()


def delete(database: Database, course_id: str = "CS101-2026") -> None:
    """Delete a course at ten."""
    with database.writing() as session:
        courses.delete_course(session, course_id, now=TEN)


def test_change_event_and_deliveries_commit_together(
    database: Database, make_course: MakeCourse, make_endpoint: MakeEndpoint
) -> None:
    wanting = [make_endpoint().id, make_endpoint().id]
    make_course("CS101")

    delete(database, "CS101")

    event = only_event(database)
    assert (event.type, event.course_id, event.course_version) == ("course.deleted", "CS101", 2)
    assert event.occurred_at == TEN
    with database.reading() as session:
        rows = list(session.scalars(select(Delivery).order_by(Delivery.endpoint_id)))
    assert [row.endpoint_id for row in rows] == wanting
    for row in rows:
        assert (row.event_id, row.status, row.attempts) == (event.id, DeliveryStatus.PENDING, 0)
        assert (row.due_at, row.created_at, row.lease_token) == (TEN, TEN, None)


def test_event_is_invisible_before_the_commit(
    database: Database, make_course: MakeCourse, make_endpoint: MakeEndpoint
) -> None:
    make_endpoint()
    make_course("CS101")

    with database.writing() as session:
        courses.delete_course(session, "CS101", now=TEN)
        meanwhile = counts(database)

    assert meanwhile == {"events": 0, "deliveries": 0}
    assert counts(database) == {"events": 1, "deliveries": 1}


def test_rollback_leaves_no_event(
    database: Database, make_course: MakeCourse, make_endpoint: MakeEndpoint
) -> None:
    """A change that is rolled back leaves neither event nor delivery (I2)."""
    make_endpoint()
    make_course("CS101")

    with database.writing() as session:
        courses.delete_course(session, "CS101", now=TEN)
        session.rollback()

    assert counts(database) == {"events": 0, "deliveries": 0}


@pytest.mark.parametrize(
    ("change", "signal"),
    [
        pytest.param(courses.delete_course, signals.course_deleted, id="deletion"),
        pytest.param(courses.regenerate_token, signals.token_regenerated, id="regeneration"),
    ],
)
def test_failing_subscriber_rolls_everything_back(
    database: Database,
    make_course: MakeCourse,
    make_endpoint: MakeEndpoint,
    change: object,
    signal: object,
) -> None:
    """If a subscriber raises, course, token and events are unchanged (F2)."""

    def fail(session: object, change: object) -> None:
        raise RuntimeError("the outbox cannot write")

    make_endpoint()
    token = make_course("CS101")

    with (
        signal.connected_to(fail),  # type: ignore[attr-defined]
        pytest.raises(EventNotWrittenError, match="failed: RuntimeError") as refused,
        database.writing() as session,
    ):
        change(session, "CS101", now=TEN)  # type: ignore[operator]

    assert refused.value.advice.text.startswith("Nothing was changed.")
    assert counts(database) == {"events": 0, "deliveries": 0}
    with database.reading() as session:
        course = session.scalars(select(Course)).one()
        assert (course.version, course.deleted_at) == (1, None)
        issued = session.scalars(select(IssuedToken)).one()
        assert (issued.token_id, issued.superseded_at) == (token.token_id, None)


def test_body_of_a_deletion_byte_by_byte(database: Database, make_course: MakeCourse) -> None:
    make_course("CS101-2026")

    delete(database)

    assert only_event(database).body == (
        '{"type":"course.deleted","timestamp":"2026-11-22T10:00:00.123456Z",'
        '"data":{"source":"eassessment.example.ac.uk","course_id":"CS101-2026",'
        '"course_version":2}}'
    )


def test_body_is_read_back_as_the_event(database: Database, make_course: MakeCourse) -> None:
    make_course("Größe & <b>'Ω'</b>")
    with database.writing() as session:
        token = courses.regenerate_token(session, "Größe & <b>'Ω'</b>", now=NINE)
    delete(database, "Größe & <b>'Ω'</b>")

    with database.reading() as session:
        bodies = list(session.scalars(select(Event.body).order_by(Event.course_version)))

    facts = {"source": SITE, "course_id": "Größe & <b>'Ω'</b>"}
    assert [events.load(body.encode()) for body in bodies] == [
        TokenRegenerated(
            timestamp=NINE,
            data=TokenRegeneratedData(course_version=2, token_id=token.token_id, **facts),
        ),
        CourseDeleted(timestamp=TEN, data=CourseDeletedData(course_version=3, **facts)),
    ]


def test_event_contains_no_token(database: Database, make_course: MakeCourse) -> None:
    old = make_course("CS101")
    with database.writing() as session:
        new = courses.regenerate_token(session, "CS101", now=TEN)

    body = only_event(database).body
    assert json.loads(body)["data"]["token_id"] == new.token_id
    for token in (old, new):
        for hidden in (token.secret, token.reveal(), token.secret_sha256()):
            assert hidden not in body


def test_webhook_ids_are_random(database: Database) -> None:
    made = {outbox.new_webhook_id() for _ in range(1000)}

    assert len(made) == 1000
    assert all(re.fullmatch(r"msg_[0-9a-f]{32}", one) for one in made)


def test_event_is_written_without_endpoints(database: Database, make_course: MakeCourse) -> None:
    make_course("CS101")

    delete(database, "CS101")

    assert counts(database) == {"events": 1, "deliveries": 0}


@pytest.mark.parametrize(
    ("wanted", "statuses"),
    [
        pytest.param(None, ["course.deleted", "token.regenerated"], id="all types"),
        pytest.param(["course.deleted"], ["course.deleted"], id="deletions"),
        pytest.param(["course.del"], [], id="part of a name"),
    ],
)
def test_endpoint_gets_its_event_types(
    database: Database,
    make_course: MakeCourse,
    make_endpoint: MakeEndpoint,
    wanted: list[str] | None,
    statuses: list[str],
) -> None:
    make_endpoint(event_types=wanted)
    make_course("CS101")

    with database.writing() as session:
        courses.regenerate_token(session, "CS101", now=NINE)
    delete(database, "CS101")

    with database.reading() as session:
        query = select(Event.type).join(Delivery, Delivery.event_id == Event.id)
        assert sorted(session.scalars(query)) == statuses


def test_delivery_of_a_disabled_endpoint_is_held(
    database: Database, make_course: MakeCourse, make_endpoint: MakeEndpoint
) -> None:
    disabled, enabled = make_endpoint(disabled=True), make_endpoint()
    make_course("CS101")

    delete(database, "CS101")

    with database.reading() as session:
        rows = session.execute(select(Delivery.endpoint_id, Delivery.status))
        assert {row[0]: row[1] for row in rows} == {
            disabled.id: DeliveryStatus.HELD,
            enabled.id: DeliveryStatus.PENDING,
        }


def test_subscribe_is_idempotent(database: Database, make_course: MakeCourse) -> None:
    outbox.subscribe()
    outbox.subscribe()
    make_course("CS101")

    delete(database, "CS101")

    assert counts(database)["events"] == 1
