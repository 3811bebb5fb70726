"""Charts, pure: numbers in, shapes and the table behind them out; `charts.html` draws them."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

WIDTH, HEIGHT = 720, 220
_LEFT, _TOP, _BOTTOM = 64, 14, 30
_STEPS = 6


@dataclass(frozen=True)
class Series:
    """What is counted, one value for each step; `tone` is good, wait, warn, bad or calm."""

    name: str
    tone: str
    values: Sequence[float]


@dataclass(frozen=True)
class Tick:
    """A mark on an axis: where it is and what it says."""

    at: float
    label: str
    anchor: str = "middle"


@dataclass(frozen=True)
class Bar:
    """A rectangle, and what it says when pointed at."""

    x: float
    y: float
    width: float
    height: float
    tone: str
    label: str


@dataclass(frozen=True)
class Line:
    """A line through the values of one series, as an SVG path."""

    tone: str
    path: str


@dataclass(frozen=True)
class Chart:
    """What is drawn, and the same as a table."""

    id: str
    title: str
    description: str
    rises: tuple[Tick, ...]
    steps: tuple[Tick, ...]
    legend: tuple[Series, ...]
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    bars: tuple[Bar, ...] = ()
    lines: tuple[Line, ...] = ()
    width: int = field(default=WIDTH)
    height: int = field(default=HEIGHT)
    left: int = field(default=_LEFT)


Shown = Callable[[float], str]


def stacked_bars(
    chart_id: str,
    title: str,
    steps: Sequence[str],
    series: Sequence[Series],
    *,
    step_name: str = "Time",
    shown: Shown = lambda value: f"{value:,.0f}",
) -> Chart:
    """Return bars, one for each step, made of the values of each series."""
    sums = [sum(values) for values in zip(*(one.values for one in series), strict=True)]
    top = rounded_up(max(sums, default=0))
    slot = _slot(len(steps))
    bars = []
    for index, step in enumerate(steps):
        below = 0.0
        for one in series:
            value = one.values[index]
            if value > 0:
                high, low = _y(below + value, top), _y(below, top)
                x, width = _LEFT + index * slot + slot * 0.1, slot * 0.8
                label = f"{step}: {one.name} {shown(value)}"
                bars.append(Bar(r(x), r(high), r(width), r(low - high), one.tone, label))
            below += value
    return _chart(chart_id, title, steps, series, top, step_name, shown, bars=tuple(bars))


def lines(
    chart_id: str,
    title: str,
    steps: Sequence[str],
    series: Sequence[Series],
    *,
    step_name: str = "Time",
    shown: Shown = lambda value: f"{value:,.0f}",
) -> Chart:
    """Return a line for each series; a step whose value is not a number is left open."""
    known = [value for one in series for value in one.values if not math.isnan(value)]
    top = rounded_up(max(known, default=0))
    drawn = tuple(Line(one.tone, _path(one.values, top)) for one in series)
    return _chart(chart_id, title, steps, series, top, step_name, shown, lines=drawn)


def percentile(values: Sequence[float], hundredth: float) -> float:
    """Return the value that so many hundredths do not exceed (nearest rank); NaN for none."""
    if not values:
        return math.nan
    rank = max(1, math.ceil(hundredth / 100 * len(values)))
    return sorted(values)[rank - 1]


def rounded_up(value: float) -> float:
    """Return the next 1, 2 or 5 with zeros behind it, at least 1: where an axis ends."""
    if value <= 1:
        return 1
    ten = 10 ** math.floor(math.log10(value))
    return float(next(ten * factor for factor in (1, 2, 5, 10) if ten * factor >= value))


def r(value: float) -> float:
    """Return a coordinate without the digits that nobody sees."""
    return round(value, 2)


def _chart(
    chart_id: str,
    title: str,
    steps: Sequence[str],
    series: Sequence[Series],
    top: float,
    step_name: str,
    shown: Shown,
    *,
    bars: tuple[Bar, ...] = (),
    lines: tuple[Line, ...] = (),
) -> Chart:
    rows = zip(steps, *(one.values for one in series), strict=True)
    return Chart(
        id=chart_id,
        title=title,
        description=_description(steps, series, shown),
        rises=tuple(Tick(r(_y(part, top)), shown(part)) for part in (0.0, top / 2, top)),
        steps=_ticks(steps),
        legend=tuple(series),
        columns=(step_name, *(one.name for one in series)),
        rows=tuple((step, *(_cell(value, shown) for value in values)) for step, *values in rows),
        bars=bars,
        lines=lines,
    )


def _description(steps: Sequence[str], series: Sequence[Series], shown: Shown) -> str:
    if not steps:
        return "There is nothing to show yet."
    told = [
        f"{one.name}: at most {shown(max(known))}"
        for one in series
        if (known := [value for value in one.values if not math.isnan(value)])
    ]
    return f"From {steps[0]} to {steps[-1]}. " + "; ".join(told) + ". The table below has each."


def _ticks(steps: Sequence[str]) -> tuple[Tick, ...]:
    if not steps:
        return ()
    every = max(1, math.ceil(len(steps) / _STEPS))
    slot = _slot(len(steps))
    return tuple(
        Tick(r(_LEFT + (index + 0.5) * slot), step)
        for index, step in enumerate(steps)
        if index % every == 0
    )


def _path(values: Sequence[float], top: float) -> str:
    slot, parts, pen_down = _slot(len(values)), [], False
    for index, value in enumerate(values):
        if math.isnan(value):
            pen_down = False
            continue
        point = f"{r(_LEFT + (index + 0.5) * slot)} {r(_y(value, top))}"
        parts.append(f"L{point}" if pen_down else f"M{point}l0 0")
        pen_down = True
    return "".join(parts)


def _slot(count: int) -> float:
    return (WIDTH - _LEFT) / max(count, 1)


def _y(value: float, top: float) -> float:
    return HEIGHT - _BOTTOM - (HEIGHT - _TOP - _BOTTOM) * value / top


def _cell(value: float, shown: Shown) -> str:
    return "none" if math.isnan(value) else shown(value)
