"""What differs between two lists of lines."""

import difflib
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence

MOST_COMPARISONS = 2_000_000
"""Above this many pairs of equal lines the difference of two texts is not worth its time; one block then
holds all that lies between their first and last change."""
_LONG = 2_000
"""From this many lines on, lines that occur once in both texts divide the comparison. Without them its time
grows with the number of lines times that of changes."""


def changed_blocks(old: Sequence[str], new: Sequence[str]) -> list[tuple[int, int, int, int]]:
    """What differs: `old[a:b]` becomes `new[c:d]`, in ascending order."""
    n_front = 0
    while n_front < min(len(old), len(new)) and old[n_front] == new[n_front]:
        n_front += 1
    n_back = 0
    while n_back < min(len(old), len(new)) - n_front and old[-1 - n_back] == new[-1 - n_back]:
        n_back += 1
    a, b, c, d = n_front, len(old) - n_back, n_front, len(new) - n_back
    if a == b and c == d:
        return []
    counts = Counter(new[c:d])
    if sum(counts[line] for line in old[a:b]) > MOST_COMPARISONS:
        return [(a, b, c, d)]
    if max(b - a, d - c) < _LONG:
        return [*_compare(old, new, a, b, c, d)]
    blocks: list[tuple[int, int, int, int]] = []
    for i, k in [*_unique_in_both(old, new, a, b, c, d), (b, d)]:
        blocks += _compare(old, new, a, i, c, k)
        a, c = i + 1, k + 1
    return blocks


def _compare(
    old: Sequence[str], new: Sequence[str], a: int, b: int, c: int, d: int
) -> Iterator[tuple[int, int, int, int]]:
    """The blocks within `old[a:b]` and `new[c:d]`."""
    matcher = difflib.SequenceMatcher(None, old[a:b], new[c:d], autojunk=False)
    for tag, i, j, k, m in matcher.get_opcodes():
        if tag != "equal":
            yield a + i, a + j, c + k, c + m


def _unique_in_both(
    old: Sequence[str], new: Sequence[str], a: int, b: int, c: int, d: int
) -> list[tuple[int, int]]:
    """Places of lines that occur once in `old[a:b]` and once in `new[c:d]`: the longest run in one order."""
    n_old, n_new = Counter(old[a:b]), Counter(new[c:d])
    places = {new[k]: k for k in range(c, d)}
    pairs = [(i, places[old[i]]) for i in range(a, b) if n_old[old[i]] == n_new[old[i]] == 1]
    # The longest run of ascending second places: the last pair of the best run of each length so far.
    ends: list[int] = []
    last: list[int] = []
    before: list[int] = []
    for n, (_, k) in enumerate(pairs):
        length = bisect_left(ends, k)
        before.append(last[length - 1] if length else -1)
        ends[length : length + 1] = [k]
        last[length : length + 1] = [n]
    found: list[tuple[int, int]] = []
    n = last[-1] if last else -1
    while n >= 0:
        found.append(pairs[n])
        n = before[n]
    return found[::-1]
