"""Services that are served by real processes on loopback, and requests to them byte by byte."""

import json
import shutil
import signal
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from http.client import HTTPResponse
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from contract.signatures import Secret
from foundation.crypto import Vault
from foundation.db.migrations import Schema
from foundation.db.session import Database
from receiver.sources import store as sources
from tests.faults import processes
from tests.faults.processes import PATIENCE, Process
from tests.faults.site import free_port, wait_until_served

ADMIN_KEY = "planted-admin-key-0123456789abcdef"
ENCRYPTION_KEY = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
SITE = "eassessment.example.ac.uk"


@dataclass(frozen=True)
class Response:
    """A response: the first one, if a connection brought several."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def document(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.body)
        return document


@dataclass(frozen=True)
class Served:
    """A service under `serve`, with its database."""

    process: Process
    port: int
    database_url: str
    schema: Schema

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)

    def ask(self, request: bytes) -> Response:
        """Send a request and return the response."""
        with self.connect() as connection:
            connection.sendall(request)
            return read_response(connection)

    def stop(self) -> int:
        """Stop it as an operator does, and return its exit code."""
        self.process.send(signal.SIGTERM)
        return self.process.wait_ended()

    def kill(self) -> None:
        self.process.send(signal.SIGKILL)
        self.process.wait_ended()


def read_response(connection: socket.socket) -> Response:
    """Return the next response of a connection; fail if it ends before one is whole."""
    response = HTTPResponse(connection)
    response.begin()
    headers = {name.lower(): value for name, value in response.getheaders()}
    return Response(response.status, headers, response.read())


def head(
    method: str = "POST",
    path: str = f"/webhooks/{SITE}",
    headers: Iterable[tuple[str, str]] = (),
    *,
    close: bool = True,
) -> bytes:
    """Return the head of a request with headers in this order, possibly repeated."""
    given = [("Host", "127.0.0.1"), *([("Connection", "close")] if close else []), *headers]
    lines = [f"{name}: {value}" for name, value in given]
    return "\r\n".join((f"{method} {path} HTTP/1.1", *lines, "", "")).encode("latin-1")


def serve(service: str, schema: Schema, database_url: str, folder: Path, **settings: str) -> Served:
    """Start a service on a free port and return it once it responds."""
    port = free_port()
    given = {"PORT": str(port), **settings}
    process = processes.start(
        *(service, "serve"),
        folder=folder / f"{service}-{port}",
        environment=environment(service, database_url, **given),
    )
    wait_until_served(process, port, given.get("HOST", "127.0.0.1"))
    return Served(process, port, database_url, schema)


def environment(service: str, database_url: str, **settings: str) -> dict[str, str]:
    """Return the settings of a service."""
    given = {
        "ADMIN_KEY": ADMIN_KEY,
        "ENCRYPTION_KEYS": ENCRYPTION_KEY,
        "DATABASE_URL": database_url.replace("+psycopg", ""),
        "LOG_FORMAT": "json",
        **settings,
    }
    return {f"{service.upper()}_{name}": value for name, value in given.items()}


def copied(template: Path, folder: Path) -> str:
    """Copy a migrated SQLite file into a folder and return its URL."""
    return f"sqlite:///{shutil.copy(template, folder)}"


def add_source(database_url: str, secret: Secret) -> None:
    """Give an ELMS the source whose events the tests sign."""
    database = Database(database_url)
    with database.writing() as session:
        now = datetime.now(UTC)
        source = sources.add(session, SITE, "http://127.0.0.1:9", now=now)
        sources.add_secret(session, source, secret, vault=Vault(SecretStr(ENCRYPTION_KEY)), now=now)
    database.dispose()
