"""Cursors in the query string of a list."""

from datetime import UTC, datetime
from typing import Any

import pytest

from foundation.db.pagination import PageRequest
from foundation.pages import pagination

NINE = datetime(2026, 11, 22, 9, 0, 0, 123456, tzinfo=UTC)


@pytest.mark.parametrize(
    ("cursor", "kinds"),
    [
        pytest.param((7,), (int,), id="number"),
        pytest.param(('a"b,]\u202e/é', 3), (str, int), id="text"),
        pytest.param((NINE, 1, "msg_1"), (datetime, int, str), id="timestamp"),
    ],
)
def test_query_string_round_trips_cursor(cursor: Any, kinds: Any) -> None:
    text = pagination.to_query(cursor)

    assert PageRequest(after=cursor) == pagination.read({"after": str(text)}, kinds)
    assert PageRequest(before=cursor) == pagination.read({"before": str(text)}, kinds)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("7", id="not a list"),
        pytest.param('["a",1,2]', id="too many"),
        pytest.param('["a",true]', id="boolean for a number"),
        pytest.param('["a",2147483648]', id="number that no row can have"),
        pytest.param('["\\u0000",1]', id="NUL"),
        pytest.param('["\\ud800",1]', id="lone surrogate"),
        pytest.param("[" * 5000, id="nested deep"),
        pytest.param("[1" + "0" * 5000 + "]", id="5,000 digits"),
    ],
)
def test_invalid_cursor_means_first_page(text: str) -> None:
    assert PageRequest() == pagination.read({"after": text}, (str, int))


@pytest.mark.parametrize("text", ['["9999-12-31T23:59:59-14:00"]', '["yesterday"]'])
def test_invalid_timestamp_means_first_page(text: str) -> None:
    assert PageRequest() == pagination.read({"before": text}, (datetime,))


def test_no_cursor_becomes_none() -> None:
    assert pagination.to_query(None) is None
