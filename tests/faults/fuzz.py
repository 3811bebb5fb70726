"""Fuzz both apps: `python -m tests.faults.fuzz --requests 20000 --seed 1`.

Each response must be no 5xx and no redirect except to the sign-in; a rejection must be a problem
document of a known type that shows no secret; and a request that was rejected, only reads, or is
a duplicate must change nothing. The same seed makes the same requests.
"""

import io
import json
import random
import sqlite3
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from flask import Flask
from sqlalchemy import delete, text
from werkzeug.test import EnvironBuilder, run_wsgi_app

import notifier.app
import receiver.app
from contract.problems import type_of
from contract.signatures import Secret
from foundation.db.migrations import Schema
from foundation.db.session import Database
from notifier import models as sent
from notifier import services as notifier_services
from notifier.config import Settings as NotifierSettings
from receiver import models as taken
from receiver import services as receiver_services
from receiver.config import Settings as ReceiverSettings
from receiver.sources import store as sources
from tests.faults.fuzz_requests import BATCH, COURSES, INGEST_SECRET, SITE, Known, Request, draw
from tests.faults.torture import databases

ADMIN_KEY = "planted-admin-key-0123456789abcdef"
ENCRYPTION_KEY = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
# Requests after which the databases are emptied.
ROUND = 2000
SUCCESS = {200, 201, 304}
# The paths of pages among the requests; no one is signed in.
PAGES = {"/"}
_SCHEMAS = {"notifier": sent.SCHEMA, "receiver": taken.SCHEMA}


class FuzzError(AssertionError):
    """A response or a change that must not be; says for which request."""


@dataclass(frozen=True)
class Answer:
    """The response of an app."""

    status: int
    headers: dict[str, str]
    body: bytes


@dataclass
class Totals:
    """The numbers of a run."""

    requests: int = 0
    seconds: float = 0.0
    statuses: Counter[int] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)


class Apps:
    """Both apps on their databases, and whether anything was committed to them."""

    def __init__(self, urls: dict[str, str]) -> None:
        common: dict[str, Any] = {"_env_file": None, "encryption_keys": ENCRYPTION_KEY}
        common |= {"log_level": "ERROR", "log_format": "json"}
        self.apps: dict[str, Flask] = {
            "notifier": notifier.app.create_app(
                NotifierSettings(
                    database_url=urls["notifier"],
                    admin_key=ADMIN_KEY,
                    ingest_secret=INGEST_SECRET,
                    **common,
                )
            ),
            "receiver": receiver.app.create_app(
                ReceiverSettings(database_url=urls["receiver"], **common)
            ),
        }
        self.databases: dict[str, Database] = {
            "notifier": notifier_services.of(self.apps["notifier"]).database,
            "receiver": receiver_services.of(self.apps["receiver"]).database,
        }
        self._open = ExitStack()
        for database in self.databases.values():
            self._open.callback(database.dispose)
        self._looks = {name: self._watch(name, schema) for name, schema in _SCHEMAS.items()}

    def close(self) -> None:
        """Close every connection."""
        self._open.close()

    def mark(self, service: str) -> object:
        """Return a value that differs after every commit that changed something."""
        return self._looks[service]()

    def _watch(self, service: str, schema: Schema) -> Callable[[], object]:
        database = self.databases[service]
        # Requests are counted, and refused webhooks noted, even if nothing else changes.
        tables = {table.name for table in schema.metadata.sorted_tables}
        names = sorted(tables - {"counters", "source_refusals"})
        if database.is_sqlite:
            looking = sqlite3.connect(str(database.engine.url.database))
            self._open.callback(looking.close)
            return lambda: _rows(looking, names)
        # xmin is the transaction that wrote the row last.
        query = " UNION ALL ".join(
            f"SELECT '{name}', count(*), sum(xmin::text::bigint) FROM {name}" for name in names
        )

        def look() -> object:
            with database.reading() as session:
                return [tuple(row) for row in session.execute(text(query))]

        return look

    def begin(self) -> Known:
        """Empty both databases, then add courses, endpoints and a source."""
        for name, schema in _SCHEMAS.items():
            with self.databases[name].writing() as session:
                for table in reversed(schema.metadata.sorted_tables):
                    session.execute(delete(table))
        known = Known(Secret.generate(), ADMIN_KEY)
        vault = receiver_services.of(self.apps["receiver"]).vault
        with self.databases["receiver"].writing() as session:
            now = datetime.now(UTC)
            source = sources.add(session, SITE, "http://127.0.0.1:9", now=now)
            sources.add_secret(session, source, known.secret, vault=vault, now=now)
        for number in range(2):
            self._administer("/endpoints", {"url": f"https://elms.example/webhooks/{number}"})
        for course_id in COURSES:
            added = self._administer("/courses", {"course_id": course_id, "title": "x"})
            known.tokens[course_id] = [added["token"]]
        return known

    def _administer(self, path: str, document: dict[str, Any]) -> dict[str, Any]:
        headers = (("Authorization", f"Bearer {ADMIN_KEY}"), ("Content-Type", "application/json"))
        body = json.dumps(document).encode()
        answer = self.ask(Request("notifier", "POST", f"/api/v1/admin{path}", headers, body))
        if answer.status != 201:
            raise FuzzError(f"cannot begin: {answer}")
        made: dict[str, Any] = json.loads(answer.body)
        return made

    def ask(self, request: Request) -> Answer:
        """Call an app as a server does."""
        app = self.apps[request.service]
        chunks, status, headers = run_wsgi_app(app, _environ(request))
        with closing(chunks):
            body = b"".join(chunks)
        return Answer(int(status[:3]), {name.lower(): value for name, value in headers}, body)


def _environ(request: Request) -> dict[str, Any]:
    environ: dict[str, Any] = EnvironBuilder(method=request.method).get_environ()
    environ |= {
        "PATH_INFO": request.path,
        "QUERY_STRING": request.query,
        "HTTP_HOST": "127.0.0.1",
        "CONTENT_LENGTH": str(len(request.body)),
        "wsgi.input": io.BytesIO(request.body),
        "wsgi.input_terminated": True,
        "wsgi.errors": io.StringIO(),
    }
    joined: dict[str, str] = {}
    for name, value in request.headers:
        key = name.upper().replace("-", "_")
        variable = key if key in {"CONTENT_TYPE", "CONTENT_LENGTH"} else f"HTTP_{key}"
        joined[variable] = f"{joined[variable]},{value}" if variable in joined else value
    return environ | joined


def run(urls: dict[str, str], requests: int, seed: int) -> Totals:
    """Send requests and count the responses; raise FuzzError at the first one that is wrong."""
    apps, totals, chance = Apps(urls), Totals(), random.Random(seed)
    began = time.monotonic()
    try:
        for start in range(0, requests, ROUND):
            _round(apps, totals, chance, min(ROUND, requests - start))
    finally:
        apps.close()
    totals.seconds = time.monotonic() - began
    return totals


def _rows(looking: sqlite3.Connection, names: Sequence[str]) -> object:
    return [looking.execute(f"SELECT * FROM {name}").fetchall() for name in names]


def _round(apps: Apps, totals: Totals, chance: random.Random, count: int) -> None:
    known = apps.begin()
    outcomes: Counter[str] = Counter()
    for _ in range(count):
        request = draw(chance, known)
        before = apps.mark(request.service)
        answer = apps.ask(request)
        try:
            _check(request, answer, known)
            changed = apps.mark(request.service) != before
            outcome = _outcome(answer)
            webhook = request.service == "receiver"
            if webhook and outcome in {"applied", "stale"} and _source_of(request) != SITE:
                raise FuzzError("an event of another source was accepted")
            if changed and not _may_change(request, answer, outcome):
                raise FuzzError("it changed the database")
        except FuzzError as error:
            raise FuzzError(f"request {totals.requests}: {error}\n{request}\n{answer}") from None
        _keep_token(known, answer)
        outcomes[outcome] += webhook
        totals.requests += 1
        totals.statuses[answer.status] += 1
    totals.outcomes += outcomes


def _check(request: Request, answer: Answer, known: Known) -> None:
    if answer.status in SUCCESS or _leads_to_sign_in(request, answer):
        return
    if not 400 <= answer.status < 500:
        raise FuzzError(f"the status is {answer.status}")
    if request.method == "HEAD":
        return
    _check_is_actionable(request, answer)
    shown = answer.body.decode()
    secrets = [
        ADMIN_KEY,
        INGEST_SECRET,
        known.secret.reveal(),
        *(t for ts in known.tokens.values() for t in ts),
    ]
    if any(secret in shown for secret in (*secrets, "Traceback", "sqlalchemy", ".py")):
        raise FuzzError("the rejection shows a secret or a detail of the code")


def _leads_to_sign_in(request: Request, answer: Answer) -> bool:
    to_sign_in = answer.headers.get("location", "").startswith("/sign-in?next=/")
    return answer.status == 303 and to_sign_in and request.path in PAGES


def _check_is_actionable(request: Request, answer: Answer) -> None:
    if request.path in PAGES and answer.headers["content-type"].startswith("text/html"):
        if b"What to do next:" not in answer.body:
            raise FuzzError("the page has no next step")
        return
    if answer.headers.get("content-type") != "application/problem+json":
        raise FuzzError("the rejection is no problem document")
    document = json.loads(answer.body)
    kind = type_of(document)
    if kind is None or kind.status != answer.status or document["status"] != answer.status:
        raise FuzzError("the problem has an unknown type, or another status")
    if not document["detail"] or not document["next_step"]:
        raise FuzzError("the problem has no detail or no next step")


def _outcome(answer: Answer) -> str:
    if answer.status != 200 or answer.headers.get("content-type") != "application/json":
        return "none"
    document = json.loads(answer.body or b"{}")
    return str(document.get("outcome", "none"))


def _source_of(request: Request) -> object:
    return json.loads(request.body)["data"]["source"]


def _may_change(request: Request, answer: Answer, outcome: str) -> bool:
    reads = request.method in {"GET", "HEAD"} or request.path == BATCH
    nothing = {"duplicate"} if request.service == "receiver" else {"duplicate", "ignored"}
    return answer.status in {200, 201} and not reads and outcome not in nothing


def _keep_token(known: Known, answer: Answer) -> None:
    if answer.status == 201:
        made = json.loads(answer.body)
        if "token" in made:
            known.tokens.setdefault(made["course_id"], []).append(made["token"])


@click.command(help=__doc__)
@click.option("--requests", default=100_000, show_default=True)
@click.option("--seed", type=int, help="Decides the requests; random by default.")
@click.option("--database-url", help="A PostgreSQL server to create databases on; else SQLite.")
def main(requests: int, seed: int | None, database_url: str | None) -> None:
    """Run, and print the numbers."""
    seed = random.randrange(2**32) if seed is None else seed
    click.echo(f"seed {seed}")
    with tempfile.TemporaryDirectory() as folder, databases(Path(folder), database_url) as urls:
        totals = run(dict(zip(_SCHEMAS, urls, strict=True)), requests, seed)
    statuses = ", ".join(
        f"{count} of {status}" for status, count in sorted(totals.statuses.items())
    )
    outcomes = ", ".join(f"{count} {name}" for name, count in sorted(totals.outcomes.items()))
    click.echo(f"{totals.requests} requests in {totals.seconds:.0f} s: {statuses}")
    click.echo(f"webhooks: {outcomes}; no 5xx, no stray redirect, no change by a rejected request")


if __name__ == "__main__":
    main()
