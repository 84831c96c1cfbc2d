"""How many drafted tokens to verify in a pass (sans-IO).

Theory of operation. On a GPU a pass over many tokens takes hardly longer than over one, and on two CPU cores
much longer. So a draft tree (`tree`) is cut where verifying a further token costs more than it is expected to
save. With the nodes ordered by probability, the first k of them save

    p1 v1 + … + pk vk

passes of one token, where pi is the probability that node i is accepted and vi what a token at its place
saves: for a sampled token, what one costs on average; for a token that the grammar forces, which would join
the next pass without any draft, only its marginal cost in that pass. Verifying k drafted tokens makes the
pass longer by cost(n + k) − cost(n), and finding them takes drafting time. In the terms of Leviathan et al.
("Fast Inference from Transformers via Speculative Decoding", 2023), pi comes from the acceptance rates α and
drafting time is the cost coefficient c; both, and the costs of passes, are measured while it runs.
"""

from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

from singlepass_backends.generation.drafting.draft import Kind, Place

_SIZES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
"""Sizes of passes whose cost is measured; a size in between counts as the next larger one."""
_EMA_WEIGHT = 0.2
"""Weight of a new measurement in a moving average of times."""
_SAFETY_FACTOR = 1.6
"""Safety factor by which an expected saving must exceed its cost. The best of several noisy estimates is
usually too high (optimism bias, the winner's curse)."""
_FORCED_BATCH = 8
"""Assumed batch size for a forced token's marginal cost."""
_SHORT_PASS_S = 0.003
"""If a pass of one token is shorter, as with tiny models, nothing is drafted: that would take longer than it
saves."""
_DECAY = 0.98
"""Weight of an older observation relative to the next one."""
_PRIOR_WEIGHT = 20
"""Weight of the prior acceptance rates, in observations."""
_PRIOR_PULL = 0.01
"""How far acceptance rates return to their priors with each pass without a worthwhile draft: otherwise a kind
of guess that was wrong for a while would never be tried again."""
_MAX_ACCEPTANCE = 0.999
"""Upper bound of an acceptance rate, since decay makes rare rejections vanish."""

_PLACES: tuple[Place, ...] = ("first", "line", "within")


class _Outcomes(NamedTuple):
    """Decayed counts of accepted and rejected tokens, including those of the prior (a Beta prior)."""

    accepted: float
    rejected: float

    @property
    def rate(self) -> float:
        """The estimated acceptance rate."""
        return min(self.accepted / (self.accepted + self.rejected), _MAX_ACCEPTANCE)


_PRIOR_RATES: dict[Kind, tuple[float, float, float]] = {
    "lines": (0.55, 0.8, 0.86),
    "opening": (0.86, 0.5, 0.8),
    "first": (0.66, 0.6, 0.6),
    "more": (0.3, 0.8, 0.75),
    "stop": (0.7, 0.7, 0.87),
    "close": (0.4, 0.9, 0.9),
    "next": (0.65, 0.65, 0.9),
    "change": (0.1, 0.8, 0.8),
    "text": (0.8, 0.8, 0.8),
}
"""Prior acceptance rates: how often a guess is right at its first token, at the start of a line and within a
line, in the histories of four packages (`benchmarks/oracle.py`)."""
_PRIOR: dict[tuple[Kind, Place], _Outcomes] = {
    (kind, place): _Outcomes(_PRIOR_WEIGHT * rate, _PRIOR_WEIGHT * (1 - rate))
    for kind, rates in _PRIOR_RATES.items()
    for place, rate in zip(_PLACES, rates, strict=True)
}


class PassCosts:
    """Duration of forward passes, by their number of tokens."""

    def __init__(self, slope: float) -> None:
        """`slope` is the initial estimate of a further token's cost, relative to a pass of one token."""
        self.slope = slope
        self._seconds: dict[int, float] = {}

    @property
    def one_s(self) -> float | None:
        """Seconds of a pass of one token; None before the first one."""
        return self._seconds.get(1)

    def relative(self, n: int) -> float:
        """Cost of a pass of `n` tokens, in passes of one token; interpolated between measured sizes."""
        known, size = self._seconds, _size(n)
        if 1 not in known:
            return 1 + self.slope * (size - 1)
        below = max(other for other in known if other <= size)
        low = known[below] / known[1]
        above = min((other for other in known if other >= size), default=None)
        if above is None:
            slope = self.slope if below == 1 else max(0.0, low - 1) / (below - 1)
            return low + slope * (size - below)
        high = known[above] / known[1]
        return low + (high - low) * (size - below) / max(1, above - below)

    def learn(self, n: int, seconds: float) -> None:
        """A pass of `n` tokens took `seconds`."""
        if n <= _SIZES[-1]:
            known = self._seconds.get(_size(n), seconds)
            self._seconds[_size(n)] = known + _EMA_WEIGHT * (seconds - known)


class Pace:
    """Decides draft sizes and learns from each pass; kept across requests.

    Costs and savings are in passes of one token. `n_other` is the number of tokens that a pass has without
    the draft; `probabilities` and `forced` are those of the nodes of a tree, the most probable first.
    """

    def __init__(self, slope: float) -> None:
        """`slope` is the initial estimate of a further token's cost."""
        self._costs = PassCosts(slope)
        self._drafting_s = 0.0
        """Seconds to find one drafted token (moving average)."""
        self._pass_cost = self._n_sampled = float(_PRIOR_WEIGHT)
        """Decayed sums: costs of passes without the marginal costs of forced tokens; sampled tokens in
        them."""
        self._outcomes = dict(_PRIOR)

    def acceptance(self, kind: Kind, place: Place) -> float:
        """The acceptance rate of tokens of this kind and place, given that those before were accepted. For
        *text*, whose guesses have their own probabilities, a factor that corrects these."""
        return self._outcomes[kind, place].rate

    def limit(self, n_other: int, n_most: int) -> int:
        """Maximum number of tokens to draft for a pass, at most `n_most`; 0 if no draft can be worthwhile."""
        one_s = self._costs.one_s
        if n_most <= 0 or (one_s is None and n_other == 1 and self._costs.slope):
            return 0  # the latter to measure a pass of one token
        return 0 if one_s is not None and one_s < _SHORT_PASS_S else n_most

    def is_saturated(self, n_other: int, probabilities: Sequence[float], forced: Sequence[bool]) -> bool:
        """Whether further nodes cannot be worthwhile, even if all were as probable as the last and not
        forced."""
        n = len(probabilities)
        if n < 2 or n_other + n not in _SIZES:
            return False
        saved = self._savings(probabilities, forced)
        best = max(0.0, *(self._gain(n_other, k, saved[k - 1]) for k in self._sizes(n_other, n)))
        each = probabilities[-1] * self._sampled_token_cost
        return all(
            self._gain(n_other, k, saved[-1] + (k - n) * each) <= best
            for k in self._sizes(n_other, _SIZES[-1])
            if k > n
        )

    def best_size(self, n_other: int, probabilities: Sequence[float], forced: Sequence[bool]) -> int:
        """How many of the first nodes to verify."""
        best_n, best_gain = 0, 0.0
        saved = self._savings(probabilities, forced)
        for n in self._sizes(n_other, len(probabilities)) if probabilities else ():
            gain = self._gain(n_other, n, saved[n - 1])
            if gain > best_gain:
                best_n, best_gain = n, gain
        if best_n == 0:
            self._return_to_prior()
        return best_n

    def cost(self, n: int) -> float:
        """Cost of a pass of `n` tokens."""
        return self._costs.relative(n)

    def learn_pass(self, n: int, seconds: float) -> None:
        """A pass of `n` tokens took `seconds`."""
        self._costs.learn(n, seconds)
        self._pass_cost = _DECAY * self._pass_cost + self.cost(n)

    def learn_output(self, n_sampled: int, n_forced: int) -> None:
        """A pass produced `n_sampled` sampled and `n_forced` forced tokens."""
        self._n_sampled = _DECAY * self._n_sampled + n_sampled
        self._pass_cost = max(0.0, self._pass_cost - n_forced * self._forced_token_cost)

    def learn_drafting(self, n: int, seconds: float) -> None:
        """Finding `n` drafted tokens took `seconds`."""
        self._drafting_s += _EMA_WEIGHT * (seconds / max(1, n) - self._drafting_s)

    def learn_guess(self, kind: Kind, place: Place, *, is_accepted: bool) -> None:
        """A token of this kind and place was accepted or not, while those before it were accepted."""
        self._learn((kind, place), is_accepted, not is_accepted)

    def learn_text(self, n_expected: float, n_accepted: int) -> None:
        """Of *text* guesses, `n_expected` tokens were expected to be accepted by their own probabilities, and
        `n_accepted` were."""
        self._learn(("text", "first"), min(n_accepted, 2 * n_expected), max(0.0, n_expected - n_accepted))

    @property
    def _sampled_token_cost(self) -> float:
        """Average cost of a sampled token, with drafting: an accepted token saves this."""
        return min(1.0, self._pass_cost / self._n_sampled)

    @property
    def _forced_token_cost(self) -> float:
        """Marginal cost of a forced token, which is added to a pass that takes place anyway."""
        return (self.cost(_FORCED_BATCH) - 1) / (_FORCED_BATCH - 1)

    @property
    def _cost_coefficient(self) -> float:
        """Cost of finding one drafted token."""
        one_s = self._costs.one_s
        return self._drafting_s / one_s if one_s else 0.0

    def _savings(self, probabilities: Sequence[float], forced: Sequence[bool]) -> list[float]:
        """Expected saving of the first k nodes, for each k from 1 on."""
        each = (
            probability * (self._forced_token_cost if is_forced else self._sampled_token_cost)
            for probability, is_forced in zip(probabilities, forced, strict=True)
        )
        return [*accumulate(each)]

    def _gain(self, n_other: int, n: int, saved: float) -> float:
        """Net gain of `n` drafted tokens that are expected to save `saved`."""
        longer = self.cost(n_other + n) - self.cost(n_other)
        return saved - _SAFETY_FACTOR * longer - n * self._cost_coefficient

    @staticmethod
    def _sizes(n_other: int, n_most: int) -> list[int]:
        """Candidates for the draft size: those that fill a pass up to a measured size."""
        return [*(size - n_other for size in _SIZES if 0 < size - n_other < n_most), n_most]

    def _return_to_prior(self) -> None:
        for key, outcomes in self._outcomes.items():
            pairs = zip(outcomes, _PRIOR[key], strict=True)
            self._outcomes[key] = _Outcomes(*(now + _PRIOR_PULL * (prior - now) for now, prior in pairs))

    def _learn(self, key: tuple[Kind, Place], *counts: float) -> None:
        pairs = zip(self._outcomes[key], counts, strict=True)
        self._outcomes[key] = _Outcomes(*(_DECAY * old + new for old, new in pairs))


def _size(n: int) -> int:
    return next((size for size in _SIZES if size >= n), n)
