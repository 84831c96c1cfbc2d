"""The matcher: where in a document the old lines of a block stand, and what its new lines are there.

Theory of operation
===================

A constrained model copies the old lines exactly, and once. Others forget trailing spaces, change the
indentation, write `“` for `"`, put line numbers in front, or misquote a word. So there are levels, tried in
turn until one has a candidate:

    exact                 the lines are equal
    trailing_whitespace   equal but for white space at line ends
    indentation           equal after one map of indentations (`indentation.py`)
    characters            equal but for the spelling of characters (`characters.py`)

first for the block as it was written, then with the model's habits taken off old and new lines alike
(`habits.py`), and at last

    fuzzy                 of the same number of lines, each of them alike, and alike enough as a whole

A candidate is always as many lines as the old text has. When a level has several, the place is not known, and
guessing would edit the wrong one: the answer is `Ambiguous` unless exactly one lies inside the selection.

What is found by similarity may be another place than the model meant. So a line of the document that is not
the quoted one is never deleted or replaced: the change is merged into it, or the answer is `Differs`
(`misquoted.py`). And a quoted line that stands elsewhere in the document means that other line.

The levels but the last search with Knuth-Morris-Pratt over lines, so a document is read once. The last looks
at places that share lines with the old text, and at every place only for very short old texts.
"""

import heapq
import operator
import re
from collections.abc import Sequence
from typing import Literal, NamedTuple

from singlepass.core.replies.characters import canonical, respelling, with_one_quote
from singlepass.core.replies.habits import Quotation, quotations
from singlepass.core.replies.indentation import indentation_map, is_mappable, raised_again, reindent
from singlepass.core.replies.levels import indent_of
from singlepass.core.replies.misquoted import carried_over, comment_left_out
from singlepass.core.replies.pairing import similarity
from singlepass.core.replies.repeated import taken_along

How = Literal["exact", "trailing_whitespace", "indentation", "characters", "habits", "fuzzy", "rewrite"]
"""Which level found the old lines. `habits` is any but the last of them, without the model's habits;
`rewrite` is text that was written anew as a whole."""

FUZZY_THRESHOLD = 0.85
"""The similarity, from 0 to 1, from which a fuzzy candidate counts."""
FUZZY_MARGIN = 0.05
"""How much more similar than any other place the fuzzy candidate has to be."""
LINE_THRESHOLD = 0.6
"""The similarity that each line of a fuzzy candidate has at least."""
_LEAST_THRESHOLD = 0.4
"""The similarity that each line has at a place which makes another one ambiguous."""
_MOST_TRIED = 2_000
"""Places that are compared letter by letter."""
_MOST_DIFFERING = 300
"""A place where more lines differ is not alike."""
_MOST_COMPARED = 1_000_000
"""Pairs of lines that are compared to find places."""
_WORD = re.compile(r"\w+")
_WITHOUT_COMMENT = 0.9
"""The similarity of a line and the same without the comment at its end."""


class Found(NamedTuple):
    """The old lines are the lines `start` to `end` (exclusive) of the document."""

    start: int
    end: int
    how: How
    new: tuple[str, ...] = ()
    """The lines to stand there then."""


class Ambiguous(NamedTuple):
    """The old lines could be any of these ranges of lines (ends exclusive)."""

    candidates: tuple[tuple[int, int], ...]


class NotFound(NamedTuple):
    """The old lines are not in the document."""

    nearest: tuple[int, int] | None
    """The most similar range of lines that was seen."""
    similarity: float
    """How similar it is, from 0 to 1."""


class Differs(NamedTuple):
    """The old lines resemble these lines of the document, but not where the block changes them."""

    start: int
    end: int
    """Exclusive."""


class Unclear(NamedTuple):
    """The old lines are these lines of the document, but what the block makes of them cannot be known."""

    start: int
    end: int
    """Exclusive."""
    why: Literal["signs", "repeated"]
    """`signs`: a `+` before new lines may be the sign of a diff, or belong to them. `repeated`: the new lines
    have some of the document's beside the old ones, which would then stand there twice."""


Match = Found | Ambiguous | NotFound | Differs | Unclear


def match(
    lines: Sequence[str],
    old: Sequence[str],
    new: Sequence[str],
    selection: tuple[int, int] | None = None,
    *,
    is_literal: bool = False,
) -> Match:
    """Find the old lines among the visible lines of a document, and what becomes of them.

    `selection` is a range of lines, end exclusive. No old lines at all means the whole of a document without
    text, and nothing in any other. `is_literal` is for old lines that the edit grammar made the model copy:
    the block then does what it says, also where that looks like a mistake.
    """
    document = _Document(lines)
    found = _locate(document, old, new, selection)
    if is_literal and isinstance(found, Unclear | Differs):
        return Found(found.start, found.end, "exact", tuple(new))
    if isinstance(found, Found) and not is_literal:
        return _with_beside(lines, found)
    if not isinstance(found, NotFound) or not old:
        return found
    written = [one for one in quotations(old, new, lines) if not (one.is_exact or one.is_doubtful)]
    # Habits make every line less alike, so what is left without them comes first.
    for one in dict.fromkeys((*written[-1:], *written[:1])):
        found = _fuzzy(document, one, selection)
        if not isinstance(found, NotFound):
            break
    return _with_beside(lines, found) if isinstance(found, Found) else found


def _with_beside(lines: Sequence[str], found: Found) -> Found | Unclear:
    """With the lines beside that the new lines repeat."""
    beside = taken_along(lines, found.start, found.end, found.new)
    if beside is None:
        return Unclear(found.start, found.end, "repeated")
    return found._replace(start=beside.start, end=beside.end, new=tuple(beside.new))


def locate(
    lines: Sequence[str],
    old: Sequence[str],
    new: Sequence[str],
    selection: tuple[int, int] | None = None,
) -> Match:
    """The same without the fuzzy level."""
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
    """At the first level that has a candidate; None where none has."""
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
    """Those of the places at which a map of indentations exists; all, where they are too many."""
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
    """The new lines as they are to stand at this place."""
    end = start + len(written.old)
    window = document.lines[start:end]
    old, new = written.old, written.new
    if how != "exact":
        respelled = respelling(zip(old, window, strict=True))
        old, new = tuple(map(respelled, old)), tuple(map(respelled, new))
    if any(a != a.rstrip() and b == b.rstrip() for a, b in zip(old, window, strict=True)):
        # White space at line ends that the document has not is in the new lines too.
        new = tuple(map(str.rstrip, new))
    indentation = indentation_map(old, window, new, document.lines)
    there = new if indentation is None else reindent(old, window, new, indentation)
    if there is not None and indentation is not None and indentation.is_identity:
        there = raised_again(document.lines[:start], window, there, document.lines[end:])
    old_there = [indent_of(b) + a.strip() if b.strip() else a for a, b in zip(old, window, strict=True)]
    carried = None if there is None else carried_over(old if how == "exact" else old_there, window, there)
    return Differs(start, end) if carried is None else Found(start, end, how, tuple(carried))


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
        # A place with as many equal lines is no worse, whatever the others resemble more.
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
    """Where lines like the old ones may stand; None where that is nowhere, or anywhere."""
    n_starts = len(lines) - len(old) + 1
    if n_starts < 1:
        return None
    if len(old) <= 2:
        return range(n_starts) if n_starts <= _MOST_TRIED else _with_their_words(lines, old)
    # Each equal line votes, with its length, for the place where the old text would then start.
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
    """The places whose lines share most words with the old ones; None where as many do in too many places."""
    words = [{*_WORD.findall(line)} for line in old]
    shared = [0] * (len(lines) - len(old) + 1)
    for j, wanted in enumerate(words):
        for start in range(len(shared)):
            shared[start] += sum(map(len, wanted.intersection(_WORD.findall(lines[start + j]))))
    best = max(shared)
    likely = [start for start, n in enumerate(shared) if n and n >= best * _LEAST_THRESHOLD]
    return likely if len(likely) <= _MOST_TRIED else None
