"""Fuzz of all doors: `python -m tests.faults.fuzz --requests 100000 --seed 1`; ends by itself.

Requests, well signed and otherwise, go through both apps on real databases. Of every answer it is
asked that it is no 5xx and no redirect but a page's to the sign-in, that a refusal is a problem
document of a type of ours which shows no secret, and that what was refused, read or a duplicate
has changed nothing; of both databases, again and again, that what they hold follows from what was
answered. The same seed draws the same requests.
"""

import argparse
import io
import json
import random
import sqlite3
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import click
from flask import Flask
from sqlalchemy import delete, func, select, text

import notifier.app
import receiver.app
from contract.problems import STATUS, type_of
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
from tests.conftest import Postgres
from tests.faults.fuzz_requests import BATCH, COURSES, INGEST_SECRET, SITE, Known, Request, draw

ADMIN_KEY = "planted-admin-key-0123456789abcdef"
ENCRYPTION_KEY = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
ROUND = 2000
"""After so many requests what is stored is looked through, and everything begins anew."""
FINE = {200, 201, 304}
PAGES = {"/"}
"""What the requests may name of the pages for people; nobody is signed in."""
_SCHEMAS = {"notifier": sent.SCHEMA, "receiver": taken.SCHEMA}


class FuzzError(AssertionError):
    """Something that must hold did not; says for which request."""


@dataclass(frozen=True)
class Answer:
    """What an app answered."""

    status: int
    headers: dict[str, str]
    body: bytes


@dataclass
class Totals:
    """What came of a run."""

    requests: int = 0
    seconds: float = 0.0
    statuses: Counter[int] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)


class Doors:
    """Both apps on their databases, and a look at whether anything was committed to them."""

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
        """Return what changes with every commit that changed something."""
        return self._looks[service]()

    def _watch(self, service: str, schema: Schema) -> Callable[[], object]:
        database = self.databases[service]
        # That something was heard is counted, though nothing else changes.
        names = [table.name for table in schema.metadata.sorted_tables if table.name != "counters"]
        if database.is_sqlite:
            looking = sqlite3.connect(str(database.engine.url.database))
            self._open.callback(looking.close)
            return lambda: _rows(looking, names)
        # PostgreSQL names in each row the transaction that wrote it last.
        query = " UNION ALL ".join(
            f"SELECT '{name}', count(*), sum(xmin::text::bigint) FROM {name}" for name in names
        )

        def look() -> object:
            with database.reading() as session:
                return [tuple(row) for row in session.execute(text(query))]

        return look

    def begin(self) -> Known:
        """Empty both databases, then add courses, endpoints and a source; return what is known."""
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
        """Hand a request to its app as a server would, and return the answer."""
        begun: list[Any] = []

        def start_response(status: str, headers: list[tuple[str, str]], *_: Any) -> Any:
            begun[:] = [int(status[:3]), {name.lower(): value for name, value in headers}]

        chunks = self.apps[request.service](_environ(request), start_response)
        try:
            body = b"".join(chunks)
        finally:
            getattr(chunks, "close", lambda: None)()
        return Answer(begun[0], begun[1], body)


def _environ(request: Request) -> dict[str, Any]:
    environ: dict[str, Any] = {
        "REQUEST_METHOD": request.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": request.path,
        "QUERY_STRING": request.query,
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.1",
        "HTTP_HOST": "127.0.0.1",
        "CONTENT_LENGTH": str(len(request.body)),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(request.body),
        "wsgi.input_terminated": True,
        "wsgi.errors": io.StringIO(),
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }
    joined: dict[str, str] = {}
    for name, value in request.headers:
        key = name.upper().replace("-", "_")
        variable = key if key in {"CONTENT_TYPE", "CONTENT_LENGTH"} else f"HTTP_{key}"
        joined[variable] = f"{joined[variable]},{value}" if variable in joined else value
    return environ | joined


def run(urls: dict[str, str], requests: int, seed: int) -> Totals:
    """Send so many requests; return what came of them, or raise FuzzError at the first fault."""
    doors, totals, chance = Doors(urls), Totals(), random.Random(seed)
    began = time.monotonic()
    try:
        for start in range(0, requests, ROUND):
            _round(doors, totals, chance, min(ROUND, requests - start))
    finally:
        doors.close()
    totals.seconds = time.monotonic() - began
    return totals


def _rows(looking: sqlite3.Connection, names: Sequence[str]) -> object:
    """Return every row of the tables."""
    return [looking.execute(f"SELECT * FROM {name}").fetchall() for name in names]


def _round(doors: Doors, totals: Totals, chance: random.Random, count: int) -> None:
    known = doors.begin()
    outcomes: Counter[str] = Counter()
    for _ in range(count):
        request = draw(chance, known)
        before = doors.mark(request.service)
        answer = doors.ask(request)
        try:
            _check(request, answer, known)
            changed = doors.mark(request.service) != before
            outcome = _outcome(answer)
            webhook = request.service == "receiver"
            if webhook and outcome in {"applied", "stale"} and _source_of(request) != SITE:
                raise FuzzError("an event of another source was taken in")
            if changed and not _may_change(request, answer, outcome):
                raise FuzzError("it changed what is stored")
        except FuzzError as error:
            raise FuzzError(f"request {totals.requests}: {error}\n{request}\n{answer}") from None
        _learn_token(known, answer)
        outcomes[outcome] += webhook
        totals.requests += 1
        totals.statuses[answer.status] += 1
    totals.outcomes += outcomes
    _check_receiver(doors.databases["receiver"], outcomes)
    _check_notifier(doors.databases["notifier"])


def _check(request: Request, answer: Answer, known: Known) -> None:
    if answer.status in FINE or _leads_to_sign_in(request, answer):
        return
    if not 400 <= answer.status < 500:
        raise FuzzError(f"it was answered {answer.status}")
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
        raise FuzzError("the refusal gives something away")


def _leads_to_sign_in(request: Request, answer: Answer) -> bool:
    """Whether a page was asked for by somebody who is not signed in."""
    to_sign_in = answer.headers.get("location", "").startswith("/sign-in?next=/")
    return answer.status == 303 and to_sign_in and request.path in PAGES


def _check_is_actionable(request: Request, answer: Answer) -> None:
    if request.path in PAGES and answer.headers["content-type"].startswith("text/html"):
        if b"What to do next:" not in answer.body:
            raise FuzzError("the page does not say what to do")
        return
    if answer.headers.get("content-type") != "application/problem+json":
        raise FuzzError("the refusal is no problem document")
    document = json.loads(answer.body)
    kind = type_of(document)
    if kind is None or STATUS[kind] != answer.status or document["status"] != answer.status:
        raise FuzzError("the refusal is of no type of ours, or of another status")
    if not document["detail"] or not document["next_step"]:
        raise FuzzError("the refusal does not say what and what to do")


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


def _learn_token(known: Known, answer: Answer) -> None:
    if answer.status == 201:
        made = json.loads(answer.body)
        if "token" in made:
            known.tokens.setdefault(made["course_id"], []).append(made["token"])


def _check_receiver(database: Database, outcomes: Counter[str]) -> None:
    """Each answer has its row in the inbox, and each entry is the highest that the inbox tells."""
    with database.reading() as session:
        rows = session.execute(
            select(taken.InboxMessage.outcome, func.count()).group_by(taken.InboxMessage.outcome)
        )
        stored = {row[0]: row[1] for row in rows}
        entries = list(session.scalars(select(taken.Entry)))
        inbox = list(session.scalars(select(taken.InboxMessage)))
    told = {name: outcomes[name] for name in ("applied", "stale", "ignored") if outcomes[name]}
    if stored != told:
        raise FuzzError(f"the inbox holds {stored}, answered was {told}")
    highest: dict[tuple[str | None, str], int | None] = {}
    for row in inbox:
        key = row.course_id, row.type
        highest[key] = max(highest.get(key) or 0, row.course_version or 0)
    for entry in entries:
        deleted = highest.get((entry.course_id, "course.deleted"))
        named = highest.get((entry.course_id, "token.regenerated"))
        if (entry.deleted_version, entry.announced_version) != (deleted, named):
            raise FuzzError(f"the entry of {entry.course_id!r} is not what its events say")
    if {entry.course_id for entry in entries} != {row.course_id for row in inbox if row.course_id}:
        raise FuzzError("there are entries without an event, or events without an entry")


def _check_notifier(database: Database) -> None:
    """Each change of a course has one event, with at most one delivery for each endpoint."""
    with database.reading() as session:
        courses = list(session.scalars(select(sent.Course)))
        events = list(session.scalars(select(sent.Event)))
        deliveries = list(session.scalars(select(sent.Delivery)))
        present = Counter(
            session.scalars(
                select(sent.IssuedToken.course_pk).where(sent.IssuedToken.superseded_at.is_(None))
            )
        )
        issued = set(session.scalars(select(sent.IssuedToken.course_pk)))
    told = Counter(event.course_id for event in events)
    gone = {event.course_id for event in events if event.type == "course.deleted"}
    for course in courses:
        if course.version != 1 + told[course.course_id]:
            raise FuzzError(f"the versions of {course.course_id!r} are not those of its events")
        if (course.deleted_at is not None) != (course.course_id in gone):
            raise FuzzError(f"{course.course_id!r} and its events differ on its deletion")
        if present[course.id] != (course.id in issued):
            raise FuzzError(f"{course.course_id!r} has {present[course.id]} present tokens")
    for_event = Counter(delivery.event_id for delivery in deliveries)
    if any(for_event[event.id] < 2 for event in events):  # the two endpoints of the beginning
        raise FuzzError("an event has no delivery for an endpoint")


def _sqlite(stack: ExitStack) -> dict[str, str]:
    folder = stack.enter_context(tempfile.TemporaryDirectory())
    urls = {name: f"sqlite:///{folder}/{name}.db" for name in _SCHEMAS}
    for name, schema in _SCHEMAS.items():
        database = Database(urls[name])
        schema.upgrade(database)
        database.dispose()
    return urls


def _postgres(stack: ExitStack, url: str) -> dict[str, str]:
    server = Postgres(url)
    stack.callback(server.drop_all)
    return {name: server.database_for(schema) for name, schema in _SCHEMAS.items()}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.fuzz", description=__doc__)
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--database-url", help="a PostgreSQL server; without it, SQLite")
    return parser.parse_args()


def main() -> None:
    """Run as the arguments say, and print what came of it."""
    given = _arguments()
    click.echo(f"seed {given.seed}")
    with ExitStack() as stack:
        url = given.database_url
        urls = _postgres(stack, url) if url else _sqlite(stack)
        totals = run(urls, given.requests, given.seed)
    statuses = ", ".join(
        f"{count} of {status}" for status, count in sorted(totals.statuses.items())
    )
    outcomes = ", ".join(f"{count} {name}" for name, count in sorted(totals.outcomes.items()))
    click.echo(f"{totals.requests} requests in {totals.seconds:.0f} s: {statuses}")
    click.echo(
        f"of the webhooks: {outcomes}; no 5xx, no stray redirect, no change by what was refused"
    )


if __name__ == "__main__":
    main()
