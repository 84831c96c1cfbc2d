"""Samples the next token from logits and a mask. Vectorized: no Python loop over the vocabulary."""

import numpy as np
from numpy.typing import NDArray

from singlepass_backends.base import Sampling
from singlepass_backends.generation.driver import Logits

_NEGLIGIBLE = 16.0  # below e^-16 of the best token's probability a token is ignored


class Sampler:
    """Greedy at temperature 0; otherwise temperature and top-p with a seeded generator."""

    def __init__(self, sampling: Sampling) -> None:
        self._sampling = sampling
        self._random = np.random.default_rng(sampling.seed) if sampling.temperature > 0 else None

    @property
    def is_greedy(self) -> bool:
        """Whether `pick` takes the most likely token."""
        return self._random is None

    def pick(self, logits: Logits, allowed: NDArray[np.intp] | None) -> int:
        """A token, one of `allowed` (which is not empty) unless that is None."""
        values = logits if allowed is None else logits[allowed]
        index = int(values.argmax()) if self._random is None else self._draw(values, self._random)
        return index if allowed is None else int(allowed[index])

    def _draw(self, values: Logits, random: np.random.Generator) -> int:
        scaled = values.astype(np.float64) / self._sampling.temperature
        best = scaled.max()
        candidates = np.flatnonzero(scaled >= best - _NEGLIGIBLE)
        if candidates.size == 0:  # all NaN or infinite: a broken model, but still one of the allowed
            return int(values.argmax())
        weights = np.exp(scaled[candidates] - best)
        order = np.argsort(-weights, kind="stable")
        cumulative = np.cumsum(weights[order])
        n_kept = min(_position(cumulative, self._sampling.top_p * cumulative[-1]) + 1, len(order))
        draw = random.random() * cumulative[n_kept - 1]
        return int(candidates[order[min(_position(cumulative, draw), n_kept - 1)]])


def _position(cumulative: NDArray[np.float64], value: float) -> int:
    """How many entries of the ascending array are at most `value`."""
    return int(np.count_nonzero(cumulative <= value))
