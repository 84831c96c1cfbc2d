"""Compares two versions of a text: what became of each line of the old one.

A line is *kept* if the new version repeats or changes it, in its place or elsewhere. All others are *gone*,
which may be intended or a mistake. `Accounts` searches for evidence that it is intended: the lines in their
place have the same words, or nothing uses any more what the lines defined.
"""

import itertools
import re
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

from singlepass.core.replies.definitions import (
    COMMENT,
    IMPORTED,
    NAME,
    WORD,
    assigned,
    binds,
    defined_name,
    mentions,
    surroundings,
    words_of,
)
from singlepass.core.replies.levels import columns, indent_of

_SOME_WORDS = 0.34
"""Minimum share of a line's words that the lines in its place must have to count as its new version."""
_MOST_OF_IT = 0.5
"""Minimum share of words (or maximum share of missing lines) if the evidence is weaker."""
_FEW_WORDS = 2
"""Lines of at most so many words count as versions of each other if each replaces the other alone."""
_MOST_REPEATED = 0.25
"""Maximum share of the old lines that a shortened version repeats."""
_MOST_WORDS = 0.6
"""Minimum share of the old words, apart from local names, that a shortened version has."""
_RESULT = re.compile(r"(?:return|raise|throw|yield)\b")
_LOOP = re.compile(r"\bfor\s+\(?(?:const\s+|let\s+)?(\w+)")
_CLASS = re.compile(r"\s*(?:[\w@]+\s+)*(?:class|struct|enum|interface|record|object|trait|type)\b")


class Versions(NamedTuple):
    """Two versions of a text, and what became of the lines of the old one."""

    old: Sequence[str]
    new: Sequence[str]
    pairs: Mapping[int, int]
    """By new line, the old line that it repeats or changes, in order."""
    there: Mapping[int, int]
    """The reverse of `pairs`: by old line, the new one."""
    kept: frozenset[int]
    """All old lines that have a counterpart."""
    moved: frozenset[int]
    """Those of them whose counterpart is elsewhere in the new text."""
    fresh: Sequence[int]
    """New lines without a counterpart, in order."""
    names: frozenset[str]
    """The names that fresh lines define."""
    old_names: Counter[str]
    """How often the old text defines each name."""
    n_defined: Counter[str]
    """How often the new text defines each name."""
    mentions: Mapping[str, Sequence[int]]
    """By name, the lines of the new text that contain it."""
    gaps: Sequence[tuple[int, int]]
    """For each old line, the counterparts of the nearest paired lines before and after it (itself
    included)."""

    def is_mentioned(self, name: str) -> bool:
        """Whether an old line that contains the name as a whole still does so in the new text."""
        found = re.compile(rf"(?<![\w$.])(?:(?:self|this|cls)\.)?{re.escape(name)}(?![\w$])")
        pairs = ((j, self.pairs.get(j)) for j in self.mentions.get(name, ()))
        return any(
            i is not None and found.search(self.old[i]) and found.search(self.new[j]) for j, i in pairs
        )

    def instead(self, start: int, end: int) -> list[str]:
        """The fresh lines in the place of the old lines from `start` to `end` (exclusive)."""
        first, last = self.gaps[start][0], self.gaps[end - 1][1]
        there = self.fresh[bisect_right(self.fresh, first) : bisect_left(self.fresh, last)]
        return [self.new[n].strip() for n in there]


def compared(old: Sequence[str], new: Sequence[str], pairs: Mapping[int, int]) -> Versions:
    """The comparison of two texts. `pairs` maps each new line that repeats or changes an old line to it, in
    order."""
    there = {i: j for j, i in pairs.items()}
    elsewhere: dict[str, list[int]] = {}
    for j in range(len(new) - 1, -1, -1):
        if j not in pairs and WORD.search(new[j]):
            elsewhere.setdefault(new[j].strip(), []).append(j)
    moved = {
        i: found.pop()
        for i, line in enumerate(old)
        if i not in there and (found := elsewhere.get(line.strip()))
    }
    before = [*itertools.accumulate((there.get(i, -1) for i in range(len(old))), max)]
    behind = [*itertools.accumulate((there.get(i, len(new)) for i in reversed(range(len(old)))), min)][::-1]
    taken = {*moved.values()}
    fresh = [j for j, line in enumerate(new) if line.strip() and j not in pairs and j not in taken]
    return Versions(
        old,
        new,
        pairs,
        there,
        kept=frozenset(there) | frozenset(moved),
        moved=frozenset(moved),
        fresh=fresh,
        names=frozenset(defined_name(new[j].strip()) for j in fresh) - {""},
        old_names=Counter(defined_name(line.strip()) for line in old),
        n_defined=Counter(defined_name(line.strip()) for line in new),
        mentions=mentions(new),
        gaps=[*zip(before, behind, strict=True)],
    )


class Accounts:
    """Evidence of what became of the lines that are gone."""

    def __init__(self, old: Sequence[str], new: Sequence[str], versions: Versions) -> None:
        self._old, self._new, self._versions = old, new, versions
        self._mentions, self._mentions_old = versions.mentions, mentions(old)
        self._uses = mentions(new, alone=True)
        self._bound = frozenset[str]().union(*map(assigned, new))
        self._added: dict[int, frozenset[str]] = {j: words_of(new[j]) for j in versions.fresh}
        for j, i in versions.pairs.items():
            if old[i].strip() != new[j].strip():
                self._added[j] = words_of(new[j]) - words_of(old[i])
        self._adding: dict[str, list[int]] = {}
        for j in sorted(self._added):
            for word in self._added[j]:
                self._adding.setdefault(word, []).append(j)
        self._headers, self._ends, self._bodies = surroundings(old)

    def has(self, row: Sequence[int]) -> bool:
        """Whether there is evidence that a row of lines (consecutive gone lines) was removed on purpose or
        replaced."""
        versions = self._versions
        before, behind = versions.gaps[row[0]][0], versions.gaps[row[-1]][1]
        instead = [line for line in versions.instead(row[0], row[-1] + 1) if WORD.search(line)]
        instead = [line for line in instead if not COMMENT.match(line)]
        if not any(defined_name(self._old[n].strip()) for n in row):
            instead = [*itertools.takewhile(lambda line: not defined_name(line), instead)]
        words = frozenset[str]().union(*map(words_of, instead))
        is_border = not instead and (before < 0 or behind >= len(self._new))
        for there in () if is_border else (before, behind):
            words |= self._added.get(there, frozenset())
        least = _SOME_WORDS if instead else _MOST_OF_IT
        if len(row) == len(instead) == 1 and _is_of_a_kind(self._old[row[0]], instead[0]):
            return True
        missing = [n for n in row if not self._has_line(n, row, words, least, is_border)]
        # Definitions that only found lines of the row use may be missing.
        found = frozenset[str]().union(*(words_of(self._old[n]) for n in row if n not in missing))
        n_missing = sum(assigned(self._old[n]).isdisjoint(found) for n in missing)
        return n_missing <= (_MOST_OF_IT * len(row) if instead else 0)

    def _has_line(
        self, n: int, row: Sequence[int], words: Collection[str], least: float, is_border: bool
    ) -> bool:
        gone, names = words_of(self._old[n]), assigned(self._old[n])
        if not gone:
            return least < _MOST_OF_IT or self._is_header_of_kept(n)
        if not is_border:
            if sum(word in words for word in gone) >= least * len(gone):
                return True
            if IMPORTED.match(self._old[n]) and all(name in self._adding for name in names):
                return True
            if self._is_elsewhere(gone):
                return True
        if any(self._is_dropped(name, row) for name in gone | names):
            return True
        if IMPORTED.match(self._old[n]) and not any(name in self._mentions for name in names):
            return True
        return self._is_superfluous(n, row, names) or self._is_header_of_kept(n)

    def _is_dropped(self, name: str, row: Sequence[int]) -> bool:
        """Whether the definition that contains a row also used a name outside the row, and no longer does."""
        header = self._headers[row[0]]
        end = self._bodies[header]
        there = self._mentions_old.get(name, ())
        is_beside = _within(there, header - 1, row[0]) is not None or _within(there, row[-1], end) is not None
        begin, behind = self._begin(header), self._versions.gaps[end - 1][1]
        return is_beside and _within(self._mentions.get(name, ()), begin - 1, behind) is None

    def _begin(self, header: int) -> int:
        """Where a definition of the old text begins in the new one."""
        if header < 0:
            return -1
        return self._versions.there.get(header, self._versions.gaps[header][0])

    def _is_elsewhere(self, words: frozenset[str]) -> bool:
        """Whether a fresh or changed line has added all of these words."""
        rarest = min((self._adding.get(word, ()) for word in words), key=len)
        return any(words <= self._added[j] for j in rarest)

    def _is_superfluous(self, n: int, row: Sequence[int], names: Collection[str]) -> bool:
        """Whether the rest of the block used the names that a line defines, and no longer does."""
        first, last = self._versions.gaps[n][0], self._versions.gaps[self._ends[n] - 1][1]
        return bool(names) and all(
            _within(self._mentions_old.get(name, ()), row[-1], self._ends[n]) is not None
            and _within(self._mentions.get(name, ()), first, last) is None
            for name in names
        )

    def is_needed(self, n: int) -> bool:
        """Whether the new text uses a name that a gone or changed line defined, and no other line defines
        it."""
        versions, line = self._versions, self._old[n]
        there = versions.there.get(n)
        names = assigned(line) - (assigned(self._new[there]) if there is not None else frozenset())
        if not names or n in versions.moved:
            return False
        header = self._headers[n]
        if "." in line[: line.find("=")] or (header >= 0 and _CLASS.match(self._old[header])):
            return any(name in self._mentions and name not in self._bound for name in names)
        begin = self._begin(header)
        first, last = versions.gaps[n][0], versions.gaps[self._ends[n] - 1][1]
        for name in names:
            at = _within(self._uses.get(name, ()), first if there is None else there, last)
            if at is None or name in assigned(self._new[at]) or binds(self._new[at], name):
                continue
            if _within(self._adding.get(name, ()), begin - 1, at) is None:
                return True
        return False

    def _is_header_of_kept(self, n: int) -> bool:
        """Whether a line is the first of a block whose lines are kept with less indentation."""
        old, new, there = self._old, self._new, self._versions.there
        if not old[n].rstrip().endswith((":", "{", "then", "do")):
            return False
        below = next((m for m in range(n + 1, len(old)) if m in there and old[m].strip()), None)
        return below is not None and columns(indent_of(new[there[below]])) < columns(indent_of(old[below]))


def _is_of_a_kind(one: str, other: str) -> bool:
    """Whether a line may replace a different one: they begin with the same name, or have very few words."""
    words, others = NAME.findall(one), NAME.findall(other)
    return words[:1] == others[:1] or max(len(words), len(others)) <= _FEW_WORDS


def is_shortened(old: Sequence[str], new: Sequence[str]) -> bool:
    """Whether `new` is a shortened version of `old`: it has fewer lines, begins and ends alike, uses most of
    the same words, and repeats few of the lines between."""
    lines, others = ([line.strip() for line in text if line.strip()] for text in (old, new))
    if not 0 < len(others) < len(lines):
        return False
    n_equal = len({*lines[1:-1]} & {*others[1:-1]})
    if n_equal > _MOST_REPEATED * len(lines):
        return False
    name = defined_name(lines[0])
    is_same = bool(name) and name == defined_name(others[0])
    ends_alike = _begins_alike(lines[-1], others[-1]) or (is_same and len(others) == 1)
    if not ends_alike or not (is_same or _RESULT.match(others[-1])):
        return False
    local = frozenset[str]().union(*map(assigned, lines), *(_LOOP.findall(line) for line in lines))
    gone = frozenset[str]().union(*map(words_of, lines)) - local
    return len(gone & frozenset[str]().union(*map(words_of, others))) >= _MOST_WORDS * len(gone)


def _begins_alike(one: str, other: str) -> bool:
    return one == other or NAME.findall(one)[:1] == NAME.findall(other)[:1] != []


def _within(lines: Sequence[int], after: int, before: int) -> int | None:
    """The first of the sorted lines that is between `after` and `before` (both exclusive); None if there is
    none."""
    at = bisect_right(lines, after)
    return lines[at] if at < len(lines) and lines[at] < before else None


def rows(versions: Versions, text: Sequence[int]) -> Iterator[list[int]]:
    """The runs of consecutive gone lines; lines without words between them are ignored."""
    words = (n for n in text if WORD.search(versions.old[n]))
    for is_kept, run in itertools.groupby(words, versions.kept.__contains__):
        if not is_kept:
            yield [*run]
