"""Bars of block characters, for figures in a terminal."""

_EIGHTHS = " ▏▎▍▌▋▊▉█"


def bar(value: float, most: float, n_cells: int) -> str:
    """`value` as a bar, in steps of an eighth of a cell. `most` fills `n_cells` cells; a positive value has
    at least one eighth."""
    if most <= 0 or value <= 0:
        return ""
    n_eighths = max(1, round(min(1.0, value / most) * n_cells * 8))
    full, rest = divmod(n_eighths, 8)
    return "█" * full + (_EIGHTHS[rest] if rest else "")
