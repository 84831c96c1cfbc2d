"""The figures that are published, and what must hold of the formulas behind them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from singlepass.measuring.calculator import (
    Measured,
    Phases,
    Shape,
    Speed,
    Step,
    compute_bound_from,
    constant,
    context_class,
    decode_ceiling,
    decode_for,
    fit,
    largest_ctx,
    phases,
    prefill_ceiling,
    prefill_for,
    steps,
    textbook_kv_bytes,
)

LLAMA_70B = Shape(
    name="70B",
    size_bytes=40 * 10**9,
    n_active=70 * 10**9,
    active_bytes=40 * 10**9,
    n_layer=80,
    n_head=64,
    n_head_kv=8,
    key_length=128,
    value_length=128,
)


@pytest.mark.parametrize(
    ("session", "prefill_rate", "expected", "share"),
    [
        # 50,000 tokens at 5,000/s and 500 at 50/s.
        (steps(1, 50_000, 500), 5000, (10.0, 10.0, 20.0), 0.500),
        # The four-step session, and the same at 1,000/s.
        (steps(4, 50_000, 325), 5000, (40.0, 26.0, 66.0), 0.606),
        (steps(4, 50_000, 325), 1000, (200.0, 26.0, 226.0), 0.885),
        # Eight iterations at 30 s against one pass.
        (steps(8, 150_000, 0), 5000, (240.0, 0.0, 240.0), 1.0),
        (steps(1, 150_000, 0), 5000, (30.0, 0.0, 30.0), 1.0),
    ],
)
def test_published_times(
    session: tuple[Step, ...], prefill_rate: float, expected: tuple[float, ...], share: float
) -> None:
    found = phases(session, constant(prefill_rate), constant(50))
    assert (found.prefill_s, found.decode_s, found.total_s) == pytest.approx(expected)
    assert found.prefill_share == pytest.approx(share, abs=0.0005)


def test_the_published_kv_cache() -> None:
    """80 layers, 64 heads of 128, 2 for keys and values, half a byte each: about 655 KB a token."""
    per_token = textbook_kv_bytes(LLAMA_70B, "q4_0")
    assert per_token == 80 * 64 * 128 * 2 * 0.5 == 655_360
    assert per_token * 50_000 == pytest.approx(32.8e9, rel=0.001)
    # Grouped queries make it an eighth.
    assert LLAMA_70B.n_kv_values * 0.5 == per_token / 8


def test_only_what_a_step_adds_is_read_with_a_prefix_cache() -> None:
    plain = steps(3, 1000, 10, 200)
    assert [(one.n_prompt, one.n_cached) for one in plain] == [(1000, 0), (1200, 0), (1400, 0)]
    cached = steps(3, 1000, 10, 200, reuses_prefix=True)
    assert [(one.n_prompt, one.n_cached) for one in cached] == [(1000, 0), (1200, 1000), (1400, 1200)]


def test_nothing_takes_no_time() -> None:
    assert phases([], constant(1), constant(1)) == Phases(0.0, 0.0)
    assert Phases(0.0, 0.0).prefill_share == 0.0
    assert constant(10).rate(0) == 0.0


SPEEDS = st.builds(Speed, st.floats(1e-5, 1e-1), st.floats(0, 1e-6))
COUNTS = st.integers(1, 100_000)


@given(SPEEDS, COUNTS, COUNTS, st.integers(0, 100_000))
def test_a_prompt_takes_as_long_as_its_parts(speed: Speed, first: int, second: int, depth: int) -> None:
    parts = speed.duration_s(first, depth) + speed.duration_s(second, depth + first)
    assert speed.duration_s(first + second, depth) == pytest.approx(parts)


@given(SPEEDS)
def test_a_fit_finds_the_speed_again(speed: Speed) -> None:
    measured = [
        Measured(depth, n, speed.rate(n, depth)) for depth, n in ((0, 512), (0, 8192), (32_768, 2048))
    ]
    found = fit(measured)
    for one in measured:
        assert found.rate(one.n_tokens, one.depth) == pytest.approx(one.rate, rel=1e-6)


@pytest.mark.parametrize(
    ("measured", "expected"),
    [
        ([Measured(0, 512, 100.0)], Speed(0.01)),
        ([Measured(0, 512, 100.0), Measured(0, 512, 100.0)], Speed(0.01)),
        # Faster with depth is noise: the mean.
        ([Measured(0, 512, 100.0), Measured(0, 8192, 125.0)], Speed(0.009)),
        # A line that would begin below nothing goes through the origin.
        ([Measured(0, 200, 1000.0), Measured(0, 2000, 10.0)], Speed(0.0, (0.1 + 100) / (100**2 + 1000**2))),
    ],
)
def test_fits_of_odd_measurements(measured: list[Measured], expected: Speed) -> None:
    found = fit(measured)
    assert (found.token_s, found.depth_s) == pytest.approx((expected.token_s, expected.depth_s))


def test_the_same_model_keeps_its_speed() -> None:
    speed = Speed(0.001, 1e-8)
    for found in (
        prefill_for(speed, LLAMA_70B, LLAMA_70B),
        decode_for(speed, LLAMA_70B, LLAMA_70B, 3.0, 3.0),
    ):
        assert (found.token_s, found.depth_s) == pytest.approx((speed.token_s, speed.depth_s))


def test_unknown_attention_counts_as_fast_as_the_weights() -> None:
    unknown = Shape(
        name="?",
        n_active=7 * 10**10,
        active_bytes=4 * 10**10,
        n_layer=0,
        n_head=0,
        n_head_kv=0,
        key_length=0,
        value_length=0,
    )
    prefill = prefill_for(Speed(0.14), unknown, LLAMA_70B)
    assert prefill.token_s == pytest.approx(0.14)
    assert prefill.depth_s == pytest.approx(0.14 / 1.4e11 * LLAMA_70B.attention_operations)
    decode = decode_for(Speed(0.04), unknown, LLAMA_70B, 1e6, 0.0)
    assert (decode.token_s, decode.depth_s) == pytest.approx((0.04, 0.04 / 4e10 * 1e6))


def test_ceilings() -> None:
    # 140 GFLOP a token, and 2 · 80 · 64 · 256 for each token before it.
    assert LLAMA_70B.weight_operations == 140 * 10**9
    assert LLAMA_70B.attention_operations == 2_621_440
    assert prefill_ceiling(LLAMA_70B, 140e12, 1) == pytest.approx(1000, rel=1e-4)
    assert prefill_ceiling(LLAMA_70B, 140e12, 50_000) == pytest.approx(
        1000 / (1 + 25_000 * 2_621_440 / 140e9)
    )
    assert decode_ceiling(LLAMA_70B, 400e9, 0, 0) == pytest.approx(10)
    assert decode_ceiling(LLAMA_70B, 400e9, 400_000, 100_000) == pytest.approx(5)
    # 350 operations a byte: as many as 100 tokens have, with two for each weight of 4/7 bytes.
    assert compute_bound_from(LLAMA_70B, 350e12, 1e12) == pytest.approx(100)


def test_largest_context() -> None:
    assert largest_ctx(1000, 100, 9) == 100
    assert largest_ctx(1000, 1001, 9) == 0
    assert largest_ctx(1000, 100, 0) == 0


@pytest.mark.parametrize(
    ("n_ctx", "expected"), [(9999, "short"), (10_000, "medium"), (30_000, "medium"), (30_001, "long")]
)
def test_context_classes(n_ctx: int, expected: str) -> None:
    assert context_class(n_ctx) == expected
