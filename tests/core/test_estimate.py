import pytest
from singlepass.core.estimate import (
    ENOUGH_OF_AN_ACTION,
    N_ALIKE,
    Rates,
    Sample,
    decode_ms,
    duration_ms,
    estimate_ms,
    expected_reply,
    prefill_ms,
    rates,
    title_suffix,
)


def sample(
    target: str = "m", prefilled: int = 1000, prefill_ms: float = 1000.0, decoded: int = 100
) -> Sample:
    return Sample(target, prefilled, prefill_ms, decoded, 2000.0)


def test_rates_are_medians_of_the_same_target() -> None:
    samples = [sample(), sample(prefill_ms=500.0), sample(prefill_ms=100_000.0), sample("other", 9, 1.0)]
    known = rates(samples, "m")
    assert known == Rates(prefill=1000.0, decode=50.0, n_reply=100, samples=tuple(samples[:3]))


@pytest.mark.parametrize(
    "samples",
    [
        [],
        [sample("other")],
        [sample(prefilled=63)],
        [sample(decoded=0)],
        [Sample("m", 1000, 0.0, 10, 0.0)],
    ],
)
def test_no_rates_without_evidence(samples: list[Sample]) -> None:
    assert rates(samples, "m") is None


def test_a_short_prefill_says_nothing_about_the_rate() -> None:
    known = rates([sample(), sample(prefilled=5, prefill_ms=900.0)], "m")
    assert known is not None
    assert known.prefill == 1000.0


def test_the_estimate_counts_what_is_to_be_read_and_written() -> None:
    known = Rates(prefill=1000.0, decode=50.0, n_reply=100)
    assert estimate_ms(known, 0) == pytest.approx(80 + 2000)
    assert estimate_ms(known, 5000) - estimate_ms(known, 0) == pytest.approx(5000)
    assert estimate_ms(known, 0, 400) - estimate_ms(known, 0) == pytest.approx(100)  # quoted in the task


def test_a_rate_is_that_of_requests_of_such_a_size() -> None:
    short = [sample(prefilled=100, prefill_ms=400.0, decoded=10) for _ in range(N_ALIKE)]
    long = [sample(prefilled=10_000, prefill_ms=5000.0, decoded=1000) for _ in range(N_ALIKE)]
    known = rates([*short, *long], "m")
    assert known is not None
    assert prefill_ms(known, 50) == pytest.approx(200)
    assert prefill_ms(known, 20_000) == pytest.approx(10_000)
    assert decode_ms(known, 10) == pytest.approx(2000)
    assert decode_ms(known, 1000) == pytest.approx(2000)
    slow = [*short, *long, sample(prefilled=100, prefill_ms=90_000.0)]
    known = rates(slow, "m")
    assert known is not None
    assert prefill_ms(known, 100) == pytest.approx(400)  # one slow job moves nothing


def test_the_reply_is_that_of_requests_with_such_a_selection() -> None:
    few = [Sample("m", 100, 100.0, 20, 100.0, n_selected=50) for _ in range(N_ALIKE)]
    many = [Sample("m", 100, 100.0, 400, 100.0, n_selected=3000) for _ in range(N_ALIKE)]
    known = rates([sample(decoded=9999), *few, *many], "m")
    assert known is not None
    assert (expected_reply(known, 0), expected_reply(known, 60)) == (20, 20)
    assert expected_reply(known, 2000) == 400
    old = rates([sample()], "m")  # from before selections were kept
    assert old is not None
    assert expected_reply(old, 2000) == 100


def test_an_action_that_was_used_a_few_times_has_replies_of_its_own() -> None:
    own = [Sample("m", 100, 100.0, 20, 100.0, n_selected=50) for _ in range(N_ALIKE)]
    long = Sample("m", 100, 100.0, 400, 100.0, n_selected=900, action="Extract function")
    for n, expected in ((ENOUGH_OF_AN_ACTION - 1, 20), (ENOUGH_OF_AN_ACTION, 400)):
        known = rates([*own, *[long] * n], "m")
        assert known is not None
        assert expected_reply(known, 50, "Extract function") == expected
        assert expected_reply(known, 50, "Simplify") == 20
        assert expected_reply(known, 50) == 20
        assert estimate_ms(known, 0, 50, "Extract function") >= estimate_ms(known, 0, 50)


def test_what_surrounds_prefill_and_decode_counts() -> None:
    samples = [Sample("m", 100, 100.0, 10, 100.0, other_ms=ms) for ms in (30.0, 40.0, 5000.0)]
    known = rates([sample(), *samples], "m")
    assert known is not None
    alone = rates([sample(), *(Sample("m", 100, 100.0, 10, 100.0) for _ in range(3))], "m")
    assert alone is not None
    assert duration_ms(known, 100, 10) - duration_ms(alone, 100, 10) == pytest.approx(40)


@pytest.mark.parametrize(
    ("ms", "expected"),
    [
        (0, ""),
        (99, ""),
        (340, " · ~0.3 s"),
        (1000, " · ~1 s"),
        (2400, " · ~2 s"),
        (89_000, " · ~89 s"),
        (150_000, " · ~2 min"),
    ],
)
def test_title_suffix(ms: float, expected: str) -> None:
    assert title_suffix(ms) == expected
