"""CSV files: columns, separators, and faults that are named by line and never by value."""

import csv

import pytest

from foundation import csv_reader
from foundation.csv_reader import CsvError, Fault, Row, Table

REQUIRED, OPTIONAL = ("course_id", "points"), ("comment",)
KNOWN = (*REQUIRED, *OPTIONAL)
SECRET = "eas_k7Qx2mPa_secret"


def table(text: str) -> Table:
    return Table(text, KNOWN)


def parse(text: str) -> tuple[list[tuple[int, str, int]], list[Fault]]:
    def parse_row(line: int, row: Row) -> tuple[int, str, int]:
        if not row["points"].isdigit():
            raise ValueError("points: not a number")
        return line, row["course_id"], int(row["points"])

    return table(text).parse(parse_row)


def refusal(text: str) -> str:
    with pytest.raises(CsvError) as refused:
        table(text).check_columns(REQUIRED, OPTIONAL)
    return str(refused.value)


@pytest.mark.parametrize("separator", [",", ";", "\t", ":"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_separator_and_line_end_are_found(separator: str, line_end: str) -> None:
    lines = ("course_id|points", "CS1|7", "", '"C;S,2"|8', "")

    parsed, faults = parse(line_end.join(lines).replace("|", separator))

    assert (parsed, faults) == ([(2, "CS1", 7), (4, "C;S,2", 8)], [])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("", "line 1: missing columns: course_id, points", id="empty file"),
        pytest.param("course_id|points", "line 1: missing columns: course_id", id="separator"),
        pytest.param(
            f"course_id,points,{SECRET}", "line 1: unknown columns, number 3", id="unknown"
        ),
        pytest.param("course_id,points" + ",x" * 100_000, "3, 4, 5, 6, 7, …", id="many unknown"),
        pytest.param("course_id,points,points", "line 1: duplicate columns: points", id="twice"),
        pytest.param('course_id,points,"x', "line 1: not CSV", id="open quote"),
    ],
)
def test_first_line_must_name_the_columns(text: str, message: str) -> None:
    said = refusal(f"{text}\n" if text else "")

    assert message in said
    assert SECRET not in said
    assert len(said) < 300


@pytest.mark.parametrize(
    ("line", "message"),
    [
        pytest.param("CS1", "more or fewer fields", id="too few fields"),
        pytest.param("CS1,7,5", "more or fewer fields", id="too many fields"),
        pytest.param("C\0,7", "a field holds NUL", id="NUL"),
        pytest.param(f"CS1,{SECRET}", "points: not a number", id="refused by its parser"),
        pytest.param('"CS1,7', "not CSV: unexpected end of data", id="open quote"),
        pytest.param(
            "x" * (csv.field_size_limit() + 1) + ",7", "not CSV: field larger", id="huge field"
        ),
    ],
)
def test_fault_names_the_line_and_not_the_value(line: str, message: str) -> None:
    parsed, faults = parse(f'course_id,points\n"CS\n0",1\n{line}\n')

    assert [number for number, _, _ in parsed] == [3]
    (fault,) = faults
    assert fault.line == 4
    assert message in fault.message
    assert SECRET not in fault.message


def test_refusal_lists_the_first_faults_in_order_and_counts_the_rest() -> None:
    faults = [Fault(line, "wrong") for line in range(1_000, 0, -1)]

    with pytest.raises(CsvError) as refused:
        csv_reader.refuse(faults)

    lines = str(refused.value).splitlines()
    assert lines[0] == "nothing was changed: 1,000 lines are invalid"
    assert lines[1:21] == [f"line {line}: wrong" for line in range(1, 21)]
    assert lines[21:] == ["and 980 more"]


def test_no_faults_are_no_refusal() -> None:
    csv_reader.refuse([])


def test_columns_without_a_name_are_passed_over_where_they_are_empty() -> None:
    content = table("course_id,points,, \nCS1,7,,\nCS2,8,, x\n")

    content.check_columns(REQUIRED, OPTIONAL)
    parsed, faults = content.parse(lambda _, row: row)

    assert parsed == [{"course_id": "CS1", "points": "7"}]
    assert faults == [Fault(3, "column 4 has a value, but no name in the first line")]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("CS1\r\n\r\n CS2;x \n", [(1, "CS1"), (3, "CS2;x")], id="one a line"),
        pytest.param("title;course_id\nA;CS1\nB;'=CS2\n", [(2, "CS1"), (3, "=CS2")], id="CSV"),
        pytest.param("course_id\nCS1", [(2, "CS1")], id="one column"),
        pytest.param("my_course_id\nCS1", [(1, "my_course_id"), (2, "CS1")], id="like a column"),
    ],
)
def test_list_is_a_column_or_has_one_value_a_line(
    text: str, expected: list[tuple[int, str]]
) -> None:
    assert csv_reader.read_list(text, "course_id") == expected


def test_list_with_an_invalid_line_is_refused() -> None:
    with pytest.raises(CsvError, match="line 2: the line has more or fewer fields"):
        csv_reader.read_list("course_id,title\nCS1\n", "course_id")
