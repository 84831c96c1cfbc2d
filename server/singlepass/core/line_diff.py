"""A diff of two lists of lines."""

import difflib
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence

MOST_COMPARISONS = 2_000_000
"""Above this many pairs of equal lines the diff takes too long; one block then covers everything between the
first and the last change."""
_MOST_AT_ONCE = 100_000
"""Above this many pairs of lines, the texts are first divided at lines that occur once in each."""


def changed_blocks(old: Sequence[str], new: Sequence[str]) -> list[tuple[int, int, int, int]]:
    """The changed blocks (a, b, c, d): `old[a:b]` becomes `new[c:d]`, in ascending order."""
    n_front = 0
    while n_front < min(len(old), len(new)) and old[n_front] == new[n_front]:
        n_front += 1
    n_back = 0
    while n_back < min(len(old), len(new)) - n_front and old[-1 - n_back] == new[-1 - n_back]:
        n_back += 1
    a, b, c, d = n_front, len(old) - n_back, n_front, len(new) - n_back
    if a == b and c == d:
        return []
    blocks: list[tuple[int, int, int, int]] = []
    for i, k in (*_anchors(old, new, (a, b, c, d)), (b, d)):
        blocks += _between(old, new, (a, i, c, k))
        a, c = i + 1, k + 1
    return blocks


def _anchors(
    old: Sequence[str], new: Sequence[str], span: tuple[int, int, int, int]
) -> list[tuple[int, int]]:
    """Lines that occur once in both texts: the longest sequence in the same order; none for small texts."""
    a, b, c, d = span
    if (b - a) * (d - c) <= _MOST_AT_ONCE:
        return []
    counts, counts_new = Counter(old[a:b]), Counter(new[c:d])
    place = {new[k]: k for k in range(c, d) if counts_new[new[k]] == 1}
    once = [(i, place[old[i]]) for i in range(a, b) if counts[old[i]] == 1 and old[i] in place]
    # The longest increasing subsequence: for each length, the one that ends first.
    ends: list[int] = []
    last: list[int] = []
    before: list[int] = []
    for n, (_, k) in enumerate(once):
        length = bisect_left(ends, k)
        before.append(last[length - 1] if length else -1)
        ends[length : length + 1] = [k]
        last[length : length + 1] = [n]
    found: list[tuple[int, int]] = []
    n = last[-1] if last else -1
    while n >= 0:
        found.append(once[n])
        n = before[n]
    return found[::-1]


def _between(
    old: Sequence[str], new: Sequence[str], span: tuple[int, int, int, int]
) -> list[tuple[int, int, int, int]]:
    """The changed blocks within a part of the texts."""
    a, b, c, d = span
    if a == b or c == d:
        return [span] if a < b or c < d else []
    counts = Counter(new[c:d])
    if sum(counts[line] for line in old[a:b]) > MOST_COMPARISONS:
        return [span]
    matcher = difflib.SequenceMatcher(None, old[a:b], new[c:d], autojunk=False)
    return [(a + i, a + j, c + k, c + m) for tag, i, j, k, m in matcher.get_opcodes() if tag != "equal"]
