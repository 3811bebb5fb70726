"""`receiver registry export`, `import`, `set-activity` and `set-token --from-file`."""

import csv
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from sqlalchemy import Engine, event, update

from contract.tokens import CourseToken, MoodleToken
from foundation.crypto import Vault
from foundation.csv_reader import CsvError
from foundation.db.session import Database
from receiver.course_state import TokenAnnounced
from receiver.models import MOODLE, Entry, HistoryEntry, Source
from receiver.registry import bulk, csv_files
from receiver.registry.history import Actor, ActorKind
from tests.faults.counting_source import counting

NINE = datetime(2026, 11, 22, 9, tzinfo=UTC)
ADA = Actor(ActorKind.ADMINISTRATOR, "ada@elms")


def new_token() -> str:
    """Return a token as its eAssessment shows it."""
    return CourseToken.generate().reveal()


@pytest.fixture
def source(make_source: Callable[..., Source], fake_site: Any) -> Source:
    """The far side, as ELMS knows it."""
    return make_source("one", fake_site.url)


@pytest.mark.parametrize(
    ("mark", "sign"),
    [
        pytest.param("", ",", id="comma"),
        pytest.param("\ufeff", ";", id="semicolon, with a byte order mark"),
    ],
)
def test_import_adds_and_updates_courses(
    receiver: Callable[..., Result],
    source: Source,
    entry_of: Callable[[str], Entry],
    mark: str,
    sign: str,
) -> None:
    first, second = new_token(), new_token()
    head = f"{mark}course_id{sign}token{sign}gradebook_course{sign}gradebook_activity\n"
    lines = [f"CS101{sign}{first}{sign}4{sign}12\n", f"CS102{sign}{second}{sign}{sign}\n"]
    other = f"CS102{sign}{new_token()}{sign}{sign}\n"

    told = [
        receiver("registry", "import", "-", stdin=head + "".join(rest)).stdout
        for rest in (lines, lines, [lines[0], other])
    ]

    assert told == [
        "2 new, 0 changed, 0 unchanged\n",
        "0 new, 0 changed, 2 unchanged\n",
        "0 new, 1 changed, 1 unchanged\n",
    ]
    entry = entry_of("CS101")
    assert (entry.gradebook_course, entry.gradebook_activity) == ("4", "12")
    assert entry.stored_token_id == CourseToken.parse(first).token_id


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        pytest.param("CS101,{token},nowhere", "unknown source", id="source"),
        pytest.param("CS101,{token}x,one", "cut off or mistyped", id="token"),
        pytest.param("CS102,{token},one", "the course is the same as in line 2", id="doubled"),
        pytest.param(" ,{token},one", "course_id: a course id must", id="course id"),
        pytest.param(
            "CS101,,one", "is not in the registry yet, and its token is missing", id="no token"
        ),
        pytest.param("{token}", "more or fewer fields", id="fields"),
    ],
)
def test_import_with_an_invalid_line_changes_nothing(
    receiver: Callable[..., Result],
    source: Source,
    rows: Callable[[type[Any]], list[Any]],
    line: str,
    reason: str,
) -> None:
    token = new_token()
    file = f"course_id,token,source\nCS102,{new_token()},one\n{line.format(token=token)}\n"

    result = receiver("registry", "import", "-", stdin=file)

    assert result.exit_code == 1
    assert "line 3: " in result.stderr
    assert reason in result.stderr
    assert token not in result.output
    assert rows(Entry) == []


def test_import_without_header_shows_no_token(
    receiver: Callable[..., Result], source: Source
) -> None:
    token = new_token()

    missing = receiver("registry", "import", "-", stdin=f"CS101,{token}\n")
    unknown = receiver("registry", "import", "-", stdin=f"course_id,token,{token}\n")

    assert (missing.exit_code, unknown.exit_code) == (1, 1)
    assert token not in missing.output + unknown.output


def test_import_takes_a_constant_number_of_statements(
    database: Database, vault: Vault, source: Source, now: datetime
) -> None:
    def cost(name: str, number: int) -> int:
        lines = [f"{name}{place},{new_token()}" for place in range(number)]
        wanted = csv_files.read("\n".join(["course_id,token", *lines]), [source])
        before = database.statements
        with database.writing() as session:
            bulk.import_rows(session, wanted, vault=vault, actor=ADA, now=now)
        return database.statements - before

    assert cost("A", 3) == cost("B", 250) == 4


def test_token_format_depends_on_the_source(
    database: Database, make_source: Callable[..., Source], receiver: Callable[..., Result]
) -> None:
    source, token = make_source("moodle"), "0123456789abcdef" * 2
    with database.writing() as session:
        session.get_one(Source, source.id).kind = MOODLE

    ours = receiver("registry", "add", "7", stdin=new_token())
    theirs = receiver("registry", "add", "7", stdin=token)

    assert (ours.exit_code, theirs.exit_code) == (1, 0)
    assert MoodleToken(token).token_id in theirs.stdout


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(["add", "CS101"], id="one"),
        pytest.param(["import", "-"], id="in a file"),
    ],
)
def test_moodle_course_must_be_a_number(
    database: Database,
    make_source: Callable[..., Source],
    receiver: Callable[..., Result],
    rows: Callable[[type[Any]], list[Any]],
    words: list[str],
) -> None:
    source, token = make_source("moodle"), "0123456789abcdef" * 2
    with database.writing() as session:
        session.get_one(Source, source.id).kind = MOODLE

    given = token if words[0] == "add" else f"course_id,token\nCS101,{token}\n"
    result = receiver("registry", *words, stdin=given)

    assert result.exit_code == 1
    assert "'CS101': in a Moodle the id of a course is a number" in result.stderr
    assert rows(Entry) == []


def test_export_can_be_imported_unchanged(
    receiver: Callable[..., Result],
    source: Source,
    make_entry: Callable[..., Entry],
    tmp_path: Path,
) -> None:
    token = CourseToken.generate()
    make_entry(source, "=CS101", token=token)

    printed = receiver("registry", "export").stdout
    receiver("registry", "export", "--to", "out.csv")
    head, line = printed.splitlines()
    again = receiver("registry", "import", "-", stdin=f"{head},token\n{line},{token.reveal()}\n")

    assert (tmp_path / "out.csv").read_text() == printed
    assert next(csv.DictReader([head, line]))["course_id"] == "'=CS101"
    assert token.secret not in printed
    assert again.stdout == "0 new, 0 changed, 1 unchanged\n"


def test_edited_export_keeps_the_tokens(
    receiver: Callable[..., Result],
    source: Source,
    make_entry: Callable[..., Entry],
    entry_of: Callable[[str], Entry],
) -> None:
    held = make_entry(source, "CS101").stored_token_id
    printed = receiver("registry", "export").stdout

    again = receiver("registry", "import", "-", stdin=printed)
    edited = receiver("registry", "import", "-", stdin=printed.replace(",,\n", ",4,12\n"))

    entry = entry_of("CS101")
    assert (again.exit_code, again.stdout) == (0, "0 new, 0 changed, 1 unchanged\n")
    assert (edited.exit_code, edited.stdout) == (0, "0 new, 1 changed, 0 unchanged\n")
    assert (entry.stored_token_id, entry.gradebook_activity) == (held, "12")


@pytest.mark.parametrize(
    "course_id", ["CS101", "=1", "'=1", "''=1", "'CS101", "''CS101", "-", "@x"]
)
def test_escaped_cell_is_read_back_unchanged(source: Source, course_id: str) -> None:
    cell = csv_files.cell(course_id)

    [wanted] = csv_files.read(f"course_id,token\n{cell},\n", [source])

    assert wanted.course_id == course_id
    assert not cell.startswith(("=", "-", "@"))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        pytest.param("\ufeffcourse_id,token\n", "missing columns: course_id", id="two BOMs"),
        pytest.param("course_id,token,x\n", "unknown columns, number 3", id="unknown column"),
        pytest.param("course_id,token\n" + "A,\n" * 5_000, "and 4,979 more", id="all doubled"),
    ],
)
def test_malformed_file_is_refused_briefly(source: Source, text: str, reason: str) -> None:
    with pytest.raises(CsvError) as refused:
        csv_files.read(text, [source])

    assert reason in str(refused.value)
    assert len(str(refused.value).splitlines()) <= 22


def test_set_token_from_file_reports_each_course(
    receiver: Callable[..., Result],
    source: Source,
    make_entry: Callable[..., Entry],
    fake_site: Any,
    rows: Callable[[type[Any]], list[Any]],
    now: datetime,
) -> None:
    good, lost = CourseToken.generate(), CourseToken.generate()
    make_entry(source, "CS101", facts=(TokenAnnounced(4, good.token_id, now),))
    make_entry(source, "CS102", facts=(TokenAnnounced(4, "other", now),))
    fake_site.answer("CS102", 503)
    Path("tokens.csv").write_text(
        f"course_id,token\nCS101,{good.reveal()}\nCS102,{lost.reveal()}\n"
    )

    result = receiver("registry", "set-token", "--from-file", "tokens.csv")

    assert (result.exit_code, len(fake_site.asked)) == (1, 1)
    assert "1 active, 1 need action" in result.stdout
    assert [line.event for line in rows(HistoryEntry)].count("token entered") == 2


def test_tokens_are_verified_in_batches(
    receiver: Callable[..., Result], make_source: Callable[..., Source], database: Database
) -> None:
    with counting() as there:
        there.course_version, there.slowest = 9, 0.0
        source = make_source("one", there.url)
        lines = [f"C{number:03},{new_token()}\n" for number in range(250)]
        receiver("registry", "import", "-", stdin="course_id,token\n" + "".join(lines))
        with database.writing() as session:
            named = {"announced_version": 4, "announced_token_id": "other", "announced_at": NINE}
            session.execute(update(Entry).where(Entry.source_id == source.id).values(named))

        again = "course_id,token\n" + "".join(lines)
        Path("tokens.csv").write_text(again)
        result = receiver("registry", "set-token", "--from-file", "tokens.csv")

    assert sorted(there.batches) == [50, 100, 100]
    assert "250 active, 0 need action" in result.stdout
    assert result.exit_code == 0


def test_large_file_stays_within_the_parameter_limit(
    receiver: Callable[..., Result], source: Source
) -> None:
    lines = [f"C{number:04},{new_token()}\n" for number in range(1_500)]
    Path("tokens.csv").write_text("course_id,token\n" + "".join(lines))
    most: list[int] = []

    def count(_c: object, _cursor: object, _sql: str, given: Any, _x: object, many: bool) -> None:
        most.append(0 if many else len(given))

    event.listen(Engine, "before_cursor_execute", count)
    linked = receiver("registry", "import", "tokens.csv")
    entered = receiver("registry", "set-token", "--from-file", "tokens.csv")
    event.remove(Engine, "before_cursor_execute", count)

    assert linked.stdout == "1,500 new, 0 changed, 0 unchanged\n"
    assert "1,500 active, 0 need action" in entered.stdout
    assert max(most) <= 999


def test_set_token_from_file_refuses_unknown_courses(
    receiver: Callable[..., Result], source: Source, rows: Callable[[type[Any]], list[Any]]
) -> None:
    Path("tokens.csv").write_text(f"course_id,token\nCS101,{new_token()}\n")

    result = receiver("registry", "set-token", "--from-file", "tokens.csv")

    assert result.exit_code == 1
    assert "line 2: the course is not in the registry" in result.stderr
    assert rows(Entry) == []


def test_set_activity_stores_course_and_activity(
    receiver: Callable[..., Result], source: Source, make_entry: Callable[..., Entry]
) -> None:
    make_entry(source)

    result = receiver("registry", "set-activity", "CS101", "--course", "4", "--activity", "12")

    known = json.loads(receiver("registry", "show", "CS101", "--json").stdout)
    assert result.exit_code == 0
    assert (known["gradebook_course"], known["gradebook_activity"]) == ("4", "12")


def test_set_activity_clears_both(
    receiver: Callable[..., Result],
    source: Source,
    make_entry: Callable[..., Entry],
    entry_of: Callable[[str], Entry],
) -> None:
    make_entry(source)
    receiver("registry", "set-activity", "CS101", "--course", "4", "--activity", "12")

    result = receiver("registry", "set-activity", "CS101", "--clear")

    entry = entry_of("CS101")
    assert result.stdout == "CS101 has no activity now\n"
    assert (entry.gradebook_course, entry.gradebook_activity) == (None, None)
    assert entry.added_at is not None


@pytest.mark.parametrize(
    "options",
    [
        pytest.param((), id="nothing"),
        pytest.param(("--course", "4"), id="half a place"),
        pytest.param(("--course", "4", "--clear"), id="a course to be cleared"),
        pytest.param(("--course", "4", "--activity", "12", "--clear"), id="both"),
    ],
)
def test_set_activity_needs_both_or_clear(
    receiver: Callable[..., Result],
    source: Source,
    make_entry: Callable[..., Entry],
    options: tuple[str, ...],
) -> None:
    make_entry(source)

    result = receiver("registry", "set-activity", "CS101", *options)

    assert result.exit_code == 2
    assert "give --course and --activity, or --clear alone" in result.stderr


@pytest.mark.parametrize(
    ("place", "kept"),
    [
        pytest.param(("4", "12"), True, id="the same"),
        pytest.param(("4", "13"), False, id="another activity"),
    ],
)
@pytest.mark.parametrize("by_file", [True, False], ids=["file", "command"])
def test_changed_activity_fetches_grades_again(
    receiver: Callable[..., Result],
    source: Source,
    make_entry: Callable[..., Entry],
    entry_of: Callable[[str], Entry],
    database: Database,
    place: tuple[str, str],
    kept: bool,
    by_file: bool,
) -> None:
    make_entry(source)
    receiver("registry", "set-activity", "CS101", "--course", "4", "--activity", "12")
    with database.writing() as session:
        session.execute(update(Entry).values(etag='"1"'))

    if by_file:
        head = "course_id,token,gradebook_course,gradebook_activity\n"
        receiver("registry", "import", "-", stdin=f"{head}CS101,,{','.join(place)}\n")
    else:
        words = ("--course", place[0], "--activity", place[1])
        receiver("registry", "set-activity", "CS101", *words)

    entry = entry_of("CS101")
    assert (entry.gradebook_course, entry.gradebook_activity) == place
    assert entry.etag == ('"1"' if kept else None)
