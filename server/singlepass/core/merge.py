"""A three-way merge: an edit of a text, and a version that was saved in the meantime (sans-IO).

Both are compared with the base as blocks of changed lines. If no block of one touches a block of the other,
the result has both. Blocks touch if they share a line, if there is no unchanged line between them, or if both
insert at the same position, where their order is undefined. A block that both have is applied once.
"""

import re
from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

import msgspec

from singlepass.core.edits import Edit, apply
from singlepass.core.planner import changed_blocks

_LINE = re.compile(r"[^\r\n]*(?:\r\n|\n|\r)|[^\r\n]+")


class Conflict(msgspec.Struct, frozen=True):
    """Lines of the base, counted from 1, that both changed. For a position between two lines, `last` is
    before `first`."""

    first: int
    last: int


class _Block(NamedTuple):
    """Lines `start` to `end`, end exclusive, become `new`."""

    start: int
    end: int
    new: str


def merge(base: str, edited: str, saved: str) -> str | Conflict:
    """`base` with the changes of both, or the first conflict."""
    lines = _LINE.findall(base)
    ours, theirs = _blocks(lines, edited), _blocks(lines, saved)
    blocks = list(theirs)
    mine, other = iter(ours), iter(theirs)
    one, two = next(mine, None), next(other, None)
    while one is not None:
        if two is None or one.end < two.start:
            blocks.append(one)
            one = next(mine, None)
        elif two.end < one.start:
            two = next(other, None)
        elif one == two:
            one = next(mine, None)
        else:
            return Conflict(one.start + 1, one.end)
    offsets = [0, *accumulate(map(len, lines))]
    return apply(base, [Edit(offsets[start], offsets[end], new) for start, end, new in blocks])


def _blocks(lines: Sequence[str], text: str) -> list[_Block]:
    new = _LINE.findall(text)
    return [_Block(a, b, "".join(new[c:d])) for a, b, c, d in changed_blocks(lines, new)]
