"""`notifier grades import`: a file is taken as a whole or refused as a whole."""

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from sqlalchemy import select

from foundation.db.session import Database
from notifier.models import Grade

Notifier = Callable[..., Result]
Told = Callable[..., Any]
Rows = Callable[[], dict[str, list[str]]]

FIRST = "course_id,user_id,score_given,score_maximum"


@pytest.fixture
def courses(make_course: Callable[[str], object]) -> None:
    """Two courses to have grades in."""
    for course_id in ("CS101", "Économie"):
        make_course(course_id)


def test_grades_are_imported(
    notifier: Notifier, courses: None, tmp_path: Path, database: Database
) -> None:
    (tmp_path / "grades.csv").write_text(
        f"\ufeff{FIRST},comment,timestamp\r\n"
        "CS101,åsa,7.50,10,,2026-11-22T10:00:00+01:00\r\n"
        'CS101,ben,,10,"said ""no"",\r\ntwice",\r\n'
        "Économie,عمر,3,20,=cmd(),\r\n",
        encoding="utf-8",
        newline="",
    )

    result = notifier("grades", "import", "grades.csv")

    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == "imported grades of 2 courses: 3 new, 0 changed, 0 unchanged\n"
    with database.reading() as session:
        stored = {row.user_id: row for row in session.scalars(select(Grade))}
    assert stored["åsa"].score_given == Decimal("7.50")
    assert stored["åsa"].timestamp.isoformat() == "2026-11-22T09:00:00+00:00"
    assert stored["ben"].score_given is None
    assert stored["ben"].comment == 'said "no",\r\ntwice'
    assert stored["عمر"].comment == "=cmd()"


def test_importing_again_tells_what_changed(
    notifier: Notifier, told: Told, courses: None, tmp_path: Path
) -> None:
    text = f"{FIRST}\nCS101,ben,7,10\nCS101,åsa,8,10\n"
    (tmp_path / "grades.csv").write_text(text, encoding="utf-8")
    notifier("grades", "import", "grades.csv")

    again = notifier("grades", "import", "grades.csv")
    changed = told("grades", "import", "-", stdin=text.replace("8,10", "9,10"))

    assert again.stdout == "imported grades of 1 course: 0 new, 0 changed, 2 unchanged\n"
    assert changed == {"courses": 1, "added": 0, "changed": 1, "unchanged": 1}


def test_every_line_that_cannot_be_read_is_named(
    notifier: Notifier, courses: None, tmp_path: Path, rows: Rows
) -> None:
    (tmp_path / "grades.csv").write_text(
        f"{FIRST},activity_progress\n"
        "CS101,ben,7,10,\n"
        "CS101,cy,seven,10,\n"
        ",dee,7,10,\n"
        "CS101,ed,7\n"
        "CS101,flo,7,10,Done\n"
        "CS101,gus,11,0,\n"
        "CS101,hal,1,2,,extra\n",
        encoding="utf-8",
    )
    before = rows()

    result = notifier("grades", "import", "grades.csv")

    assert (result.exit_code, result.stdout) == (1, "")
    first, *lines, last = result.stderr.splitlines()
    assert first == "error: nothing was imported: 6 lines are invalid"
    assert [line.strip().partition(":")[0] for line in lines] == [
        "line 3",
        "line 4",
        "line 5",
        "line 6",
        "line 7",
        "line 8",
    ]
    assert "course_id is empty" in lines[1]
    assert "more or fewer fields than the first one" in lines[2]
    assert last == " next: Correct the lines that are named, then import the whole file again."
    assert before == rows()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        pytest.param("\x1b[31m,user\n", "found: \\x1b[31m, user", id="escapes"),
        pytest.param(f"{FIRST}\nNONE,ben,7,10\n", "there is no course 'NONE'", id="no course"),
    ],
)
def test_a_bad_file_is_refused_as_a_whole(
    notifier: Notifier, courses: None, tmp_path: Path, rows: Rows, text: str, sentence: str
) -> None:
    (tmp_path / "grades.csv").write_text(text, encoding="utf-8")
    before = rows()

    result = notifier("grades", "import", "grades.csv")

    assert (result.exit_code, result.stdout) == (1, "")
    assert sentence in result.stderr
    assert "\x1b" not in result.stderr
    assert before == rows()


def test_a_file_that_is_not_utf_8_is_wrong_use(
    notifier: Notifier, courses: None, tmp_path: Path, rows: Rows
) -> None:
    (tmp_path / "grades.csv").write_bytes(f"{FIRST}\nCS101,\xe5sa,7,10\n".encode("latin-1"))
    before = rows()

    result = notifier("grades", "import", "grades.csv")

    assert result.exit_code == 2
    assert "the file is not UTF-8; save it as UTF-8 first" in result.stderr
    assert before == rows()


def test_grades_of_a_deleted_course_are_refused(
    notifier: Notifier, told: Told, courses: None, tmp_path: Path, rows: Rows
) -> None:
    told("courses", "delete", "CS101")
    (tmp_path / "grades.csv").write_text(
        f"{FIRST}\nÉconomie,ben,7,10\nCS101,ben,7,10\n", encoding="utf-8"
    )
    before = rows()

    result = notifier("grades", "import", "grades.csv")

    assert result.exit_code == 1
    assert "the course 'CS101' was deleted at" in result.stderr
    assert before == rows()


EXPORT = (
    '\ufeff"First name","ID number","Quiz: Final exam (Real)","Course total (Real)"\r\n'
    "Åsa,åsa,18.00,75.50\r\nBen,ben,-,-\r\n"
)


def test_an_export_of_moodle_is_imported(
    notifier: Notifier, courses: None, tmp_path: Path, database: Database
) -> None:
    (tmp_path / "grades.csv").write_text(EXPORT, encoding="utf-8", newline="")

    result = notifier("grades", "import", "grades.csv", "--course", "CS101")

    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == (
        "imported grades of 1 course: 2 new, 0 changed, 0 unchanged\n"
        "the points are those of 'Course total (Real)', out of 100, for no --maximum was given\n"
    )
    with database.reading() as session:
        stored = {row.user_id: row for row in session.scalars(select(Grade))}
    assert (stored["åsa"].score_given, stored["åsa"].score_maximum) == (Decimal("75.50"), 100)
    assert stored["ben"].score_given is None


def test_an_item_and_its_maximum_are_chosen(told: Told, courses: None) -> None:
    chosen = ("--course", "CS101", "--item", "Final exam", "--maximum", "20")

    document = told("grades", "import", "-", *chosen, stdin=EXPORT)

    assert document == {
        "courses": 1,
        "added": 2,
        "changed": 0,
        "unchanged": 0,
        "column": "Quiz: Final exam (Real)",
        "maximum": "20",
        "left_out": [],
    }


def test_who_is_left_out_of_an_export_is_told(notifier: Notifier, courses: None) -> None:
    nobodies = "Nobody,,1.00,1.00\r\n"

    few = notifier("grades", "import", "-", "--course", "CS101", stdin=EXPORT + nobodies)
    many = notifier("grades", "import", "-", "--course", "CS101", stdin=EXPORT + nobodies * 21)

    assert (few.exit_code, many.exit_code) == (0, 0)
    assert "imported grades of 1 course: 2 new" in few.stdout
    assert "left out, for want of an ID number: 1 person, line 4; give" in few.stdout
    assert "21 people, line 4, 5," in many.stdout
    assert ", 23, …; give" in many.stdout


def test_an_export_without_its_course_is_refused(
    notifier: Notifier, courses: None, rows: Rows
) -> None:
    before = rows()

    result = notifier("grades", "import", "-", stdin=EXPORT)

    assert (result.exit_code, result.stdout) == (1, "")
    assert "error: this is Moodle's grade export" in result.stderr
    assert " next: Name the course with --course" in result.stderr
    assert before == rows()


@pytest.mark.parametrize("points", ["0", "-1", "7,5", "many", "nan"])
def test_a_maximum_is_a_number_of_points(notifier: Notifier, points: str) -> None:
    result = notifier("grades", "import", "-", f"--maximum={points}", stdin=EXPORT)

    assert result.exit_code == 2
    assert f"'{points}' is no number of points above 0; write 100 or 7.5" in result.stderr
