"""Medians, tails and counts over requests."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from records import record
from singlepass.stats.statistics import (
    BYS,
    Spread,
    grouped,
    percentile,
    report,
    spread,
    summarise,
)


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [
        ([3.0], 0.5, 3.0),
        ([1.0, 2.0], 0.5, 1.0),
        ([1.0, 2.0], 0.51, 2.0),
        ([2.0, 1.0, 3.0], 0.5, 2.0),
        (list(range(1, 101)), 0.9, 90),
        (list(range(1, 101)), 0.99, 99),
        (list(range(1, 101)), 1.0, 100),
    ],
)
def test_percentiles(values: list[float], share: float, expected: float) -> None:
    assert percentile(values, share) == expected


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0.01, 1))
def test_a_share_of_all_is_not_above_its_percentile(values: list[float], share: float) -> None:
    found = percentile(values, share)
    assert found in values
    assert sum(value <= found for value in values) >= share * len(values) - 1e-9


def test_a_summary() -> None:
    records = [
        record(ttft_ms=100.0, total_ms=1000.0, estimate_ms=900.0, n_prompt=1000, n_cached=1000),
        record(
            **{"ttft_ms": 900.0, "total_ms": 2000.0, "n_prompt": 1000, "n_cached": 0, "n_prefilled": 1000},
            **{"prefill_ms": 800.0, "n_decoded": 50, "decode_ms": 1000.0, "miss": "changed"},
            **{"n_hunks": 3, "n_applied": 1, "rejected": {"stale": 1, "ambiguous": 1}},
            **{"n_edits": 2, "n_kept": 1},
        ),
        record(rejected={"stale": 2}, n_undone=1, miss="changed"),
        # What was stopped says nothing of how long things take.
        record(outcome="cancelled", ttft_ms=1.0, total_ms=1.0, rejected={"refused": 9}, miss="new"),
        record(outcome="failed", error="out_of_memory"),
    ]
    found = summarise(records)
    assert found.n == 5
    assert found.outcomes == {"done": 3, "cancelled": 1, "failed": 1}
    assert found.ttft_ms == Spread(100.0, 900.0, 900.0)
    assert found.cached_share == Spread(1.0, 0.0, 0.0)  # the tail is of those cached least
    assert (found.n_prompt, found.n_cached) == (2000, 1000)
    assert found.prefill_rate == 1250
    assert found.decode_rate == 50
    assert found.misses == {"changed": 2}
    assert found.rejected == {"stale": 3, "ambiguous": 1}
    assert (found.n_hunks, found.n_applied, found.n_edits, found.n_kept, found.n_undone) == (3, 1, 2, 1, 1)
    assert found.estimate_error == spread([0.1])


def test_of_nothing() -> None:
    found = summarise([])
    assert (found.n, found.outcomes, found.ttft_ms, found.prefill_rate) == (0, {}, None, None)
    assert spread([]) is None


def test_groups() -> None:
    records = [
        record(day="2026-11-22", target="default", model="m", repository="/a", kind="quickfix"),
        record(day="2026-11-21", target="default", model="m"),
        record(day="2026-11-22", target="large"),
    ]
    assert {name: len(group) for name, group in grouped(records, "day").items()} == {
        "2026-11-21": 1,
        "2026-11-22": 2,
    }
    assert [*grouped(records, "day")] == ["2026-11-21", "2026-11-22"]
    assert [*grouped(records, "target")] == ["default: m", "large"]
    assert [*grouped(records, "repository")] == ["(outside)", "/a"]
    assert [*grouped(records, "kind")] == ["(instruction)", "quickfix"]
    told = report(records, BYS)
    assert msgspec.json.decode(msgspec.json.encode(told)) == told
    assert told["by"]["day"]["2026-11-22"]["n"] == told["all"]["n"] - 1 == 2
