"""How many tokens to draft for a pass (sans-IO).

A drafted token costs little where a pass of many tokens takes hardly longer than a pass of one, as on a
GPU, and much on two CPU cores. So as much is drafted as pays: of a tree (`tree`) the k most probable nodes,
right with p1 … pk, save later p1 v1 + … + pk vk passes of one token, and make the pass that much longer. A
token that the model has to choose saves what such a token costs on the whole. One that the grammar forces
would have joined the next pass unasked, and saves its share of that. How often each kind of guess is right,
at its first token, at the start of a line and within it, and what passes cost is measured while it runs. A
draft model is expected to say, with p for its first token and a for those after a right one,
p (1 − a^k) / (1 − a) right ones of k (after Leviathan et al., "Fast Inference from Transformers via
Speculative Decoding", 2023, equation 1), and has to gain what its own passes take as well.
"""

from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import NamedTuple

from singlepass_backends.generation.drafting.draft import Kind, Place

_SIZES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
"""Sizes of passes whose cost is kept; one in between counts as the next larger one."""
_FRESH = 0.2
"""Weight of a new measurement."""
_MARGIN = 1.6
"""How much has to be gained by what was learned: of guesses, those look best that were overrated."""
_MODEL_MARGIN = 1.1
"""The same of a draft model, which has to pay for its own passes as well."""
_JOINED = 8
"""About so many forced tokens join a pass."""
_SHORT_S = 0.003
"""A pass this short, of a tiny model, is not worth the looking."""
_FADING = 0.01
"""How far what was learned goes back to the prior for each pass in which it says that nothing pays."""
_MEMORY = 0.98
"""What an older draft counts after a newer one."""
_SEEN = 20
"""For so many guesses the prior stands."""
_USES = 16
"""So many drafts of a reply share the cost of having the draft model read what it is far behind."""
_SUREST = 0.999
"""The most that is made of guesses which were right so far: what was wrong once fades to nothing."""

_PLACES: tuple[Place, ...] = ("first", "line", "within")


class _Habit(NamedTuple):
    """How often tokens of one kind of guess, in one place, were right and wrong; lately, and before as if."""

    right: float
    wrong: float

    @property
    def share(self) -> float:
        """How often they are right."""
        return min(self.right / (self.right + self.wrong), _SUREST)


_SHARES: dict[Kind, tuple[float, float, float]] = {
    "model": (0.7, 0.78, 0.78),
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
"""How often a guess is right in each place, in the histories of four packages (`benchmarks/oracle.py`)."""
_PRIOR: dict[tuple[Kind, Place], _Habit] = {
    (kind, place): _Habit(_SEEN * share, _SEEN * (1 - share))
    for kind, shares in _SHARES.items()
    for place, share in zip(_PLACES, shares, strict=True)
}


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
        self._spent = self._chosen = float(_SEEN)
        """What passes cost lately, in passes of one, without what forced tokens add, for so many others."""
        self._seen = dict(_PRIOR)

    def right(self, kind: Kind, place: Place) -> float:
        """How often a token of such a guess is right where those before it are. Of *text*, which has
        probabilities of its own, by how much they are true."""
        return self._seen[kind, place].share

    def _expected(self, n: int) -> float:
        """How many of `n` tokens that a draft model says will be right."""
        first, after_right = self.right("model", "first"), self.right("model", "within")
        return first * (1 - after_right**n) / (1 - after_right)

    def n_most(self, n_other: int, n_most: int) -> int:
        """How many tokens, at most `n_most`, to look for where a pass of `n_other` has to be made; 0 where
        none can pay."""
        one = self._costs.one
        if n_most <= 0 or (one is None and n_other == 1 and self._costs.slope):
            return 0  # the latter to learn what such a pass costs
        return 0 if one is not None and one < _SHORT_S else n_most

    def is_enough(self, n_other: int, gains: Sequence[float], forced: Sequence[bool]) -> bool:
        """Whether the tokens that come after those of these probabilities, the most probable first, cannot
        pay: not even if all of them were as probable as the last, and not forced."""
        n = len(gains)
        if n < 2 or n_other + n not in _SIZES:
            return False
        saved = self._saved(gains, forced)
        best = max(0.0, *(self._net(n_other, k, saved[k - 1]) for k in self._lengths(n_other, n)))
        each = gains[-1] * self._worth
        return all(
            self._net(n_other, k, saved[-1] + (k - n) * each) <= best
            for k in self._lengths(n_other, _SIZES[-1])
            if k > n
        )

    def n_worth(self, n_other: int, gains: Sequence[float], forced: Sequence[bool]) -> int:
        """How many tokens of these probabilities are worth adding to a pass of `n_other` that has to be
        made."""
        n, best = 0, 0.0
        saved = self._saved(gains, forced)
        for k in self._lengths(n_other, len(gains)) if gains else ():
            net = self._net(n_other, k, saved[k - 1])
            if net > best:
                n, best = k, net
        if n == 0:
            self._fade(key for key in self._seen if key[0] != "model")
        return n

    def _saved(self, gains: Sequence[float], forced: Sequence[bool]) -> list[float]:
        """What the first of these tokens save later, in passes of one, for each number of them."""
        each = (
            gain * (self._marginal if is_forced else self._worth)
            for gain, is_forced in zip(gains, forced, strict=True)
        )
        return [*accumulate(each)]

    def _net(self, n_other: int, n: int, saved: float) -> float:
        """What `n` drafted tokens gain that save so much, in passes of one."""
        return saved - _MARGIN * (self.cost(n_other + n) - self.cost(n_other)) - n * self._looking

    @property
    def _marginal(self) -> float:
        """What a forced token costs that joins the pass which has to be made after it."""
        return (self.cost(_JOINED) - 1) / (_JOINED - 1)

    @property
    def _worth(self) -> float:
        """What a token saves that is guessed and not forced: what one costs on the whole, with the drafts as
        they are."""
        return min(1.0, self._spent / self._chosen)

    @staticmethod
    def _lengths(n_other: int, n_most: int) -> list[int]:
        """How much to choose from: what fills a pass up to a size whose cost is kept."""
        return [*(size - n_other for size in _SIZES if 0 < size - n_other < n_most), n_most]

    def _fade(self, keys: Iterable[tuple[Kind, Place]]) -> None:
        """What was learned fades, so that it is tried again some time."""
        for key in keys:
            pairs = zip(self._seen[key], _PRIOR[key], strict=True)
            self._seen[key] = _Habit(*(seen + _FADING * (prior - seen) for seen, prior in pairs))

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
            ((1 + self._expected(k)) / (self.cost(n_other + k) + reading + (k - 1) * each), k)
            for k in self._lengths(n_other, n_most)
        )
        least = 1 / self.cost(n_other)
        if rate <= _MODEL_MARGIN * least:
            self._fade(key for key in self._seen if key[0] == "model")
            return 0
        if rival:
            least = (1 + sum(rival)) / self.cost(n_other + len(rival))
        return n if rate > _MODEL_MARGIN * least else 0

    def cost(self, n: int) -> float:
        """What a pass of `n` tokens with drafts costs, in passes of one."""
        return self._costs.relative(n)

    def learn_pass(self, n: int, seconds: float) -> None:
        """A pass of `n` tokens took `seconds`."""
        self._costs.learn(n, seconds)
        self._spent = _MEMORY * self._spent + self.cost(n)

    def learn_said(self, n_chosen: int, n_forced: int) -> None:
        """A pass brought so many tokens, of which the latter were forced."""
        self._chosen = _MEMORY * self._chosen + n_chosen
        self._spent = max(0.0, self._spent - n_forced * self._marginal)

    def learn_looking(self, n: int, seconds: float) -> None:
        """Finding so many tokens took so long."""
        self._look_s += _FRESH * (seconds / max(1, n) - self._look_s)

    @property
    def _looking(self) -> float:
        """What it costs to find a token, in passes of one."""
        one = self._costs.one
        return self._look_s / one if one else 0.0

    def learn_guess(self, kind: Kind, place: Place, is_right: bool) -> None:
        """A token of such a guess was right or not, where those before it were."""
        self._learn((kind, place), is_right, not is_right)

    def learn_text(self, expected: float, n_right: int) -> None:
        """Of tokens that followed elsewhere so many would be right by their own probabilities, and so many
        were."""
        self._learn(("text", "first"), min(n_right, 2 * expected), max(0.0, expected - n_right))

    def _learn(self, key: tuple[Kind, Place], *seen: float) -> None:
        self._seen[key] = _Habit(
            *(_MEMORY * old + new for old, new in zip(self._seen[key], seen, strict=True))
        )


class Unlimited(Pace):
    """As if a larger pass cost nothing: for counting passes, and for tests of what a draft may not change."""

    def __init__(self) -> None:
        super().__init__(slope=0.0)

    def n_most(self, n_other: int, n_most: int) -> int:
        """See `Pace`."""
        return max(0, n_most)

    def is_enough(self, n_other: int, gains: Sequence[float], forced: Sequence[bool]) -> bool:
        """See `Pace`."""
        return False

    def n_worth(self, n_other: int, gains: Sequence[float], forced: Sequence[bool]) -> int:
        """See `Pace`."""
        return len(gains)

    def n_from_model(
        self, n_other: int, n_most: int, n_behind: int, model: Costs, rival: Sequence[float]
    ) -> int:
        """See `Pace`; guesses from text cost nothing, so they come first where they promise a token."""
        return 0 if sum(rival) > 1 else max(0, n_most)


def _size(n: int) -> int:
    return next((size for size in _SIZES if size >= n), n)
