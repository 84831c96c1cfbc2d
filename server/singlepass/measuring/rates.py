"""Benchmark of a target's rates at several depths: which runs to make, their expected duration, their
evaluation (sans-IO).

A run is one request with `depth` uncached prompt tokens and a short reply. Its prefill corresponds to
`llama-bench -p DEPTH -n 0`, its decode to `llama-bench -n TOKENS -d DEPTH`. Runs at different depths
alternate, so that thermal throttling affects all depths alike.
"""

from collections.abc import Mapping, Sequence
from statistics import median

import msgspec

from singlepass.measuring.calculator import Measured, Speed, fit

DEPTHS = (512, 2048, 8192, 16_384, 32_768, 50_000)
N_REPLY = 64
"""Default number of tokens per reply, over which the decode rate is measured."""
N_ROOM = 256
"""Tokens that the context needs in addition to the depth: for the reply, the task and the chat template."""
VERSION = 1
"""Version of the format in which results are saved."""


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One run, with times as measured by the backend."""

    depth: int
    """The requested number of prompt tokens; the actual number is `n_cached + n_prefilled`."""
    n_cached: int
    n_prefilled: int
    prefill_ms: float
    n_decoded: int
    decode_ms: float
    ttft_ms: float
    """Time from the request to its first text."""

    @property
    def prefill_rate(self) -> float:
        """Tokens per second."""
        return self.n_prefilled / self.prefill_ms * 1000 if self.prefill_ms else 0.0

    @property
    def decode_rate(self) -> float:
        """Tokens per second without the first token, which the prefill yields; 0 if there was no other."""
        return max(0, self.n_decoded - 1) / self.decode_ms * 1000 if self.decode_ms else 0.0


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """A benchmark as it is saved: its runs, and the machine, model, versions and settings."""

    version: int = VERSION
    created: str
    """Local time, such as `2026-11-22T09:50:00`."""
    target: str
    """The target's `rates_key`: its backend, its model, and where it runs."""
    model: dict[str, str | int | bool]
    machine: dict[str, str | int | float]
    versions: dict[str, str]
    settings: dict[str, str | int | bool]
    depths: tuple[int, ...]
    n_runs: int
    n_reply: int
    notes: tuple[str, ...] = ()
    """Remarks for the user, such as which depths were left out, and why."""
    runs: tuple[Run, ...] = ()

    @property
    def is_complete(self) -> bool:
        return not remaining(self)


class Spread(msgspec.Struct, frozen=True):
    """Median and range of several runs at the same depth."""

    median: float
    least: float
    most: float

    @property
    def share(self) -> float:
        """The range as a share of the median."""
        return (self.most - self.least) / self.median if self.median else 0.0


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """Summary of the runs at one depth. Rates are in tokens per second."""

    depth: int
    n_runs: int
    prefill: Spread
    decode: Spread
    ttft_ms: Spread


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """The change from one result to another at one depth."""

    depth: int
    prefill: float
    """Ratio of the prefill rates, second to first: 1.1 means 10% faster."""
    decode: float
    """Ratio of the decode rates."""
    is_prefill_clear: bool
    """Whether the ranges of the two results do not overlap."""
    is_decode_clear: bool


def remaining(result: Result) -> tuple[int, ...]:
    """The depths of the runs that are still to be made, in order."""
    made = [run.depth for run in result.runs]
    return tuple(
        depth for number in range(result.n_runs) for depth in result.depths if made.count(depth) <= number
    )


def rows(result: Result) -> tuple[Row, ...]:
    """A summary for each depth that has runs."""
    found: list[Row] = []
    for depth in result.depths:
        runs = [run for run in result.runs if run.depth == depth]
        if runs:
            found.append(
                Row(
                    depth=depth,
                    n_runs=len(runs),
                    prefill=spread([run.prefill_rate for run in runs]),
                    decode=spread([run.decode_rate for run in runs]),
                    ttft_ms=spread([run.ttft_ms for run in runs]),
                )
            )
    return tuple(found)


def spread(values: Sequence[float]) -> Spread:
    """The spread of at least one value."""
    return Spread(median(values), min(values), max(values))


def speeds(runs: Sequence[Run]) -> tuple[Speed, Speed] | None:
    """Prefill and decode speed as functions of depth, for `singlepass plan`; None if one of them was not
    measured."""
    prefill = [
        Measured(run.n_cached, run.n_prefilled, run.prefill_rate) for run in runs if run.prefill_rate > 0
    ]
    decode = [
        Measured(run.n_cached + run.n_prefilled, run.n_decoded - 1, run.decode_rate)
        for run in runs
        if run.decode_rate > 0
    ]
    return (fit(prefill), fit(decode)) if prefill and decode else None


def left_s(result: Result, depth: int = 0, share: float = 0.0) -> float | None:
    """Expected seconds for the remaining runs, from the finished ones; None before the first has finished.

    `share` (0 to 1) of the prompt of the current run, which is at `depth`, is already prefilled.
    """
    known = speeds(result.runs)
    if known is None:
        return None
    prefill, decode = known
    left = sum(prefill.duration_s(one) + decode.duration_s(result.n_reply, one) for one in remaining(result))
    return max(0.0, left - prefill.duration_s(share * depth))


def compare(first: Result, second: Result) -> tuple[Change, ...]:
    """The changes at the depths that both results have."""
    others: Mapping[int, Row] = {row.depth: row for row in rows(second)}
    return tuple(
        Change(
            depth=row.depth,
            prefill=_ratio(row.prefill, others[row.depth].prefill),
            decode=_ratio(row.decode, others[row.depth].decode),
            is_prefill_clear=_is_clear(row.prefill, others[row.depth].prefill),
            is_decode_clear=_is_clear(row.decode, others[row.depth].decode),
        )
        for row in rows(first)
        if row.depth in others
    )


def differences(first: Result, second: Result) -> tuple[str, ...]:
    """Sentences about other differences between two results: model, machine, versions, settings."""
    return named_differences(first, second, ("model", "machine", "versions", "settings"))


def named_differences(first: object, second: object, fields: Sequence[str]) -> tuple[str, ...]:
    """Sentences about the differences between two objects in the given fields, which are mappings."""
    found: list[str] = []
    for what in fields:
        one, other = getattr(first, what), getattr(second, what)
        found += (
            f"{what}: {name} was {one.get(name, 'not there')}, is {other.get(name, 'not there')}"
            for name in sorted({*one, *other})
            if one.get(name) != other.get(name)
        )
    return tuple(found)


def _ratio(first: Spread, second: Spread) -> float:
    return second.median / first.median if first.median else 0.0


def _is_clear(first: Spread, second: Spread) -> bool:
    return first.most < second.least or second.most < first.least
