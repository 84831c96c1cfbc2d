"""Cells of a KV cache, as ranges of numbers: each evaluated token gets the next number (sans-IO)."""

from collections.abc import Iterable, Iterator, Sequence


def total_length(runs: Iterable[range]) -> int:
    """How many cells there are."""
    return sum(map(len, runs))


def first_cells(runs: Iterable[range], n: int) -> list[range]:
    """The first `n` cells."""
    first: list[range] = []
    for run in runs:
        if n <= 0:
            break
        first.append(run[:n])
        n -= len(run)
    return first


def n_same_cells(a: Sequence[range], b: Sequence[range]) -> int:
    """Number of cells that two sequences share; these are always a prefix of both."""
    n = 0
    for one, other in zip(a, b, strict=False):
        if one.start != other.start:
            break
        n += min(len(one), len(other))
        if one != other:
            break
    return n


def n_distinct(sequences: Iterable[Iterable[range]]) -> int:
    """Number of cells of all sequences; shared ones count once."""
    n = end = 0
    for run in sorted(_each(sequences), key=lambda run: run.start):
        n += max(0, run.stop - max(run.start, end))
        end = max(end, run.stop)
    return n


def _each(sequences: Iterable[Iterable[range]]) -> Iterator[range]:
    for runs in sequences:
        yield from runs
