"""An SVG chart of the costs: a panel for each kind of cost, a bar for each run."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from html import escape

from benchmarks.cost import Cost, number

_WIDTH, _HEIGHT = 880, 372
_PANEL_WIDTH, _PANEL_HEIGHT = 424, 148
_LEFT, _TOP, _GAP = 16, 56, 8
_NAME_WIDTH, _BAR_WIDTH, _BAR_HEIGHT, _LINE = 156, 116, 18, 28

_STYLE = """
text { font: 14px -apple-system, "Segoe UI", "Noto Sans", Helvetica, Arial, sans-serif; }
.page { fill: #ffffff; } .ink { fill: #1f2328; } .faint { fill: #59636e; }
.old { fill: #8c6d1f; } .new { fill: #0969da; }
.title { font-weight: 600; font-size: 16px; } .head { font-weight: 600; }
@media (prefers-color-scheme: dark) {
  .page { fill: #0d1117; } .ink { fill: #f0f6fc; } .faint { fill: #9198a1; }
  .old { fill: #d4a72c; } .new { fill: #4493f8; }
}
"""


@dataclass(frozen=True)
class _Panel:
    title: str
    value: Callable[[Cost], float]
    shown: Callable[[Cost], str]


_PANELS = (
    _Panel("requests", lambda cost: cost.requests, lambda cost: _requests(cost)),
    _Panel("queries, both sides", lambda cost: cost.queries, lambda cost: number(cost.queries)),
    _Panel("bytes of bodies", lambda cost: cost.moved, lambda cost: _size(cost.moved)),
    _Panel("seconds", lambda cost: cost.seconds, lambda cost: f"{cost.seconds:.1f} s"),
)


def draw(costs: Mapping[str, Cost], about: str) -> str:
    """Return an SVG of the costs, the first run being the one that the others are held against.

    Bars are true to scale, and each bears its number. It is read in light and in dark, and its
    description tells the same to those who hear it.
    """
    panels = "".join(_panel(panel, costs, index) for index, panel in enumerate(_PANELS))
    title = f"What a grade sync costs: {about}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        f'width="{_WIDTH}" height="{_HEIGHT}" role="img" aria-labelledby="title desc">\n'
        f'<title id="title">{escape(title)}</title>\n'
        f'<desc id="desc">{escape(_describe(costs))}</desc>\n'
        f"<style>{_STYLE}</style>\n"
        f'<rect class="page" width="{_WIDTH}" height="{_HEIGHT}" rx="8"/>\n'
        f"{_text(_LEFT, 32, title, 'ink title')}{panels}</svg>\n"
    )


def _panel(panel: _Panel, costs: Mapping[str, Cost], index: int) -> str:
    left = _LEFT + index % 2 * (_PANEL_WIDTH + _GAP)
    top = _TOP + index // 2 * (_PANEL_HEIGHT + _GAP)
    most = max(panel.value(cost) for cost in costs.values())
    first = next(iter(costs))
    bars = "".join(
        _bar(
            left,
            top + 26 + line * _LINE,
            name,
            panel,
            cost,
            most,
            "old" if name == first else "new",
        )
        for line, (name, cost) in enumerate(costs.items())
    )
    return f"{_text(left, top + 14, panel.title, 'ink head')}{bars}"


def _bar(left: int, top: int, name: str, panel: _Panel, cost: Cost, most: float, kind: str) -> str:
    width = max(1.5, _BAR_WIDTH * panel.value(cost) / most)
    base = top + _BAR_HEIGHT - 4
    return (
        _text(left, base, name, "faint")
        + f'<rect class="{kind}" x="{left + _NAME_WIDTH}" y="{top}" '
        f'width="{width:.1f}" height="{_BAR_HEIGHT}" rx="1.5"/>\n'
        + _text(left + _NAME_WIDTH + width + 6, base, panel.shown(cost), "ink")
    )


def _text(left: float, base: int, words: str, kind: str) -> str:
    return f'<text class="{kind}" x="{left:.1f}" y="{base}">{escape(words)}</text>\n'


def _describe(costs: Mapping[str, Cost]) -> str:
    return " ".join(
        f"{name}: " + ", ".join(f"{panel.title} {panel.shown(cost)}" for panel in _PANELS) + "."
        for name, cost in costs.items()
    )


def _requests(cost: Cost) -> str:
    return number(cost.requests) + (f" ({number(cost.refused)} refused)" if cost.refused else "")


def _size(count: int) -> str:
    return f"{count / 1_000_000:.1f} MB" if count >= 1_000_000 else f"{count / 1000:.0f} kB"
