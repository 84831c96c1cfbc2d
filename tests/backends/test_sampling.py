import numpy as np
import pytest
from singlepass_backends.base import Sampling
from singlepass_backends.generation.sampling import Sampler

LOGITS = np.log(np.array([0.1, 0.6, 0.25, 0.05], dtype=np.float32))


def picks(sampling: Sampling, allowed: list[int] | None = None, n: int = 400) -> list[int]:
    sampler = Sampler(sampling)
    mask = None if allowed is None else np.array(allowed)
    return [sampler.pick(LOGITS, mask) for _ in range(n)]


def test_greedy() -> None:
    assert set(picks(Sampling(), n=3)) == {1}
    assert set(picks(Sampling(), [0, 3], n=3)) == {0}


def test_temperature_follows_the_probabilities_and_the_seed() -> None:
    drawn = picks(Sampling(1.0, 1.0, seed=7))
    assert drawn == picks(Sampling(1.0, 1.0, seed=7))
    assert drawn != picks(Sampling(1.0, 1.0, seed=8))
    counts = np.bincount(drawn, minlength=4) / len(drawn)
    assert np.abs(counts - np.exp(LOGITS)).max() < 0.1


@pytest.mark.parametrize(
    ("top_p", "expected"), [(0.0, {1}), (0.5, {1}), (0.7, {1, 2}), (0.9, {0, 1, 2}), (1.0, {0, 1, 2, 3})]
)
def test_top_p_keeps_the_fewest_tokens_that_reach_it(top_p: float, expected: set[int]) -> None:
    assert set(picks(Sampling(1.0, top_p, seed=1))) == expected


def test_only_allowed_tokens_are_drawn() -> None:
    assert set(picks(Sampling(1.0, 1.0, seed=1), [0, 3])) == {0, 3}


def test_broken_logits_still_give_an_allowed_token() -> None:
    for sampling in (Sampling(), Sampling(1.0)):
        broken = np.full(4, np.nan, dtype=np.float32)
        assert Sampler(sampling).pick(broken, np.array([2, 3])) in (2, 3)
