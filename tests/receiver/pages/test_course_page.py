"""The page of one course: its status, its history, and the forms that change it."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from flask import Flask
from pydantic import SecretStr

from contract.problems import ProblemType
from contract.tokens import CourseToken
from foundation.errors import Advice
from foundation.services import attach
from foundation.text import format_timestamp
from receiver import services
from receiver.course_state import Deleted, Fact, Restored, TokenAnnounced, TokenRejected
from receiver.models import HistoryEntry
from receiver.registry.history import Actor, ActorKind
from receiver.runs.store import CourseOutcome, CourseResult
from tests.receiver.conftest import NINE, FakeSite, Store
from tests.receiver.pages.conftest import Browser

TOKEN = CourseToken.generate()
NEW = TokenAnnounced(4, "new", NINE)
PATH = "/entries/1"


@pytest.mark.parametrize(
    ("facts", "text"),
    [
        pytest.param((), "OK. The next grade sync fetches its grades.", id="active"),
        pytest.param(
            (Deleted(4, NINE),),
            "If it is restored there, ELMS is notified, and the stored token is valid again.",
            id="deleted",
        ),
        pytest.param(
            (Deleted(4, NINE), Restored(5, NINE)),
            "Deleted no Restored 2026-11-22 09:00:00 UTC , version 5",
            id="restored",
        ),
        pytest.param(
            (NEW,),
            f"The token was regenerated: current new, stored {TOKEN.token_id} Since "
            "2026-11-22 09:00:00 UTC . Source: webhook msg_1 , received 2026-11-22 09:00:00 UTC . "
            "The grade sync skips this course. What to do: Get the current token "
            "from the eAssessment administrator and enter it.",
            id="token invalid",
        ),
    ],
)
def test_status_has_reason_and_next_step(
    browser: Browser, store: Store, facts: tuple[Fact, ...], text: str
) -> None:
    store.add_course("CS101", *facts, token=TOKEN)

    page = browser.get(PATH)

    assert page.text.startswith("Course in one CS101")
    assert text in page.text
    assert 'name="token"' in page.html


def test_end_of_an_overlap_is_shown(browser: Browser, store: Store) -> None:
    until = datetime.now(UTC) + timedelta(hours=1)
    store.add_course("CS101", TokenAnnounced(2, "new", NINE, until), token=TOKEN)

    page, listed = browser.get(PATH).text, browser.get("/").text

    sentence = (
        f"he token was regenerated: current new; the stored one, {TOKEN.token_id}, "
        f"is good until {format_timestamp(until)}"
    )
    assert sentence in page
    assert sentence in listed
    assert "The grade sync skips this course" not in page


def test_token_that_the_next_run_claims_needs_no_one(browser: Browser, store: Store) -> None:
    until = datetime.now(UTC) + timedelta(hours=2)
    store.add_course("CS101", TokenAnnounced(2, "new", NINE, until))
    store.claim_from("one")

    pages = browser.get(PATH).text, browser.get("/").text

    assert ["; the next run claims the current one" in text for text in pages] == [True, True]
    assert "What to do: No action needed" in pages[0]


def test_failed_claim_of_a_new_token_is_shown(browser: Browser, store: Store) -> None:
    until = datetime.now(UTC) + timedelta(hours=1)
    entry = store.add_course("CS101", TokenAnnounced(2, "new", NINE, until))
    store.fail_claim(entry, "responded 403 claims-not-allowed")

    text = browser.get(PATH).text

    assert (
        "; the current one was not claimed at 2026-11-22 09:00:00 UTC: responded 403 "
        "claims-not-allowed" in text
    )
    assert "What to do: Enter the new token by hand, or ask" in text


def test_missing_activity_is_shown_if_elms_is_a_moodle(
    browser: Browser, store: Store, app: Flask, request: pytest.FixtureRequest
) -> None:
    here = services.of(app)
    moodle = {"gradebook_url": "http://127.0.0.1:9", "gradebook_token": SecretStr("a" * 32)}
    attach(app, replace(here, settings=here.settings.model_copy(update=moodle)))
    request.addfinalizer(lambda: attach(app, here))
    store.add_course("CS101")

    page, registry_page = browser.get(PATH), browser.get("/")

    assert "No activity in ELMS's Moodle is set for its grades" in page.text
    assert "What to do: Set the course and activity" in page.text
    assert "no activity in ELMS's Moodle is set for its grades" in registry_page.text


def test_course_that_is_not_in_the_registry_can_be_added(browser: Browser, store: Store) -> None:
    store.apply("CS101", Deleted(3, NINE))

    page = browser.get(PATH)

    assert "This course is not in the grade sync." in page.text
    assert 'href="/entries/new?course_id=CS101&amp;source=one"' in page.html
    assert [row.split()[0] for row in page.rows] == ["course.deleted"]


def test_history_has_newest_first_with_its_actors(browser: Browser, store: Store) -> None:
    entry = store.add_course("CS101", NEW)
    rejected = TokenRejected(str(entry.stored_token_id), "unknown", NINE)
    store.apply("CS101", rejected, actor=Actor(ActorKind.SYNC, "run 7"))

    page = browser.get(PATH)

    assert [row.partition(" 2026")[0] for row in page.rows] == [
        "token.rejected",
        "token.regenerated",
        "course.added",
    ]
    assert "administrator ada@elms" in page.rows[2]
    assert '<a href="/runs/7">run 7</a>' in page.html
    assert '<a href="/inbox?webhook_id=msg_1">' in page.html


def test_recent_runs_have_the_result_of_the_course(browser: Browser, store: Store) -> None:
    failed = CourseOutcome.FAILED
    entry = store.add_course("CS101")
    store.update(entry, synced_at=NINE)
    store.add_run(CourseResult("one", "CS101", CourseOutcome.SYNCED))
    store.add_run(CourseResult("one", "CS101", failed, "transient", "503", None, Advice("Wait.")))

    page = browser.get(PATH)

    assert page.rows[:2] == [
        "2 2026-11-22 09:00:00 UTC failed 503 Wait.",
        "1 2026-11-22 09:00:00 UTC synced \N{EN DASH}",
    ]
    assert "Runs that found the course unchanged are not listed." in page.text


def test_announced_token_is_saved_without_a_request(
    browser: Browser, store: Store, site: FakeSite
) -> None:
    store.add_course("CS101", TokenAnnounced(4, TOKEN.token_id, NINE))

    page = browser.submit(f"{PATH}/token", token=TOKEN.reveal())

    assert page.text.startswith(f"Token {TOKEN.token_id} saved. The course is active")
    assert site.connections == 0


def test_token_is_verified_without_an_open_session(
    browser: Browser, store: Store, site: FakeSite
) -> None:
    connections: list[int] = []
    store.add_course("CS101", NEW)
    site.grades("CS101", TOKEN, course_version=5)
    respond = site.answers["CS101"]

    def note_connections(handler: Any) -> None:
        pool: Any = services.of(browser.client.application).database.engine.pool
        connections.append(pool.checkedout())
        respond(handler)

    site.answers["CS101"] = note_connections

    page = browser.submit(f"{PATH}/token", token=f" {TOKEN.reveal()} ")

    assert page.text.startswith(
        f"Token {TOKEN.token_id} saved. The course is active; "
        "the next grade sync fetches its grades."
    )
    assert "administrator Ada" in page.text
    assert TOKEN.secret not in page.html
    assert connections == [0]


@pytest.mark.parametrize(
    ("answer", "problem", "next_step"),
    [
        pytest.param(
            lambda site: site.refuse("CS101", ProblemType.TOKEN_UNKNOWN),
            "the course still cannot be synced: the token was regenerated",
            '<a href="#enter-token">Enter a token</a>',
            id="rejected",
        ),
        pytest.param(
            lambda site: site.answer("CS101", 503),
            "it could not be verified: responded 503.",
            "Enter it again when eAssessment responds.",
            id="no answer",
        ),
    ],
)
def test_token_that_is_not_accepted_is_saved_with_a_warning(
    browser: Browser,
    store: Store,
    site: FakeSite,
    answer: Callable[[FakeSite], None],
    problem: str,
    next_step: str,
) -> None:
    store.add_course("CS101", NEW)
    answer(site)

    page = browser.submit(f"{PATH}/token", token=TOKEN.reveal())

    alert = page.html.partition('role="alert">')[2].partition("</p>")[0]
    assert page.text.startswith(f"Token {TOKEN.token_id} saved, but {problem}")
    assert next_step in alert


def test_old_token_does_not_replace_a_valid_one(
    browser: Browser, store: Store, site: FakeSite
) -> None:
    old = CourseToken.generate()
    store.add_course("CS101", TokenAnnounced(4, TOKEN.token_id, NINE), token=TOKEN)
    site.regenerated("CS101", TOKEN.token_id, 4)

    page = browser.post(f"{PATH}/token", token=old.reveal())

    assert page.status == 422
    assert f"The token {old.token_id} was not entered: it was regenerated" in page.text
    assert old.secret not in page.html
    assert store.entry("CS101").stored_token_id == TOKEN.token_id


def test_malformed_token_is_not_shown_again(browser: Browser, store: Store) -> None:
    store.add_course("CS101")

    page = browser.post(f"{PATH}/token", token="eas_typo_planted")

    assert page.status == 422
    assert "this was cut off or mistyped. Copy the whole token again" in page.text
    assert "planted" not in page.html
    assert [line.event for line in store.rows(HistoryEntry)] == ["course.added"]


@pytest.mark.parametrize(
    ("course", "activity", "stored", "message"),
    [
        pytest.param("7", "12", ("7", "12"), "to activity 12 of course 7", id="both"),
        pytest.param("", "", (None, None), "not written to a Moodle", id="neither"),
    ],
)
def test_activity_is_set(
    browser: Browser,
    store: Store,
    course: str,
    activity: str,
    stored: tuple[str | None, str | None],
    message: str,
) -> None:
    store.add_course("CS101")

    page = browser.submit(f"{PATH}/activity", gradebook_course=course, gradebook_activity=activity)

    entry = store.entry("CS101")
    assert message in page.text
    assert (entry.gradebook_course, entry.gradebook_activity) == stored


@pytest.mark.parametrize(
    ("course", "activity", "message"),
    [
        pytest.param("7", "", "Enter both numbers, or neither", id="one of them"),
        pytest.param("seven", "12", "is a positive whole number", id="no number"),
    ],
)
def test_invalid_activity_is_refused(
    browser: Browser, store: Store, course: str, activity: str, message: str
) -> None:
    store.add_course("CS101")

    page = browser.post(f"{PATH}/activity", gradebook_course=course, gradebook_activity=activity)

    assert page.status == 422
    assert message in page.text
    assert f'value="{course}"' in page.html
    assert store.entry("CS101").gradebook_course is None


def test_course_is_removed(browser: Browser, store: Store) -> None:
    store.add_course("CS101")
    before = browser.get(PATH)

    page = browser.submit(f"{PATH}/remove")
    refused = browser.post(f"{PATH}/token", token=TOKEN.reveal())

    assert "its token is deleted. Its grades in ELMS and its history are kept" in before.text
    assert page.text.startswith("CS101 was removed from the grade sync. Its grades in ELMS are")
    assert "not in grade sync" in page.text
    assert store.entry("CS101").encrypted_token is None
    assert (refused.status, "is not in the registry" in refused.text) == (404, True)
