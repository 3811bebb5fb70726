"""An unavailable database is a 503 at every kind of route, and nothing is changed (F1)."""

import socket
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import make_url
from werkzeug.test import TestResponse

from contract.tokens import CourseToken
from foundation.db.migrations import Schema
from foundation.db.session import Database
from notifier import services
from notifier.courses import service as courses
from notifier.models import SCHEMA, Event
from tests.notifier.app_fixtures import ADMIN_KEY, Refused
from tests.notifier.conftest import NINE

TOKEN = CourseToken.generate().reveal()
BATCH = {"courses": [{"course_id": "CS101", "token": TOKEN}]}


def call(app: Flask, method: str, path: str, document: Any, bearer: str) -> TestResponse:
    """Return the response to a request with a bearer token."""
    headers = {"Authorization": f"Bearer {bearer}"}
    return app.test_client().open(f"/api/v1{path}", method=method, json=document, headers=headers)


@pytest.fixture
def away_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a database that is away."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/planted/notifier.db"
    with closing(socket.create_server(("127.0.0.1", 0))) as closed:
        port = closed.getsockname()[1]
    return f"postgresql://planted-user:planted-password@127.0.0.1:{port}/planted"


@pytest.mark.parametrize(
    ("method", "path", "document", "bearer"),
    [
        pytest.param("GET", "/courses/CS101/grades", None, TOKEN, id="read grades"),
        pytest.param("POST", "/grades/batch", BATCH, TOKEN, id="read a batch"),
        pytest.param("GET", "/admin/courses", None, ADMIN_KEY, id="list courses"),
        pytest.param("DELETE", "/admin/courses/CS101", None, ADMIN_KEY, id="delete a course"),
    ],
)
@pytest.mark.parametrize("away_url", ["postgresql", "sqlite"], indirect=True)
def test_missing_database_is_a_503(
    make_app: Callable[..., Flask],
    away_url: str,
    refused: Refused,
    method: str,
    path: str,
    document: Any,
    bearer: str,
) -> None:
    app = make_app(database_url=away_url, database_timeout=0.1)

    response = call(app, method, path, document, bearer)

    problem = refused(response, 503, "database-unavailable")
    assert response.headers["Retry-After"] == "5"
    assert problem["next_step"] == "Try again after 5 seconds."
    assert "planted" not in response.text


@pytest.mark.parametrize("database_kind", ["sqlite"])
def test_change_is_made_when_the_database_is_free_again(
    make_app: Callable[..., Flask],
    make_database_url: Callable[[Schema], str],
    refused: Refused,
) -> None:
    url = make_database_url(SCHEMA)
    app = make_app(database_url=url, database_timeout=0.1)
    database: Database = services.of(app).database
    with database.writing() as session:
        courses.add_course(session, "CS101", "Algorithms", now=NINE)

    with closing(sqlite3.connect(make_url(url).database or "")) as holder:
        holder.execute("BEGIN IMMEDIATE")
        during = call(app, "DELETE", "/admin/courses/CS101", None, ADMIN_KEY)
    with database.reading() as session:
        unchanged = courses.get_course(session, "CS101").deleted_at is None
        events = session.query(Event).count()
    after = call(app, "DELETE", "/admin/courses/CS101", None, ADMIN_KEY)

    refused(during, 503, "database-unavailable")
    assert (unchanged, events) == (True, 0)
    assert after.status_code == 200
