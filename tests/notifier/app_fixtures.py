"""Fixtures of eAssessment as an app under test, for its API and its pages."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select
from werkzeug.test import TestResponse

from foundation.db.session import Database
from notifier import services
from notifier.app import create_app
from notifier.config import Settings
from notifier.models import SCHEMA, Delivery, DeliveryStatus, Endpoint, Event

ADMIN_KEY = "planted-admin-key-0123456789abcdef"
ENCRYPTION_KEY = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="


@pytest.fixture
def make_settings() -> Callable[..., Settings]:
    """Return what makes settings that read no `.env`."""

    def make(**overrides: Any) -> Settings:
        given = {
            "admin_key": ADMIN_KEY,
            "encryption_keys": ENCRYPTION_KEY,
            "source": "eassessment.example",
            "log_format": "json",
            **overrides,
        }
        return Settings(_env_file=None, **given)

    return make


@pytest.fixture
def make_app(make_settings: Callable[..., Settings]) -> Iterator[Callable[..., Flask]]:
    """Return what makes an app with its database closed at the end."""
    made: list[Flask] = []

    def make(**overrides: Any) -> Flask:
        made.append(create_app(make_settings(**overrides)))
        return made[-1]

    yield make
    for app in made:
        with app.app_context():
            services.current().database.dispose()


@pytest.fixture
def app(make_app: Callable[..., Flask], make_database_url: Callable[..., str]) -> Flask:
    """eAssessment on an empty database."""
    return make_app(database_url=make_database_url(SCHEMA))


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    """A client that bears nothing by itself."""
    return app.test_client()


@pytest.fixture
def database(app: Flask) -> Database:
    """The app's database."""
    with app.app_context():
        return services.current().database


@pytest.fixture
def admin(client: FlaskClient) -> Callable[..., TestResponse]:
    """Return what asks the admin API with the admin key."""

    def ask(method: str, path: str, **options: Any) -> TestResponse:
        headers = {"Authorization": f"Bearer {ADMIN_KEY}", **options.pop("headers", {})}
        return client.open(f"/api/v1/admin{path}", method=method, headers=headers, **options)

    return ask


@pytest.fixture
def shut_client(make_app: Callable[..., Flask], tmp_path: Path) -> FlaskClient:
    """A client of an app whose database is away: what gets that far is a 503."""
    return make_app(database_url=f"sqlite:///{tmp_path}/none/notifier.db").test_client()


@pytest.fixture
def shut_admin(shut_client: FlaskClient) -> Callable[..., TestResponse]:
    """Return what asks the admin API of that app: a 4xx says that nothing was even begun."""

    def ask(method: str, path: str, **options: Any) -> TestResponse:
        headers = {"Authorization": f"Bearer {ADMIN_KEY}"}
        return shut_client.open(f"/api/v1/admin{path}", method=method, headers=headers, **options)

    return ask


@pytest.fixture
def make_course(admin: Callable[..., TestResponse]) -> Callable[..., str]:
    """Return what adds a course and answers its token."""

    def make(course_id: str = "CS101", title: str = "Algorithms") -> str:
        answer = admin("POST", "/courses", json={"course_id": course_id, "title": title})
        assert answer.status_code == 201, answer.text
        return str(answer.json["token"])

    return make


@pytest.fixture
def make_delivery(
    admin: Callable[..., TestResponse], make_course: Callable[..., str], database: Database
) -> Callable[..., int]:
    """Return what deletes a new course and answers the number of the delivery about it."""

    def make(course_id: str = "CS101", status: DeliveryStatus = DeliveryStatus.PENDING) -> int:
        with database.reading() as session:
            known = session.scalar(select(Endpoint.id).limit(1))
        if known is None:
            admin("POST", "/endpoints", json={"url": "https://elms.example/webhooks/eassessment"})
        make_course(course_id)
        admin("DELETE", f"/courses/{course_id}")
        with database.writing() as session:
            row = session.scalars(
                select(Delivery).join(Event).where(Event.course_id == course_id)
            ).one()
            row.status = status
            if status in {DeliveryStatus.DELIVERED, DeliveryStatus.DEAD}:
                row.settled_at, row.reason = row.due_at, "10 attempts failed"
            return row.id

    return make


@pytest.fixture
def rows(database: Database) -> Callable[[], dict[str, list[Any]]]:
    """Return what tells every row of every table, to see that nothing was changed."""

    def tell() -> dict[str, list[Any]]:
        with database.reading() as session:
            return {
                table.name: sorted(map(repr, session.execute(select(table)).all()))
                for table in SCHEMA.metadata.sorted_tables
            }

    return tell


@pytest.fixture
def refused() -> Callable[..., dict[str, Any]]:
    """Return what checks that an answer is a problem document, and answers its members."""

    def check(answer: TestResponse, status: int, kind: str) -> dict[str, Any]:
        assert (status, "application/problem+json") == (answer.status_code, answer.mimetype), (
            answer.text
        )
        document: dict[str, Any] = answer.get_json(force=True)
        assert f"urn:problem-type:{kind}" == document["type"]
        assert status == document["status"]
        assert document["detail"]
        assert document["next_step"]
        assert answer.headers["X-Request-Id"] == document["request_id"]
        assert answer.headers["Cache-Control"] == "no-store"
        return document

    return check


@pytest.fixture
def admin_key() -> str:
    """The admin key that the app was set up with."""
    return ADMIN_KEY
