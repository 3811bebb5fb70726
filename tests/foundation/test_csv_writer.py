"""CSV files: cells as spreadsheets read them."""

from datetime import UTC, datetime

import pytest

from foundation import csv_writer


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        pytest.param(None, "", id="nothing"),
        pytest.param(0, "0", id="zero"),
        pytest.param(True, "yes", id="yes"),
        pytest.param(datetime(2026, 11, 22, tzinfo=UTC), "2026-11-22T00:00:00.000000Z", id="time"),
        pytest.param("=1+1", "'=1+1", id="formula"),
        pytest.param("'CS101", "'CS101", id="apostrophe"),
    ],
)
def test_cell_is_no_formula(value: object, cell: str) -> None:
    assert csv_writer.cell(value) == cell


def test_batches_follow_one_header() -> None:
    rows = [{"id": number, "title": f'{number}, "quoted"'} for number in range(3)]

    text = "".join(csv_writer.stream(("title",), [rows[:2], [], rows[2:]]))

    assert text == 'title\n"0, ""quoted"""\n"1, ""quoted"""\n"2, ""quoted"""\n'
