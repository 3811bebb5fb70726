"""ELMS's pages in a real browser: for everybody, and the way from a dead token to a live one."""

import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect
from pydantic import SecretStr

from contract import events
from contract.events import CourseDeleted, CourseDeletedData, UnknownEvent
from contract.signatures import Secret
from contract.tokens import CourseToken
from foundation.crypto import Vault
from foundation.db.migrations import Schema
from foundation.db.session import Database
from foundation.errors import Advice
from receiver.course_state import TokenAnnounced, TokenRejected
from receiver.gradebook.base import ScoreCounts
from receiver.models import SCHEMA
from receiver.registry import entries as registry
from receiver.registry.history import Actor, ActorKind
from receiver.runs import store as runs
from receiver.runs.store import CourseOutcome, CourseResult, RunResult
from receiver.sources import store as sources
from receiver.sources.store import WebhookSource
from receiver.webhooks import inbox
from tests.browser.conftest import (
    NARROW,
    WIDE,
    add_ada,
    address_of,
    commands,
    findings,
    overflow,
    sign_in,
)
from tests.integration.services import ENCRYPTION_KEY, Served, copied, serve

Open = Callable[..., Page]
VAULT = Vault(SecretStr(ENCRYPTION_KEY))
PRESENT = CourseToken.generate()
"""The token that eAssessment named last for CS101."""
ANOTHER = CourseToken.generate()
"""A token that eAssessment named to nobody, and takes for CS102."""
NAMES = ("CS101", "CS102", "\u062a\u0627\u0631\u064a\u062e", "<b>" + "x" * 250, "e\u0301 \u202e 7")
LONG = "no such token was ever issued; " * 300


@dataclass(frozen=True)
class Elms:
    """An ELMS with a registry, as it is served."""

    served: Served
    entries: dict[str, int]

    @property
    def address(self) -> str:
        """Where its pages are."""
        return address_of(self.served)

    def page_of(self, course_id: str) -> str:
        """Return where a course's page is."""
        return f"/entries/{self.entries[course_id]}"


@pytest.fixture(scope="module")
def eassessment() -> Iterator[str]:
    """The address of an eAssessment that takes any token, and says that it is the present one."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            token = str(self.headers["Authorization"]).removeprefix("Bearer ")
            body = (
                '{"course_id": "CS102", "course_version": 9, "scores": [], '
                f'"token_id": "{CourseToken.parse(token).token_id}"}}'
            ).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(404)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def elms(
    browser: Any,
    eassessment: str,
    tmp_path_factory: pytest.TempPathFactory,
    sqlite_templates: Callable[[Schema], Path],
) -> Iterator[Elms]:
    """An ELMS with courses that are well, deleted and without their token, and with runs."""
    folder = tmp_path_factory.mktemp("elms")
    url = copied(sqlite_templates(SCHEMA), folder)
    add_ada(url)
    entries = fill(url, eassessment)
    served = serve("receiver", SCHEMA, url, folder)
    yield Elms(served, entries)
    served.stop()


def fill(url: str, eassessment: str) -> dict[str, int]:
    """Put a source, courses, messages and runs into a database; return the entries by course."""
    database, now = Database(url), datetime.now(UTC)
    with database.writing() as session:
        source = sources.add(session, "one", eassessment, now=now)
        sources.add_secret(session, source, Secret.generate(), vault=VAULT, now=now)
        sources.add(session, "deaf", "https://deaf.example", now=now)
        ada = Actor(ActorKind.ADMINISTRATOR, "Ada")
        entries = {}
        for name in NAMES:
            token = CourseToken.generate()
            entry = registry.add(session, source, name, token, vault=VAULT, actor=ada, now=now)
            session.flush()
            entries[name] = entry.id
        told = (
            ("CS101", TokenAnnounced(4, PRESENT.token_id, now)),
            ("CS102", TokenAnnounced(4, "lost", now)),
            (NAMES[2], TokenRejected(token_held(session, source, NAMES[2]), LONG, now)),
        )
        for name, fact in told:
            actor = Actor(ActorKind.WEBHOOK, f"msg_{entries[name]}")
            registry.apply(session, source.id, name, fact, actor=actor, now=now)
        door = WebhookSource(source.id, source.name, ())
        data = CourseDeletedData(source="one", course_id=NAMES[3], course_version=4)
        deleted = CourseDeleted(timestamp=now, data=data)
        raw = events.dump(deleted).encode()
        inbox.accept(session, door, "msg_gone", deleted, raw, now=now)
        inbox.accept(session, door, "msg_ping", UnknownEvent(type="endpoint.ping"), b"{}", now=now)
    record_runs(database, now)
    database.dispose()
    return entries


def token_held(session: Any, source: Any, name: str) -> str:
    """Return the public id of the token that is held for a course."""
    return str(registry.get(session, source, name).stored_token_id)


def record_runs(database: Database, now: datetime) -> None:
    """Record a run for each ending, with a course for each outcome."""
    courses = tuple(
        CourseResult(
            "one", name, outcome, "why", LONG if number else None, now, Advice("Ask `somebody`.")
        )
        for number, (name, outcome) in enumerate(zip(NAMES, CourseOutcome, strict=False))
    )
    for number in range(4):
        with database.writing() as session:
            began_at = now - timedelta(minutes=15 * (4 - number))
            run_id = runs.begin(session, "elms@sync", partial=number == 1, now=began_at)
            runs.record(session, run_id, courses)
            if number != 2:
                stopped = "SIGTERM was received" if number == 1 else None
                report = RunResult(
                    run_id, courses, ScoreCounts(1, 2, 3), 2, 9, 1.5, number % 2, stopped
                )
                runs.end(session, report, now=began_at + timedelta(seconds=2))


@pytest.fixture
def open_elms(open_page: Open, elms: Elms, signed_in_at: Callable[[str], Any]) -> Open:
    """Return what opens a page of that ELMS, signed in."""

    def make(path: str, **options: Any) -> Page:
        page = open_page(storage_state=signed_in_at(elms.address), **options)
        page.goto(f"{elms.address}{path}")
        return page

    return make


def doubled(page: Page) -> list[str]:
    """Return the ids that a page has twice: a label for one of them would lead astray."""
    ids = page.evaluate("Array.from(document.querySelectorAll('[id]'), one => one.id)")
    return sorted({one for one in ids if ids.count(one) > 1})


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_nobody_is_left_out(open_elms: Open, elms: Elms, scheme: str, width: int) -> None:
    """axe-core finds nothing wrong with any page, folded open, and none is wider than its window.

    Nor is anybody sent to a terminal for what a page does. Whatever courses are called, and
    whatever sites say (B7).
    """
    paths = [
        *("/", "/?status=token_invalid", "/?begins=none", "/entries/new"),
        *(elms.page_of(name) for name in NAMES),
        *("/runs", "/runs/1", "/runs/2", "/runs/3?outcome=skipped", "/runs/4?outcome=synced"),
        *("/inbox", "/inbox?outcome=stale", "/sources"),
    ]

    page = open_elms("/", color_scheme=scheme, width=width, reduced_motion="reduce")
    found = {}
    for path in paths:
        page.goto(f"{elms.address}{path}")
        page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true })")
        found[path] = (findings(page), overflow(page), doubled(page), commands(page))

    assert found == {path: ([], 0, [], []) for path in paths}


def test_a_dead_token_is_replaced_by_keyboard_alone(open_elms: Open, elms: Elms) -> None:
    page = open_elms("/")

    page.get_by_role("link", name="Enter token of CS101").first.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("CS101")
    page.get_by_label("Course token").focus()
    page.keyboard.type(PRESENT.reveal())
    page.keyboard.press("Enter")

    expect(page.get_by_role("status")).to_contain_text("The course is active")
    expect(page.get_by_text("OK. The next grade sync fetches its grades.")).to_be_visible()
    assert PRESENT.secret not in page.content()


def test_a_reload_does_not_enter_it_once_more(open_elms: Open, elms: Elms) -> None:
    page = open_elms(elms.page_of("CS102"))
    page.get_by_label("Course token").fill(ANOTHER.reveal())
    page.get_by_role("button", name="Save token").click()
    expect(page.get_by_role("status")).to_contain_text("The course is active")
    heard = page.get_by_role("region", name="History").get_by_role("row")
    before = heard.count()

    page.reload()

    expect(page.get_by_role("status")).to_have_count(0)
    assert heard.count() == before


def test_without_script_a_course_is_linked_and_taken_out(open_page: Open, elms: Elms) -> None:
    page = open_page(java_script_enabled=False)
    sign_in(page, elms.address)
    page.get_by_role("link", name="Add a course").click()
    page.get_by_label("Source").select_option("one")
    page.get_by_label("Course id").fill("NEW 101/a")
    page.get_by_label("Course token").fill(CourseToken.generate().reveal())
    page.get_by_role("button", name="Add course").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("NEW 101/a")

    page.get_by_text("Remove from the grade sync").click()
    page.get_by_role("button", name="Remove course", exact=True).click()

    expect(page.get_by_role("status")).to_contain_text("NEW 101/a was removed from the grade sync.")
    expect(page.get_by_text("not in grade sync", exact=True).first).to_be_visible()


def test_the_courses_of_a_run_lead_to_their_pages(open_elms: Open) -> None:
    page = open_elms("/runs")

    page.get_by_role("link", name="4", exact=True).click()
    page.get_by_role("navigation", name="Courses by outcome").get_by_role(
        "link", name="synced"
    ).click()
    page.get_by_role("link", name="CS101").click()

    page.wait_for_url(re.compile(r"/entries/\d+$"))
    expect(page.get_by_role("heading", level=1)).to_have_text("CS101")
