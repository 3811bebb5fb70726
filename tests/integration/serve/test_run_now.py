"""A grade sync that is started on a page of a real server."""

import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
import requests
from sqlalchemy import select

from foundation.db.audit import AuditEntry
from foundation.db.migrations import Schema
from foundation.db.pagination import PageRequest
from foundation.db.session import Database
from foundation.pages import users
from receiver.models import SCHEMA
from receiver.runs import queries, schedule
from receiver.runs import store as runs
from receiver.runs.store import RunStatus
from tests.faults.processes import PATIENCE
from tests.integration.services import copied, serve

PASSWORD = "correct horse battery staple"


class Browser:
    """A browser of a server on loopback; it sends secure cookies there, as browsers do."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._cookies: dict[str, str] = {}
        self._page = ""

    def get(self, path: str) -> str:
        """Open a page."""
        return self._send("GET", path)

    def submit(self, path: str, **fields: str) -> str:
        """Send a form of the page that was opened last, and return where it leads."""
        [token, *_] = re.findall(r'name="csrf_token" value="([^"]+)"', self._page)
        return self._send("POST", path, {"csrf_token": token, **fields})

    def _send(self, method: str, path: str, fields: dict[str, str] | None = None) -> str:
        url, cookies = f"{self._address}{path}", self._cookies
        headers = {"Cookie": "; ".join(f"{name}={value}" for name, value in cookies.items())}
        response = requests.request(
            method, url, data=fields, headers=headers, allow_redirects=False, timeout=PATIENCE
        )
        cookies.update(response.cookies.items())
        if "Location" in response.headers:
            return self.get(response.headers["Location"])
        self._page = response.text
        return self._page


def wait_for_run(database: Database) -> tuple[str, bool, RunStatus]:
    """Return who started the first run, whether it was scheduled, and how it ended."""
    ends = time.monotonic() + PATIENCE
    while time.monotonic() < ends:
        with database.reading() as session:
            page = queries.page(session, PageRequest())
            if page.rows and page.rows[0].ended_at:
                [run] = page.rows
                statuses = runs.statuses(session, [run], now=datetime.now(UTC))
                return run.holder, run.unattended, statuses[run.id]
        time.sleep(0.1)
    pytest.fail("no run ended")


def test_run_is_started_on_a_page_while_the_schedule_is_paused(
    tmp_path: Path, sqlite_templates: Callable[[Schema], Path]
) -> None:
    url = copied(sqlite_templates(SCHEMA), tmp_path)
    database = Database(url)
    with database.writing() as session:
        users.add(session, "Ada", PASSWORD, now=datetime.now(UTC))
        schedule.pause(session, "Ada", now=datetime.now(UTC))
    elms = serve("receiver", SCHEMA, url, tmp_path)
    browser = Browser(f"http://127.0.0.1:{elms.port}")
    try:
        browser.get("/sign-in")
        browser.submit("/sign-in", name="Ada", password=PASSWORD)

        started = browser.submit("/runs/start")
        run = wait_for_run(database)
    finally:
        elms.stop()

    assert "The run was started." in started
    assert run == ("Ada", False, RunStatus.COMPLETED)
    with database.reading() as session:
        recorded = [(one.action, one.actor) for one in session.scalars(select(AuditEntry))]
    assert ("sync.start", "Ada") in recorded
    logged = elms.process.logged()
    assert "grade sync requested" in logged
    assert "grade sync started" in logged
    database.dispose()
