"""One course's page: where it stands, what was heard, and the forms that mend it."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from flask import Flask
from pydantic import SecretStr

from contract.problems import ProblemType
from contract.tokens import CourseToken
from foundation.db.session import Database
from foundation.errors import Advice
from receiver import services
from receiver.course_state import Deleted, TokenAnnounced, TokenRejected
from receiver.gradebook.base import ScoreCounts
from receiver.models import Entry, HistoryEntry, Source
from receiver.registry import entries as registry
from receiver.registry.history import Actor
from receiver.runs import store as runs
from receiver.runs.store import CourseOutcome, CourseResult, RunResult
from tests.receiver.conftest import NINE
from tests.receiver.pages.conftest import Ada, rows_of, said, signed_in

NEW = TokenAnnounced(4, "new", NINE)


@pytest.fixture
def one(make_source: Callable[..., Source], fake_site: Any) -> Source:
    """The far side, as ELMS knows it."""
    return make_source("one", fake_site.url)


def page_of(entry: Entry) -> str:
    """Return where an entry's page is."""
    return f"/entries/{entry.id}"


class TestShowing:
    """What the page tells."""

    def test_a_course_that_is_well_says_so(
        self, ada: Ada, one: Source, make_entry: Callable[..., Entry]
    ) -> None:
        page = said(ada.get(page_of(make_entry(one))))

        assert page.startswith("Course in one CS101 active")
        assert "OK. The next grade sync fetches its grades." in page

    def test_a_course_without_a_place_says_so_where_elms_is_a_moodle(
        self,
        app: Flask,
        database: Database,
        one: Source,
        make_entry: Callable[..., Entry],
    ) -> None:
        where = {"gradebook_url": "http://127.0.0.1:9", "gradebook_token": SecretStr("a" * 32)}
        here = services.of(app)
        services.attach(app, replace(here, settings=here.settings.model_copy(update=where)))
        ada = signed_in(database, app.test_client())
        entry = make_entry(one)

        page, listed = said(ada.get(page_of(entry))), said(ada.get("/"))

        reason = "o activity in ELMS's Moodle is set for its grades"
        assert reason in page
        assert "What to do: Set the course and activity" in page
        assert "All checks passed" not in page
        assert reason in listed

    def test_a_course_that_needs_a_token_says_why_and_by_whom(
        self, ada: Ada, one: Source, make_entry: Callable[..., Entry]
    ) -> None:
        entry = make_entry(one, facts=(NEW,))

        answer = ada.get(page_of(entry))

        assert (
            f"The token was regenerated: current new, stored {entry.stored_token_id} Since "
            "2026-11-22 09:00:00 UTC . Source: webhook msg_1 , received 2026-11-22 09:00:00 UTC . "
            "The grade sync skips this course. What to do: Get the current token "
            "from the eAssessment administrator and enter it."
        ) in said(answer)
        assert '<time datetime="2026-11-22T09:00:00.123456Z"' in answer.text

    def test_a_deleted_course_asks_for_no_token(
        self, ada: Ada, one: Source, make_entry: Callable[..., Entry]
    ) -> None:
        answer = ada.get(page_of(make_entry(one, facts=(Deleted(4, NINE),))))

        assert "A deletion is final." in said(answer)
        assert 'name="token"' not in answer.text

    def test_a_course_that_was_only_spoken_of_can_be_linked(
        self, ada: Ada, one: Source, database: Database, entry_of: Callable[[str], Entry]
    ) -> None:
        with database.writing() as session:
            actor = Actor("webhook", "msg_1")
            registry.apply(session, one.id, "CS101", Deleted(3, NINE), actor=actor, now=NINE)

        answer = ada.get(page_of(entry_of("CS101")))

        assert "This course is not in the grade sync." in said(answer)
        assert 'href="/entries/new?course_id=CS101&amp;source=one"' in answer.text
        assert [row.split()[0] for row in rows_of(answer)] == ["course.deleted"]

    def test_what_was_heard_stands_newest_first_with_its_teller(
        self, ada: Ada, one: Source, database: Database, make_entry: Callable[..., Entry]
    ) -> None:
        entry = make_entry(one, facts=(NEW,))
        refused = TokenRejected(str(entry.stored_token_id), "unknown", NINE)
        with database.writing() as session:
            actor = Actor("sync", "run 7")
            registry.apply(session, one.id, "CS101", refused, actor=actor, now=NINE)

        answer = ada.get(page_of(entry))

        heard = [row for row in rows_of(answer) if not row[0].isdigit()]
        assert [" ".join(row.split(" 2026")[0].split()) for row in heard] == [
            "token rejected",
            "token.regenerated",
            "course added",
        ]
        assert "administrator ada@elms" in heard[2]
        assert '<a href="/runs/7">run 7</a>' in answer.text
        assert '<a href="/inbox?webhook_id=msg_1">' in answer.text

    def test_a_long_history_goes_on_on_its_next_page(
        self, ada: Ada, one: Source, database: Database, make_entry: Callable[..., Entry]
    ) -> None:
        entry = make_entry(one)
        with database.writing() as session:
            for version in range(1, 56):
                fact = TokenAnnounced(version, "new", NINE)
                actor = Actor("webhook", f"msg_{version}")
                registry.apply(session, one.id, "CS101", fact, actor=actor, now=NINE)

        first = ada.get(page_of(entry))
        second = ada.get(f"{page_of(entry)}?after=%5B7%5D")

        assert f'rel="next" href="{page_of(entry)}?after=%5B7%5D"' in first.text
        assert (len(rows_of(first)), len(rows_of(second))) == (50, 6)

    def test_its_last_runs_tell_what_became_of_it(
        self, ada: Ada, one: Source, database: Database, make_entry: Callable[..., Entry]
    ) -> None:
        entry = make_entry(one)
        outcomes = (
            CourseResult("one", "CS101", CourseOutcome.SYNCED),
            CourseResult(
                "one", "CS101", CourseOutcome.FAILED, "transient", "said 503", None, Advice("Wait.")
            ),
            CourseResult("two", "CS101", CourseOutcome.SKIPPED),
        )
        with database.writing() as session:
            for outcome in outcomes:
                run_id = runs.begin(session, "elms", now=NINE)
                runs.record(session, run_id, [outcome])
                runs.end(
                    session, RunResult(run_id, (outcome,), ScoreCounts(), 1, 1, 1.0, 0), now=NINE
                )

        rows = rows_of(ada.get(page_of(entry)))

        assert rows[:2] == [
            "2 2026-11-22 09:00:00 UTC failed said 503 Wait.",
            "1 2026-11-22 09:00:00 UTC synced \N{EN DASH}",
        ]

    def test_an_entry_that_there_is_not_is_refused(self, ada: Ada) -> None:
        answer = ada.get("/entries/7")

        assert answer.status_code == 404
        assert "There is no entry 7 in the registry." in said(answer)

    @pytest.mark.parametrize("number", ["0", "-1", "2147483648", "9" * 40, "x"])
    def test_what_is_no_number_of_an_entry_is_a_404(self, ada: Ada, number: str) -> None:
        assert ada.get(f"/entries/{number}").status_code == 404


class TestToken:
    """Entering a token."""

    def enter(self, ada: Ada, entry: Entry, text: str) -> str:
        """Enter a token, and return what the page says then."""
        return ada.after(ada.send(f"{page_of(entry)}/token", page_of(entry), token=text))

    def test_the_token_that_was_named_heals_without_a_request(
        self, ada: Ada, one: Source, make_entry: Callable[..., Entry], fake_site: Any
    ) -> None:
        new = CourseToken.generate()
        entry = make_entry(one, facts=(TokenAnnounced(4, new.token_id, NINE),))

        page = self.enter(ada, entry, f" {new.reveal()} ")

        assert page.startswith(f"Token {new.token_id} saved. The course is active")
        assert fake_site.asked == []
        assert new.secret not in page

    def test_another_one_is_proven_against_eassessment(
        self,
        ada: Ada,
        one: Source,
        make_entry: Callable[..., Entry],
        fake_site: Any,
        entry_of: Callable[[str], Entry],
    ) -> None:
        new = CourseToken.generate()
        entry = make_entry(one, facts=(NEW,))
        fake_site.grades("CS101", new, course_version=5)

        page = self.enter(ada, entry, new.reveal())

        assert "The course is active; the next grade sync fetches its grades." in page
        assert "token announced" in page
        assert "administrator Ada" in page
        assert len(fake_site.asked) == 1
        assert entry_of("CS101").announced_token_id == new.token_id

    def test_one_that_is_refused_says_why_and_what_to_do(
        self, ada: Ada, one: Source, make_entry: Callable[..., Entry], fake_site: Any
    ) -> None:
        fake_site.refuse("CS101", ProblemType.TOKEN_UNKNOWN)
        entry = make_entry(one, facts=(NEW,))
        stranger = CourseToken.generate()

        ada.send(f"{page_of(entry)}/token", page_of(entry), token=stranger.reveal())
        page = ada.get(page_of(entry)).text

        flashed = page.partition('role="alert">')[2].partition("</p>")[0]
        assert flashed.startswith(
            f"Token {stranger.token_id} saved, but the course still cannot be synced"
        )
        assert '<a href="#enter-token">Enter a token</a>' in flashed
        assert f"stored {stranger.token_id}, which was rejected: token-unknown: " in flashed

    def test_one_that_nobody_can_tell_of_is_kept(
        self, ada: Ada, one: Source, make_entry: Callable[..., Entry], fake_site: Any
    ) -> None:
        fake_site.answer("CS101", 503)
        entry = make_entry(one, facts=(NEW,))
        new = CourseToken.generate()

        page = self.enter(ada, entry, new.reveal())

        assert f"Token {new.token_id} saved, but it could not be verified" in page
        assert "Enter it again when eAssessment responds." in page

    def test_an_old_one_does_not_replace_a_good_one(
        self,
        ada: Ada,
        one: Source,
        make_entry: Callable[..., Entry],
        fake_site: Any,
        entry_of: Callable[[str], Entry],
    ) -> None:
        held, old = CourseToken.generate(), CourseToken.generate()
        entry = make_entry(one, token=held, facts=(TokenAnnounced(4, held.token_id, NINE),))
        fake_site.regenerated("CS101", held.token_id, 4)

        answer = ada.send(f"{page_of(entry)}/token", page_of(entry), token=old.reveal())

        assert answer.status_code == 422
        assert f"The token {old.token_id} was not entered: it was regenerated" in said(answer)
        assert old.secret not in answer.text
        assert entry_of("CS101").stored_token_id == held.token_id

    def test_no_session_is_open_while_eassessment_is_asked(
        self,
        ada: Ada,
        one: Source,
        make_entry: Callable[..., Entry],
        fake_site: Any,
        database: Database,
    ) -> None:
        entry, new = make_entry(one, facts=(NEW,)), CourseToken.generate()
        fake_site.grades("CS101", new, course_version=5)
        answer, held = fake_site.answers["CS101"], []

        def look(handler: Any) -> None:
            pool: Any = services.of(ada.client.application).database.engine.pool
            held.append(pool.checkedout())
            answer(handler)

        fake_site.answers["CS101"] = look

        self.enter(ada, entry, new.reveal())

        assert held == [0]

    def test_what_is_no_token_stands_beside_its_field_and_is_not_shown_again(
        self,
        ada: Ada,
        one: Source,
        make_entry: Callable[..., Entry],
        rows: Callable[..., list[Any]],
    ) -> None:
        entry = make_entry(one)

        answer = ada.send(f"{page_of(entry)}/token", page_of(entry), token="eas_typo_planted")

        assert answer.status_code == 422
        assert "this was cut off or mistyped. Copy the whole token again" in said(answer)
        assert "planted" not in answer.text
        assert [line.event for line in rows(HistoryEntry)] == ["course added"]

    def test_a_course_that_is_not_linked_takes_none(
        self, ada: Ada, one: Source, make_entry: Callable[..., Entry]
    ) -> None:
        entry = make_entry(one)
        ada.send(f"{page_of(entry)}/remove", page_of(entry))

        answer = ada.send(f"{page_of(entry)}/token", token=CourseToken.generate().reveal())

        assert answer.status_code == 404
        assert "is not in the registry" in said(answer)


class TestActivity:
    """Where grades go in ELMS's Moodle."""

    @pytest.mark.parametrize(
        ("course", "activity", "kept", "words"),
        [
            pytest.param("7", "12", ("7", "12"), "written to activity 12 of course 7", id="both"),
            pytest.param("", "", (None, None), "not written to a Moodle", id="neither"),
        ],
    )
    def test_it_is_set(
        self,
        ada: Ada,
        one: Source,
        make_entry: Callable[..., Entry],
        entry_of: Callable[[str], Entry],
        course: str,
        activity: str,
        kept: tuple[str | None, str | None],
        words: str,
    ) -> None:
        entry = make_entry(one)

        answer = ada.send(
            f"{page_of(entry)}/activity",
            page_of(entry),
            gradebook_course=course,
            gradebook_activity=activity,
        )

        assert words in ada.after(answer)
        found = entry_of("CS101")
        assert kept == (found.gradebook_course, found.gradebook_activity)

    @pytest.mark.parametrize(
        ("course", "activity", "fault"),
        [
            pytest.param("7", "", "Enter both numbers, or neither", id="one of them"),
            pytest.param("seven", "12", "is a positive whole number", id="no number"),
            pytest.param("7", "0", "is a positive whole number", id="zero"),
        ],
    )
    def test_what_is_wrong_is_said(
        self,
        ada: Ada,
        one: Source,
        make_entry: Callable[..., Entry],
        entry_of: Callable[[str], Entry],
        course: str,
        activity: str,
        fault: str,
    ) -> None:
        entry = make_entry(one)

        answer = ada.send(
            f"{page_of(entry)}/activity",
            page_of(entry),
            gradebook_course=course,
            gradebook_activity=activity,
        )

        assert answer.status_code == 422
        assert fault in said(answer)
        assert f'value="{course}"' in answer.text
        assert entry_of("CS101").gradebook_course is None


def test_a_course_is_taken_out_after_it_was_said_what_that_does(
    ada: Ada, one: Source, make_entry: Callable[..., Entry], entry_of: Callable[[str], Entry]
) -> None:
    entry = make_entry(one)
    before = said(ada.get(page_of(entry)))

    page = ada.after(ada.send(f"{page_of(entry)}/remove", page_of(entry)))

    assert "its token is deleted. Its grades in ELMS and its history are kept" in before
    assert page.startswith("CS101 was removed from the grade sync. Its grades in ELMS are kept.")
    assert "not in grade sync" in page
    assert entry_of("CS101").encrypted_token is None


def test_the_page_costs_the_same_statements_however_much_was_heard(
    ada: Ada,
    one: Source,
    database: Database,
    make_entry: Callable[..., Entry],
    statements: Callable[[], int],
) -> None:
    entry = make_entry(one, facts=(NEW,))
    statements()
    ada.get(page_of(entry))
    with_two = statements()
    with database.writing() as session:
        for version in range(5, 45):
            fact = TokenAnnounced(version, "new", NINE)
            registry.apply(session, one.id, "CS101", fact, actor=Actor("webhook", "msg"), now=NINE)

    ada.get(page_of(entry))

    assert with_two == statements()
    assert with_two <= 8
