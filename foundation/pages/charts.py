"""Charts as data: the shapes that `charts.html` draws, and the same values as a table."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal

WIDTH, HEIGHT = 520, 200
# The last step is labelled, so half of its label is to the right of it.
_LEFT, _RIGHT, _TOP, _BOTTOM = 88, 34, 14, 30
_STEPS = 6
# The height of a second line of labels, in the large font of narrow screens.
_LINE = 26
# The least height of a bar: small numbers are seen next to large ones.
_MIN_BAR = 3
_SPARK_WIDTH, _SPARK_HEIGHT, _SPARK_MARGIN = 120, 28, 4

FormatValue = Callable[[float], str]
TickValues = Callable[[float], Sequence[float]]
"""Returns the ticks of an axis from zero to at least the largest value."""


def count_ticks(maximum: float) -> Sequence[float]:
    """Return whole-number ticks up to a round number: a power of ten, or a few times one."""
    ten = 10 ** math.floor(math.log10(maximum)) if maximum > 1 else 1
    factor = next(factor for factor in _PARTS if ten * factor >= maximum)
    end = ten * factor
    return _divided(end, 1 if end == 1 else _PARTS[factor])


# Possible ends of an axis in powers of ten, each with its number of intervals.
_PARTS = {1: 2, 2: 2, 3: 3, 4: 4, 5: 5, 6: 3, 8: 4, 10: 2}


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


def logarithmic_ticks(minimum: float, maximum: float) -> Sequence[float]:
    """Return ticks in milliseconds for an axis that shows short and long times alike."""
    first = max(index for index, tick in enumerate(_LONG_TIMES[:-1]) if tick <= max(minimum, 1))
    ends = (index for index, tick in enumerate(_LONG_TIMES) if tick >= maximum)
    last = max(next(ends, len(_LONG_TIMES) - 1), first + 1)
    return _LONG_TIMES[first : last + 1]


# Milliseconds: to 10 seconds, 1 and 10 minutes, 1 and 10 hours, 4, 40 and 400 days.
_LONG_TIMES = (
    *(1, 10, 100, 1000, 10_000, 60_000, 600_000),
    *(hours * _HOUR * 1000 for hours in (1, 10, 96, 960, 9600)),
)


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
    """A named series with one value for each step; `tone` is good, wait, warn, bad or calm.

    NaN is no value. `joined` says which values have a line between them: neighbours, all, or none.
    """

    name: str
    tone: str
    values: Sequence[float]
    joined: Literal["neighbours", "all", "none"] = "neighbours"

    @property
    def known(self) -> list[float]:
        """The values that are not NaN."""
        return [value for value in self.values if not math.isnan(value)]


@dataclass(frozen=True)
class Tick:
    """A tick on an axis: its coordinate and the lines of its label."""

    at: float
    label: str

    @property
    def lines(self) -> Sequence[str]:
        """The lines of the label."""
        return self.label.split("\n")


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
    """A chart of series over steps: lines, or stacked bars.

    On a logarithmic scale, which is for times, 10 ms and 10 minutes are both seen.
    `labels` are those of the steps on the axis, of one or two lines; by default the steps
    themselves. `note` says what else is worth knowing about the values.
    """

    id: str
    title: str
    steps: Sequence[str]
    series: Sequence[Series]
    step_name: str = "Time"
    format_value: FormatValue = "{:,.0f}".format
    ticks: TickValues = count_ticks
    stacked: bool = False
    logarithmic: bool = False
    labels: Sequence[str] | None = None
    note: str = ""
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
        """The ticks of the horizontal axis: the last step, and some others."""
        labels = self.labels or self.steps
        # Dates are wider than times of day.
        every = max(1, math.ceil(len(labels) / (_STEPS - self._has_two_lines)))
        shown = range(len(labels) - 1, -1, -every)
        return tuple(Tick(round(self._x(at + 0.5), 2), labels[at]) for at in reversed(shown))

    @property
    def bottom(self) -> float:
        """The vertical position of the first line of the labels of the steps."""
        return HEIGHT - self._margin + _BOTTOM - 6

    @property
    def bars(self) -> tuple[Bar, ...]:
        """The bars, each with the one below it."""
        bars = []
        for index, step in enumerate(self.steps if self.stacked else ()):
            low = self._y(0)
            for series in self.series:
                value = series.values[index]
                if value > 0:
                    height = max(self._y(0) - self._y(value), _MIN_BAR)
                    low -= height
                    x, end = self._x(index + 0.1), self._x(index + 0.9)
                    width = round(end - x, 2)
                    label = f"{step}: {series.name} {self.format_value(value)}"
                    bars.append(
                        Bar(round(x, 2), round(low, 2), width, round(height, 2), series.tone, label)
                    )
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
                pen_down = series.joined != "none"
            elif series.joined == "neighbours":
                pen_down = False
        return Line(series.tone, "".join(parts), tuple(points))

    @cached_property
    def _y_values(self) -> Sequence[float]:
        if self.stacked:
            columns = zip(*(series.values for series in self.series), strict=True)
            return self.ticks(max(map(sum, columns), default=0))
        known = [value for series in self.series for value in series.known]
        if self.logarithmic:
            return logarithmic_ticks(min(known, default=1), max(known, default=1))
        return self.ticks(max(known, default=0))

    def _x(self, index: float) -> float:
        return _LEFT + index * (WIDTH - _LEFT - _RIGHT) / max(len(self.steps), 1)

    def _y(self, value: float) -> float:
        low, high = self._y_values[0], self._y_values[-1]
        if self.logarithmic:
            low, high, value = (math.log(max(one, low)) for one in (low, high, value))
        height = HEIGHT - _TOP - self._margin
        return HEIGHT - self._margin - height * (value - low) / (high - low)

    @property
    def _margin(self) -> float:
        return _BOTTOM + _LINE * self._has_two_lines

    @cached_property
    def _has_two_lines(self) -> bool:
        return any("\n" in label for label in self.labels or ())


@dataclass(frozen=True)
class Sparkline:
    """A small line of values without axes, the oldest first, and which of them are bad."""

    description: str
    values: Sequence[float]
    bad: Sequence[bool]
    width: ClassVar[int] = _SPARK_WIDTH
    height: ClassVar[int] = _SPARK_HEIGHT

    @property
    def path(self) -> str:
        """The line, as an SVG path."""
        return "M" + "L".join(f"{x} {y}" for x, y in self._positions)

    @property
    def bad_points(self) -> tuple[Point, ...]:
        """The points of the bad values."""
        marked = zip(self._positions, self.values, self.bad, strict=True)
        return tuple(Point(x, y, f"{value:,.0f}") for (x, y), value, bad in marked if bad)

    @property
    def _positions(self) -> list[tuple[float, float]]:
        step = (_SPARK_WIDTH - 2 * _SPARK_MARGIN) / max(len(self.values) - 1, 1)
        height = (_SPARK_HEIGHT - 2 * _SPARK_MARGIN) / max(*self.values, 1)
        return [
            (
                round(_SPARK_MARGIN + number * step, 1),
                round(_SPARK_HEIGHT - _SPARK_MARGIN - value * height, 1),
            )
            for number, value in enumerate(self.values)
        ]
