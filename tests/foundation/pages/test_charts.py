"""Charts: ticks, bars, lines, percentiles."""

import math

import pytest

from foundation.pages import charts, filters
from foundation.pages.charts import Chart, Series


@pytest.mark.parametrize(
    ("maximum", "ticks"),
    [
        (0, [0, 1]),
        (1.1, [0, 1, 2]),
        (3, [0, 1, 2, 3, 4, 5]),
        (10, [0, 5, 10]),
        (11, [0, 10, 20]),
        (4177, [0, 1000, 2000, 3000, 4000, 5000]),
    ],
)
def test_count_ticks_are_whole_numbers(maximum: float, ticks: list[float]) -> None:
    assert charts.count_ticks(maximum) == ticks


@pytest.mark.parametrize(
    ("maximum", "ticks"),
    [
        (337, ["0 ms", "100 ms", "200 ms", "300 ms", "400 ms", "500 ms"]),
        (1200, ["0 ms", "1.0 s", "2.0 s"]),
        (2_200_000, ["0 ms", "20 min", "40 min", "1 h"]),
        (80_000_000, ["0 ms", "12 h", "1 d"]),
        (272_000_000, ["0 ms", "1 d", "2 d", "3 d", "4 d", "5 d"]),
    ],
)
def test_duration_ticks_are_round(maximum: float, ticks: list[str]) -> None:
    found = charts.duration_ticks(maximum)

    assert [filters.milliseconds(tick) for tick in found] == ticks


def test_bars_are_stacked() -> None:
    chart = Chart(
        "d",
        "Deliveries",
        ["09:00", "10:00"],
        [Series("delivered", "good", [3, 0]), Series("dead", "bad", [2, 0])],
        stacked=True,
    )

    low, high = chart.bars
    assert [bar.label for bar in chart.bars] == ["09:00: delivered 3", "09:00: dead 2"]
    assert high.y + high.height == pytest.approx(low.y)
    assert high.y == pytest.approx(chart.y_ticks[-1].at)
    assert chart.columns == ("Time", "delivered", "dead")
    assert chart.rows == (("09:00", "3", "2"), ("10:00", "0", "0"))
    assert chart.description == (
        "From 09:00 to 10:00. delivered: up to 3; dead: up to 2. See the table for all values."
    )


def test_line_has_gap_at_nan() -> None:
    chart = Chart("s", "Seconds", ["1", "2", "3"], [Series("p50", "wait", [1, math.nan, 2])])

    (line,) = chart.lines
    assert line.path.count("M") == 2
    assert "nan" not in line.path
    assert [point.label for point in line.points] == ["1: p50 1", "3: p50 2"]
    assert chart.rows[1] == ("2", "none")


def test_empty_chart_has_no_data() -> None:
    chart = Chart("d", "Deliveries", [], [Series("delivered", "good", [])], stacked=True)

    assert (chart.bars, chart.x_ticks, chart.rows) == ((), (), ())
    assert chart.description == "No data yet."


def test_x_axis_labels_at_most_six_steps() -> None:
    steps = [str(n) for n in range(48)]

    chart = Chart("d", "Deliveries", steps, [Series("a", "good", [1] * 48)], stacked=True)

    assert [tick.label for tick in chart.x_ticks] == ["0", "8", "16", "24", "32", "40"]


def test_percentile_is_one_of_the_values() -> None:
    values = [5.0, 1.0, 4.0, 2.0, 3.0]

    assert [charts.percentile(values, p) for p in (0, 50, 95, 100)] == [1, 3, 5, 5]
    assert math.isnan(charts.percentile([], 50))
