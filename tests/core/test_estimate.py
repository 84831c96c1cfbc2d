import pytest
from singlepass.core.estimate import Rates, Sample, estimate_ms, rates, title_suffix


def sample(
    target: str = "m", prefilled: int = 1000, prefill_ms: float = 1000.0, decoded: int = 100
) -> Sample:
    return Sample(target, prefilled, prefill_ms, decoded, 2000.0)


def test_rates_are_medians_of_the_same_target() -> None:
    samples = [sample(), sample(prefill_ms=500.0), sample(prefill_ms=100_000.0), sample("other", 9, 1.0)]
    assert rates(samples, "m") == Rates(prefill=1000.0, decode=50.0, n_reply=100)


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
    assert estimate_ms(known, 0) == pytest.approx(120 + 2000)
    assert estimate_ms(known, 5000) - estimate_ms(known, 0) == pytest.approx(5000)


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
