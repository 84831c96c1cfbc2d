"""Summaries of requests: medians and tails, cache misses and their reasons, outcomes of hunks (sans-IO).

A request that failed or was cancelled is counted only among the outcomes, since its times are incomplete.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

import msgspec

from singlepass.stats.record import Record

By = Literal["repository", "target", "day", "kind"]
BYS: tuple[By, ...] = ("repository", "target", "day", "kind")


class Spread(msgspec.Struct, frozen=True):
    """The median and the tail of a figure."""

    median: float
    p90: float
    p99: float


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """A summary of requests. Spreads are None if nothing was measured."""

    n: int
    outcomes: dict[str, int]
    ttft_ms: Spread | None
    total_ms: Spread | None
    prefill_ms: Spread | None
    cached_share: Spread | None
    """Cached share of each prompt, 0 to 1; the tail is that of the *least* cached."""
    n_prompt: int
    n_cached: int
    prefill_rate: float | None
    """Tokens per second, over all prefilled tokens."""
    decode_rate: float | None
    misses: dict[str, int]
    """Number of requests with context to prefill after the click, by reason, the most frequent first."""
    n_hunks: int
    n_applied: int
    rejected: dict[str, int]
    n_edits: int
    n_kept: int
    n_undone: int
    n_changed: int
    estimate_error: Spread | None
    """Error of the estimates, relative to the actual time."""


def report(records: Sequence[Record], bys: Sequence[By]) -> dict[str, Any]:
    """Summaries of all requests and of each group, as JSON."""
    return {
        "all": msgspec.to_builtins(summarise(records)),
        "by": {
            by: {name: msgspec.to_builtins(summarise(group)) for name, group in grouped(records, by).items()}
            for by in bys
        },
    }


def percentile(values: Iterable[float], share: float) -> float:
    """The smallest value that a `share` (above 0, at most 1) of all values does not exceed: nearest rank."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def median(values: Iterable[float]) -> float:
    """The middle value, or the mean of the two middle ones. Python's own takes long to import."""
    ordered = sorted(values)
    return (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2


def spread(values: Sequence[float]) -> Spread | None:
    """None for no values."""
    if not values:
        return None
    return Spread(percentile(values, 0.5), percentile(values, 0.9), percentile(values, 0.99))


def summarise(records: Sequence[Record]) -> Summary:
    """Medians, tails and counts."""
    done = [one for one in records if one.outcome == "done"]
    estimated = [one for one in done if one.estimate_ms is not None and one.total_ms > 0]
    spent = [one.timings for one in done]
    # Computed from the uncached share, so that the tail is that of the least cached.
    uncached = spread([1 - one.n_cached / one.n_prompt for one in spent if one.n_prompt])
    return Summary(
        n=len(records),
        outcomes=_counts(one.outcome for one in records),
        ttft_ms=spread([one.ttft_ms for one in done if one.ttft_ms is not None]),
        total_ms=spread([one.total_ms for one in done]),
        prefill_ms=spread([one.prefill_ms for one in spent]),
        cached_share=uncached and Spread(1 - uncached.median, 1 - uncached.p90, 1 - uncached.p99),
        n_prompt=sum(one.n_prompt for one in spent),
        n_cached=sum(one.n_cached for one in spent),
        prefill_rate=_rate((one.n_prefilled, one.prefill_ms) for one in spent),
        decode_rate=_rate((one.n_decoded, one.decode_ms) for one in spent),
        misses=_counts(one.miss for one in done if one.miss),
        n_hunks=sum(one.n_hunks for one in done),
        n_applied=sum(one.n_applied for one in done),
        rejected=_sum(one.rejected for one in done),
        n_edits=sum(one.n_edits for one in done),
        n_kept=sum(one.n_kept for one in done),
        n_undone=sum(one.n_undone for one in done),
        n_changed=sum(one.n_changed for one in done),
        estimate_error=spread(
            [abs((one.estimate_ms or 0) - one.total_ms) / one.total_ms for one in estimated]
        ),
    )


_KEYS: Mapping[By, Callable[[Record], str]] = {
    "repository": lambda record: record.repository or "(outside)",
    "target": lambda record: f"{record.target}: {record.model}" if record.model else record.target,
    "day": lambda record: record.day,
    "kind": lambda record: record.kind or "(instruction)",
}


def grouped(records: Sequence[Record], by: By) -> dict[str, list[Record]]:
    """Records in groups: days in order of time, other groups by descending size."""
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(_KEYS[by](record), []).append(record)
    if by == "day":
        return dict(sorted(groups.items()))
    return dict(sorted(groups.items(), key=lambda item: (-len(item[1]), item[0])))


def _rate(parts: Iterable[tuple[int, float]]) -> float | None:
    measured = [(n, ms) for n, ms in parts if n and ms > 0]
    taken = sum(ms for _, ms in measured)
    return sum(n for n, _ in measured) / taken * 1000 if taken else None


def _counts(values: Iterable[str]) -> dict[str, int]:
    return dict(Counter(values).most_common())


def _sum(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total = Counter[str]()
    for one in counts:
        total.update(one)
    return dict(total.most_common())
