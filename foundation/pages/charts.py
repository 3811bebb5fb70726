"""Charts as data: the shapes that `charts.html` draws, and the same values as a table."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 520, 200
_LEFT, _TOP, _BOTTOM = 88, 14, 30
_STEPS = 6


@dataclass(frozen=True)
class Series:
    """A named series with one value for each step; `tone` is good, wait, warn, bad or calm."""

    name: str
    tone: str
    values: Sequence[float]


@dataclass(frozen=True)
class Tick:
    """A tick on an axis: its coordinate and its label."""

    at: float
    label: str
    anchor: str = "middle"


@dataclass(frozen=True)
class Bar:
    """A rectangle; `label` is its tooltip."""

    x: float
    y: float
    width: float
    height: float
    tone: str
    label: str


@dataclass(frozen=True)
class Point:
    """A point on a line; `label` is its tooltip."""

    x: float
    y: float
    label: str


@dataclass(frozen=True)
class Line:
    """A line through the values of one series, as an SVG path, and the values on it.

    A value without neighbours has no line, only a point.
    """

    tone: str
    path: str
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Chart:
    """The shapes of a chart, and its values as a table."""

    id: str
    title: str
    description: str
    y_ticks: tuple[Tick, ...]
    x_ticks: tuple[Tick, ...]
    legend: tuple[Series, ...]
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    bars: tuple[Bar, ...] = ()
    lines: tuple[Line, ...] = ()
    width: int = WIDTH
    height: int = HEIGHT
    left: int = _LEFT


FormatValue = Callable[[float], str]
TickValues = Callable[[float], Sequence[float]]
"""Returns the ticks of an axis from zero to at least the largest value."""


def _count(value: float) -> str:
    return f"{value:,.0f}"


def count_ticks(maximum: float) -> Sequence[float]:
    """Return whole-number ticks up to the next 1, 2 or 5 times a power of ten."""
    ten = 10 ** math.floor(math.log10(maximum)) if maximum > 1 else 1
    factor = next(factor for factor in (1, 2, 5, 10) if ten * factor >= maximum)
    end = ten * factor
    parts = {1: 1 if end == 1 else 2, 2: 2, 5: 5, 10: 2}[factor]
    return _divided(end, parts)


def duration_ticks(maximum: float) -> Sequence[float]:
    """Return ticks in milliseconds; above ten seconds they are round in seconds to days."""
    if maximum <= 10_000:
        return count_ticks(maximum)
    for end, parts in _TIMES:
        if end * 1000 >= maximum:
            return _divided(end * 1000, parts)
    return [days * _DAY * 1000 for days in count_ticks(maximum / _DAY / 1000)]


_MINUTE, _HOUR, _DAY = 60, 3600, 86_400
_TIMES = (
    (30, 3),
    (_MINUTE, 3),
    (2 * _MINUTE, 2),
    (5 * _MINUTE, 5),
    (10 * _MINUTE, 2),
    (30 * _MINUTE, 3),
    (_HOUR, 3),
    (2 * _HOUR, 2),
    (6 * _HOUR, 3),
    (12 * _HOUR, 3),
    (_DAY, 2),
)
"""Possible ends of an axis in seconds, each with its number of intervals."""


def _divided(end: float, parts: int) -> Sequence[float]:
    return [end * part / parts for part in range(parts + 1)]


def stacked_bars(
    chart_id: str,
    title: str,
    steps: Sequence[str],
    series: Sequence[Series],
    *,
    step_name: str = "Time",
    format_value: FormatValue = _count,
) -> Chart:
    """Return a chart with one bar for each step, which stacks the values of all series."""
    sums = [sum(values) for values in zip(*(one.values for one in series), strict=True)]
    y_values = count_ticks(max(sums, default=0))
    top = y_values[-1]
    slot = _slot(len(steps))
    bars = []
    for index, step in enumerate(steps):
        below = 0.0
        for one in series:
            value = one.values[index]
            if value > 0:
                high, low = _y(below + value, top), _y(below, top)
                x, width = _LEFT + index * slot + slot * 0.1, slot * 0.8
                label = f"{step}: {one.name} {format_value(value)}"
                bars.append(
                    Bar(_round(x), _round(high), _round(width), _round(low - high), one.tone, label)
                )
            below += value
    return _chart(
        chart_id, title, steps, series, y_values, step_name, format_value, bars=tuple(bars)
    )


def lines(
    chart_id: str,
    title: str,
    steps: Sequence[str],
    series: Sequence[Series],
    *,
    step_name: str = "Time",
    format_value: FormatValue = _count,
    ticks: TickValues = count_ticks,
) -> Chart:
    """Return a chart with a line for each series; NaN values leave a gap."""
    values = [value for one in series for value in one.values if not math.isnan(value)]
    y_values = ticks(max(values, default=0))
    drawn = tuple(_line(steps, one, y_values[-1], format_value) for one in series)
    return _chart(chart_id, title, steps, series, y_values, step_name, format_value, lines=drawn)


def percentile(values: Sequence[float], hundredth: float) -> float:
    """Return a percentile (nearest rank); NaN for no values."""
    if not values:
        return math.nan
    rank = max(1, math.ceil(hundredth / 100 * len(values)))
    return sorted(values)[rank - 1]


def _round(value: float) -> float:
    """Return a coordinate rounded to two decimals."""
    return round(value, 2)


def _chart(
    chart_id: str,
    title: str,
    steps: Sequence[str],
    series: Sequence[Series],
    y_values: Sequence[float],
    step_name: str,
    format_value: FormatValue,
    *,
    bars: tuple[Bar, ...] = (),
    lines: tuple[Line, ...] = (),
) -> Chart:
    rows = zip(steps, *(one.values for one in series), strict=True)
    return Chart(
        id=chart_id,
        title=title,
        description=_description(steps, series, format_value),
        y_ticks=tuple(
            Tick(_round(_y(value, y_values[-1])), format_value(value)) for value in y_values
        ),
        x_ticks=_x_ticks(steps),
        legend=tuple(series),
        columns=(step_name, *(one.name for one in series)),
        rows=tuple(
            (step, *("none" if math.isnan(value) else format_value(value) for value in values))
            for step, *values in rows
        ),
        bars=bars,
        lines=lines,
    )


def _description(steps: Sequence[str], series: Sequence[Series], format_value: FormatValue) -> str:
    if not steps:
        return "No data yet."
    summaries = [
        f"{one.name}: up to {format_value(max(values))}"
        for one in series
        if (values := [value for value in one.values if not math.isnan(value)])
    ]
    return (
        f"From {steps[0]} to {steps[-1]}. "
        + "; ".join(summaries)
        + ". See the table for all values."
    )


def _x_ticks(steps: Sequence[str]) -> tuple[Tick, ...]:
    if not steps:
        return ()
    every = max(1, math.ceil(len(steps) / _STEPS))
    slot = _slot(len(steps))
    return tuple(
        Tick(_round(_LEFT + (index + 0.5) * slot), step)
        for index, step in enumerate(steps)
        if index % every == 0
    )


def _line(steps: Sequence[str], series: Series, top: float, format_value: FormatValue) -> Line:
    slot, parts, points, pen_down = _slot(len(steps)), [], [], False
    for index, (step, value) in enumerate(zip(steps, series.values, strict=True)):
        if math.isnan(value):
            pen_down = False
            continue
        x, y = _round(_LEFT + (index + 0.5) * slot), _round(_y(value, top))
        parts.append(f"{'L' if pen_down else 'M'}{x} {y}")
        points.append(Point(x, y, f"{step}: {series.name} {format_value(value)}"))
        pen_down = True
    return Line(series.tone, "".join(parts), tuple(points))


def _slot(count: int) -> float:
    return (WIDTH - _LEFT) / max(count, 1)


def _y(value: float, top: float) -> float:
    return HEIGHT - _BOTTOM - (HEIGHT - _TOP - _BOTTOM) * value / top
