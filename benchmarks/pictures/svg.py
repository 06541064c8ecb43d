"""A chart with lines: two axes, either of them logarithmic, and a legend. Readable on light and dark pages."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

WIDTH: Final = 860
HEIGHT: Final = 460
# Room for the labels on each side: left, right, top, bottom.
_LEFT, _RIGHT, _TOP, _BOTTOM = 84, 34, 48, 118
# Told apart by people who see few colours too (Okabe and Ito), and by their dashes in print.
_COLOURS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#a67c00", "#56b4e9", "#777777", "#8a5cc9")
_FONT: Final = 'font-family="system-ui, sans-serif" font-size="13"'
_DASHES: Final = ("", "7 4", "2 3", "9 3 2 3", "4 2", "12 4", "1 4", "6 2 1 2")


@dataclass(frozen=True)
class Axis:
    """What it says, its marks, and where a value lies between 0 and 1."""

    title: str
    marks: Mapping[float, str]
    place: Callable[[float], float]


def logarithmic(title: str, low: float, high: float, unit: str = "") -> Axis:
    """From a power of ten to a power of ten, a mark at each."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    last = max(last, first + 1)
    marks = {10.0**power: f"{_short(10.0**power)}{unit}" for power in range(first, last + 1)}
    return Axis(title, marks, lambda value: (math.log10(max(value, 10.0**first)) - first) / (last - first))


def chart(title: str, across: Axis, up: Axis, lines: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """The whole picture."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" {_FONT}>',
        f"<title>{escape(title)}</title>",
        # White below everything: a page in a dark theme would swallow the text.
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        f'<text x="{_LEFT}" y="26" font-size="16" font-weight="600" fill="#1a1a1a">{escape(title)}</text>',
        *_axes(across, up),
        *_lines(across, up, lines),
        *_legend(list(lines)),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _x(share: float) -> float:
    return round(_LEFT + share * (WIDTH - _LEFT - _RIGHT), 1)


def _y(share: float) -> float:
    return round(HEIGHT - _BOTTOM - share * (HEIGHT - _TOP - _BOTTOM), 1)


def _axes(across: Axis, up: Axis) -> list[str]:
    bottom, left = _y(0), _x(0)
    drawn = []
    for value, text in up.marks.items():
        y = _y(up.place(value))
        drawn.append(f'<line x1="{left}" x2="{_x(1)}" y1="{y}" y2="{y}" stroke="#dddddd"/>')
        drawn.append(f'<text x="{left - 8}" y="{y + 4}" text-anchor="end" fill="#444444">{escape(text)}</text>')
    for value, text in across.marks.items():
        x = _x(across.place(value))
        drawn.append(f'<line x1="{x}" x2="{x}" y1="{_y(1)}" y2="{bottom}" stroke="#eeeeee"/>')
        drawn.append(f'<text x="{x}" y="{bottom + 18}" text-anchor="middle" fill="#444444">{escape(text)}</text>')
    middle = (_y(1) + bottom) / 2
    drawn.append(
        f'<text x="{_x(0.5)}" y="{bottom + 38}" text-anchor="middle" fill="#1a1a1a">{escape(across.title)}</text>'
    )
    drawn.append(
        f'<text x="18" y="{middle}" text-anchor="middle" fill="#1a1a1a" '
        f'transform="rotate(-90 18 {middle})">{escape(up.title)}</text>'
    )
    return drawn


def _lines(across: Axis, up: Axis, lines: Mapping[str, Sequence[tuple[float, float]]]) -> list[str]:
    drawn = []
    for number, points in enumerate(lines.values()):
        places = [(_x(across.place(x)), _y(up.place(y))) for x, y in points]
        path = " ".join(f"{x},{y}" for x, y in places)
        drawn.append(f'<polyline points="{path}" fill="none" {_stroke(number)}/>')
        colour = _COLOURS[number % len(_COLOURS)]
        drawn += [f'<circle cx="{x}" cy="{y}" r="2.6" fill="{colour}"/>' for x, y in places]
    return drawn


def _legend(names: Sequence[str]) -> list[str]:
    drawn = []
    columns = 2
    for number, name in enumerate(names):
        x = _x(0) + (number % columns) * (WIDTH - _LEFT - _RIGHT) / columns
        y = HEIGHT - _BOTTOM + 60 + (number // columns) * 18
        drawn.append(f'<line x1="{x}" x2="{x + 30}" y1="{y - 4}" y2="{y - 4}" {_stroke(number)}/>')
        drawn.append(f'<text x="{x + 38}" y="{y}" fill="#1a1a1a">{escape(name)}</text>')
    return drawn


def _stroke(number: int) -> str:
    dashes = _DASHES[number % len(_DASHES)]
    dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
    return f'stroke="{_COLOURS[number % len(_COLOURS)]}" stroke-width="2"{dashed}'


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 1 else f"{value:g}"
