"""The region of a request: the lines that an edit is about.

It is the selection, or without one the definition around the cursor. Nothing is parsed: a definition is told
by the shape of its first line and by indentation (`core/replies/definitions.py`), in about every language.
"""

import re
from collections.abc import Sequence

from singlepass.core.replies.definitions import COMMENT, defined_name
from singlepass.core.replies.habits import text_span
from singlepass.core.replies.levels import columns, indent_of

_CLOSES = re.compile(r"[)}\]]|end\b")
_OPENS = (":", "{", "(", "[", "=>", "->")
_ATTRIBUTE = re.compile(r"@\w|#!?\[|\[\w")
_ON_ONE_LINE = re.compile(r"(?:\w+\s+)*(?:def|fn|fun|func|function|sub|class|struct)\b")
"""A definition that may have no lines below its first."""


def region_of(lines: Sequence[str], first: int, end: int) -> tuple[int, int] | None:
    """The lines that an edit is about, end exclusive, without blank lines at its borders.

    The lines first…end-1 are selected; `first` equals `end` for a cursor in that line. None where nothing but
    blank lines is selected, or the cursor is in no definition.
    """
    if first < end:
        start, stop = text_span(lines, (first, end))
        return (start, stop) if start < stop else None
    if not 0 <= first < len(lines):
        return None
    # A cursor in the comments or attributes above a definition is in that.
    at = first
    while at < len(lines) - 1 and _belongs(lines[at]):
        at += 1
    head = next((n for n in _heads(lines, at) if _end(lines, n) > first), None)
    if head is None:
        return None
    start = head
    while start and _belongs(lines[start - 1]):
        start -= 1
    return (start, _end(lines, head)) if start <= first else None


def _heads(lines: Sequence[str], at: int) -> list[int]:
    """The first lines of definitions at or above a line that may be around it, the nearest first."""
    heads: list[int] = []
    deepest: int | None = None
    for n in range(at, -1, -1):
        bare = lines[n].strip()
        if not bare:
            continue
        depth = columns(indent_of(lines[n]))
        if deepest is None:
            deepest = depth + 1
        # A bracket on a line of its own belongs to a line above that is as deep.
        if depth < deepest and not _is_bracket(bare):
            deepest = depth
            if defined_name(bare) and (_end(lines, n) > n + 1 or _ON_ONE_LINE.match(bare)):
                heads.append(n)
    return heads


def _end(lines: Sequence[str], head: int) -> int:
    """Where the definition that begins with this line ends, exclusive."""
    depth = columns(indent_of(lines[head]))
    end = head + 1
    for n in range(head + 1, len(lines)):
        bare = lines[n].strip()
        if not bare:
            continue
        deeper = columns(indent_of(lines[n])) - depth
        if deeper < 0 or (deeper == 0 and not _is_bracket(bare)):
            break
        end = n + 1
        if deeper == 0 and not bare.endswith(_OPENS):
            break
    return end


def _is_bracket(line: str) -> bool:
    """Whether a line closes what an earlier line that is as deep opened, or opens its body."""
    return line == "{" or _CLOSES.match(line) is not None


def _belongs(line: str) -> bool:
    """Whether a line directly above a definition belongs to it: attributes, comments."""
    return bool(_ATTRIBUTE.match(line.strip()) or COMMENT.match(line.strip()))
