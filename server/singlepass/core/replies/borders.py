"""Blank lines at the borders of a block.

A model quotes a blank line and leaves it out of the new lines, or adds one that the document already has. If
other lines change too, this is a mistake, and the document's blank lines stay. If only blank lines change, it
is intended.
"""

from collections.abc import Sequence
from itertools import takewhile

from singlepass.core.line_diff import changed_blocks


def with_blank_lines(document: Sequence[str], start: int, end: int, new: Sequence[str]) -> list[str]:
    """The new lines of the lines from start to end, with the document's blank lines at both borders."""
    old = document[start:end]
    if not any(map(_has_text, old)) or [*filter(_has_text, old)] == [*filter(_has_text, new)]:
        return [*new]
    reversed_lines = _with_last(old[::-1], [*new[::-1]], document[:start][::-1])
    return _with_last(old, reversed_lines[::-1], document[end:])


def _with_last(old: Sequence[str], new: list[str], below: Sequence[str]) -> list[str]:
    """The new lines, with the document's blank lines at the lower border. `below` is what follows there."""
    n_text = len(new) - _n_blank(new[::-1])
    if not n_text:
        return new
    n_old, n_new = _n_blank(old[::-1]), len(new) - n_text
    if n_new < n_old:
        return [*new[:n_text], *old[len(old) - n_old :]]
    # A blank line that was quoted further up is none that was added.
    _, _, changed, end = next(reversed(changed_blocks(old, new)), (0, 0, 0, 0))
    n_added = end - changed if end == len(new) else 0
    return new[: len(new) - min(n_new - n_old, n_added, _n_blank(below))]


def _n_blank(lines: Sequence[str]) -> int:
    """How many lines are blank before the first one with text."""
    return sum(1 for _ in takewhile(lambda line: not _has_text(line), lines))


def _has_text(line: str) -> bool:
    return bool(line.strip())
