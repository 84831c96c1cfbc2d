"""Pairs of old and new lines in which the new line repeats or changes the old one."""

import difflib
import re
from collections.abc import Sequence

from singlepass.core.edits import difference
from singlepass.core.line_diff import changed_blocks
from singlepass.core.replies.characters import canonical

MIN_ALIKE = 0.6
"""Minimum similarity, from 0 to 1, at which a new line counts as a change of an old one."""
_LEAST = 0.4
"""Similarities below this are reported as 0."""
_MOST_WORK = 40_000_000
"""Maximum number of pairs of characters to compare; that many take at most about a second."""
_LONG = 200
"""Lines of more characters are compared word by word."""
_LONGEST = 4_000
"""Lines of more characters are compared only by their common beginning and end."""
_MOST_SHRUNK = 16
"""Maximum ratio of the lengths of two spellings of a line."""
_WORD = re.compile(r"\w+|\s+|.")


def similarity(one: str, other: str, least: float = _LEAST) -> float:
    """The similarity of two lines, from 0 to 1, regardless of spelling and indentation; 0 if it is less than
    `least`."""
    if _is_longer(one, other) or _is_longer(other, one):
        return 0.0
    return _alike(canonical(one), canonical(other), least)


def _is_longer(one: str, other: str) -> bool:
    """Whether a line is too long to be another spelling of the other one."""
    return len(one) > _LONG and len(one.strip()) > _MOST_SHRUNK * len(other)


def _alike(one: str, other: str, least: float) -> float:
    if one == other:
        return 1.0
    if max(len(one), len(other)) > _LONGEST:
        changed = difference(one, other)
        ratio = 2 * (len(one) - (changed.end - changed.start)) / (len(one) + len(other))
        return ratio if ratio >= least else 0.0
    matcher = difflib.SequenceMatcher(None, one, other, autojunk=False)
    # The two upper bounds are cheap and exclude most pairs.
    if matcher.real_quick_ratio() < least or matcher.quick_ratio() < least:
        return 0.0
    ratio = matcher.ratio() if max(len(one), len(other)) <= _LONG else _alike_in_words(one, other)
    return ratio if ratio >= least else 0.0


def _alike_in_words(one: str, other: str) -> float:
    """The share of characters in words that two lines have in common, in order."""
    words, others = _WORD.findall(one), _WORD.findall(other)
    matcher = difflib.SequenceMatcher(None, words, others, autojunk=False)
    blocks = matcher.get_matching_blocks()
    n_shared = sum(len(word) for start, _, size in blocks for word in words[start : start + size])
    return 2 * n_shared / (len(one) + len(other))


def pairs_of(old: Sequence[str], new: Sequence[str]) -> dict[int, int]:
    """By new line, the old line that it repeats or changes; in order, with the maximum sum of
    similarities."""
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
    """Pairs the lines of two versions of a long text, by new line: first equal lines, then similar lines
    between them, as long as these are not too many."""
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
    """The work to compare these lines with one character, in pairs of characters."""
    return sum(min(len(line), _LONGEST) + 20 for line in lines)
