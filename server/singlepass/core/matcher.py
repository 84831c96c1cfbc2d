"""The matcher: where in a document the old lines of a hunk stand.

Theory of operation
===================

A constrained model copies the old lines exactly, and once. Others forget trailing spaces, start at the wrong
indentation, or misquote a word. So there are four levels, tried in turn until one has a candidate:

    exact                 the lines are equal
    trailing_whitespace   equal but for white space at line ends
    indentation           equal after one and the same change of the leading white space of every line
    fuzzy                 of the same number of lines, and similar enough

A candidate is always as many lines as the old text has. When a level has several, the place is not known, and
guessing would edit the wrong one: the answer is `Ambiguous` unless exactly one lies inside the selection.

The first three levels search with Knuth-Morris-Pratt over lines, so a document is read once. The last looks
at places that share lines with the old text, and at every place only for very short old texts.
"""

import difflib
import heapq
from collections.abc import Sequence
from typing import Literal, NamedTuple

How = Literal["exact", "trailing_whitespace", "indentation", "fuzzy"]
"""Which level found the old lines."""

FUZZY_THRESHOLD = 0.85
"""The similarity, from 0 to 1, from which a fuzzy candidate counts."""
FUZZY_MARGIN = 0.05
"""How much more similar than any other place the fuzzy candidate has to be."""


class Found(NamedTuple):
    """The old lines are the lines `start` to `end` (exclusive) of the document."""

    start: int
    end: int
    how: How
    remove: str = ""
    """The leading white space to take from every new line that is not blank …"""
    add: str = ""
    """… and the one to give it, so that it fits the document. See `reindent`."""


class Ambiguous(NamedTuple):
    """The old lines could be any of these ranges of lines (ends exclusive)."""

    candidates: tuple[tuple[int, int], ...]


class NotFound(NamedTuple):
    """The old lines are not in the document."""

    nearest: tuple[int, int] | None
    """The most similar range of lines that was seen."""
    similarity: float
    """How similar it is, from 0 to 1."""


Match = Found | Ambiguous | NotFound


def match(lines: Sequence[str], old: Sequence[str], selection: tuple[int, int] | None = None) -> Match:
    """Find the old lines among the visible lines of a document.

    `selection` is a range of lines, end exclusive. No old lines at all means the whole of a document without
    text, and nothing in any other.
    """
    if (not old or not lines) and not any(line.strip() for line in (*old, *lines)):
        return Found(0, len(lines), "exact")
    if not old or len(old) > len(lines):
        return NotFound(None, 0.0)

    if starts := find_runs(lines, old):
        return _choose([Found(i, i + len(old), "exact") for i in starts], selection)

    ends_stripped, old_ends_stripped = [x.rstrip() for x in lines], [x.rstrip() for x in old]
    if starts := find_runs(ends_stripped, old_ends_stripped):
        return _choose([Found(i, i + len(old), "trailing_whitespace") for i in starts], selection)

    stripped, old_stripped = [x.strip() for x in lines], [x.strip() for x in old]
    shifted: list[Found] = []
    for i in find_runs(stripped, old_stripped):
        shift = _shift(ends_stripped[i : i + len(old)], old_ends_stripped)
        if shift is not None:
            shifted.append(Found(i, i + len(old), "indentation", *shift))
    if shifted:
        return _choose(shifted, selection)
    return _fuzzy(ends_stripped, old_ends_stripped, stripped, old_stripped, selection)


def reindent(line: str, found: Found) -> str:
    """A new line with the indentation that the document has where the old lines were found."""
    if not line.strip():
        return line
    if line.startswith(found.remove):
        return found.add + line[len(found.remove) :]
    return found.add + line.lstrip(" \t")


def find_runs(lines: Sequence[str], run: Sequence[str]) -> list[int]:
    """Every index at which the run occurs, overlapping ones too. The run has at least one line."""
    # Knuth-Morris-Pratt: border[k] is the longest proper prefix of run[:k] which is also its suffix.
    border = [-1] * (len(run) + 1)
    k = -1
    for i, line in enumerate(run):
        while k >= 0 and run[k] != line:
            k = border[k]
        k += 1
        border[i + 1] = k
    found: list[int] = []
    k = 0
    for i, line in enumerate(lines):
        while k >= 0 and (k == len(run) or run[k] != line):
            k = border[k]
        k += 1
        if k == len(run):
            found.append(i + 1 - k)
    return found


def _choose(candidates: list[Found], selection: tuple[int, int] | None) -> Found | Ambiguous:
    if len(candidates) == 1:
        return candidates[0]
    if selection is not None:
        inside = [x for x in candidates if selection[0] <= x.start and x.end <= selection[1]]
        if len(inside) == 1:
            return inside[0]
    return Ambiguous(tuple((x.start, x.end) for x in candidates))


def _indent(line: str) -> str:
    return line[: len(line) - len(line.lstrip())]


def _shift(lines: Sequence[str], old: Sequence[str]) -> tuple[str, str] | None:
    """The leading white space to remove from every old line and to add instead; None if they differ."""
    shift: tuple[str, str] | None = None
    for line, old_line in zip(lines, old, strict=True):
        if not line or not old_line:
            continue
        there, here = _indent(line), _indent(old_line)
        if shift is None:
            while there and here and there[-1] == here[-1]:
                there, here = there[:-1], here[:-1]
            shift = here, there
        elif not here.startswith(shift[0]) or shift[1] + here[len(shift[0]) :] != there:
            return None
    return shift or ("", "")


def _fuzzy(
    lines: Sequence[str],
    old: Sequence[str],
    stripped: Sequence[str],
    old_stripped: Sequence[str],
    selection: tuple[int, int] | None,
) -> Match:
    n_starts = len(lines) - len(old) + 1
    if len(old) <= 2:
        starts: Sequence[int] = range(n_starts)
    else:
        # Each equal line votes, with its length, for the place where the old text would then start.
        places: dict[str, list[int]] = {}
        for i, line in enumerate(stripped):
            if line:
                places.setdefault(line, []).append(i)
        votes: dict[int, int] = {}
        for j, line in enumerate(old_stripped):
            for i in places.get(line, ()):
                if 0 <= i - j < n_starts:
                    votes[i - j] = votes.get(i - j, 0) + len(line)
        starts = sorted(heapq.nlargest(8, votes, key=votes.__getitem__))

    known: dict[tuple[str, str], float] = {}

    def similarity(start: int) -> float:
        same = total = 0.0
        for line, old_line in zip(stripped[start : start + len(old)], old_stripped, strict=True):
            if (line, old_line) not in known:
                known[line, old_line] = _similarity(line, old_line)
            weight = len(line) + len(old_line) + 2
            same += known[line, old_line] * weight
            total += weight
        return same / total

    ranked = sorted(((similarity(start), -start) for start in starts), reverse=True)
    if not ranked:
        return NotFound(None, 0.0)
    best, negated = ranked[0]
    nearest = (-negated, -negated + len(old))
    candidates: list[Found] = []
    for value, negated in ranked:
        if value < max(FUZZY_THRESHOLD, best - FUZZY_MARGIN):
            break
        shift = _shift(lines[-negated : -negated + len(old)], old)
        if shift is not None:
            candidates.append(Found(-negated, -negated + len(old), "fuzzy", *shift))
    if not candidates:
        return NotFound(nearest, best)
    return _choose(sorted(candidates), selection)


def _similarity(line: str, old_line: str) -> float:
    if line == old_line:
        return 1.0
    matcher = difflib.SequenceMatcher(None, line, old_line, autojunk=False)
    # The two upper bounds are cheap and rule most pairs out.
    if matcher.real_quick_ratio() < 0.5 or matcher.quick_ratio() < 0.5:
        return 0.0
    return matcher.ratio()
