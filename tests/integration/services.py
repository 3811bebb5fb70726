"""Services as they are served: real processes on loopback, asked byte by byte."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from sqlalchemy import select

from contract.signatures import Secret
from foundation.crypto import Vault
from foundation.db.migrations import Schema
from foundation.db.session import Database
from receiver.sources import store as sources

ADMIN_KEY = "planted-admin-key-0123456789abcdef"
ENCRYPTION_KEY = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
SITE = "eassessment.example.ac.uk"
THREADS = 3
"""Threads of the services that all tests share."""
STARTS_WITHIN = 30.0
ANSWERS_WITHIN = 20.0
_SCRIPTS = Path(sys.executable).parent


@dataclass(frozen=True)
class Answer:
    """What was answered: the first of it, if a connection brought several."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def document(self) -> dict[str, Any]:
        """The answer's JSON object."""
        document: dict[str, Any] = json.loads(self.body)
        return document


@dataclass(frozen=True)
class Served:
    """One service under `serve`, with its database and its log."""

    process: subprocess.Popen[bytes]
    port: int
    database_url: str
    schema: Schema
    log: Path
    host: str = "127.0.0.1"

    def connect(self) -> socket.socket:
        """Return a connection to it."""
        return socket.create_connection((self.host, self.port), timeout=ANSWERS_WITHIN)

    def ask(self, request: bytes) -> Answer:
        """Send a request and return the answer."""
        with self.connect() as connection:
            connection.sendall(request)
            return hear(connection)

    def rows(self) -> dict[str, list[str]]:
        """Return every row of every table, to see that nothing was changed."""
        database = Database(self.database_url)
        with database.reading() as session:
            found = {
                table.name: sorted(map(repr, session.execute(select(table)).all()))
                for table in self.schema.metadata.sorted_tables
            }
        database.dispose()
        return found

    def stop(self) -> int:
        """Stop it as an operator would, and return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(ANSWERS_WITHIN)
        finally:
            self.process.kill()
            self.process.wait()


def hear(connection: socket.socket) -> Answer:
    """Return the next answer of a connection; fail if it ends or is silent before one is whole."""
    response = HTTPResponse(connection)
    response.begin()
    return Answer(
        response.status,
        {name.lower(): value for name, value in response.getheaders()},
        response.read(),
    )


def head(
    method: str = "POST",
    path: str = f"/webhooks/{SITE}",
    headers: Iterable[tuple[str, str]] | Mapping[str, str] = (),
    *,
    host: str | None = "127.0.0.1",
) -> bytes:
    """Return the head of a request, header after header as given, the connection to be closed."""
    given = headers.items() if isinstance(headers, Mapping) else headers
    first = [("Host", host)] if host is not None else []
    lines = [f"{name}: {value}" for name, value in (*first, ("Connection", "close"), *given)]
    return "\r\n".join((f"{method} {path} HTTP/1.1", *lines, "", "")).encode("latin-1")


def serve(service: str, schema: Schema, database_url: str, folder: Path, **settings: str) -> Served:
    """Start a service on a free port and return it once it answers."""
    port = free_port()
    log = folder / f"{service}.log"
    with log.open("wb") as written:
        process = subprocess.Popen(
            [_SCRIPTS / service, "serve"],
            cwd=folder,
            env=environment(service, database_url, PORT=str(port), **settings),
            stdin=subprocess.DEVNULL,
            stdout=written,
            stderr=written,
        )
    served = Served(process, port, database_url, schema, log, settings.get("HOST", "127.0.0.1"))
    _wait_until_it_answers(served)
    return served


def environment(service: str, database_url: str, **settings: str) -> dict[str, str]:
    """Return this process's environment with a service's settings, and none of its own."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("NOTIFIER_", "RECEIVER_"))}
    given = {
        "ADMIN_KEY": ADMIN_KEY,
        "ENCRYPTION_KEYS": ENCRYPTION_KEY,
        "DATABASE_URL": database_url.replace("+psycopg", ""),
        "LOG_FORMAT": "json",
        **settings,
    }
    return kept | {f"{service.upper()}_{name}": value for name, value in given.items()}


def command(service: str, *words: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Give a command as a process of its own and return how it ended and what it said."""
    given = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "timeout": 60, **options}
    return subprocess.run([_SCRIPTS / service, *words], text=True, check=False, **given)


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


def _wait_until_it_answers(served: Served) -> None:
    ends = time.monotonic() + STARTS_WITHIN
    while time.monotonic() < ends and served.process.poll() is None:
        try:
            served.ask(head("GET", "/"))
        except (OSError, HTTPException):
            time.sleep(0.05)  # a bounded wait for a process to start; nothing tells when it has
        else:
            return
    served.process.kill()
    raise AssertionError(f"it does not answer:\n{served.log.read_text()}")


def free_port() -> int:
    """Return a port of this machine that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])
