"""Charts: ticks, bars, lines, percentiles."""

import math
from typing import Literal

import pytest

from foundation.pages import charts, filters
from foundation.pages.charts import Chart, Series, Sparkline


@pytest.mark.parametrize(
    ("maximum", "ticks"),
    [
        (0, [0, 1]),
        (1.1, [0, 1, 2]),
        (3, [0, 1, 2, 3]),
        (10, [0, 5, 10]),
        (11, [0, 10, 20]),
        (5003, [0, 2000, 4000, 6000]),
        (4177, [0, 1000, 2000, 3000, 4000, 5000]),
    ],
)
def test_count_ticks_are_whole_numbers(maximum: float, ticks: list[float]) -> None:
    assert charts.count_ticks(maximum) == ticks


@pytest.mark.parametrize(
    ("maximum", "ticks"),
    [
        (337, ["0 ms", "100 ms", "200 ms", "300 ms", "400 ms"]),
        (1200, ["0 ms", "1 s", "2 s"]),
        (2_200_000, ["0 ms", "20 min", "40 min", "1 h"]),
        (80_000_000, ["0 ms", "12 h", "1 d"]),
        (272_000_000, ["0 ms", "1 d", "2 d", "3 d", "4 d"]),
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


@pytest.mark.parametrize(
    ("joined", "path"),
    [
        pytest.param("all", "ML", id="over gaps"),
        pytest.param("none", "MM", id="points only"),
    ],
)
def test_values_are_joined_as_asked(joined: Literal["all", "none"], path: str) -> None:
    series = Series("a", "wait", [1, math.nan, 2], joined=joined)

    (line,) = Chart("s", "Seconds", ["1", "2", "3"], [series]).lines

    assert "".join(filter(str.isalpha, line.path)) == path


@pytest.mark.parametrize(
    ("values", "ticks"),
    [
        pytest.param([254, 310_000], ["100 ms", "1 s", "10 s", "1 min", "10 min"], id="far apart"),
        pytest.param([12], ["10 ms", "100 ms"], id="one value"),
        pytest.param([0], ["1 ms", "10 ms"], id="zero"),
        pytest.param([10], ["10 ms", "100 ms"], id="a tick"),
        pytest.param([500 * 86_400_000], ["40 d", "400 d"], id="beyond the last tick"),
    ],
)
def test_times_on_a_logarithmic_scale(values: list[float], ticks: list[str]) -> None:
    steps = [str(value) for value in values]
    chart = Chart(
        "t",
        "Times",
        steps,
        [Series("a", "wait", values)],
        format_value=filters.milliseconds,
        logarithmic=True,
    )

    places = [tick.at for tick in chart.y_ticks]
    points = [point.y for point in chart.lines[0].points]
    assert [tick.label for tick in chart.y_ticks] == ticks
    assert places == sorted(places, reverse=True)
    assert points[0] <= places[0]


def test_small_number_is_visible_beside_a_large_one() -> None:
    chart = Chart(
        "d",
        "Deliveries",
        ["09:00"],
        [Series("delivered", "good", [15_003]), Series("dead", "bad", [6])],
        stacked=True,
    )

    _, small = chart.bars
    assert small.height >= 3


def test_sparkline_fits_and_marks_what_is_bad() -> None:
    line = Sparkline("Response times", [5, 1000, 0], [False, True, False])

    positions = [tuple(map(float, one.split())) for one in line.path[1:].split("L")]
    [bad] = line.bad_points
    assert all(0 < x < line.width and 0 < y < line.height for x, y in positions)
    assert (bad.x, bad.y) == min(positions, key=lambda one: one[1])


def test_empty_chart_has_no_data() -> None:
    chart = Chart("d", "Deliveries", [], [Series("delivered", "good", [])], stacked=True)

    assert (chart.bars, chart.x_ticks, chart.rows) == ((), (), ())
    assert chart.description == "No data yet."


def test_x_axis_labels_at_most_six_steps() -> None:
    steps = [str(n) for n in range(48)]

    chart = Chart("d", "Deliveries", steps, [Series("a", "good", [1] * 48)], stacked=True)

    assert [tick.label for tick in chart.x_ticks] == ["7", "15", "23", "31", "39", "47"]


def test_label_of_two_lines_is_within_the_chart() -> None:
    series = [Series("a", "good", [1, 2])]
    chart = Chart("d", "Runs", ["run 1", "run 2"], series, labels=["09:00", "10:00\n22 Nov"])

    assert [tick.lines for tick in chart.x_ticks] == [["09:00"], ["10:00", "22 Nov"]]
    assert chart.y_ticks[0].at < chart.bottom < chart.height - 26
    assert chart.rows[0][0] == "run 1"


def test_percentile_is_one_of_the_values() -> None:
    values = [5.0, 1.0, 4.0, 2.0, 3.0]

    assert [charts.percentile(values, p) for p in (0, 50, 95, 100)] == [1, 3, 5, 5]
    assert math.isnan(charts.percentile([], 50))
