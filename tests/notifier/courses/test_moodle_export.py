"""Moodle's grade export: told from its header, one course's, refused with every wrong line."""

from decimal import Decimal

import pytest

from foundation.csv_reader import CsvError
from notifier.courses import grade_import
from notifier.courses.moodle_export import ExportOptions, ExportSource
from tests.notifier.conftest import NINE, make_score

HEADER = (
    '"First name","Last name","ID number",Institution,Department,"Email address",'
    '"Assignment: Essay (Real)","Quiz: Final exam (Real)","Course total (Real)",'
    '"Course total (Percentage)","Course total (Letter)","Last downloaded from this course"'
)
CS101 = ExportOptions("CS101")


def line(id_number: str = "ada", total: str = "75.00", exam: str = "-") -> str:
    """Return a person's line as Moodle writes it."""
    return f'Ada,Lovelace,{id_number},,,a@x.example,-,{exam},{total},"75.00 %",C,1795336477\n'


def read(text: str, chosen: ExportOptions = CS101) -> grade_import.GradesFile:
    """Return what a file's text holds, read at nine."""
    return grade_import.read(text, chosen, now=NINE)


def refusal(text: str, chosen: ExportOptions = CS101) -> CsvError:
    """Return the refusal that a file's text meets."""
    with pytest.raises(CsvError) as refused:
        read(text, chosen)
    return refused.value


def faults(*lines: str) -> list[str]:
    """Return what is said of wrong lines, without the first sentence."""
    return str(refusal(f"{HEADER}\n" + "".join(lines))).splitlines()[1:]


def test_course_total_is_taken_by_id_number() -> None:
    found = read(f"{HEADER}\n{line()}{line('grace', '9.50')}")

    hundred = Decimal(100)
    assert found.scores == {
        "CS101": [
            make_score(score_given=Decimal("75.00"), score_maximum=hundred),
            make_score(user_id="grace", score_given=Decimal("9.50"), score_maximum=hundred),
        ]
    }
    assert found.source == ExportSource("Course total (Real)", hundred)


@pytest.mark.parametrize("mark", [pytest.param("-", id="dash"), pytest.param("", id="empty")])
def test_dash_is_no_grade_yet(mark: str) -> None:
    found = read(f"{HEADER}\n{line(total=mark)}")

    assert [score.score_given for score in found.scores["CS101"]] == [None]


@pytest.mark.parametrize("nobody", [pytest.param("", id="empty"), pytest.param('" "', id="space")])
def test_who_has_no_id_number_is_left_out_alone(nobody: str) -> None:
    found = read(f"{HEADER}\n{line(nobody)}{line()}{line(nobody)}")

    assert [score.user_id for score in found.scores["CS101"]] == ["ada"]
    assert found.source == ExportSource("Course total (Real)", Decimal(100), (2, 4))


def test_an_export_in_which_nobody_has_an_id_number_is_refused() -> None:
    said = refusal(f"{HEADER}\n{line('')}{line('')}")

    assert str(said).startswith("no user in this export has an ID number")
    assert "export with an account" in said.advice.text


@pytest.mark.parametrize(
    ("separator", "grade"),
    [
        pytest.param(",", '"7,5"', id="comma, and a quoted decimal comma"),
        pytest.param(";", "7,5", id="semicolon, and a decimal comma"),
        pytest.param(";", "7.5", id="semicolon, and a point"),
        pytest.param("\t", "7,5", id="tab, and a decimal comma"),
    ],
)
def test_separator_is_that_of_the_first_line(separator: str, grade: str) -> None:
    names = ("Last name", "ID number", '"Quiz: a, b; c (Real)"', "Course total (Real)")
    text = f"{separator.join(names)}\r\n{separator.join(('Lovelace', 'ada', '-', grade))}\r\n"

    found = read(text, ExportOptions("CS101", Decimal(10)))

    assert found.scores == {"CS101": [make_score()]}


@pytest.mark.parametrize(
    "item",
    [
        pytest.param("Final exam", id="as its teacher named it"),
        pytest.param("Quiz: Final exam", id="as the column names it"),
    ],
)
def test_another_item_can_be_taken(item: str) -> None:
    found = read(f"{HEADER}\n{line(exam='18')}", ExportOptions("CS101", Decimal(20), item))

    (score,) = found.scores["CS101"]
    assert (score.score_given, score.score_maximum) == (Decimal(18), Decimal(20))
    assert found.source == ExportSource("Quiz: Final exam (Real)", Decimal(20))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        pytest.param(
            line(id_number="x" * 256),
            "ID number: String should have at most 255 characters",
            id="a long one",
        ),
        pytest.param(
            line(total="Error"),
            'Course total (Real): expected digits such as "7.5"',
            id="no number",
        ),
        pytest.param(
            line(total="-5.00"),
            'Course total (Real): expected digits such as "7.5"',
            id="negative",
        ),
        pytest.param(
            line(total='"1.234,5"'),
            'Course total (Real): expected digits such as "7.5"',
            id="thousands set apart",
        ),
        pytest.param(
            line(total="100.01"),
            "the grade is above the maximum of 100: see --maximum",
            id="above the maximum",
        ),
        pytest.param(
            "Ada,Lovelace,ada,75.00\n",
            "the line has more or fewer fields than the first one",
            id="cut short",
        ),
        pytest.param(line(id_number="a\0b"), "a field holds NUL, which cannot be stored", id="NUL"),
    ],
)
def test_line_that_cannot_be_read_is_named(wrong: str, words: str) -> None:
    assert faults(line("grace"), wrong) == [f"line 3: {words}"]


def test_id_number_stands_once() -> None:
    said = faults(line("grace"), line("ada"), line("grace", "80"))

    assert said == ["line 4: the ID number is the same as in line 2"]


def test_every_wrong_line_is_named() -> None:
    said = faults(line("ben", "-1"), line("grace"), line("ada", "x"))

    assert [one.partition(":")[0] for one in said] == ["line 2", "line 4"]


def test_course_must_be_named() -> None:
    refused = refusal(f"{HEADER}\n{line()}", ExportOptions())

    assert str(refused) == (
        "this is Moodle's grade export, which does not say which course it is of"
    )
    assert refused.advice.text == (
        "Name the course with --course, and its maximum grade with --maximum unless that is 100."
    )


def test_column_that_is_not_there_is_told_with_those_that_are() -> None:
    refused = refusal(f"{HEADER}\n{line()}", ExportOptions("CS101", item="Viva"))

    assert str(refused) == (
        "line 1: there is no column 'Viva (Real)'; columns with points: "
        "'Assignment: Essay', 'Quiz: Final exam', 'Course total'"
    )


def test_column_that_stands_twice_is_refused() -> None:
    text = "ID number,Quiz: Test (Real),Assignment: Test (Real)\nada,1,2\n"

    assert str(refusal(text, ExportOptions("CS101", item="Test"))) == (
        "line 1: duplicate columns: Quiz: Test (Real)"
    )
    assert str(refusal("ID number,ID number,Course total (Real)\n")) == (
        "line 1: duplicate columns: ID number"
    )


def test_header_of_another_kind_is_told_with_what_was_expected() -> None:
    refused = refusal("Vorname;ID-Nummer;Kurs gesamt (Punkte)\nAda;ada;75,00\n")

    assert str(refused) == (
        "line 1: expected the columns course_id, user_id, score_given, score_maximum, or Moodle's "
        "grade export with its column 'ID number'; "
        "found: Vorname, ID-Nummer, Kurs gesamt (Punkte)"
    )


OWN = "course_id;user_id;score_given;score_maximum\nCS101;ada;7.5;10\n"


def test_own_file_may_be_separated_by_semicolons() -> None:
    assert read(OWN, ExportOptions()).scores == {"CS101": [make_score()]}
    assert read(OWN, ExportOptions("CS101")).scores == {"CS101": [make_score()]}


def test_own_file_is_of_the_course_that_was_named() -> None:
    said = str(refusal(f"{OWN}CS102;ada;7.5;10\n"))

    assert said.splitlines()[1:] == ["line 3: course_id differs from --course"]


@pytest.mark.parametrize(
    "chosen",
    [
        pytest.param(ExportOptions(maximum=Decimal(10)), id="maximum"),
        pytest.param(ExportOptions(item="Final exam"), id="item"),
    ],
)
def test_own_file_says_the_rest_itself(chosen: ExportOptions) -> None:
    assert str(refusal(OWN, chosen)) == ("--maximum and --item are only for Moodle's grade export")
