"""The sentences that say what a request cost."""

import pytest
from singlepass.core.report import (
    count,
    decode_message,
    miss_sentence,
    prefill_message,
    seconds,
    timings_sentence,
    tokens_per_second,
)
from singlepass_backends.base import Miss, MissReason, Timings


@pytest.mark.parametrize(
    ("ms", "expected"),
    [
        (0, "0.00 s"),
        (310, "0.31 s"),
        (9_994, "9.99 s"),
        (9_996, "10.0 s"),
        (12_449, "12.4 s"),
        (99_499, "99.5 s"),
        (99_500, "1 min 40 s"),
        (125_000, "2 min 5 s"),
        (119_700, "2 min 0 s"),
        (3_600_000, "60 min 0 s"),
    ],
)
def test_seconds(ms: float, expected: str) -> None:
    assert seconds(ms) == expected


@pytest.mark.parametrize(
    ("number", "expected"), [(0, "0 hunks"), (1, "1 hunk"), (2, "2 hunks"), (8219, "8,219 hunks")]
)
def test_count(number: int, expected: str) -> None:
    assert count(number, "hunk") == expected


@pytest.mark.parametrize(("n", "ms", "expected"), [(10, 0, 0.0), (0, 10, 0.0), (50, 2000, 25.0)])
def test_tokens_per_second(n: int, ms: float, expected: float) -> None:
    assert tokens_per_second(n, ms) == expected


BASE = {"n_prompt": 8300, "n_cached": 8219, "n_prefilled": 81, "n_decoded": 41}
COST = {"prefill_ms": 310.0, "decode_ms": 1500.0}


@pytest.mark.parametrize(
    ("timings", "ttft", "expected"),
    [
        (
            Timings(**BASE, **COST),
            420.0,
            "2.00 s: prefill 81 new + 8,219 cached tokens in 0.31 s, first token 0.42 s, 41 tokens in 1.50 s",
        ),
        (
            Timings(**BASE, **COST, n_forced=12, n_accepted=3, queue_ms=100),
            None,
            "2.00 s: prefill 81 new + 8,219 cached tokens in 0.31 s, waited 0.10 s, "
            "41 tokens in 1.50 s (12 forced, 3 drafted)",
        ),
        (
            Timings(n_prompt=2, n_cached=1, n_prefilled=1, n_decoded=1, n_accepted=1, queue_ms=99),
            None,
            "2.00 s: prefill 1 new + 1 cached token in 0.00 s, 1 token in 0.00 s (1 drafted)",
        ),
    ],
)
def test_timings_sentence(timings: Timings, ttft: float | None, expected: str) -> None:
    assert timings_sentence(timings, 2000.0, ttft) == expected


@pytest.mark.parametrize(
    ("n_prompt", "n_cached", "n_done", "eta", "expected"),
    [
        (0, 0, 0, None, "prefill"),
        (1000, 0, 0, None, "prefill 0% of 1,000 tokens"),
        (1000, 500, 750, 1200.0, "prefill 75% of 1,000 tokens · 50% cached · 1.20 s left"),
        (1000, 500, 1000, 0.0, "prefill 100% of 1,000 tokens · 50% cached"),
        (1, 0, 1, None, "prefill 100% of 1 token"),
    ],
)
def test_prefill_message(n_prompt: int, n_cached: int, n_done: int, eta: float | None, expected: str) -> None:
    assert prefill_message(n_prompt, n_cached, n_done, eta) == expected


def test_decode_message() -> None:
    assert decode_message(50, 25.0, 1) == "50 tokens · 25 tok/s · 1 hunk"
    assert decode_message(1, 0.0, 0) == "1 token · 0 tok/s · 0 hunks"


@pytest.mark.parametrize(
    ("reason", "saved", "expected"),
    [
        ("new", None, "`a.py` is new to the prompt: 1,204 tokens read"),
        ("changed", None, "`a.py` changed: 1,204 tokens read again"),
        ("changed", 12.0, "`a.py` was saved 12.0 s ago: 1,204 tokens read again"),
        ("evicted", None, "the cache had no room left for `a.py`: 1,204 tokens read again"),
        ("moved", 3.0, "what stands before `a.py` changed: 1,204 tokens read again"),
        ("unfinished", None, "the prewarm of `a.py` was not finished: 1,204 tokens were left"),
        ("restart", None, "the engine was started anew: 1,204 tokens read again, from `a.py` on"),
    ],
)
def test_why_tokens_were_read_again(reason: MissReason, saved: float | None, expected: str) -> None:
    assert miss_sentence(Miss("a.py", 1204, reason), saved) == expected
