import math
import random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from records import sample, spent
from singlepass.stats.estimate import (
    ENOUGH_FOR_A_SPAN,
    ENOUGH_OF_AN_ACTION,
    N_ALIKE,
    Costs,
    Rates,
    Span,
    decode_ms,
    duration_ms,
    estimate_ms,
    expected_reply,
    n_to_prefill,
    prefill_ms,
    rates,
    reply_ms,
    title_suffix,
)
from singlepass.stats.record import Record


def usual(key: str = "m", prefilled: int = 1000, prefill_ms: float = 1000.0, decoded: int = 100) -> Record:
    return sample(key, prefilled, prefill_ms, decoded, 2000.0)


def test_rates_are_medians_of_the_same_target() -> None:
    samples = [usual(), usual(prefill_ms=500.0), usual(prefill_ms=100_000.0), usual("other", 9, 1.0)]
    known = rates(samples, "m")
    assert known is not None
    assert (known.prefill, known.decode, known.n_reply) == (1000.0, 50.0, 100)
    assert known.records == tuple(samples[:3])


@pytest.mark.parametrize(
    "samples",
    [
        [],
        [usual("other")],
        [usual(prefilled=63)],
        [usual(decoded=0)],
        [msgspec.structs.replace(usual(), finish_reason="")],  # stopped: it says nothing of a reply's length
        [sample("m", 1000, 0.0, 10, 0.0)],
    ],
)
def test_no_rates_without_evidence(samples: list[Record]) -> None:
    assert rates(samples, "m") is None


def test_a_short_prefill_says_nothing_about_the_rate() -> None:
    known = rates([usual(), usual(prefilled=5, prefill_ms=900.0)], "m")
    assert known is not None
    assert known.prefill == 1000.0


def test_the_estimate_counts_what_is_to_be_read_and_written() -> None:
    known = Rates(prefill=1000.0, decode=50.0, n_reply=100)
    assert estimate_ms(known, 0).middle == pytest.approx(80 + 2000)
    assert estimate_ms(known, 5000).middle - estimate_ms(known, 0).middle == pytest.approx(5000)
    quoted = estimate_ms(known, 0, n_selected=400).middle - estimate_ms(known, 0).middle
    assert quoted == pytest.approx(100)  # in the task


def test_the_tokens_of_a_task_are_learnt() -> None:
    """They depend on the model's vocabulary, and on the instructions of its user."""
    samples = [
        sample("m", 500, 500.0, 10, 100.0, n_selected=n_selected, n_task=30 + n_selected // 5)
        for n_selected in (0, 1000, 50, 3000, 200, 20, 5000, 400)
    ]
    known = rates(samples, "m")
    assert known is not None
    assert n_to_prefill(known, 700, 0) == pytest.approx(730, abs=2)
    assert n_to_prefill(known, 700, 10_000) == pytest.approx(2730, rel=0.02)
    known = rates([usual()], "m")
    assert known is not None
    assert n_to_prefill(known, 700, 400) == 700 + 80 + 100
    known = rates(samples[:1], "m")
    assert known is not None
    assert n_to_prefill(known, 700, 400) == pytest.approx(730)


def took(costs: Costs, n_tokens: int, n_before: int) -> float:
    a_token, a_request, a_pair, a_token_before = costs
    pairs = n_tokens * n_before + n_tokens**2 / 2
    return a_token * n_tokens + a_request + a_pair * pairs + a_token_before * n_before


def requests(prefill: Costs, decode: Costs, n: int = 60) -> list[Record]:
    """As from a machine with these costs, of all sizes."""
    chance = random.Random(0)
    samples: list[Record] = []
    for _ in range(n):
        n_cached, n_prefilled = chance.choice((0, 500, 9000)), chance.choice((90, 400, 3000, 12_000))
        n_decoded = chance.randint(20, 600)
        prefill_ms = took(prefill, n_prefilled, n_cached)
        decode_ms = took(decode, n_decoded, n_cached + n_prefilled)
        samples.append(sample("m", n_prefilled, prefill_ms, n_decoded, decode_ms, n_cached=n_cached))
    return samples


@pytest.mark.parametrize("n_slow", [0, 3])
@pytest.mark.parametrize(
    ("prefill", "decode"),
    [
        ((0.2, 0, 0, 0), (20.0, 0, 0, 0)),
        ((0.2, 40.0, 0, 0), (15.0, 100.0, 0, 0)),
        ((0.1, 5.0, 1e-4, 0.01), (2.0, 0, 3e-4, 0)),
    ],
)
def test_what_each_token_and_each_one_before_it_costs_is_found(
    prefill: Costs, decode: Costs, n_slow: int
) -> None:
    """For sizes that were not seen too, and a few slow jobs move nothing."""
    samples = requests(prefill, decode)
    for number in range(n_slow):
        one = samples[7 * number]
        there = one.timings
        samples[7 * number] = spent(one, prefill_ms=20 * there.prefill_ms, decode_ms=9 * there.decode_ms)
    known = rates(samples, "m")
    assert known is not None
    for n_tokens, n_before in ((100, 0), (100, 15_000), (6000, 0), (6000, 2000)):
        expected = took(prefill, n_tokens, n_before)
        assert prefill_ms(known, n_tokens, n_before) == pytest.approx(expected, rel=0.05)
    for n_tokens, n_before in ((50, 300), (50, 15_000), (400, 2000)):
        expected = took(decode, n_tokens, n_before)
        assert decode_ms(known, n_tokens, n_before) == pytest.approx(expected, rel=0.05)
    assert prefill_ms(known, 0, 5000) == decode_ms(known, 0, 5000) == 0


def test_few_requests_give_a_rate() -> None:
    known = rates([usual()], "m")
    assert known is not None
    assert prefill_ms(known, 2000) == pytest.approx(2000, rel=0.05)
    assert decode_ms(known, 10) == pytest.approx(200, rel=0.05)
    twice = rates([usual(), usual(prefilled=2000, prefill_ms=1900.0)], "m")
    assert twice is not None
    assert 3600 < prefill_ms(twice, 4000) < 4000


@given(
    st.lists(
        st.tuples(
            *(st.integers(64, 10**6), st.integers(0, 10**6), st.integers(1, 10**4)),
            *(st.floats(1e-3, 1e7), st.floats(1e-3, 1e7)),
        ),
        min_size=1,
        max_size=20,
    )
)
def test_whatever_was_seen_no_time_is_negative(seen: list[tuple[int, int, int, float, float]]) -> None:
    known = rates(
        [sample("m", n, ms, reply, other, n_cached=before) for n, before, reply, ms, other in seen], "m"
    )
    assert known is not None
    expected = estimate_ms(known, 1000, 1000)
    assert 0 < expected.low <= expected.middle <= expected.high < math.inf


def test_the_latest_requests_count_most() -> None:
    before = [usual(prefill_ms=500.0) for _ in range(50)]
    known = rates([*before, *(usual(prefill_ms=1000.0) for _ in range(50))], "m")
    assert known is not None
    assert 750 < prefill_ms(known, 1000) <= 1000


def test_the_reply_is_that_of_requests_with_such_a_selection() -> None:
    few = [sample("m", 100, 100.0, 20, 100.0, n_selected=50) for _ in range(N_ALIKE)]
    many = [sample("m", 100, 100.0, 400, 100.0, n_selected=3000) for _ in range(N_ALIKE)]
    known = rates([usual(decoded=9999), *few, *many], "m")
    assert known is not None
    assert expected_reply(known, 0) == expected_reply(known, 60) == 20
    assert expected_reply(known, 2000) == 400
    old = rates([usual()], "m")  # from before selections were kept
    assert old is not None
    assert expected_reply(old, 2000) == 100
    assert reply_ms(old, 1000, 2000).middle == pytest.approx(2000, rel=0.05)


def test_a_span_holds_nearly_all_replies_that_were_seen() -> None:
    samples = [sample("m", 100, 100.0, n, 10.0 * n, n_selected=50) for n in range(10, 10 + N_ALIKE)]
    known = rates(samples, "m")
    assert known is not None
    reply = reply_ms(known, 100, 50)  # of 10 to 34 tokens
    assert (reply.low, reply.middle, reply.high) == pytest.approx((110, 220, 330), rel=0.05)
    expected = estimate_ms(known, 0, n_selected=50)
    assert expected.low < expected.middle < expected.high


def test_a_reply_takes_what_alike_ones_took_and_more_after_a_longer_prompt() -> None:
    """An action whose replies are mostly drafted is as fast the next time, at any depth."""
    costs = (0.1, 0.0, 0.0, 0.0), (10.0, 0.0, 0.01, 0.0)
    samples = [msgspec.structs.replace(one, n_selected=100, action="Rewrite") for one in requests(*costs)]
    drafted = [
        spent(msgspec.structs.replace(one, action="Rename"), decode_ms=one.timings.decode_ms / 5)
        for one in samples
    ]
    known = rates([*samples[:40], *drafted[40:]], "m")
    assert known is not None
    for n_prompt in (500, 20_000):
        slow, fast = (reply_ms(known, n_prompt, 100, name).middle for name in ("Rewrite", "Rename"))
        assert slow / fast > 2.5
    assert reply_ms(known, 20_000, 100, "Rename").middle > 5 * reply_ms(known, 500, 100, "Rename").middle


def test_the_span_of_an_action_needs_more_requests_than_its_middle() -> None:
    own = [sample("m", 100, 100.0, 10 * n, 100.0 * n, n_selected=50) for n in range(1, 20)]
    short = sample("m", 100, 100.0, 10, 100.0, n_selected=50, action="Simplify")
    for n, is_wide in ((ENOUGH_OF_AN_ACTION, True), (ENOUGH_FOR_A_SPAN, False)):
        known = rates([*own, *[short] * n], "m")
        assert known is not None
        reply = reply_ms(known, 100, 50, "Simplify")
        assert reply.middle == pytest.approx(100, rel=0.05)
        assert (reply.high > 10 * reply.middle) == is_wide


def test_of_requests_as_alike_the_latest_count() -> None:
    samples = [sample("m", 100, 100.0, n, 100.0, n_selected=50) for n in (*[400] * 99, *[20] * N_ALIKE)]
    known = rates(samples, "m")
    assert known is not None
    assert expected_reply(known, 50) == 20


def test_an_action_that_was_used_a_few_times_has_replies_of_its_own() -> None:
    own = [sample("m", 100, 100.0, 20, 100.0, n_selected=50) for _ in range(N_ALIKE)]
    long = sample("m", 100, 100.0, 400, 100.0, n_selected=900, action="Extract function")
    for n, expected in ((ENOUGH_OF_AN_ACTION - 1, 20), (ENOUGH_OF_AN_ACTION, 400)):
        known = rates([*own, *[long] * n], "m")
        assert known is not None
        assert expected_reply(known, 50, "Extract function") == expected
        assert expected_reply(known, 50, "Simplify") == 20
        assert expected_reply(known, 50) == 20
        extracted, other = (
            estimate_ms(known, 0, n_selected=50, action=name) for name in ("Extract function", "")
        )
        assert extracted.middle >= other.middle


def test_what_surrounds_prefill_and_decode_counts() -> None:
    samples = [sample("m", 100, 100.0, 10, 100.0, other_ms=ms) for ms in (30.0, 40.0, 5000.0)]
    known = rates([usual(), *samples], "m")
    assert known is not None
    alone = rates([usual(), *(sample("m", 100, 100.0, 10, 100.0) for _ in range(3))], "m")
    assert alone is not None
    assert duration_ms(known, 100, 10) - duration_ms(alone, 100, 10) == pytest.approx(40)


@pytest.mark.parametrize(
    ("span", "expected"),
    [
        ((0, 0, 0), ""),
        ((50, 99, 500), ""),
        ((340, 340, 340), " · ~0.3 s"),
        ((1000, 1000, 1000), " · ~1 s"),
        ((2000, 2400, 2900), " · ~2 s"),
        ((89_000, 89_000, 89_000), " · ~89 s"),
        ((150_000, 150_000, 150_000), " · ~2 min"),
        ((2000, 2400, 5100), " · 2–5 s"),
        ((300, 800, 2100), " · 0.3–2 s"),
        ((320, 500, 870), " · 0.3–0.9 s"),
        ((940, 960, 1430), " · 0.9–1 s"),
        ((60_000, 80_000, 200_000), " · 1–3 min"),
        ((80_000, 90_000, 125_000), " · 1–2 min"),
        ((10_000, 80_000, 100_000), " · 10–100 s"),
    ],
)
def test_title_suffix(span: tuple[float, float, float], expected: str) -> None:
    assert title_suffix(Span(*span)) == expected
