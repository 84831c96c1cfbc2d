"""Which new line is a change of which old line."""

import difflib
import re
from collections.abc import Sequence

from singlepass.core.edits import difference
from singlepass.core.line_diff import changed_blocks
from singlepass.core.replies.characters import canonical

MIN_ALIKE = 0.6
"""The similarity, from 0 to 1, from which a new line counts as a change of an old one."""
_LEAST = 0.4
_MOST_WORK = 40_000_000
"""Pairs of characters that are compared within a second, whatever they are."""
_LONG = 200
"""Characters of a line. Longer ones are compared word by word, …"""
_LONGEST = 4_000
"""… and those only by what they share at both ends."""
_MOST_SHRUNK = 16
"""How many times longer a line may be than the same one in another spelling."""
_WORD = re.compile(r"\w+|\s+|.")


def similarity(one: str, other: str, least: float = _LEAST) -> float:
    """How alike two lines are, from 0 to 1, whatever their spelling and indentation; 0 for less than
    `least`."""
    if _is_longer(one, other) or _is_longer(other, one):
        return 0.0
    return _alike(canonical(one), canonical(other), least)


def _is_longer(one: str, other: str) -> bool:
    """Whether a line is so much longer that no other spelling makes it like the other one."""
    return len(one) > _LONG and len(one.strip()) > _MOST_SHRUNK * len(other)


def _alike(one: str, other: str, least: float) -> float:
    if one == other:
        return 1.0
    if max(len(one), len(other)) > _LONGEST:
        changed = difference(one, other)
        ratio = 2 * (len(one) - (changed.end - changed.start)) / (len(one) + len(other))
        return ratio if ratio >= least else 0.0
    matcher = difflib.SequenceMatcher(None, one, other, autojunk=False)
    # The two upper bounds are cheap and rule most pairs out.
    if matcher.real_quick_ratio() < least or matcher.quick_ratio() < least:
        return 0.0
    ratio = matcher.ratio() if max(len(one), len(other)) <= _LONG else _alike_in_words(one, other)
    return ratio if ratio >= least else 0.0


def _alike_in_words(one: str, other: str) -> float:
    """Which share of the characters of two lines is in words that they share, in order."""
    words, others = _WORD.findall(one), _WORD.findall(other)
    matcher = difflib.SequenceMatcher(None, words, others, autojunk=False)
    blocks = matcher.get_matching_blocks()
    n_shared = sum(len(word) for start, _, size in blocks for word in words[start : start + size])
    return 2 * n_shared / (len(one) + len(other))


def pairs_of(old: Sequence[str], new: Sequence[str]) -> dict[int, int]:
    """By new line, the old line that it repeats or changes; in order, and alike as a whole as can be."""
    if _work(old) * _work(new) > _MOST_WORK:
        return aligned(old, new)
    bare, bare_new = [*map(canonical, old)], [*map(canonical, new)]
    best = [[0.0] * (len(new) + 1) for _ in range(len(old) + 1)]
    alike: dict[tuple[int, int], float] = {}
    for i in range(len(old) - 1, -1, -1):
        for j in range(len(new) - 1, -1, -1):
            alike[i, j] = _alike(bare[i], bare_new[j], MIN_ALIKE) if bare[i] and bare_new[j] else 0.0
            best[i][j] = max(best[i + 1][j], best[i][j + 1], best[i + 1][j + 1] + alike[i, j])
    pairs: dict[int, int] = {}
    i = j = 0
    while i < len(old) and j < len(new):
        if alike[i, j] and best[i][j] == best[i + 1][j + 1] + alike[i, j]:
            pairs[j] = i
            i, j = i + 1, j + 1
        elif best[i][j] == best[i + 1][j]:
            i += 1
        else:
            j += 1
    return pairs


def aligned(old: Sequence[str], new: Sequence[str]) -> dict[int, int]:
    """The same for two versions of a text: first the lines that are equal, then those alike between them, as
    long as there are not too many."""
    pairs: dict[int, int] = {}
    left = _MOST_WORK
    a = c = 0
    blocks = changed_blocks([*map(str.strip, old)], [*map(str.strip, new)])
    for start, end, start_new, end_new in (*blocks, (len(old), len(old), len(new), len(new))):
        pairs.update(zip(range(c, start_new), range(a, start), strict=True))
        a, c = end, end_new
        work = _work(old[start:end]) * _work(new[start_new:end_new])
        if 0 < work <= left:
            left -= work
            found = pairs_of(old[start:end], new[start_new:end_new])
            pairs.update((start_new + j, start + i) for j, i in found.items())
    return pairs


def _work(lines: Sequence[str]) -> int:
    """What it takes to compare these lines with a character."""
    return sum(min(len(line), _LONGEST) + 20 for line in lines)
