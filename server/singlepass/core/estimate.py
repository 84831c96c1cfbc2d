"""What a request will probably take, from what requests took on this machine (sans-IO).

    prefill of the tokens that are not cached ÷ prefill rate + expected tokens of reply ÷ decode rate

Rates are medians over the latest jobs with the same target, which a single slow job does not move. A prefill
of few tokens says little about the rate and is left out.
"""

from collections.abc import Sequence
from statistics import median

import msgspec

LEAST_PREFILLED = 64
"""Tokens below which a prefill is mostly overhead."""
_TASK_TOKENS = 120
"""About what selection and instruction add to the context."""
_WORTH_SAYING_MS = 100


class Sample(msgspec.Struct, frozen=True):
    """What one finished job took, and nothing of what it was about."""

    target: str
    """The model's name and device; rates of another say nothing."""
    n_prefilled: int
    prefill_ms: float
    n_decoded: int
    decode_ms: float


class Rates(msgspec.Struct, frozen=True):
    """Tokens a second, and the tokens of a usual reply."""

    prefill: float
    decode: float
    n_reply: float


def rates(samples: Sequence[Sample], target: str) -> Rates | None:
    """The rates of a target; None until a job has shown both."""
    own = [sample for sample in samples if sample.target == target]
    prefill = [
        one.n_prefilled / one.prefill_ms * 1000
        for one in own
        if one.n_prefilled >= LEAST_PREFILLED and one.prefill_ms > 0
    ]
    decode = [one.n_decoded / one.decode_ms * 1000 for one in own if one.n_decoded and one.decode_ms > 0]
    if not prefill or not decode:
        return None
    return Rates(median(prefill), median(decode), median(one.n_decoded for one in own if one.n_decoded))


def estimate_ms(known: Rates, n_uncached: int) -> float:
    """Milliseconds from the click to the end, where `n_uncached` tokens of context are still to be read."""
    return duration_ms(known, n_uncached + _TASK_TOKENS, known.n_reply)


def duration_ms(known: Rates, n_prefilled: float, n_decoded: float) -> float:
    """Milliseconds to prefill and decode so many tokens."""
    return (n_prefilled / known.prefill + n_decoded / known.decode) * 1000


def title_suffix(estimated_ms: float) -> str:
    """` · ~2 s`, for a title; rounded to what an estimate is worth, and empty for what is over at once."""
    if estimated_ms < _WORTH_SAYING_MS:
        return ""
    seconds = estimated_ms / 1000
    if seconds < 1:
        return f" · ~{seconds:.1f} s"
    if seconds < 90:
        return f" · ~{seconds:.0f} s"
    return f" · ~{seconds / 60:.0f} min"
