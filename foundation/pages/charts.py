"""Charts as data: the shapes that `charts.html` draws, and the same values as a table."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

WIDTH, HEIGHT = 520, 200
_LEFT, _TOP, _BOTTOM = 88, 14, 30
_STEPS = 6

FormatValue = Callable[[float], str]
TickValues = Callable[[float], Sequence[float]]
"""Returns the ticks of an axis from zero to at least the largest value."""


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


def percentile(values: Sequence[float], hundredth: float) -> float:
    """Return a percentile (nearest rank); NaN for no values."""
    if not values:
        return math.nan
    rank = max(1, math.ceil(hundredth / 100 * len(values)))
    return sorted(values)[rank - 1]


@dataclass(frozen=True)
class Series:
    """A named series with one value for each step; `tone` is good, wait, warn, bad or calm."""

    name: str
    tone: str
    values: Sequence[float]

    @property
    def known(self) -> list[float]:
        """The values that are not NaN."""
        return [value for value in self.values if not math.isnan(value)]


@dataclass(frozen=True)
class Tick:
    """A tick on an axis: its coordinate and its label."""

    at: float
    label: str


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
    """A chart of series over steps: lines, in which NaN is a gap, or stacked bars."""

    id: str
    title: str
    steps: Sequence[str]
    series: Sequence[Series]
    step_name: str = "Time"
    format_value: FormatValue = "{:,.0f}".format
    ticks: TickValues = count_ticks
    stacked: bool = False
    width: ClassVar[int] = WIDTH
    height: ClassVar[int] = HEIGHT
    left: ClassVar[int] = _LEFT

    @property
    def description(self) -> str:
        """The chart in a sentence."""
        if not self.steps:
            return "No data yet."
        summaries = [
            f"{series.name}: up to {self.format_value(max(series.known))}"
            for series in self.series
            if series.known
        ]
        return (
            f"From {self.steps[0]} to {self.steps[-1]}. "
            f"{'; '.join(summaries)}. See the table for all values."
        )

    @property
    def columns(self) -> tuple[str, ...]:
        """The head of the table."""
        return self.step_name, *(series.name for series in self.series)

    @property
    def rows(self) -> tuple[tuple[str, ...], ...]:
        """The rows of the table."""
        return tuple(
            (step, *("none" if math.isnan(value) else self.format_value(value) for value in values))
            for step, *values in zip(
                self.steps, *(series.values for series in self.series), strict=True
            )
        )

    @property
    def y_ticks(self) -> tuple[Tick, ...]:
        """The ticks of the vertical axis."""
        return tuple(
            Tick(round(self._y(value), 2), self.format_value(value)) for value in self._y_values
        )

    @property
    def x_ticks(self) -> tuple[Tick, ...]:
        """The ticks of the horizontal axis, not one for each step if there are many."""
        every = max(1, math.ceil(len(self.steps) / _STEPS))
        middles = range(0, len(self.steps), every)
        return tuple(Tick(round(self._x(at + 0.5), 2), self.steps[at]) for at in middles)

    @property
    def bars(self) -> tuple[Bar, ...]:
        """The bars, each with the one below it."""
        bars = []
        for index, step in enumerate(self.steps if self.stacked else ()):
            below = 0.0
            for series in self.series:
                value = series.values[index]
                if value > 0:
                    high, low = self._y(below + value), self._y(below)
                    x, end = self._x(index + 0.1), self._x(index + 0.9)
                    width, height = round(end - x, 2), round(low - high, 2)
                    label = f"{step}: {series.name} {self.format_value(value)}"
                    bars.append(Bar(round(x, 2), round(high, 2), width, height, series.tone, label))
                below += value
        return tuple(bars)

    @property
    def lines(self) -> tuple[Line, ...]:
        """The lines."""
        return () if self.stacked else tuple(map(self._line, self.series))

    def _line(self, series: Series) -> Line:
        parts, points, pen_down = [], [], False
        for index, (step, value) in enumerate(zip(self.steps, series.values, strict=True)):
            if not math.isnan(value):
                x, y = round(self._x(index + 0.5), 2), round(self._y(value), 2)
                parts.append(f"{'L' if pen_down else 'M'}{x} {y}")
                points.append(Point(x, y, f"{step}: {series.name} {self.format_value(value)}"))
            pen_down = not math.isnan(value)
        return Line(series.tone, "".join(parts), tuple(points))

    @cached_property
    def _y_values(self) -> Sequence[float]:
        if self.stacked:
            columns = zip(*(series.values for series in self.series), strict=True)
            return self.ticks(max(map(sum, columns), default=0))
        return self.ticks(
            max((value for series in self.series for value in series.known), default=0)
        )

    def _x(self, index: float) -> float:
        return _LEFT + index * (WIDTH - _LEFT) / max(len(self.steps), 1)

    def _y(self, value: float) -> float:
        return HEIGHT - _BOTTOM - (HEIGHT - _TOP - _BOTTOM) * value / self._y_values[-1]
