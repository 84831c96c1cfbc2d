"""Blank lines at the borders of a block: a model quotes one and does not repeat it, or adds one to the
document's.

Beside other changes that is a slip, and the document's blank lines stay. Where nothing but blank lines
changes, they are what was asked for. Blank lines around new text are kept as far as the document has none
there yet.
"""

from collections.abc import Sequence
from itertools import takewhile

from singlepass.core.line_diff import changed_blocks


def with_blank_lines(document: Sequence[str], start: int, end: int, new: Sequence[str]) -> list[str]:
    """The new lines of the lines from start to end, with the document's blank lines at both borders."""
    old = document[start:end]
    if not any(map(_text, old)) or [*filter(_text, old)] == [*filter(_text, new)]:
        return [*new]
    upside_down = _with_last(old[::-1], [*new[::-1]], document[:start][::-1])
    return _with_last(old, upside_down[::-1], document[end:])


def _with_last(old: Sequence[str], new: list[str], below: Sequence[str]) -> list[str]:
    """The same at the lower border."""
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
    return sum(1 for _ in takewhile(lambda line: not _text(line), lines))


def _text(line: str) -> str:
    return line.strip()
