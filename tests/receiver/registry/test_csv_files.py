"""CSV files of courses: how a row is parsed, and how a cell is escaped."""

import pytest

from contract.tokens import CourseToken
from foundation import csv_writer
from foundation.csv_reader import CsvError
from receiver.models import API, MOODLE, Source
from receiver.registry import csv_files

TOKEN = CourseToken.generate()
SOURCES = [Source(id=number, name=name, kind=API) for number, name in ((1, "one"), (2, "two"))]


def test_row_has_source_course_token_and_target() -> None:
    head = "source,course_id,token,gradebook_course,gradebook_activity"

    [full, bare] = csv_files.read(f"{head}\ntwo,CS1,{TOKEN.reveal()},4,12\none,CS1,,,\n", SOURCES)

    assert (full.line, full.source, full.course_id, full.token) == (2, SOURCES[1], "CS1", TOKEN)
    assert (full.gradebook_course, full.gradebook_activity) == ("4", "12")
    assert (bare.source, bare.token, bare.gradebook_activity) == (SOURCES[0], None, None)


def test_source_is_optional_if_there_is_only_one() -> None:
    [row] = csv_files.read("course_id,token\nCS1,\n", SOURCES[:1])

    assert row.source is SOURCES[0]
    with pytest.raises(CsvError, match="there are 2 sources; the row must name one"):
        csv_files.read("course_id,token\nCS1,\n", SOURCES)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        pytest.param("nowhere,CS101,{token},", "unknown source", id="source"),
        pytest.param("one,CS101,{token}x,", "cut off or mistyped", id="token"),
        pytest.param("one, ,{token},", "course_id: a course id must", id="course id"),
        pytest.param("one,CS101,{token},zero", "a positive whole number", id="gradebook"),
        pytest.param("one,CS102,{token},", "the course is the same as in line 2", id="repeated"),
    ],
)
def test_invalid_row_is_refused_without_its_token(line: str, reason: str) -> None:
    head = "source,course_id,token,gradebook_course\none,CS102,,\n"

    with pytest.raises(CsvError) as refused:
        csv_files.read(head + line.format(token=TOKEN.reveal()), SOURCES)

    [_, fault] = str(refused.value).splitlines()
    assert fault.startswith("line 3: ")
    assert reason in fault
    assert TOKEN.secret not in str(refused.value)


MOODLES = [Source(id=1, name="moodle", kind=MOODLE)]


def test_id_number_takes_the_place_of_a_course_id() -> None:
    text = f"course_idnumber,token\n CS-1 ,{'a' * 32}\n"
    mixed = "course_id,course_idnumber\n7,\n,CS-1\n"

    [row] = csv_files.read(text, MOODLES)
    by_id, by_number = csv_files.read(mixed, MOODLES)

    assert (row.course_id, row.id_number) == ("", "CS-1")
    assert (by_id.course_id, by_id.id_number) == ("7", "")
    assert (by_number.course_id, by_number.id_number) == ("", "CS-1")


@pytest.mark.parametrize(
    ("line", "kind", "reason"),
    [
        pytest.param("7,CS-1", MOODLE, "not both", id="both"),
        pytest.param(",", MOODLE, "course_id: must not be empty", id="neither"),
        pytest.param(",CS-1", API, "only a Moodle has ID numbers", id="not a Moodle"),
    ],
)
def test_row_without_one_way_to_its_course_is_refused(line: str, kind: str, reason: str) -> None:
    sources = [Source(id=1, name="one", kind=kind)]

    with pytest.raises(CsvError, match=reason):
        csv_files.read(f"course_id,course_idnumber\n{line}\n", sources)


@pytest.mark.parametrize(
    "course_id", ["CS101", "=1", "'=1", "''=1", "'CS101", "''CS101", "-", "@x"]
)
def test_escaped_cell_is_read_back_unchanged(course_id: str) -> None:
    cell = csv_writer.cell(course_id)

    [row] = csv_files.read(f"course_id,token\n{cell},\n", SOURCES[:1])

    assert row.course_id == course_id
    assert not cell.startswith(("=", "-", "@"))
