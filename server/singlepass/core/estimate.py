"""What a request will probably take, from what requests took on this machine (sans-IO).

    prefill of the tokens that are not cached + decode of the expected reply + what surrounds the two

No one rate tells the first two: a short prefill pays for a whole pass and a long one for attention, and how
much of a reply is drafted or forced depends on its length. So the rate for a number of tokens is the median
over the requests most alike in it, of the latest with the same target; the length of the reply is that of
requests with a selection most alike, of the same action once it was used a few times. Medians, since a single
slow job should move nothing.
"""

import math
from collections.abc import Sequence
from statistics import median

import msgspec

LEAST_PREFILLED = 64
"""Tokens below which a prefill is mostly overhead, and says nothing of the rate."""
N_ALIKE = 9
ENOUGH_OF_AN_ACTION = 3
"""Requests of one action that say more of its replies than all requests do."""
_TASK_TOKENS = 80
"""About what an instruction adds to the context beside the selection."""
_CHARS_PER_TOKEN = 4
_WORTH_SAYING_MS = 100


class Sample(msgspec.Struct, frozen=True):
    """What one finished job took, and nothing of what it was about."""

    target: str
    """The model's name and device; rates of another say nothing."""
    n_prefilled: int
    prefill_ms: float
    n_decoded: int
    decode_ms: float
    other_ms: float | None = None
    """What surrounds the two: the context, the grammar, the way to the editor. Not the engine's start, nor
    other requests. None from before it was kept, as with the next."""
    n_selected: int | None = None
    """Characters of the lines that were selected, or of the one with the cursor."""
    action: str = ""
    """`action_name`; empty for an instruction in the user's own words."""


class Rates(msgspec.Struct, frozen=True):
    """Tokens a second, and the tokens of a usual reply."""

    prefill: float
    decode: float
    n_reply: float
    samples: tuple[Sample, ...] = ()
    """What they come from; without any, the rates are the same for every length."""


def rates(samples: Sequence[Sample], target: str) -> Rates | None:
    """The rates of a target; None until a job has shown both."""
    own = tuple(sample for sample in samples if sample.target == target)
    prefill = [_rate(n, ms) for n, ms in _prefills(own) if n >= LEAST_PREFILLED]
    decode = [_rate(n, ms) for n, ms in _decodes(own)]
    if not prefill or not decode:
        return None
    n_reply = median(one.n_decoded for one in own if one.n_decoded)
    return Rates(median(prefill), median(decode), n_reply, own)


def estimate_ms(known: Rates, n_uncached: int, n_selected: int = 0, action: str = "") -> float:
    """Milliseconds from the click to the end, where `n_uncached` tokens of context are still to be read and
    so many characters are selected."""
    n_prefilled = n_uncached + _TASK_TOKENS + n_selected // _CHARS_PER_TOKEN
    return duration_ms(known, n_prefilled, expected_reply(known, n_selected, action))


def expected_reply(known: Rates, n_selected: int, action: str = "") -> float:
    """Tokens of the reply to a request with such a selection."""
    seen = [
        (one.n_selected, one.n_decoded, one.action)
        for one in known.samples
        if one.n_selected is not None and one.n_decoded
    ]
    if not seen:
        return known.n_reply
    same = [one for one in seen if one[2] == action]
    used = same if len(same) >= ENOUGH_OF_AN_ACTION else seen
    return median(n for _, n in _alike([(size, n) for size, n, _ in used], n_selected))


def duration_ms(known: Rates, n_prefilled: float, n_decoded: float) -> float:
    """Milliseconds of a request that prefills and decodes so many tokens."""
    others = [one.other_ms for one in known.samples if one.other_ms is not None]
    around = median(others) if others else 0.0
    return prefill_ms(known, n_prefilled) + decode_ms(known, n_decoded) + around


def prefill_ms(known: Rates, n_prefilled: float) -> float:
    """Milliseconds to prefill so many tokens."""
    return _time_ms(n_prefilled, _prefills(known.samples), known.prefill)


def decode_ms(known: Rates, n_decoded: float) -> float:
    """Milliseconds to decode so many tokens."""
    return _time_ms(n_decoded, _decodes(known.samples), known.decode)


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


def _prefills(samples: Sequence[Sample]) -> list[tuple[int, float]]:
    """Tokens, and the ms they took."""
    return [(one.n_prefilled, one.prefill_ms) for one in samples if one.n_prefilled and one.prefill_ms > 0]


def _decodes(samples: Sequence[Sample]) -> list[tuple[int, float]]:
    """Tokens, and the ms they took."""
    return [(one.n_decoded, one.decode_ms) for one in samples if one.n_decoded and one.decode_ms > 0]


def _time_ms(n_tokens: float, seen: Sequence[tuple[int, float]], rate: float) -> float:
    """Milliseconds for so many tokens, by those that took ms for about as many; without any at this rate."""
    if seen:
        rate = median(_rate(n, ms) for n, ms in _alike(seen, n_tokens))
    return n_tokens / rate * 1000


def _alike(seen: Sequence[tuple[int, float]], wanted: float) -> list[tuple[int, float]]:
    """Those whose first number, a size, is nearest, as a ratio."""
    near = math.log1p(wanted)
    return sorted(seen, key=lambda one: abs(math.log1p(one[0]) - near))[:N_ALIKE]


def _rate(n_tokens: int, ms: float) -> float:
    return n_tokens / ms * 1000
