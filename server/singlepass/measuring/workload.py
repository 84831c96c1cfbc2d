"""Times of edits in a repository, and comparisons of two such results (sans-IO).

Files differ more than runs, so two results are compared request by request: those for the same file in the
same phase. The figure of a phase is the median request.
"""

from collections.abc import Sequence
from statistics import median
from typing import Any, Literal

import msgspec

from singlepass.measuring.rates import named_differences

Phase = Literal["cold", "warm", "edited"]
PHASES: tuple[Phase, ...] = ("cold", "warm", "edited")
Figure = Literal["ttft_ms", "first_hunk_ms", "total_ms"]
FIGURES: tuple[Figure, ...] = ("ttft_ms", "first_hunk_ms", "total_ms")
LEAST_CLEAR = 3
"""Pairs below which a change is never called clear."""


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What one request took. Times in ms, from the command."""

    path: str
    phase: Phase
    outcome: str
    n_prompt: int
    n_cached: int
    ttft_ms: float | None
    first_hunk_ms: float | None
    total_ms: float


class Workload(msgspec.Struct, frozen=True, kw_only=True):
    """All requests, and what they were made on."""

    created: str
    repository: str
    target: dict[str, Any]
    machine: dict[str, str | int | float] = {}
    versions: dict[str, str] = {}
    requests: tuple[Request, ...]


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One figure in one phase of two results, over the requests that both have."""

    phase: Phase
    figure: Figure
    n: int
    first_ms: float
    second_ms: float
    ratio: float
    """The median over the requests of the second's time as a share of the first's: 0.9 is a tenth faster."""
    is_clear: bool
    """All requests changed in the same direction, and there are enough of them."""


def compare(first: Workload, second: Workload) -> tuple[Change, ...]:
    """By phase and figure; empty where no file was asked about in both."""
    others = {(one.path, one.phase): one for one in second.requests if one.outcome == "done"}
    pairs = [
        (one, others[one.path, one.phase])
        for one in first.requests
        if one.outcome == "done" and (one.path, one.phase) in others
    ]
    found: list[Change] = []
    for phase in PHASES:
        for figure in FIGURES:
            times = [
                (before, after)
                for one, other in pairs
                if one.phase == phase
                and (before := getattr(one, figure))
                and (after := getattr(other, figure))
            ]
            if times:
                found.append(_change(phase, figure, times))
    return tuple(found)


def differences(first: Workload, second: Workload) -> tuple[str, ...]:
    """What else is different between two results."""
    found: list[str] = []
    if first.repository != second.repository:
        found.append(f"repository: was {first.repository}, is {second.repository}")
    found += named_differences(first, second, ("target", "machine", "versions"))
    paths = [{one.path for one in result.requests} for result in (first, second)]
    for number, what in enumerate(("first", "second")):
        if only := sorted(paths[number] - paths[1 - number]):
            found.append(f"left out, only in the {what}: {', '.join(only)}")
    return tuple(found)


def _change(phase: Phase, figure: Figure, times: Sequence[tuple[float, float]]) -> Change:
    ratios = [after / before for before, after in times]
    return Change(
        phase=phase,
        figure=figure,
        n=len(times),
        first_ms=median(before for before, _ in times),
        second_ms=median(after for _, after in times),
        ratio=median(ratios),
        is_clear=len(ratios) >= LEAST_CLEAR and (min(ratios) > 1 or max(ratios) < 1),
    )
