"""`notifier grades import` and `forget`."""

from decimal import Decimal
from pathlib import Path

import pytest

from notifier.models import Grade
from tests.notifier.cli.conftest import ReadJson, Run
from tests.notifier.conftest import Store, make_score

FIRST = "course_id,user_id,score_given,score_maximum"
EXPORT = (
    '\ufeff"First name","ID number","Quiz: Final exam (Real)","Course total (Real)"\r\n'
    "Åsa,åsa,18.00,75.50\r\nBen,ben,-,-\r\nNobody,,1.00,1.00\r\n"
)


@pytest.fixture(autouse=True)
def courses(store: Store) -> None:
    """Two courses."""
    for course_id in ("CS101", "Économie"):
        store.add_course(course_id)


def test_file_is_imported(store: Store, run: Run, read_json: ReadJson) -> None:
    text = (
        f"\ufeff{FIRST},comment,timestamp\r\n"
        "CS101,åsa,7.50,10,,2026-11-22T10:00:00+01:00\r\n"
        'CS101,ben,,10,"said ""no"",\r\ntwice",\r\n'
        "Économie,عمر,3,20,=cmd(),\r\n"
    )
    Path("grades.csv").write_text(text, encoding="utf-8", newline="")

    result = run("grades", "import", "grades.csv")
    again = read_json("grades", "import", "-", stdin=f"{FIRST}\nCS101,ben,8,10\n")

    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == "Imported grades of 2 courses: 3 new, 0 changed, 0 unchanged\n"
    counts = {"course_count": 1, "added": 0, "changed": 1, "unchanged": 0}
    assert counts.items() <= again.items()
    stored = {row.user_id: row for row in store.all(Grade)}
    assert stored["åsa"].score_given == Decimal("7.50")
    assert stored["åsa"].timestamp.isoformat() == "2026-11-22T09:00:00+00:00"
    assert stored["عمر"].comment == "=cmd()"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param(f"{FIRST}\nCS101,ben,x,10\n", "line 2: score_given: ", id="line"),
        pytest.param("\x1b[31m,user\n", "found: \\x1b[31m, user", id="escapes in the header"),
        pytest.param(f"{FIRST}\nNONE,ben,7,10\n", "there is no course 'NONE'", id="no course"),
        pytest.param(EXPORT, "Name the course with --course", id="export without its course"),
    ],
)
def test_invalid_file_is_refused_as_a_whole(
    run: Run, store: Store, text: str, message: str
) -> None:
    before = store.rows()

    result = run("grades", "import", "-", stdin=f"{text}CS101,ada,1,1\n")

    assert (result.exit_code, result.stdout) == (1, "")
    assert message in result.stderr
    assert "\x1b" not in result.stderr
    assert before == store.rows()


def test_moodle_export_is_imported(run: Run, read_json: ReadJson) -> None:
    options = ("--course", "CS101", "--item", "Final exam", "--maximum", "20")

    whole = ("--course", "CS101", "--maximum", "100")
    result = run("grades", "import", "-", *whole, stdin=EXPORT)
    as_json = read_json("grades", "import", "-", *options, stdin=EXPORT)

    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.splitlines() == [
        "Imported grades of 1 course: 2 new, 0 changed, 0 unchanged",
        "Column: 'Course total (Real)', maximum 100",
        "Skipped 1 user without an ID number, line 4; set it in Moodle, then export and import "
        "again",
    ]
    assert as_json == {
        "course_count": 1,
        "added": 0,
        "changed": 2,
        "unchanged": 0,
        "column": "Quiz: Final exam (Real)",
        "maximum": "20",
        "left_out": [4],
    }


def test_long_list_of_skipped_users_is_cut(run: Run) -> None:
    text = EXPORT + "Nobody,,1.00,1.00\r\n" * 21

    result = run("grades", "import", "-", "--course", "CS101", "--maximum", "100", stdin=text)

    assert "Skipped 22 users without an ID number, line 4, 5," in result.stdout
    assert ", 23, …; set it" in result.stdout


@pytest.mark.parametrize(
    "beginning",
    [pytest.param(b"PK\x03\x04", id="xlsx or ods"), pytest.param(b"\xd0\xcf\x11\xe0", id="xls")],
)
def test_spreadsheet_is_named_for_what_it_is(run: Run, beginning: bytes) -> None:
    Path("grades.xlsx").write_bytes(beginning + b"\0" * 100)

    result = run("grades", "import", "grades.xlsx")

    assert result.exit_code == 2
    assert "the file is a spreadsheet" in result.stderr
    assert "save it as CSV" in result.stderr


def test_grades_of_a_user_are_forgotten(store: Store, run: Run) -> None:
    score = make_score(user_id="ada")
    store.load({"CS101": [score, make_score(user_id="eve")], "Économie": [score]})

    result = run("grades", "forget", "--user", "ada")

    assert (result.exit_code, result.stdout) == (0, "deleted 2 grades in 2 courses\n")
    assert [row.user_id for row in store.all(Grade)] == ["eve"]


@pytest.mark.parametrize(
    ("words", "code", "error"),
    [
        pytest.param(["--course", "CS999"], 1, "there is no course 'CS999'", id="unknown course"),
        pytest.param([], 2, "give --course, --user, or both", id="nothing"),
    ],
)
def test_nothing_is_forgotten_by_mistake(run: Run, words: list[str], code: int, error: str) -> None:
    result = run("grades", "forget", *words)

    assert (result.exit_code, result.stdout) == (code, "")
    assert error in result.stderr
