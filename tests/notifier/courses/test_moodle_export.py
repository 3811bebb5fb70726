"""Moodle's grade export: read as a whole, or refused with every invalid line."""

from decimal import Decimal
from typing import Any

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


def line(
    id_number: str = "ada", total: str = "75.00", exam: str = "-", percentage: str = "75.00 %"
) -> str:
    """Return a user's line as Moodle writes it."""
    return f'Ada,Lovelace,{id_number},,,a@x.example,-,{exam},{total},"{percentage}",C,1795336477\n'


def read(text: str, options: ExportOptions = CS101) -> grade_import.GradesFile:
    """Return the content of a file's text, read at nine."""
    return grade_import.read(text, options, now=NINE)


def refusal(text: str, options: ExportOptions = CS101) -> CsvError:
    """Return the error that refuses a file's text."""
    with pytest.raises(CsvError) as refused:
        read(text, options)
    return refused.value


def faults(*lines: str) -> list[str]:
    """Return the reported lines without the first sentence."""
    return str(refusal(f"{HEADER}\n" + "".join(lines))).splitlines()[1:]


def test_course_total_is_read_by_id_number() -> None:
    found = read(f"{HEADER}\n{line()}{line('grace', '9.50', percentage='9.50 %')}")

    hundred = Decimal(100)
    assert found.scores == {
        "CS101": [
            make_score(score_given=Decimal("75.00"), score_maximum=hundred),
            make_score(user_id="grace", score_given=Decimal("9.50"), score_maximum=hundred),
        ]
    }
    assert found.source == ExportSource("Course total (Real)", None)


def test_dash_or_empty_means_not_graded() -> None:
    found = read(f"{HEADER}\n{line(total='-')}{line('grace', total='')}")

    assert [score.score_given for score in found.scores["CS101"]] == [None, None]


def test_users_without_id_number_are_skipped() -> None:
    found = read(f"{HEADER}\n{line('')}{line()}{line(' ')}")

    assert [score.user_id for score in found.scores["CS101"]] == ["ada"]
    assert found.source == ExportSource("Course total (Real)", None, (2, 4))


def test_export_without_id_numbers_is_refused() -> None:
    refused = refusal(f"{HEADER}\n{line('')}{line('')}")

    assert str(refused).startswith("no user in this export has an ID number")
    assert "export with an account" in refused.advice.text


@pytest.mark.parametrize(
    ("separator", "grade"),
    [
        pytest.param(",", '"7,5"', id="comma, and a quoted decimal comma"),
        pytest.param(";", "7,5", id="semicolon, and a decimal comma"),
        pytest.param(";", "7.5", id="semicolon, and a point"),
        pytest.param("\t", "7,5", id="tab, and a decimal comma"),
        pytest.param(":", "7.5", id="colon"),
    ],
)
def test_separator_is_detected(separator: str, grade: str) -> None:
    names = ("Last name", "ID number", '"Quiz: a, b; c (Real)"', "Course total (Real)")
    text = f"{separator.join(names)}\r\n{separator.join(('Lovelace', 'ada', '-', grade))}\r\n"

    found = read(text, ExportOptions("CS101", Decimal(10)))

    assert found.scores == {"CS101": [make_score()]}


@pytest.mark.parametrize("item", ["Final exam", "Quiz: Final exam"])
def test_another_item_can_be_read(item: str) -> None:
    found = read(f"{HEADER}\n{line(exam='18')}", ExportOptions("CS101", Decimal(20), item))

    (score,) = found.scores["CS101"]
    assert (score.score_given, score.score_maximum) == (Decimal(18), Decimal(20))
    assert found.source == ExportSource("Quiz: Final exam (Real)", Decimal(20))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        pytest.param(
            line(id_number="x" * 256),
            "ID number: must have at most 255 characters",
            id="long ID number",
        ),
        pytest.param(
            line(total='"1.234,5"'),
            'Course total (Real): expected digits such as "7.5"',
            id="thousands set apart",
        ),
        pytest.param(
            line(total="101", percentage="101.00 %"),
            "the grade is above the maximum of 100: see --maximum",
            id="above the maximum",
        ),
        pytest.param(
            line(percentage=""),
            "Course total (Percentage) is empty, so that the maximum is not known",
            id="no percentage",
        ),
        pytest.param(
            line(total="-5.00", percentage="-5.00 %"),
            "Course total (Real): points must not be negative",
            id="negative",
        ),
    ],
)
def test_invalid_line_is_reported(wrong: str, message: str) -> None:
    assert faults(line("grace"), wrong) == [f"line 3: {message}"]


def test_duplicate_id_number_is_reported() -> None:
    refused = faults(line("grace"), line("ada"), line("grace\u00a0"))

    assert refused == ["line 4: the same person as in line 2"]


def test_course_is_required() -> None:
    refused = refusal(f"{HEADER}\n{line()}", ExportOptions())

    assert str(refused) == (
        "this is Moodle's grade export, which does not say which course it is of"
    )
    assert refused.advice.text == "Name the course with --course."


@pytest.mark.parametrize(
    ("total", "percentage", "expected"),
    [
        pytest.param("55.20", "27.60 %", ("55.20", "200"), id="of 200"),
        pytest.param("66.60", "66.60 %", ("66.60", "100"), id="of 100"),
        pytest.param("66.67", "33.33 %", ("66.67", "200"), id="rounded"),
        pytest.param("7", "88 %", ("7", "8"), id="no decimals"),
        pytest.param("1.40", "1.40 %", ("1.40", "100"), id="several fit"),
        pytest.param("0.40", "0.20 %", ("0.20", "100"), id="several fit and not 100"),
        pytest.param("0.00", "0.00 %", ("0.00", "100"), id="zero"),
        pytest.param("20.00", "150.94 %", None, id="more than the maximum"),
        pytest.param('"55,20"', "27,60 %", ("55.20", "200"), id="decimal comma"),
    ],
)
def test_maximum_of_each_person_is_read_from_the_percentage(
    total: str, percentage: str, expected: tuple[str, str] | None
) -> None:
    text = f"{HEADER}\n{line('grace')}{line(total=total, percentage=percentage)}"

    if expected is None:
        assert "of 100" in str(refusal(text))
        return
    _, score = read(text).scores["CS101"]
    assert (str(score.score_given), str(score.score_maximum)) == expected


def test_stated_maximum_is_checked_with_the_percentage() -> None:
    stated = ExportOptions("CS101", Decimal(200))
    of_200 = line(total="55.20", percentage="27.60 %")
    of_100 = line("grace", "66.60", percentage="66.60 %")

    refused = str(refusal(f"{HEADER}\n{of_200}{of_100}", stated))

    assert "line 3: 66.60 of 200 is not 66.60 %: this person has another maximum" in refused
    (score,) = read(f"{HEADER}\n{of_200}", stated).scores["CS101"]
    assert score.score_maximum == 200


def test_export_without_percentages_needs_the_maximum() -> None:
    refused = refusal("ID number,Course total (Real)\nada,7\n")

    assert str(refused) == "this export does not say the maximum of 'Course total (Real)'"
    assert "Real and Percentage" in refused.advice.text


@pytest.mark.parametrize(
    ("columns", "item", "message"),
    [
        pytest.param(
            HEADER,
            "Viva",
            "there is no column 'Viva (Real)'; columns with points: "
            "'Assignment: Essay', 'Quiz: Final exam', 'Course total'",
            id="missing",
        ),
        pytest.param(
            "ID number,Quiz: Test (Real),Assignment: Test (Real)",
            "Test",
            "duplicate columns: Quiz: Test (Real)",
            id="duplicate item",
        ),
        pytest.param(
            "ID number,ID number,Course total (Real)",
            None,
            "duplicate columns: ID number",
            id="duplicate ID number",
        ),
        pytest.param(
            "Vorname;ID-Nummer;Kurs gesamt (Punkte)",
            None,
            "expected the columns course_id, user_id, score_given, score_maximum, or Moodle's "
            "grade export with its column 'ID number'; "
            "found: Vorname, ID-Nummer, Kurs gesamt (Punkte)",
            id="unknown header",
        ),
    ],
)
def test_wrong_columns_are_refused(columns: str, item: str | None, message: str) -> None:
    refused = refusal(f"{columns}\n", ExportOptions("CS101", item=item))

    assert str(refused) == f"line 1: {message}"


OWN = "course_id;user_id;score_given;score_maximum\nCS101;ada;7.5;10\n"


@pytest.mark.parametrize("course_id", [None, "CS101"])
def test_own_format_may_use_semicolons(course_id: str | None) -> None:
    assert read(OWN, ExportOptions(course_id)).scores == {"CS101": [make_score()]}


def test_own_format_of_another_course_is_refused() -> None:
    refused = str(refusal(f"{OWN}CS102;ada;7.5;10\n"))

    assert refused.splitlines()[1:] == ["line 3: course_id differs from --course"]


@pytest.mark.parametrize("options", [{"maximum": Decimal(10)}, {"item": "Final exam"}])
def test_own_format_refuses_export_options(options: dict[str, Any]) -> None:
    refused = refusal(OWN, ExportOptions(**options))

    assert str(refused) == "--maximum and --item are only for Moodle's grade export"
