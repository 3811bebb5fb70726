"""A database that is busy or away is a 503 that says when to come back, at every door."""

import socket
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import create_engine, make_url, text
from werkzeug.test import TestResponse

from contract.tokens import CourseToken
from foundation.db.migrations import Schema
from notifier.models import SCHEMA

BATCH = {"courses": [{"course_id": "CS101", "token": CourseToken.generate().reveal()}]}
DOORS = [
    pytest.param("GET", "/api/v1/courses/CS101/grades", None, id="read grades"),
    pytest.param("POST", "/api/v1/grades/batch", BATCH, id="read a batch"),
    pytest.param("GET", "/api/v1/admin/courses", None, id="list courses"),
    pytest.param("DELETE", "/api/v1/admin/courses/CS101", None, id="delete a course"),
    pytest.param("POST", "/api/v1/courses/7/token-regenerated", {}, id="tell of a token"),
    pytest.param("POST", "/api/v1/admin/endpoints", {"url": "https://x.example"}, id="register"),
]


@contextmanager
def locked(url: str) -> Iterator[None]:
    """Hold a database, so that nobody else can read or write it."""
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(make_url(url).database or "")) as holder:
            holder.execute("PRAGMA locking_mode=EXCLUSIVE")
            holder.execute("BEGIN EXCLUSIVE")
            holder.execute("INSERT INTO events SELECT * FROM events LIMIT 0")
            holder.execute("CREATE TABLE held (id INTEGER)")
            yield
            holder.rollback()
        return
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://", 1))
    tables = ", ".join(table.name for table in SCHEMA.metadata.sorted_tables)
    with engine.connect() as holder:
        holder.execute(text(f"LOCK TABLE {tables} IN ACCESS EXCLUSIVE MODE"))
        yield
        holder.rollback()
    engine.dispose()


@pytest.fixture
def ask() -> Callable[..., TestResponse]:
    """Return what asks a door with the right key or a well-formed token."""

    def ask(app: Flask, method: str, path: str, document: Any, admin_key: str) -> TestResponse:
        bearer = CourseToken.generate().reveal() if path.endswith("/grades") else admin_key
        headers = {"Authorization": f"Bearer {bearer}"}
        return app.test_client().open(path, method=method, json=document, headers=headers)

    return ask


@pytest.mark.parametrize(("method", "path", "document"), DOORS)
def test_a_busy_database_is_a_503(
    make_app: Callable[..., Flask],
    make_database_url: Callable[[Schema], str],
    admin_key: str,
    ask: Callable[..., TestResponse],
    refused: Callable[..., dict[str, Any]],
    method: str,
    path: str,
    document: Any,
) -> None:
    """Who finds the database held by another is told when to try again (F27)."""
    url = make_database_url(SCHEMA)
    app = make_app(database_url=url, database_timeout=0.1)

    with locked(url):
        answer = ask(app, method, path, document, admin_key)

    problem = refused(answer, 503, "database-unavailable")
    assert answer.headers["Retry-After"] == "5"
    assert problem["detail"] == "the database is busy or unavailable"
    assert problem["next_step"] == "Try again after 5 seconds."
    assert "WWW-Authenticate" not in answer.headers


@pytest.mark.parametrize(("method", "path", "document"), DOORS)
@pytest.mark.parametrize(
    "kind",
    [pytest.param("postgresql", id="nobody listens"), pytest.param("sqlite", id="no such folder")],
)
def test_a_database_that_is_away_is_a_503(
    make_app: Callable[..., Flask],
    tmp_path: Path,
    admin_key: str,
    ask: Callable[..., TestResponse],
    refused: Callable[..., dict[str, Any]],
    kind: str,
    method: str,
    path: str,
    document: Any,
) -> None:
    """Who asks while there is no database is told the same, and no name of a host (F1)."""
    with closing(socket.create_server(("127.0.0.1", 0))) as closed:
        port = closed.getsockname()[1]
    url = {
        "sqlite": f"sqlite:///{tmp_path}/none/notifier.db",
        "postgresql": f"postgresql://planted-user:planted-password@127.0.0.1:{port}/planted",
    }[kind]
    app = make_app(database_url=url, database_timeout=0.1)

    answer = ask(app, method, path, document, admin_key)

    refused(answer, 503, "database-unavailable")
    assert answer.headers["Retry-After"] == "5"
    assert "planted" not in answer.text
    assert str(tmp_path) not in answer.text


def test_a_file_that_is_no_database_is_a_503(
    make_app: Callable[..., Flask],
    tmp_path: Path,
    admin_key: str,
    ask: Callable[..., TestResponse],
    refused: Callable[..., dict[str, Any]],
) -> None:
    (tmp_path / "notifier.models").write_bytes(b"once this was a database" * 100)
    app = make_app(database_url=f"sqlite:///{tmp_path}/notifier.db")

    answer = ask(app, "GET", "/api/v1/admin/courses", None, admin_key)

    refused(answer, 503, "database-unavailable")


def test_a_held_database_serves_again_once_it_is_free(
    make_app: Callable[..., Flask],
    make_database_url: Callable[[Schema], str],
    admin_key: str,
    ask: Callable[..., TestResponse],
) -> None:
    url = make_database_url(SCHEMA)
    app = make_app(database_url=url, database_timeout=0.1)
    course = {"course_id": "CS101", "title": "Algorithms"}

    with locked(url):
        during = ask(app, "POST", "/api/v1/admin/courses", course, admin_key)
    after = ask(app, "POST", "/api/v1/admin/courses", course, admin_key)

    assert (during.status_code, after.status_code) == (503, 201)
