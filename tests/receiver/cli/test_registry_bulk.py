"""`receiver registry export`, `import`, `set-activity` and `set-token --from-file`."""

import csv
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event, update

from contract.tokens import CourseToken
from foundation.db.session import Database
from receiver.course_state import TokenAnnounced
from receiver.models import Entry, Source
from tests.receiver.cli.conftest import Receiver, new_token


def test_import_with_an_invalid_row_changes_nothing(
    receiver: Receiver, source: Source, rows: Callable[[type[Any]], list[Any]]
) -> None:
    token = new_token()

    result = receiver(
        "registry",
        "import",
        "-",
        stdin=f"course_id,token,source\nCS102,{new_token()},one\nCS101,{token},nowhere\n",
    )

    assert result.exit_code == 1
    assert "line 3: unknown source" in result.stderr
    assert token not in result.output
    assert rows(Entry) == []


@pytest.mark.parametrize("head", ["CS101,{token}\n", "course_id,token,{token}\n"])
def test_file_without_its_header_shows_no_token(
    receiver: Receiver, source: Source, head: str
) -> None:
    token = new_token()

    result = receiver("registry", "import", "-", stdin=head.format(token=token))

    assert result.exit_code == 1
    assert token not in result.output


def test_export_can_be_edited_and_imported(
    receiver: Receiver,
    source: Source,
    make_entry: Callable[..., Entry],
    entry_of: Callable[[str], Entry],
    tmp_path: Path,
) -> None:
    token = CourseToken.generate()
    make_entry(source, "=CS101", token=token)

    exported = receiver("registry", "export").stdout
    receiver("registry", "export", "--to", "out.csv")
    unchanged = receiver("registry", "import", "-", stdin=exported)
    edited = receiver("registry", "import", "-", stdin=exported.replace(",,\n", ",4,12\n"))

    assert (tmp_path / "out.csv").read_text() == exported
    [row] = csv.DictReader(exported.splitlines())
    assert (row["course_id"], row["stored_token_id"]) == ("'=CS101", token.token_id)
    assert token.secret not in exported
    assert unchanged.stdout == "0 new, 0 changed, 1 unchanged\n"
    assert edited.stdout == "0 new, 1 changed, 0 unchanged\n"
    assert entry_of("=CS101").stored_token_id == token.token_id
    assert entry_of("=CS101").gradebook_activity == "12"


@pytest.fixture
def tokens(
    receiver: Receiver,  # its working directory is that of the file
    source: Source,
    make_entry: Callable[..., Entry],
    fake_site: Any,
    now: datetime,
) -> dict[str, CourseToken]:
    """Two courses with valid tokens; of CS101 `tokens.csv` has an old one, of CS102 a newer one."""
    tokens = {name: CourseToken.generate() for name in ("stored", "old", "newer")}
    for course_id in ("CS101", "CS102"):
        announced = TokenAnnounced(4, tokens["stored"].token_id, now)
        make_entry(source, course_id, token=tokens["stored"], facts=(announced,))
    fake_site.regenerated("CS101", tokens["stored"].token_id, 4)
    fake_site.grades("CS102", tokens["newer"], course_version=5)
    Path("tokens.csv").write_text(
        "course_id,token,gradebook_course,gradebook_activity\n"
        f"CS101,{tokens['old'].reveal()},7,42\n"
        f"CS102,{tokens['newer'].reveal()},,\n"
    )
    return tokens


@pytest.mark.parametrize(
    ("words", "counts", "activity"),
    [
        pytest.param(
            ["set-token", "--from-file", "tokens.csv"],
            "1 active, 0 need action; 1 token not accepted",
            None,
            id="set-token",
        ),
        pytest.param(
            ["import", "tokens.csv"],
            "0 new, 2 changed, 0 unchanged; 1 token not accepted",
            "42",
            id="import",
        ),
    ],
)
def test_old_token_in_a_file_does_not_replace_a_valid_one(
    receiver: Receiver,
    tokens: dict[str, CourseToken],
    fake_site: Any,
    entry_of: Callable[[str], Entry],
    words: list[str],
    counts: str,
    activity: str | None,
) -> None:
    result = receiver("registry", *words)

    assert (result.exit_code, len(fake_site.asked)) == (1, 2)
    assert counts in result.stdout
    old = f"the token {tokens['old'].token_id} was not entered"
    assert old in " ".join(result.stdout.split())
    assert entry_of("CS101").stored_token_id == tokens["stored"].token_id
    assert entry_of("CS101").gradebook_activity == activity
    assert entry_of("CS102").stored_token_id == tokens["newer"].token_id


def test_set_token_from_file_reports_each_course(
    receiver: Receiver,
    source: Source,
    make_entry: Callable[..., Entry],
    fake_site: Any,
    now: datetime,
) -> None:
    good = CourseToken.generate()
    make_entry(source, "CS101", facts=(TokenAnnounced(4, good.token_id, now),))
    make_entry(source, "CS102", facts=(TokenAnnounced(4, "other", now),))
    fake_site.answer("CS102", 503)
    Path("tokens.csv").write_text(f"course_id,token\nCS101,{good.reveal()}\nCS102,{new_token()}\n")

    result = receiver("registry", "set-token", "--from-file", "tokens.csv")

    assert (result.exit_code, len(fake_site.asked)) == (1, 1)
    assert "1 active, 1 need action" in result.stdout
    assert "could not be verified: responded 503" in " ".join(result.stdout.split())


def test_large_file_stays_within_the_parameter_limit(receiver: Receiver, source: Source) -> None:
    lines = "".join(f"C{number:04},{new_token()}\n" for number in range(1_000))
    Path("tokens.csv").write_text(f"course_id,token\n{lines}")
    most: list[int] = []

    def count(_c: object, _cursor: object, _sql: str, given: Any, _x: object, many: bool) -> None:
        most.append(0 if many else len(given))

    event.listen(Engine, "before_cursor_execute", count)
    imported = receiver("registry", "import", "tokens.csv")
    entered = receiver("registry", "set-token", "--from-file", "tokens.csv")
    event.remove(Engine, "before_cursor_execute", count)

    assert imported.stdout == "1,000 new, 0 changed, 0 unchanged\n"
    assert "1,000 active, 0 need action" in entered.stdout
    assert max(most) <= 999


def test_set_activity_sets_and_clears(
    receiver: Receiver,
    source: Source,
    make_entry: Callable[..., Entry],
    entry_of: Callable[[str], Entry],
    database: Database,
) -> None:
    make_entry(source)
    target = ("--course", "4", "--activity", "12")

    receiver("registry", "set-activity", "CS101", *target)
    with database.writing() as session:
        session.execute(update(Entry).values(etag='"1"'))
    receiver("registry", "set-activity", "CS101", *target)
    unchanged = entry_of("CS101")
    result = receiver("registry", "set-activity", "CS101", "--clear")
    cleared = entry_of("CS101")

    assert (unchanged.gradebook_course, unchanged.gradebook_activity) == ("4", "12")
    assert unchanged.etag == '"1"'
    assert result.stdout == "CS101 has no activity now\n"
    assert (cleared.gradebook_course, cleared.etag) == (None, None)


@pytest.mark.parametrize(
    "options",
    [
        pytest.param((), id="nothing"),
        pytest.param(("--course", "4"), id="half"),
        pytest.param(("--course", "4", "--clear"), id="half, and clear"),
        pytest.param(("--course", "4", "--activity", "12", "--clear"), id="both, and clear"),
    ],
)
def test_set_activity_needs_both_or_clear(receiver: Receiver, options: tuple[str, ...]) -> None:
    result = receiver("registry", "set-activity", "CS101", *options)

    assert result.exit_code == 2
    assert "give --course and --activity, or --clear alone" in result.stderr
