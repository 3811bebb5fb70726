"""The least that can accept webhooks: Flask, waitress and two statements in one transaction."""

import os
import socket
from datetime import UTC, datetime
from typing import Any

from flask import Flask, request
from sqlalchemy import Column, MetaData, String, Table
from waitress import serve

from contract import events, signatures
from contract.signatures import Secret
from foundation.db import session as db
from foundation.db.session import Database

_METADATA = MetaData()
_INBOX = Table("minimal_inbox", _METADATA, Column("id", String, primary_key=True))
_REGISTRY = Table(
    "minimal_registry",
    _METADATA,
    Column("course_id", String, primary_key=True),
    Column("body", String),
)


def free_port() -> int:
    """Return a port that no one listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def new_app() -> Flask:
    """Return the app."""
    app = Flask(__name__)
    url = os.environ["RECEIVER_DATABASE_URL"].replace("postgresql://", "postgresql+psycopg://")
    database = Database(url)
    if database.file:
        database.file.touch()
    _METADATA.create_all(database.engine)
    secret = Secret.parse(os.environ["BENCHMARK_SECRET"])

    @app.post("/minimal")
    def accept() -> dict[str, str]:
        raw = request.get_data()
        headers = {key.lower(): value for key, value in request.headers}
        webhook_id = signatures.verify([secret], headers, raw, now=datetime.now(UTC))
        event: Any = events.load(raw)
        with database.writing() as session:
            session.execute(
                db.insert(session, _INBOX).values(id=webhook_id).on_conflict_do_nothing()
            )
            session.execute(
                db.insert(session, _REGISTRY)
                .values(course_id=event.data.course_id, body=raw.decode())
                .on_conflict_do_nothing()
            )
        return {"outcome": "applied"}

    @app.post("/bare")
    def respond() -> dict[str, str]:
        request.get_data()
        return {"outcome": "applied"}

    return app


if __name__ == "__main__":
    serve(
        new_app(),
        host="127.0.0.1",
        port=int(os.environ["RECEIVER_PORT"]),
        threads=int(os.environ["RECEIVER_WEB_THREADS"]),
        connection_limit=800,
    )
