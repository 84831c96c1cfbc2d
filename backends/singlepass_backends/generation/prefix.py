"""Which part of the KV cache the next prompt can use (sans-IO).

Theory of operation. The cache holds the tokens of the last prompt and reply. A new prompt usually shares a
long prefix with them; everything after that is trimmed and prefilled anew. Two limits: the last prompt token
is always evaluated, because only evaluating it gives the logits the reply starts from; and models with a
recurrent state cannot trim, so they reuse the cache only where it is wholly a prefix of the prompt.
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Reuse:
    """Keep the first `n_keep` cached tokens; `trims` where that means forgetting some."""

    n_keep: int
    trims: bool


def common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    """Length of the longest common prefix, by bisection over slices: no Python-level loop over tokens."""
    n = min(len(a), len(b))
    if a[:n] == b[:n]:
        return n
    low, high = 0, n  # a[:low] == b[:low], a[:high] != b[:high]
    while high - low > 1:
        middle = (low + high) // 2
        if a[low:middle] == b[low:middle]:
            low = middle
        else:
            high = middle
    return low


def reuse(
    cached: Sequence[int], prompt: Sequence[int], *, can_trim: bool, needs_logits: bool = True
) -> Reuse:
    """What to keep of `cached` for `prompt`. `needs_logits` leaves at least one prompt token to evaluate."""
    n_most = len(prompt) - 1 if needs_logits else len(prompt)
    n_keep = max(0, min(common_prefix(cached, prompt), n_most))
    if n_keep < len(cached) and not can_trim:
        n_keep = 0
    return Reuse(n_keep, trims=n_keep < len(cached))
