"""The matcher: finds the old lines of a block in a document, and determines the new lines for that place.

Theory of operation
===================

A constrained model copies the old lines exactly, from one place. Other models forget trailing spaces, change
the indentation, write `“` for `"`, add line numbers, or misquote a word. Therefore there are levels, which
are tried in this order until one has a candidate:

    exact                 the lines are equal
    trailing_whitespace   equal apart from trailing white space
    indentation           equal after a consistent change of indentation (`indentation.py`)
    characters            equal apart from the spelling of characters (`characters.py`)

They are tried first for the block as written, then without the model's habits such as line numbers
(`habits.py`). The last level is

    fuzzy                 each line is similar, and the lines as a whole are similar enough

A candidate always has as many lines as the old text. If a level has several candidates, the result is
`Ambiguous` unless exactly one is inside the selection, because guessing might edit the wrong place.

A place that was found by similarity may not be the one that the model meant. Therefore a line of the document
that differs from the quoted one is never deleted or replaced: the change is merged into it, or the result is
`Differs` (`misquoted.py`). And if a quoted line occurs exactly elsewhere in the document, that line was
meant.

All levels but the last search runs of lines with the algorithm of Knuth, Morris and Pratt, in linear time.
The last examines places that share lines with the old text; for one or two old lines it examines every place.
"""

import heapq
import operator
import re
from collections.abc import Sequence
from typing import Literal, NamedTuple

from singlepass.core.hunks import How
from singlepass.core.replies.characters import canonical, respelling, with_one_quote
from singlepass.core.replies.habits import Quotation, quotations
from singlepass.core.replies.indentation import indentation_map, is_mappable, raised_again, reindent
from singlepass.core.replies.levels import indent_of
from singlepass.core.replies.misquoted import carried_over, comment_left_out
from singlepass.core.replies.pairing import similarity
from singlepass.core.replies.repeated import with_repeated

FUZZY_THRESHOLD = 0.85
"""Minimum similarity of a fuzzy candidate, from 0 to 1."""
FUZZY_MARGIN = 0.05
"""Minimum amount by which a fuzzy candidate must be more similar than any other place."""
LINE_THRESHOLD = 0.6
"""Minimum similarity of each line of a fuzzy candidate."""
_LEAST_THRESHOLD = 0.4
"""Minimum similarity of each line at a place that makes a better candidate ambiguous."""
_MOST_TRIED = 2_000
"""Maximum number of places that are compared character by character."""
_MOST_DIFFERING = 300
"""Places at which more lines differ are not candidates."""
_MOST_COMPARED = 1_000_000
"""Maximum number of pairs of lines that are compared to find places."""
_WORD = re.compile(r"\w+")
_WITHOUT_COMMENT = 0.9
"""Similarity of a line and the same line without the comment at its end."""


class Found(NamedTuple):
    """The old lines are the lines from `start` to `end` (exclusive) of the document."""

    start: int
    end: int
    how: How
    new: tuple[str, ...] = ()
    """The lines that replace them."""


class Ambiguous(NamedTuple):
    """The old lines may be any of these ranges of lines (ends exclusive)."""

    candidates: tuple[tuple[int, int], ...]


class NotFound(NamedTuple):
    """The old lines are not in the document."""

    nearest: tuple[int, int] | None
    """The most similar range of lines that was examined; None if none was."""
    similarity: float
    """How similar it is, from 0 to 1."""


class Differs(NamedTuple):
    """The old lines resemble these lines of the document, but differ from them in what the block changes."""

    start: int
    end: int
    """Exclusive."""


class Unclear(NamedTuple):
    """The old lines are these lines of the document, but the change is ambiguous."""

    start: int
    end: int
    """Exclusive."""
    why: Literal["signs", "repeated"]
    """`signs`: a `+` before new lines may be a diff sign or a part of them. `repeated`: the new lines repeat
    lines around the old ones, which the document would then have twice."""


Match = Found | Ambiguous | NotFound | Differs | Unclear


def match(
    lines: Sequence[str],
    old: Sequence[str],
    new: Sequence[str],
    selection: tuple[int, int] | None = None,
    *,
    is_literal: bool = False,
) -> Match:
    """Find the old lines among the visible lines of a document, and determine the lines that replace them.

    `selection` is a range of lines, end exclusive. No old lines at all means the whole of a document without
    text, and nothing in any other. `is_literal` is for old lines that the edit grammar made the model copy:
    the block then does what it says, also where that looks like a mistake.
    """
    document = _Document(lines)
    found = _locate(document, old, new, selection)
    if is_literal and isinstance(found, Unclear | Differs):
        return Found(found.start, found.end, "exact", tuple(new))
    if isinstance(found, Found) and not is_literal:
        return _extended(lines, found)
    if not isinstance(found, NotFound) or not old:
        return found
    written = [one for one in quotations(old, new, lines) if not (one.is_exact or one.is_doubtful)]
    # Habits make every line less similar, so the version without them is tried first.
    for one in dict.fromkeys((*written[-1:], *written[:1])):
        found = _fuzzy(document, one, selection)
        if not isinstance(found, NotFound):
            break
    return _extended(lines, found) if isinstance(found, Found) else found


def _extended(lines: Sequence[str], found: Found) -> Found | Unclear:
    """The match, extended by adjacent lines that the new lines repeat."""
    change = with_repeated(lines, found.start, found.end, found.new)
    if change is None:
        return Unclear(found.start, found.end, "repeated")
    return found._replace(start=change.start, end=change.end, new=tuple(change.new))


def locate(
    lines: Sequence[str],
    old: Sequence[str],
    new: Sequence[str],
    selection: tuple[int, int] | None = None,
) -> Match:
    """Like `match`, but without the fuzzy level."""
    return _locate(_Document(lines), old, new, selection)


def _locate(
    document: "_Document", old: Sequence[str], new: Sequence[str], selection: tuple[int, int] | None
) -> Match:
    lines = document.lines
    if (not old or not lines) and not any(line.strip() for line in (*old, *lines)):
        return Found(0, len(lines), "exact", tuple(new))
    if not old:
        return NotFound(None, 0.0)
    for written in quotations(old, new, lines):
        found = _find(document, written, selection)
        if isinstance(found, Found):
            if written.is_doubtful:
                return Unclear(found.start, found.end, "signs")
            return found._replace(how="habits") if written.old != tuple(old) else found
        if found is not None:
            return found
    return NotFound(None, 0.0)


class _Document:
    """The lines of a document, in the forms in which they are compared."""

    def __init__(self, lines: Sequence[str]) -> None:
        self.lines = lines
        self._forms: dict[str, list[str]] = {}

    def form(self, name: str) -> list[str]:
        """All lines in one of the forms of `_FORMS`."""
        if name not in self._forms:
            self._forms[name] = [*map(_FORMS[name], self.lines)]
        return self._forms[name]


_FORMS = {
    "exact": str,
    "trailing_whitespace": str.rstrip,
    "indentation": str.strip,
    "characters": canonical,
    "quotes": with_one_quote,
    "indents": indent_of,
}


_LEVELS: tuple[How, ...] = ("exact", "trailing_whitespace", "indentation", "characters")


def _find(
    document: _Document, written: Quotation, selection: tuple[int, int] | None
) -> Found | Ambiguous | Differs | None:
    """The result of the first level that has a candidate; None if none has."""
    n_old = len(written.old)
    if n_old > len(document.lines):
        return None
    for how in _LEVELS[: 2 if written.is_exact else None]:
        form = _FORMS[how]
        starts = find_runs(document.form(how), [form(line) for line in written.old])
        if how in ("indentation", "characters"):
            starts = _mappable(document, written.old, starts)
        if starts:
            chosen = _choose([(start, start + n_old) for start in starts], selection)
            return chosen if isinstance(chosen, Ambiguous) else _placed(document, written, chosen[0], how)
    return None


def _mappable(document: _Document, old: Sequence[str], starts: Sequence[int]) -> list[int]:
    """The places for which an indentation map exists; all places if they are too many to check."""
    if len(starts) * len(old) > _MOST_COMPARED:
        return [*starts]
    known: dict[tuple[str, ...], bool] = {}
    found: list[int] = []
    for start in starts:
        indents = tuple(document.form("indents")[start : start + len(old)])
        if indents not in known:
            known[indents] = is_mappable(old, document.lines[start : start + len(old)])
        if known[indents]:
            found.append(start)
    return found


def _placed(document: _Document, written: Quotation, start: int, how: How) -> Found | Differs:
    """The match at this place, with the new lines in the document's spelling and indentation."""
    end = start + len(written.old)
    window = document.lines[start:end]
    old, new = written.old, written.new
    if how != "exact":
        respelled = respelling(zip(old, window, strict=True))
        old, new = tuple(map(respelled, old)), tuple(map(respelled, new))
    if any(a != a.rstrip() and b == b.rstrip() for a, b in zip(old, window, strict=True)):
        # The model added trailing white space, probably to the new lines as well.
        new = tuple(map(str.rstrip, new))
    indentation = indentation_map(old, window, new, document.lines)
    there = new if indentation is None else reindent(old, window, new, indentation)
    if there is not None and indentation is not None and indentation.is_identity:
        there = raised_again(document.lines[:start], window, there, document.lines[end:])
    old_there = [indent_of(b) + a.strip() if b.strip() else a for a, b in zip(old, window, strict=True)]
    carried = None if there is None else carried_over(old if how == "exact" else old_there, window, there)
    return Differs(start, end) if carried is None else Found(start, end, how, tuple(carried))


def find_runs(lines: Sequence[str], run: Sequence[str]) -> list[int]:
    """Every index at which the run (at least one line) occurs, including overlapping occurrences."""
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


def _choose(
    candidates: Sequence[tuple[int, int]], selection: tuple[int, int] | None
) -> tuple[int, int] | Ambiguous:
    if len(candidates) == 1:
        return candidates[0]
    if selection is not None:
        inside = [one for one in candidates if selection[0] <= one[0] and one[1] <= selection[1]]
        if len(inside) == 1:
            return inside[0]
    return Ambiguous(tuple(candidates))


def _fuzzy(document: _Document, written: Quotation, selection: tuple[int, int] | None) -> Match:
    lines, old = document.form("quotes"), [*map(with_one_quote, written.old)]
    starts = _likely(lines, old)
    if starts is None:
        return NotFound(None, 0.0)

    known: dict[tuple[str, str], float] = {}

    def alike(line: str, old_line: str) -> float:
        if not line or not old_line or line == old_line:
            return float(line == old_line)
        if (line, old_line) not in known:
            is_tail = bool(comment_left_out(old_line, line))
            known[line, old_line] = _WITHOUT_COMMENT if is_tail else similarity(line, old_line)
        return known[line, old_line]

    def as_a_whole(start: int) -> float:
        same = total = 0.0
        if sum(map(operator.ne, lines[start : start + len(old)], old)) > _MOST_DIFFERING:
            return 0.0
        for line, old_line in zip(lines[start : start + len(old)], old, strict=True):
            weight = len(line) + len(old_line) + 2
            same += alike(line, old_line) * weight
            total += weight
        return same / total

    def n_equal(start: int) -> int:
        pairs = zip(lines[start : start + len(old)], old, strict=True)
        return sum(line == old_line and bool(line) for line, old_line in pairs)

    ranked = sorted(((as_a_whole(start), -start) for start in starts), reverse=True)
    if not ranked:
        return NotFound(None, 0.0)
    best, negated = ranked[0]
    nearest = (-negated, -negated + len(old))
    candidates: list[tuple[int, int]] = []
    most_equal = n_equal(nearest[0])
    for value, negated in ranked:
        start = -negated
        window = lines[start : start + len(old)]
        # A place with as many equal lines is as good, even if its other lines are less similar.
        is_as_good = value >= best - FUZZY_MARGIN or 0 < most_equal <= n_equal(start)
        least = LINE_THRESHOLD if value >= FUZZY_THRESHOLD else _LEAST_THRESHOLD
        if (
            is_as_good
            and all(alike(a, b) >= least for a, b in zip(window, old, strict=True))
            and is_mappable(written.old, document.lines[start : start + len(old)])
        ):
            candidates.append((start, start + len(old)))
    if best < FUZZY_THRESHOLD or nearest not in candidates:
        return NotFound(nearest, best)
    chosen = _choose(sorted(candidates), selection)
    if isinstance(chosen, Ambiguous):
        return chosen
    window = lines[chosen[0] : chosen[1]]
    stands = set(lines)
    if any(line != old_line and old_line in stands for line, old_line in zip(window, old, strict=True)):
        return NotFound(nearest, best)
    return _placed(document, written, chosen[0], "fuzzy")


def _likely(lines: Sequence[str], old: Sequence[str]) -> Sequence[int] | None:
    """The places where similar lines may be; None if there are none, or too many."""
    n_starts = len(lines) - len(old) + 1
    if n_starts < 1:
        return None
    if len(old) <= 2:
        return range(n_starts) if n_starts <= _MOST_TRIED else _with_their_words(lines, old)
    # Each equal line votes for the place where the old text would start, weighted by its length.
    places: dict[str, list[int]] = {}
    for i, line in enumerate(lines):
        if line:
            places.setdefault(line, []).append(i)
    votes: dict[int, int] = {}
    left = _MOST_COMPARED
    for j in sorted(range(len(old)), key=lambda j: len(places.get(old[j], ()))):
        found = places.get(old[j], ())
        left -= len(found)
        if left < 0:
            break
        for i in found:
            if 0 <= i - j < n_starts:
                votes[i - j] = votes.get(i - j, 0) + len(old[j])
    return sorted(heapq.nlargest(8, votes, key=votes.__getitem__)) or None


def _with_their_words(lines: Sequence[str], old: Sequence[str]) -> list[int] | None:
    """The places whose lines share the most words with the old ones; None if there are too many."""
    words = [{*_WORD.findall(line)} for line in old]
    shared = [0] * (len(lines) - len(old) + 1)
    for j, wanted in enumerate(words):
        for start in range(len(shared)):
            shared[start] += sum(map(len, wanted.intersection(_WORD.findall(lines[start + j]))))
    best = max(shared)
    likely = [start for start, n in enumerate(shared) if n and n >= best * _LEAST_THRESHOLD]
    return likely if len(likely) <= _MOST_TRIED else None
