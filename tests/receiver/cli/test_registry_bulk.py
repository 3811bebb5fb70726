"""`receiver registry export`, `import`, `set-activity`, and many courses for other commands."""

import csv
from pathlib import Path

import pytest

from contract.problems import ProblemType
from contract.tokens import CourseToken
from receiver.course_state import Deleted, TokenAnnounced
from receiver.models import Entry
from receiver.registry import bulk
from tests.receiver.cli.conftest import Receiver, new_token
from tests.receiver.conftest import NINE, FakeSite, Store


def test_invalid_row_changes_nothing(receiver: Receiver, store: Store) -> None:
    token = new_token()
    store.add_source("one")
    rows = f"CS102,{new_token()},one\nCS101,{token},nowhere\n"

    result = receiver("registry", "import", "-", stdin=f"course_id,token,source\n{rows}")

    assert result.exit_code == 1
    assert "line 3: unknown source" in result.stderr
    assert token not in result.output
    assert store.rows(Entry) == []


def test_export_can_be_edited_and_imported(
    receiver: Receiver, store: Store, tmp_path: Path
) -> None:
    token = CourseToken.generate()
    store.add_course("=CS101", token=token)

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
    assert store.entry("=CS101").stored_token_id == token.token_id
    assert store.entry("=CS101").gradebook_activity == "12"


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
    store: Store,
    site: FakeSite,
    words: list[str],
    counts: str,
    activity: str | None,
) -> None:
    stored, other, old, newer = (CourseToken.generate() for _ in range(4))
    for course_id, token in (("CS101", stored), ("CS102", other)):
        store.add_course(course_id, TokenAnnounced(4, token.token_id, NINE), token=token)
    site.regenerated("CS101", stored.token_id, 4)
    site.grades("CS102", newer, course_version=5)
    Path("tokens.csv").write_text(
        "course_id,token,gradebook_course,gradebook_activity\n"
        f"CS101,{old.reveal()},7,42\n"
        f"CS102,{newer.reveal()},,\n"
    )

    result = receiver("registry", *words)

    assert (result.exit_code, len(site.requests)) == (1, 2)
    assert counts in result.stdout
    assert f"the token {old.token_id} was not entered" in " ".join(result.stdout.split())
    assert store.entry("CS101").stored_token_id == stored.token_id
    assert store.entry("CS101").gradebook_activity == activity
    assert store.entry("CS102").stored_token_id == newer.token_id


def test_set_token_from_file_reports_each_course(
    receiver: Receiver, store: Store, site: FakeSite
) -> None:
    announced = CourseToken.generate()
    store.add_course("CS101", TokenAnnounced(4, announced.token_id, NINE))
    store.add_course("CS102", TokenAnnounced(4, "other", NINE))
    site.answer("CS102", 503)
    rows = f"CS101,{announced.reveal()}\nCS102,{new_token()}\n"
    Path("tokens.csv").write_text(f"course_id,token\n{rows}")

    result = receiver("registry", "set-token", "--from-file", "tokens.csv")

    assert (result.exit_code, len(site.requests)) == (1, 1)
    assert "1 active, 1 need action" in result.stdout
    assert "could not be verified: responded 503" in " ".join(result.stdout.split())


def test_token_of_another_course_is_not_stored(
    receiver: Receiver, store: Store, site: FakeSite
) -> None:
    known, unknown, stored = (CourseToken.generate() for _ in range(3))
    store.add_course("CS101", TokenAnnounced(4, known.token_id, NINE), token=known)
    for course_id in ("CS102", "CS103"):
        store.add_course(course_id, TokenAnnounced(4, f"of-{course_id}", NINE), token=stored)
    site.refuse("CS103", ProblemType.TOKEN_WRONG_COURSE)
    rows = f"CS102,{known.reveal()}\nCS103,{unknown.reveal()}\n"

    result = receiver("registry", "set-token", "--from-file", "-", stdin=f"course_id,token\n{rows}")

    printed = " ".join(result.stdout.split())
    assert (result.exit_code, len(site.requests)) == (1, 1)
    assert f"{known.token_id} was not entered: it belongs to the course 'CS101'" in printed
    assert f"{unknown.token_id} was not entered: eAssessment rejected it" in printed
    assert "0 active, 0 need action; 2 tokens not accepted" in printed
    assert {store.entry(one).stored_token_id for one in ("CS102", "CS103")} == {stored.token_id}
    assert store.entry("CS103").rejected_token_id is None


def test_set_activity_sets_and_clears(receiver: Receiver, store: Store) -> None:
    target = ("--course", "4", "--activity", "12")
    entry = store.add_course("CS101")

    receiver("registry", "set-activity", "CS101", *target)
    store.update(entry, etag='"1"')
    receiver("registry", "set-activity", "CS101", *target)
    unchanged = store.entry("CS101")
    result = receiver("registry", "set-activity", "CS101", "--clear")
    cleared = store.entry("CS101")

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


@pytest.fixture
def three_courses(store: Store) -> None:
    """Two deleted courses and an active one."""
    for course_id in ("CS101", "CS102"):
        store.add_course(course_id, Deleted(4, NINE))
    store.add_course("CS103")


def added(store: Store) -> list[str]:
    """Return the courses in the registry."""
    return [entry.course_id for entry in store.rows(Entry) if entry.is_added]


def test_courses_with_a_status_are_removed(
    three_courses: None, receiver: Receiver, store: Store
) -> None:
    elsewhere = receiver("registry", "remove", "--status", "course_deleted", "--source", "two")
    unasked = receiver("registry", "remove", "--status", "course_deleted")
    before = added(store)
    removed = receiver("registry", "remove", "--status", "course_deleted", "--yes")
    again = receiver("registry", "remove", "--status", "course_deleted", "--yes")

    assert (elsewhere.exit_code, unasked.exit_code, len(before)) == (1, 2, 3)
    assert "Remove 2 courses from the grade sync (CS101, CS102)?" in unasked.stderr
    assert removed.stdout == "removed 2 of 2 courses from the grade sync\n"
    assert (again.exit_code, again.stdout) == (0, "No courses match.\n")
    assert added(store) == ["CS103"]


def test_listed_courses_are_removed_in_batches(
    three_courses: None, receiver: Receiver, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "REMOVED_AT_ONCE", 1)
    exported = receiver("registry", "export").stdout

    removed = receiver("registry", "remove", "--from-file", "-", "--yes", stdin=exported)
    again = receiver("registry", "remove", "--from-file", "-", "--yes", stdin=exported)

    assert removed.stdout == "removed 3 of 3 courses from the grade sync\n"
    assert (again.exit_code, again.stdout) == (0, "3 courses of the file not in the registry\n")
    assert added(store) == []


@pytest.mark.parametrize(
    "words",
    [
        pytest.param((), id="nothing"),
        pytest.param(("CS101", "--status", "active"), id="course and status"),
        pytest.param(("--from-file", "-", "--source", "one"), id="file and source"),
    ],
)
def test_removal_without_one_choice_is_refused(receiver: Receiver, words: tuple[str, ...]) -> None:
    assert receiver("registry", "remove", *words).exit_code == 2
