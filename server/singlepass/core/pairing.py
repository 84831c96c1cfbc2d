"""Which new line is a change of which old line."""

import difflib
from collections.abc import Sequence

from singlepass.core.characters import canonical

MIN_ALIKE = 0.6
"""The similarity, from 0 to 1, from which a new line counts as a change of an old one."""
_LEAST = 0.4
_MOST_PAIRS = 10_000
"""Above this many pairs of lines only equal ones are looked for."""


def similarity(one: str, other: str) -> float:
    """How alike two lines are, from 0 to 1, whatever their spelling and indentation; 0 for little."""
    one, other = canonical(one), canonical(other)
    if one == other:
        return 1.0
    matcher = difflib.SequenceMatcher(None, one, other, autojunk=False)
    # The two upper bounds are cheap and rule most pairs out.
    if matcher.real_quick_ratio() < _LEAST or matcher.quick_ratio() < _LEAST:
        return 0.0
    return matcher.ratio()


def pairs_of(old: Sequence[str], new: Sequence[str]) -> dict[int, int]:
    """By new line, the old line that it repeats or changes; in order, and alike as a whole as can be."""
    if len(old) * len(new) > _MOST_PAIRS:
        matcher = difflib.SequenceMatcher(
            None, [*map(str.strip, old)], [*map(str.strip, new)], autojunk=False
        )
        return {b + n: a + n for a, b, size in matcher.get_matching_blocks() for n in range(size)}
    best = [[0.0] * (len(new) + 1) for _ in range(len(old) + 1)]
    alike: dict[tuple[int, int], float] = {}
    for i in range(len(old) - 1, -1, -1):
        for j in range(len(new) - 1, -1, -1):
            value = similarity(old[i], new[j]) if old[i].strip() and new[j].strip() else 0.0
            alike[i, j] = value if value >= MIN_ALIKE else 0.0
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
