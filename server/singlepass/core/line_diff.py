"""What differs between two lists of lines."""

import difflib
from collections import Counter
from collections.abc import Sequence

MOST_COMPARISONS = 2_000_000
"""Above this many pairs of equal lines the difference of two texts is not worth its time; one block then
holds all that lies between their first and last change."""


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
    matcher = difflib.SequenceMatcher(None, old[a:b], new[c:d], autojunk=False)
    return [(a + i, a + j, c + k, c + m) for tag, i, j, k, m in matcher.get_opcodes() if tag != "equal"]
