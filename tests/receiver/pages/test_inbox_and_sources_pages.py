"""The pages of what was heard, and of those who are heard and asked."""

from collections.abc import Callable
from datetime import timedelta

import pytest

from contract import events
from contract.events import CourseDeleted, CourseDeletedData, UnknownEvent
from contract.signatures import Secret
from contract.tokens import MoodleToken
from foundation.crypto import Vault
from foundation.db.session import Database
from receiver.models import MOODLE, Entry, Source
from receiver.runs import queries
from receiver.runs import store as runs
from receiver.runs.store import CourseOutcome, CourseResult
from receiver.sources import store as sources
from receiver.sources.store import WebhookSource
from receiver.webhooks import inbox
from tests.receiver.conftest import NINE
from tests.receiver.pages.conftest import Ada, rows_of, said

Hear = Callable[..., None]


@pytest.fixture
def one(make_source: Callable[..., Source]) -> Source:
    """The source that is heard."""
    return make_source("one", "https://one.example", (Secret.generate(),))


@pytest.fixture
def hear(database: Database, one: Source) -> Hear:
    """Return what takes an event in, so many seconds after nine: a deletion, or a ping."""
    door = WebhookSource(one.id, one.name, ())

    def take(webhook_id: str, course_id: str | None, version: int = 4, second: int = 0) -> None:
        if course_id is None:
            event, raw = UnknownEvent(type="endpoint.ping"), b"{}"
        else:
            data = CourseDeletedData(source="one", course_id=course_id, course_version=version)
            event = CourseDeleted(timestamp=NINE, data=data)  # type: ignore[assignment]
            raw = events.dump(event).encode()  # type: ignore[arg-type]
        with database.writing() as session:
            now = NINE + timedelta(seconds=second)
            inbox.accept(session, door, webhook_id, event, raw, now=now)

    return take


class TestInbox:
    """The inbox and the sources."""

    def test_while_nothing_was_heard_it_says_what_to_do(self, ada: Ada) -> None:
        page = said(ada.get("/inbox"))

        assert "No webhooks received yet." in page
        assert "appears here" in page

    def test_each_message_tells_what_came_of_it(
        self, ada: Ada, hear: Hear, one: Source, make_entry: Callable[..., Entry]
    ) -> None:
        entry = make_entry(one, "CS101")
        hear("msg_1", "CS101", 5, second=1)
        hear("msg_1", "CS101", 5, second=2)
        hear("msg_2", "CS101", 4, second=3)
        hear("msg_3", None, second=4)
        hear("msg_4", "CS999", second=5)

        answer = ada.get("/inbox")

        at = "2026-11-22 09:00:0{} UTC"
        assert [
            f"course.deleted msg_4 {at.format(5)} CS999 version 4 applied "
            "Applied to the registry. not in grade sync",
            f"endpoint.ping msg_3 {at.format(4)} \N{EN DASH} ignored "
            "ELMS ignores this event type. \N{EN DASH}",
            f"course.deleted msg_2 {at.format(3)} CS101 version 4 stale "
            "Already known, or older than what is known: nothing changed. course deleted",
            f"course.deleted msg_1 {at.format(1)} CS101 version 5 applied "
            "Applied to the registry. course deleted",
        ] == rows_of(answer)
        assert f'<a href="/entries/{entry.id}">' in answer.text

    @pytest.mark.parametrize(
        ("query", "expected"),
        [
            pytest.param("outcome=stale", ["msg_2"], id="outcome"),
            pytest.param("course_id=CS101", ["msg_2", "msg_1"], id="course"),
            pytest.param("webhook_id=%20msg_1%20", ["msg_1"], id="webhook id"),
            pytest.param("source=one", ["msg_3", "msg_2", "msg_1"], id="source"),
            pytest.param("source=two", [], id="a source that was not heard"),
            pytest.param("course_id=CS101&outcome=applied", ["msg_1"], id="two at once"),
            pytest.param("outcome=none", ["msg_3", "msg_2", "msg_1"], id="no such outcome"),
        ],
    )
    def test_the_list_is_narrowed_by_its_address(
        self,
        ada: Ada,
        hear: Hear,
        make_source: Callable[..., Source],
        query: str,
        expected: list[str],
    ) -> None:
        make_source("two")
        hear("msg_1", "CS101", 5, second=1)
        hear("msg_2", "CS101", 4, second=2)
        hear("msg_3", "CS1", second=3)

        answer = ada.get(f"/inbox?{query}")

        assert expected == [row.split()[1] for row in rows_of(answer)]

    def test_a_source_that_there_is_not_is_refused(self, ada: Ada) -> None:
        assert ada.get("/inbox?source=none").status_code == 404

    def test_the_list_goes_on_and_back(self, ada: Ada, hear: Hear) -> None:
        for number in range(60):
            hear(f"msg_{number:02}", f"CS{number}")
        place = "%5B%222026-11-22T09:00:00.123456%2B00:00%22,1,%22msg_10%22%5D"
        back = place.replace("msg_10", "msg_09")

        first = ada.get("/inbox?source=one")

        assert f'rel="next" href="/inbox?after={place}&amp;source=one"' in first.text
        assert len(rows_of(ada.get(f"/inbox?source=one&after={place}"))) == 10
        assert rows_of(first) == rows_of(ada.get(f"/inbox?source=one&before={back}"))

    def test_it_costs_the_same_statements_with_10_messages_and_with_50(
        self, ada: Ada, hear: Hear, statements: Callable[[], int]
    ) -> None:
        for number in range(10):
            hear(f"msg_{number}", f"CS{number}")
        statements()
        ada.get("/inbox")
        with_ten = statements()
        for number in range(10, 50):
            hear(f"msg_{number}", f"CS{number}")

        ada.get("/inbox")

        assert with_ten == statements()
        assert with_ten <= 5


class TestSources:
    """Who is heard and asked."""

    def test_without_a_source_it_says_what_to_do_first(self, ada: Ada) -> None:
        page = said(ada.get("/sources"))

        assert "No sources yet." in page
        assert "receiver sources add NAME --url URL" in page

    def test_each_source_tells_when_it_was_heard_and_asked(
        self,
        ada: Ada,
        one: Source,
        hear: Hear,
        database: Database,
    ) -> None:
        hear("msg_1", "CS101", second=1)
        hear("msg_2", "CS102", second=2)
        with database.writing() as session:
            for outcome in (CourseOutcome.UNCHANGED, CourseOutcome.SKIPPED):
                run_id = runs.begin(session, "elms", now=NINE)
                runs.record(session, run_id, [CourseResult("one", "CS101", outcome)])

        page = said(ada.get("/sources"))

        assert (
            "one Interface Grades API URL https://one.example "
            "Webhook path POST /webhooks/one "
            "Webhook secrets secret 1, entered 2026-11-22 09:00:00 UTC "
            "Courses Show courses of one Last webhook 2026-11-22 09:00:02 UTC "
            "Last request 2026-11-22 09:00:00 UTC , in run 1"
        ) in page

    def test_each_source_tells_which_run_asked_it_last(
        self, ada: Ada, one: Source, make_source: Callable[..., Source], database: Database
    ) -> None:
        make_source("two")
        asked = (("two",), ("one", "two"), ("one",))
        with database.writing() as session:
            for names in asked:
                run_id = runs.begin(session, "elms", now=NINE)
                reports = [CourseResult(name, "CS1", CourseOutcome.FAILED) for name in names]
                runs.record(session, run_id, reports)

        with database.reading() as session:
            last = queries.last_fetches(session)

        assert {source_id: run.id for source_id, run in last.items()} == {1: 3, 2: 2}

    def test_secrets_have_numbers_and_no_values(
        self, ada: Ada, database: Database, vault: Vault
    ) -> None:
        secret, token = Secret.generate(), MoodleToken("0123456789abcdef" * 2)
        with database.writing() as session:
            source = sources.add(session, "moodle", "https://m.example", MOODLE, now=NINE)
            row = sources.add_secret(session, source, secret, vault=vault, now=NINE)
            sources.set_site_token(session, source, token, vault=vault)
            encrypted = [row.encrypted, str(source.encrypted_site_token)]

        answer = ada.get("/sources")

        assert "secret 1, entered" in said(answer)
        assert "Site token stored" in said(answer)
        hidden = [secret.reveal().removeprefix("whsec_"), token.text, *encrypted]
        assert [one for one in hidden if one in answer.text] == []

    def test_what_a_source_lacks_is_said_with_the_command(
        self, ada: Ada, database: Database
    ) -> None:
        with database.writing() as session:
            sources.add(session, "moodle", "https://m.example", MOODLE, now=NINE)

        page = said(ada.get("/sources"))

        assert "receiver sources add-secret moodle" in page
        assert "receiver sources set-site-token moodle" in page
        assert "Last webhook never Last request not in the last 20 runs" in page
