"""Line charts as SVG, generated without a plotting library."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.sax.saxutils import escape

_WIDTH, _HEIGHT = 720, 400
_LEFT, _RIGHT, _TOP, _BOTTOM = 80, 170, 50, 60
_COLOURS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377")
"""A colour-blind safe palette: Paul Tol, https://personal.sron.nl/~pault/."""
_N_TICKS = 5


def line_chart(
    title: str, x_names: Sequence[str], series: Mapping[str, Sequence[float | None]], unit: str
) -> str:
    """A chart with one line for each series, over the names in `x_names` at equal distances.

    A value of None is left out. The y axis begins at 0 and is labelled in `unit`.
    """
    most = max((value for values in series.values() for value in values if value is not None), default=0.0)
    top = _round_up(most)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" '
        'font-size="12" fill="#333333">',
        '<rect width="100%" height="100%" fill="#ffffff"/>',
        _text(_LEFT, 28, title, size=15),
    ]
    for index in range(_N_TICKS + 1):
        value = top * index / _N_TICKS
        y = _y(value, top)
        parts.append(f'<path d="M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}" stroke="#dddddd"/>')
        parts.append(_text(_LEFT - 8, y + 4, f"{value:,.4g} {unit}", anchor="end"))
    every = max(1, len(x_names) // 8)
    parts += (
        _text(_x(index, len(x_names)), _HEIGHT - _BOTTOM + 20, name, anchor="middle")
        for index, name in enumerate(x_names)
        if index % every == 0
    )
    for number, (name, values) in enumerate(series.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        places = [
            (_x(index, len(x_names)), _y(value, top))
            for index, value in enumerate(values)
            if value is not None
        ]
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += (f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in places)
        parts.append(_text(_WIDTH - _RIGHT + 16, _TOP + 20 * number, name, fill=colour))
    return "\n".join([*parts, "</svg>", ""])


def write_chart(path: Path, chart: str) -> None:
    """Write a chart to a file. Raises OSError."""
    path.write_text(chart, encoding="utf-8")


def _x(index: int, n: int) -> float:
    return _LEFT + (_WIDTH - _LEFT - _RIGHT) * (index + 0.5) / max(1, n)


def _y(value: float, top: float) -> float:
    return _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * (value / top if top else 0.0)


def _round_up(value: float) -> float:
    """The next larger of 1, 2, 5, 10, 20, 50, …"""
    step = 1e-6
    while value > 0:
        for factor in (1, 2, 5):
            if factor * step >= value:
                return factor * step
        step *= 10
    return 1.0


def _text(
    x: float, y: float, text: str, *, anchor: str = "start", size: int = 12, fill: str = "#333333"
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" fill="{fill}">'
        f"{escape(text)}</text>"
    )
