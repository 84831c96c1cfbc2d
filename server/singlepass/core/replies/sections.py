"""Fenced code blocks, and elements such as `<file path="a.py">`, in the lines of a reply.

If one is not closed, its end is unknown: the lines after it may be prose or the next file. A fence with a
language inside a fence, or an element inside an element, means that the first one was never closed.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

_FENCE = re.compile(r"(\s*)(`{3,}|~{3,})([^`]*)$")
_ELEMENT = re.compile(r"<(file|document|source)\b([^<>]*[^<>/]|)>$")
_PATH = re.compile(r"\b(?:path|name|src)\s*=\s*(?:\"([^\"]+)\"|'([^']+)'|([^\s\"']+))")


class Section(NamedTuple):
    """A fenced code block or an element."""

    start: int
    """The number of the line that opens it."""
    end: int
    """The number of the line after it."""
    is_fence: bool
    name: str
    """The info string of the fence, or the path of the element."""
    lines: tuple[str, ...]
    """The text in it."""
    holds_blocks: bool
    """Whether edit blocks are in it."""
    is_closed: bool


def is_fence(line: str) -> bool:
    """Whether the line opens or closes a fenced code block of Markdown."""
    return _FENCE.match(line) is not None


def sections(lines: Sequence[str | None]) -> list[Section]:
    """The code blocks and elements in order, without nested ones. A None among the lines stands for an edit
    block."""
    found: list[Section] = []
    n = 0
    while n < len(lines):
        line = lines[n]
        section = None if line is None else _fenced(lines, n, line) or _element(lines, n, line)
        if section is not None:
            found.append(section)
        n = section.end if section else n + 1
    return found


def element_path(line: str) -> str | None:
    """The path of the element that the line opens; None if it opens none."""
    opened = _ELEMENT.match(line.strip())
    path = _PATH.search(opened[2]) if opened else None
    return next(one for one in path.groups() if one is not None) if path else None


def _fenced(lines: Sequence[str | None], start: int, line: str) -> Section | None:
    opened = _FENCE.match(line)
    if opened is None:
        return None
    end, is_closed = len(lines), False
    for n in range(start + 1, len(lines)):
        other = _FENCE.match(lines[n] or "")
        # A fence with more indentation or fewer characters is part of the text.
        if other and other[2].startswith(opened[2]) and len(other[1]) <= len(opened[1]):
            end, is_closed = n, not other[3].strip()
            break
    return _section(lines, start, end, True, opened[3].strip(), is_closed)


def _element(lines: Sequence[str | None], start: int, line: str) -> Section | None:
    path = element_path(line)
    if path is None:
        return None
    tag = line.strip()[1:].split(None, 1)[0]
    end, is_closed = len(lines), False
    for n in range(start + 1, len(lines)):
        bare = (lines[n] or "").strip()
        if bare == f"</{tag}>" or (bare.startswith(f"<{tag}") and element_path(bare) is not None):
            end, is_closed = n, bare.startswith("</")
            break
    following = next((one for one in lines[start + 1 : end] if one is None or one.strip()), None)
    if not is_closed and following is not None and _FENCE.match(following):
        return None  # it only names the file of the fence that follows
    return _section(lines, start, end, False, path, is_closed)


def _section(
    lines: Sequence[str | None], start: int, end: int, is_fence: bool, name: str, is_closed: bool
) -> Section:
    inside = lines[start + 1 : end]
    opening = lines[start] or ""
    text = tuple(line for line in inside if line is not None)
    indent = opening[: len(opening) - len(opening.lstrip())] if is_fence else ""
    if all(line.startswith(indent) for line in text if line.strip()):
        # In a list item, the lines are indented like their fence.
        text = tuple(line.removeprefix(indent) for line in text)
    return Section(start, end + is_closed, is_fence, name, text, len(text) < len(inside), is_closed)
