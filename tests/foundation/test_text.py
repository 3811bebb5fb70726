"""Counts and spans are said in words."""

from datetime import timedelta

import pytest

from foundation.text import count, format_duration


@pytest.mark.parametrize(
    ("value", "words"),
    [(0, "0 courses"), (1, "1 course"), (2, "2 courses"), (12345, "12,345 courses")],
)
def test_how_many_is_said_in_the_right_number(value: int, words: str) -> None:
    assert count(value, "course") == words


@pytest.mark.parametrize(
    ("time", "words"),
    [
        pytest.param(timedelta(seconds=59), "0 min", id="less than a minute"),
        pytest.param(timedelta(minutes=119), "119 min", id="minutes"),
        pytest.param(timedelta(hours=2), "2 h", id="two hours"),
        pytest.param(timedelta(hours=47, minutes=59), "47 h", id="hours"),
        pytest.param(timedelta(days=2), "2 days", id="days"),
    ],
)
def test_how_long_is_said_in_a_unit_that_one_can_picture(time: timedelta, words: str) -> None:
    assert format_duration(time) == words
