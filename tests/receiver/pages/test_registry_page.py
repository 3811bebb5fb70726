"""The registry's page: what needs a person first, narrowed, a page at a time; linking a course."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import delete

from contract.tokens import CourseToken, MoodleToken
from foundation.crypto import Vault
from foundation.db.session import Database
from receiver.course_state import Deleted, Fact, TokenAnnounced
from receiver.gradebook.base import ScoreCounts
from receiver.models import MOODLE, Entry, HistoryEntry, Source
from receiver.runs import store as runs
from receiver.runs.store import RunResult
from receiver.sources import store as sources
from tests.receiver.conftest import NINE
from tests.receiver.pages.conftest import Ada, rows_of, said

NEW = TokenAnnounced(4, "new", NINE)


@pytest.fixture
def one(make_source: Callable[..., Source]) -> Source:
    """A source that has no secret."""
    return make_source("one")


def test_without_a_source_it_says_what_to_do_first(ada: Ada) -> None:
    page = said(ada.get("/"))

    assert "Last run:" not in page
    assert "No sources yet." in page
    assert "receiver sources add NAME --url URL" in page


def test_without_a_course_it_offers_to_link_one(ada: Ada, one: Source) -> None:
    page = ada.get("/")

    assert "No courses yet. Add a course" in said(page)
    assert 'href="/entries/new"' in page.text


def test_what_needs_a_person_comes_first(
    ada: Ada, one: Source, make_entry: Callable[..., Entry]
) -> None:
    make_entry(one, "CS101")
    waiting = make_entry(one, "CS102", facts=(NEW,))
    held = waiting.stored_token_id

    answer = ada.get("/")

    assert (
        f"CS102 the token was regenerated: current new, stored {held} "
        "2026-11-22 09:00:00 UTC a webhook Enter token of CS102"
    ) == rows_of(answer)[0]
    assert "Needs attention (1)" in said(answer)
    assert f'href="/entries/{waiting.id}#enter-token"' in answer.text
    assert 'href="/inbox?webhook_id=msg_1"' in answer.text


def test_course_whose_history_was_pruned_is_shown(
    ada: Ada, one: Source, make_entry: Callable[..., Entry], database: Database
) -> None:
    make_entry(one, "CS101", facts=(NEW,))
    with database.writing() as session:
        session.execute(delete(HistoryEntry))

    rows = rows_of(ada.get("/"))

    assert rows[0].endswith("2026-11-22 09:00:00 UTC \N{EN DASH} Enter token of CS101")


def test_only_the_first_few_of_those_stand_above(
    ada: Ada, one: Source, make_entry: Callable[..., Entry]
) -> None:
    for number in range(6):
        make_entry(one, f"CS{number}", facts=(NEW,))

    everything, narrowed = ada.get("/"), ada.get("/?status=token_invalid")

    assert "First 5 of 6: show all 6 ." in said(everything)
    assert (len(rows_of(everything)), len(rows_of(narrowed))) == (11, 6)


def test_courses_are_counted_by_status(
    ada: Ada, one: Source, make_entry: Callable[..., Entry]
) -> None:
    every: tuple[tuple[Fact, ...], ...] = ((), (), (NEW,), (Deleted(4, NINE),))
    for number, facts in enumerate(every):
        make_entry(one, f"CS{number}", facts=facts)

    answer = ada.get("/")

    assert "1 token invalid token needed 2 active 1 course deleted" in (said(answer))
    assert 'href="/?status=course_deleted"' in answer.text


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        pytest.param("status=course_deleted", ["CS2"], id="status"),
        pytest.param("begins=CS", ["CS1", "CS2"], id="beginning"),
        pytest.param("begins=%20PH%20", ["PH3"], id="a beginning with spaces around"),
        pytest.param("source=two", ["PH3"], id="source"),
        pytest.param("status=none", ["CS1", "CS2", "PH3"], id="no such status"),
        pytest.param("after=junk&before=", ["CS1", "CS2", "PH3"], id="no such place"),
    ],
)
def test_the_list_is_narrowed_by_its_address(
    ada: Ada,
    one: Source,
    make_source: Callable[..., Source],
    make_entry: Callable[..., Entry],
    query: str,
    expected: list[str],
) -> None:
    make_entry(one, "CS1")
    make_entry(one, "CS2", facts=(Deleted(4, NINE),))
    make_entry(make_source("two"), "PH3")

    answer = ada.get(f"/?{query}")

    assert expected == [row.split()[0] for row in rows_of(answer)]


def test_a_source_that_there_is_not_is_refused(ada: Ada, one: Source) -> None:
    answer = ada.get("/?source=none")

    assert answer.status_code == 404
    assert "There is no source 'none'" in said(answer)


def test_nothing_found_says_how_it_is_looked_for(ada: Ada, one: Source) -> None:
    assert "No courses match." in said(ada.get("/?begins=cs101"))


def test_the_pages_of_a_long_list_show_every_course_once(
    ada: Ada, one: Source, make_entry: Callable[..., Entry]
) -> None:
    for number in range(60):
        make_entry(one, f"CS{number:02}")

    first = ada.get("/?begins=CS")
    second = ada.get("/?begins=CS&after=%5B%22CS49%22%2C1%5D")
    back = ada.get("/?begins=CS&before=%5B%22CS50%22%2C1%5D")

    assert 'rel="next" href="/?after=%5B%22CS49%22,1%5D&amp;begins=CS"' in first.text
    assert 'rel="prev"' not in first.text
    assert (len(rows_of(first)), len(rows_of(second))) == (50, 10)
    assert rows_of(first) == rows_of(back)


def test_a_page_costs_the_same_statements_with_10_courses_and_with_1000(
    ada: Ada,
    one: Source,
    make_entry: Callable[..., Entry],
    database: Database,
    statements: Callable[[], int],
) -> None:
    for number in range(10):
        make_entry(one, f"CS{number}", facts=(NEW,))
    statements()
    ada.get("/")
    with_ten = statements()
    with database.writing() as session:
        entries = [
            {"source_id": 1, "course_id": f"X{n}", "created_at": NINE, "added_at": NINE}
            for n in range(990)
        ]
        session.execute(Entry.__table__.insert(), entries)  # type: ignore[attr-defined]

    ada.get("/")

    assert with_ten == statements()
    assert with_ten <= 12


def test_a_last_run_that_failed_is_said_on_top(
    ada: Ada, one: Source, database: Database, make_entry: Callable[..., Entry]
) -> None:
    now = datetime.now(UTC)
    make_entry(one)
    with database.writing() as session:
        run_id = runs.begin(session, "elms", now=now)
        runs.end(session, RunResult(run_id, (), ScoreCounts(), 1, 1, 1.0, 1), now=now)

    answer = ada.get("/")

    assert "Last run: run 1 started 0 min ago: 0 synced" in said(answer)
    assert '<a href="/runs/1">Run 1</a>' in answer.text


def test_a_last_run_that_went_well_is_said_too(
    ada: Ada, one: Source, database: Database, make_entry: Callable[..., Entry]
) -> None:
    began = datetime.now(UTC) - timedelta(minutes=7)
    make_entry(one)
    with database.writing() as session:
        run_id = runs.begin(session, "elms", now=began)
        runs.end(session, RunResult(run_id, (), ScoreCounts(), 1, 1, 1.0, 0), now=began)

    page = said(ada.get("/"))

    assert "Last run: run 1 started 7 min ago: 0 synced" in page
    assert "Of each course" not in page


def test_names_that_people_give_are_shown_as_text(
    ada: Ada, one: Source, make_entry: Callable[..., Entry]
) -> None:
    """Markup is no markup, and right-to-left turns nothing around it (B7)."""
    make_entry(one, "<script>alert(1)</script>")
    make_entry(one, "\u062a\u0627\u0631\u064a\u062e", facts=(NEW,))

    text = ada.get("/").text

    assert "<script>alert" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert '<bdi class="name">\u062a\u0627\u0631\u064a\u062e</bdi>' in text


class TestLinking:
    """The form that links a course."""

    def test_a_course_is_linked(
        self, ada: Ada, one: Source, entry_of: Callable[[str], Entry]
    ) -> None:
        token = CourseToken.generate()

        answer = ada.send("/entries/new", source="one", course_id=" CS101 ", token=token.reveal())

        page = ada.after(answer)
        assert page.startswith(f"CS101 was added with the token {token.token_id}.")
        assert token.token_id == entry_of("CS101").stored_token_id
        assert token.secret not in page

    @pytest.mark.parametrize("command", ["runs show", "runs show 1", "registry list"])
    def test_a_course_that_is_called_like_a_command_is_linked(
        self, ada: Ada, one: Source, entry_of: Callable[[str], Entry], command: str
    ) -> None:
        """The pages name it as it is, and take it for no advice (B7)."""
        called, token = f"`receiver {command}`", CourseToken.generate().reveal()

        linked = ada.after(ada.send("/entries/new", source="one", course_id=called, token=token))
        again = ada.send("/entries/new", source="one", course_id=called, token=token)
        removed = ada.after(ada.send(f"/entries/{entry_of(called).id}/remove"))

        assert linked.startswith(f"{called} was added with the token ")
        assert f"The course '{called}' of one is already in the registry" in said(again)
        assert removed.startswith(f"{called} was removed from the grade sync.")

    def test_the_history_says_who_linked_it(
        self, ada: Ada, one: Source, rows: Callable[[type[HistoryEntry]], list[HistoryEntry]]
    ) -> None:
        token = CourseToken.generate()

        ada.send("/entries/new", source="one", course_id="CS101", token=token.reveal())

        (line,) = rows(HistoryEntry)
        assert (line.actor, line.actor_name, line.event) == ("administrator", "Ada", "course added")

    def test_a_moodle_takes_a_token_of_its_own_kind(
        self, ada: Ada, database: Database, entry_of: Callable[[str], Entry], now: datetime
    ) -> None:
        with database.writing() as session:
            sources.add(session, "moodle", "https://moodle.example", MOODLE, now=now)
        token = MoodleToken("0123456789abcdef" * 2)

        ada.send("/entries/new", source="moodle", course_id="7", token=token.text)

        assert token.token_id == entry_of("7").stored_token_id

    @pytest.mark.parametrize(
        ("fields", "fault"),
        [
            pytest.param(
                {"token": "junk"}, "this was cut off or mistyped. Copy the whole", id="token"
            ),
            pytest.param({"course_id": "/x"}, "begin with '/'", id="course id"),
            pytest.param({"course_id": ""}, "This field is required", id="no course id"),
            pytest.param({"source": "none"}, "There is no source 'none'.", id="source"),
            pytest.param({"course_id": "TAKEN"}, "To change its token", id="in the registry"),
        ],
    )
    def test_what_is_wrong_stands_beside_its_field(
        self,
        ada: Ada,
        one: Source,
        make_entry: Callable[..., Entry],
        rows: Callable[[type[Entry]], list[Entry]],
        fields: dict[str, str],
        fault: str,
    ) -> None:
        make_entry(one, "TAKEN")
        token = CourseToken.generate().reveal()
        given = {"source": "one", "course_id": "CS101", "token": token, **fields}

        answer = ada.send("/entries/new", **given)

        assert answer.status_code == 422
        assert fault in said(answer)
        assert f'value="{given["course_id"]}"' in answer.text
        assert given["token"] not in answer.text
        assert [entry.course_id for entry in rows(Entry)] == ["TAKEN"]

    def test_the_form_can_be_filled_by_its_address(self, ada: Ada, one: Source) -> None:
        text = ada.get("/entries/new?course_id=CS%22101&source=one").text

        assert 'value="CS&#34;101"' in text

    def test_without_a_source_there_is_no_form(self, ada: Ada) -> None:
        page = said(ada.get("/entries/new"))

        assert "There are no sources yet. Add eAssessment with" in page


@pytest.mark.parametrize("path", ["/entries/new", "/entries/1/token", "/entries/1/remove"])
def test_a_form_from_elsewhere_changes_nothing(
    ada: Ada,
    one: Source,
    vault: Vault,
    make_entry: Callable[..., Entry],
    everything: Callable[[], str],
    path: str,
) -> None:
    make_entry(one, "CS101")
    before = everything()

    answer = ada.client.post(path, data={"token": "x", "course_id": "y", "source": "one"})

    assert answer.status_code == 400
    assert before == everything()
