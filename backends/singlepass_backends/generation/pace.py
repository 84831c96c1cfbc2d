"""How many tokens to draft for a pass (sans-IO).

A drafted token costs little where a pass of many tokens takes hardly longer than a pass of one, as on a
GPU, and much on two CPU cores. So as much is drafted as pays: of a tree (`tree`) whose k most probable nodes
are right with p1 … pk, a pass yields 1 + p1 + … + pk tokens, at the cost of a pass of that size. How often
each kind of guess is right, at its first token and after a right one, and what passes cost is measured while
it runs. A draft model is expected to say, with p for its first token and a for those after a right one,
p (1 − a^k) / (1 − a) right ones of k (after Leviathan et al., "Fast Inference from Transformers via
Speculative Decoding", 2023, equation 1), and has to gain what its own passes take as well.
"""

from collections.abc import Sequence
from typing import NamedTuple

from singlepass_backends.generation.draft import Kind

_SIZES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
"""Sizes of passes whose cost is kept; one in between counts as the next larger one."""
_FRESH = 0.2
"""Weight of a new measurement."""
_MARGIN = 1.1
"""How much has to be gained by what was learned, which is never exact."""
_SHORT_S = 0.003
"""A pass this short, of a tiny model, is not worth the looking."""
_FADING = 0.01
"""How far what was learned goes back to the prior for each pass in which it says that nothing pays."""
_MEMORY = 0.98
"""What an older draft counts after a newer one."""
_USES = 16
"""So many drafts of a reply share the cost of having the draft model read what it is far behind."""
_SUREST = 0.999
"""The most that is made of guesses which were right so far: what was wrong once fades to nothing."""


class _Habit(NamedTuple):
    """Of one kind of guess: how often the first token was right and wrong, and those after a right one."""

    first_right: float
    first_wrong: float
    right: float
    wrong: float

    def expected(self, n: int) -> float:
        """How many of `n` drafted tokens will be right."""
        a = self.after_right
        return self.first * (1 - a**n) / (1 - a)

    @property
    def first(self) -> float:
        """How often the first token is right."""
        return self.first_right / (self.first_right + self.first_wrong)

    @property
    def after_right(self) -> float:
        """How often one after a right one is."""
        return min(self.right / (self.right + self.wrong), _SUREST)


_PRIOR: dict[Kind, _Habit] = {
    "model": _Habit(7, 3, 14, 4),
    "lines": _Habit(5, 5, 26, 2),
    "opening": _Habit(7.5, 2.5, 26, 2),
    "first": _Habit(2, 8, 26, 2),
    "more": _Habit(3, 7, 26, 2),
    "stop": _Habit(5, 5, 26, 2),
    "close": _Habit(2, 8, 10, 0.2),
    "next": _Habit(6, 4, 26, 1),
    "change": _Habit(1.2, 8.8, 13, 2),
    "text": _Habit(8, 2, 8, 2),
}
"""As if so many had been seen."""


class Costs:
    """What passes of one model take, by their size."""

    def __init__(self, slope: float) -> None:
        """`slope` is what a further token costs, in passes of one token, until it was measured."""
        self.slope = slope
        self._seconds: dict[int, float] = {}

    @property
    def one(self) -> float | None:
        """Seconds of a pass of one token; None until there was one."""
        return self._seconds.get(1)

    def relative(self, n: int) -> float:
        """What a pass of `n` tokens costs, in passes of one."""
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
            self._seconds[_size(n)] = known + _FRESH * (seconds - known)


class Pace:
    """Learns from each pass; kept across requests, as the machine's rates are."""

    def __init__(self, slope: float) -> None:
        """`slope` is what a further token costs, in passes of one token, until it was measured."""
        self._costs = Costs(slope)
        self._look_s = 0.0
        self._seen = dict(_PRIOR)

    def expected(self, kind: Kind, n: int) -> float:
        """How many of `n` drafted tokens will be right."""
        return self._seen[kind].expected(n)

    def right(self, kind: Kind, is_first: bool) -> float:
        """How often a token of such a guess is right: its first, or one after a right one. Of *text*, which
        has probabilities of its own, by how much they are true."""
        habit = self._seen[kind]
        return habit.first if is_first else habit.after_right

    def n_most(self, n_other: int, n_most: int) -> int:
        """How many tokens, at most `n_most`, to look for where a pass of `n_other` has to be made; 0 where
        none can pay."""
        one = self._costs.one
        if n_most <= 0 or (one is None and n_other == 1 and self._costs.slope):
            return 0  # the latter to learn what such a pass costs
        return 0 if one is not None and one < _SHORT_S else n_most

    def is_enough(self, n_other: int, gains: Sequence[float]) -> bool:
        """Whether the tokens that come after those of these probabilities, the most probable first, cannot
        pay: not even if each of the next few were as probable as the last."""
        n = len(gains)
        if n < 2 or n_other + n not in _SIZES:
            return False
        size = next((size for size in _SIZES if size > n_other + n), n_other + n)
        n_more, gain = size - n_other - n, 1 + sum(gains)
        cost = self.cost(n_other + n) + n * self._looking
        return (gain + n_more * gains[-1]) / (self.cost(size) + (n + n_more) * self._looking) < gain / cost

    def n_worth(self, n_other: int, gains: Sequence[float]) -> int:
        """How many tokens of these probabilities are worth adding to a pass of `n_other` that has to be
        made."""
        n, best = 0, _MARGIN / self.cost(n_other)
        total = 1.0
        for k, gain in enumerate(gains, 1):
            total += gain
            if k == len(gains) or n_other + k in _SIZES:
                rate = total / self.cost(n_other + k)
                if rate > best:
                    n, best = k, rate
        if n == 0:
            for kind in self._seen:
                if kind != "model":
                    self._fade(kind)
        return n

    @staticmethod
    def _lengths(n_other: int, n_most: int) -> list[int]:
        """How much to choose from: what fills a pass up to a size whose cost is kept."""
        return [*(size - n_other for size in _SIZES if 0 < size - n_other < n_most), n_most]

    def _fade(self, kind: Kind) -> None:
        """What was learned fades, so that it is tried again some time."""
        pairs = zip(self._seen[kind], _PRIOR[kind], strict=True)
        self._seen[kind] = _Habit(*(seen + _FADING * (prior - seen) for seen, prior in pairs))

    def n_from_model(
        self, n_other: int, n_most: int, n_behind: int, model: Costs, rival: Sequence[float]
    ) -> int:
        """How many tokens, at most `n_most`, a draft model should guess, which has to read `n_behind` before;
        0 where it does not pay, or where the tree that there is, `rival` with the probabilities of its
        tokens, is expected to save more."""
        one = self._costs.one
        if n_most <= 0 or one is None or one < _SHORT_S:
            return 0
        each = (model.one or 0.0) / one
        n_at_once = min(n_behind, _SIZES[-1])
        # What is further behind is read once and pays for the rest of the reply.
        reading = each * model.relative(n_at_once) * (1 + (n_behind - n_at_once) / n_at_once / _USES)
        rate, n = max(
            ((1 + self.expected("model", k)) / (self.cost(n_other + k) + reading + (k - 1) * each), k)
            for k in self._lengths(n_other, n_most)
        )
        least = 1 / self.cost(n_other)
        if rate <= _MARGIN * least:
            self._fade("model")
            return 0
        if rival:
            least = (1 + sum(rival)) / self.cost(n_other + len(rival))
        return n if rate > _MARGIN * least else 0

    def cost(self, n: int) -> float:
        """What a pass of `n` tokens costs, in passes of one."""
        return self._costs.relative(n)

    def learn_pass(self, n: int, seconds: float) -> None:
        """A pass of `n` tokens took `seconds`."""
        self._costs.learn(n, seconds)

    def learn_looking(self, n: int, seconds: float) -> None:
        """Finding so many tokens took so long."""
        self._look_s += _FRESH * (seconds / max(1, n) - self._look_s)

    @property
    def _looking(self) -> float:
        """What it costs to find a token, in passes of one."""
        one = self._costs.one
        return self._look_s / one if one else 0.0

    def learn_draft(self, kind: Kind, n_drafted: int, n_right: int) -> None:
        """Of so many drafted tokens so many were right, in a row."""
        first = n_right > 0
        self._learn(kind, first, not first, max(0, n_right - 1), first and n_right < n_drafted)

    def learn_text(self, expected: float, n_right: int) -> None:
        """Of tokens that followed elsewhere so many would be right by their own probabilities, and so many
        were."""
        self._learn("text", min(n_right, 2 * expected), max(0.0, expected - n_right), 0, 0)

    def _learn(self, kind: Kind, *seen: float) -> None:
        self._seen[kind] = _Habit(
            *(_MEMORY * old + new for old, new in zip(self._seen[kind], seen, strict=True))
        )


class Unlimited(Pace):
    """As if a larger pass cost nothing: for counting passes, and for tests of what a draft may not change."""

    def __init__(self) -> None:
        super().__init__(slope=0.0)

    def n_most(self, n_other: int, n_most: int) -> int:
        """See `Pace`."""
        return max(0, n_most)

    def is_enough(self, n_other: int, gains: Sequence[float]) -> bool:
        """See `Pace`."""
        return False

    def n_worth(self, n_other: int, gains: Sequence[float]) -> int:
        """See `Pace`."""
        return len(gains)

    def n_from_model(
        self, n_other: int, n_most: int, n_behind: int, model: Costs, rival: Sequence[float]
    ) -> int:
        """See `Pace`; guesses from text cost nothing, so they come first where they promise a token."""
        return 0 if sum(rival) > 1 else max(0, n_most)


def _size(n: int) -> int:
    return next((size for size in _SIZES if size >= n), n)
