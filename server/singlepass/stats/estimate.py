"""How long a request will probably take, from what earlier ones took on this machine (sans-IO).

    prefill of the tokens that are not cached + decode of the expected reply + overhead

The times of prefill and of decode are each fitted by four costs: per token, per request, per pair of a token
and an earlier one (attention), and per token already in the KV cache (reading it). They are fitted to the
latest requests to the same target. The length of the reply is not known in advance: its time is estimated
from the requests with the most similar selection size, of the same action if there were enough. Since these
vary, an estimate is a span.
"""

import math
from collections.abc import Iterable, Sequence
from operator import mul

import msgspec

from singlepass.stats.record import Record
from singlepass.stats.statistics import median, percentile

LEAST_PREFILLED = 64
"""A prefill of fewer tokens is mostly overhead and not used for the rate."""
N_ALIKE = 25
"""Number of requests from which the time of a reply is estimated."""
ENOUGH_OF_AN_ACTION = 2
"""From this many requests of one action on, its next reply is estimated from these alone."""
ENOUGH_FOR_A_SPAN = 9
"""From this many requests of one action on, the span comes from these alone: the next reply is between their
shortest and longest in (n - 1) / (n + 1) = 4 of 5 cases."""
_TASK = 80.0, 0.25
"""Initial estimate of a task's size: tokens, and tokens per selected character."""
_WORTH_SAYING_MS = 100
_MINUTES_FROM_MS = 90_000
_TAIL = 0.05
"""The share of replies that a span excludes at each end."""
_WIDE = 1.5
"""If the ends of a span differ by a larger factor, both are shown."""

_N_ROUNDS = 4
_N_SWEEPS = 20
_LEAST_OFF = 0.05
"""Relative errors below this count as this: they are noise."""
_FADING = 0.98
"""The weight of a request relative to the next one: recent requests count more, since a machine's speed
changes."""


class Span(msgspec.Struct, frozen=True):
    """An expected time in ms, and the bounds between which it will probably be."""

    low: float
    middle: float
    high: float


Costs = tuple[float, ...]
"""Milliseconds per token, request, pair of tokens, and earlier token; see `_counts`."""


class Rates(msgspec.Struct, frozen=True):
    """A target's speed in tokens per second, and what is needed to estimate replies."""

    prefill: float
    decode: float
    n_reply: float
    records: tuple[Record, ...] = ()
    """The requests from which the rates were computed."""
    prefill_costs: Costs | None = None
    decode_costs: Costs | None = None
    """None if the rates do not depend on the length."""
    task: Costs = _TASK
    """Size of a task: tokens, and tokens per selected character."""


def rates(records: Sequence[Record], key: str) -> Rates | None:
    """The rates from the requests with this `rates_key`, the latest last; None until both rates are known."""
    # A cancelled request says nothing about the length of a reply.
    own = tuple(one for one in records if one.rates_key == key and one.finish_reason)
    prefill = [_rate(n, ms) for n, _, ms in _prefills(own) if n >= LEAST_PREFILLED]
    decode = [_rate(n, ms) for n, _, ms in _decodes(own)]
    if not prefill or not decode:
        return None
    n_reply = median(one.timings.n_decoded for one in own if one.timings.n_decoded)
    tasks = [(one.n_selected, one.n_task) for one in own if one.n_selected is not None and one.n_task]
    return Rates(
        prefill=median(prefill),
        decode=median(decode),
        n_reply=n_reply,
        records=own,
        prefill_costs=_costs(_prefills(own)),
        decode_costs=_costs(_decodes(own)),
        task=_fit([(1.0, n_selected) for n_selected, _ in tasks], [n for _, n in tasks]) if tasks else _TASK,
    )


def estimate_ms(
    known: Rates, n_uncached: int, n_cached: int = 0, n_selected: int = 0, action: str = ""
) -> Span:
    """Milliseconds from the click to the end, with `n_uncached` tokens of context to prefill after `n_cached`
    others, and `n_selected` characters selected."""
    n_prefilled = n_to_prefill(known, n_uncached, n_selected)
    before = duration_ms(known, n_prefilled, 0, n_cached)
    reply = reply_ms(known, n_cached + n_prefilled, n_selected, action)
    return Span(before + reply.low, before + reply.middle, before + reply.high)


def n_to_prefill(known: Rates, n_uncached: int, n_selected: int) -> float:
    """Tokens to prefill for a request: the context's uncached ones, and the task's."""
    return n_uncached + _dot(known.task, (1.0, n_selected))


def expected_reply(known: Rates, n_selected: int, action: str = "") -> float:
    """Expected tokens of the reply to a request with a selection of this size."""
    alike = _alike(known, n_selected, action, ENOUGH_OF_AN_ACTION)
    return percentile([one.timings.n_decoded for one in alike], 0.5) if alike else known.n_reply


def reply_ms(known: Rates, n_prompt: float, n_selected: int, action: str = "") -> Span:
    """Milliseconds to decode the reply, from replies to similar requests, scaled to a prompt of `n_prompt`
    tokens. So it accounts for drafted and forced tokens."""

    def took(one: Record) -> float:
        spent = one.timings
        there = decode_ms(known, spent.n_decoded, spent.n_cached + spent.n_prefilled)
        here = decode_ms(known, spent.n_decoded, n_prompt)
        return spent.decode_ms * here / there if there else here

    middle, around = (
        [took(one) for one in _alike(known, n_selected, action, enough)]
        for enough in (ENOUGH_OF_AN_ACTION, ENOUGH_FOR_A_SPAN)
    )
    if not middle:
        only = decode_ms(known, known.n_reply, n_prompt)
        return Span(only, only, only)
    usual = percentile(middle, 0.5)
    low, high = percentile(around, _TAIL), percentile(around, 1 - _TAIL)
    return Span(min(low, usual), usual, max(usual, high))


def _alike(known: Rates, n_selected: int, action: str, enough: int) -> list[Record]:
    """The requests with selections of the most similar size: those of the action if there are enough, else
    all."""
    seen = [one for one in known.records if one.n_selected is not None and one.timings.n_decoded]
    same = [one for one in seen if one.action == action]
    near = math.log1p(n_selected)
    used = same if len(same) >= enough else seen
    used.reverse()  # at equal size, the latest
    return sorted(used, key=lambda one: abs(math.log1p(one.n_selected or 0) - near))[:N_ALIKE]


def duration_ms(known: Rates, n_prefilled: float, n_decoded: float, n_cached: float = 0) -> float:
    """Milliseconds of a request that prefills `n_prefilled` tokens after `n_cached` others, and then
    decodes."""
    others = [one.other_ms for one in known.records if one.other_ms is not None]
    around = median(others) if others else 0.0
    prefill = prefill_ms(known, n_prefilled, n_cached)
    return prefill + decode_ms(known, n_decoded, n_cached + n_prefilled) + around


def prefill_ms(known: Rates, n_prefilled: float, n_cached: float = 0) -> float:
    """Milliseconds to prefill `n_prefilled` tokens after `n_cached` others."""
    return _time_ms(n_prefilled, n_cached, known.prefill_costs, known.prefill)


def decode_ms(known: Rates, n_decoded: float, n_prompt: float = 0) -> float:
    """Milliseconds to decode `n_decoded` tokens after a prompt of `n_prompt`."""
    return _time_ms(n_decoded, n_prompt, known.decode_costs, known.decode)


def title_suffix(expected: Span) -> str:
    """` · ~2 s` or ` · 2–5 s`, for a title; rounded to the precision of an estimate, and empty for very short
    times."""
    if expected.middle < _WORTH_SAYING_MS:
        return ""
    if expected.high > _WIDE * expected.low:
        divisor, unit = (60_000, "min") if expected.low >= _MINUTES_FROM_MS / 2 else (1000, "s")
        low, high = _rounded(expected.low / divisor), _rounded(expected.high / divisor)
        if low != high:
            return f" · {low}–{high} {unit}"
    divisor, unit = (60_000, "min") if expected.middle >= _MINUTES_FROM_MS else (1000, "s")
    return f" · ~{_rounded(expected.middle / divisor)} {unit}"


def _rounded(number: float) -> str:
    return f"{number:.1f}" if number < 0.95 else f"{number:.0f}"


_Seen = tuple[int, int, float]
"""Tokens, the tokens before them, and the milliseconds they took."""


def _prefills(records: Sequence[Record]) -> list[_Seen]:
    spent = (one.timings for one in records)
    return [(t.n_prefilled, t.n_cached, t.prefill_ms) for t in spent if t.n_prefilled and t.prefill_ms > 0]


def _decodes(records: Sequence[Record]) -> list[_Seen]:
    spent = (one.timings for one in records)
    return [
        (t.n_decoded, t.n_cached + t.n_prefilled, t.decode_ms)
        for t in spent
        if t.n_decoded and t.decode_ms > 0
    ]


def _time_ms(n_tokens: float, n_before: float, costs: Costs | None, rate: float) -> float:
    if costs is None:
        return n_tokens / rate * 1000
    return _dot(costs, _counts(n_tokens, n_before)) if n_tokens else 0.0


def _counts(n_tokens: float, n_before: float) -> Costs:
    """How often each of the costs occurs."""
    return n_tokens, 1.0, n_tokens * (n_before + n_tokens / 2), n_before


def _costs(seen: Sequence[_Seen]) -> Costs:
    return _fit([_counts(n, n_before) for n, n_before, _ in seen], [ms for *_, ms in seen])


def _fit(counts: Sequence[Sequence[float]], amounts: Sequence[float]) -> Costs:
    """Fit non-negative costs to the amounts, latest last: minimizes the sum of absolute relative errors.

    Absolute errors instead of squares make it robust against outliers. Solved by iteratively reweighted least
    squares (https://en.wikipedia.org/wiki/Iteratively_reweighted_least_squares) with coordinate descent,
    which begins with the first cost, so with few amounts the other costs stay 0.
    """
    shares = [_FADING ** (len(amounts) - 1 - number) / amount**2 for number, amount in enumerate(amounts)]
    columns = list(zip(*counts, strict=True))
    weights, costs = shares, [0.0] * len(columns)
    for _ in range(_N_ROUNDS):
        weighted = [list(map(mul, column, weights)) for column in columns]
        products = [[_dot(a, b) for b in columns] for a in weighted]
        wanted = [_dot(column, amounts) for column in weighted]
        for _ in range(_N_SWEEPS):
            for which, row in enumerate(products):
                if row[which]:
                    missing = wanted[which] - _dot(row, costs)
                    costs[which] = max(0.0, costs[which] + missing / row[which])
        off = [abs(_dot(row, costs) / amount - 1) for row, amount in zip(counts, amounts, strict=True)]
        weights = [share / max(_LEAST_OFF, one) for share, one in zip(shares, off, strict=True)]
    return tuple(costs)


def _dot(a: Iterable[float], b: Iterable[float]) -> float:
    return sum(map(mul, a, b))


def _rate(n_tokens: int, ms: float) -> float:
    return n_tokens / ms * 1000
