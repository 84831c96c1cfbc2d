"""How many tokens to draft for a pass (sans-IO).

A drafted token costs little where a pass of many tokens takes hardly longer than a pass of one, as on a
GPU, and much on two CPU cores. So as much is drafted as pays. If the first of k tokens is right with
probability p, and each further one with probability a, a pass yields 1 + p (1 − a^k) / (1 − a) tokens (after
Leviathan et al., "Fast Inference from Transformers via Speculative Decoding", 2023, equation 1), at the cost
of a pass of that size. All of that is measured while it runs. A draft model has to gain what its own passes
take as well.
"""

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
        first = self.first_right / (self.first_right + self.first_wrong)
        a = min(self.right / (self.right + self.wrong), _SUREST)
        return first * (1 - a**n) / (1 - a)


_PRIOR: dict[Kind, _Habit] = {
    "model": _Habit(7, 3, 14, 4),
    "lines": _Habit(6, 4, 20, 4),
    "opening": _Habit(5, 5, 6, 4),
    "more": _Habit(4, 6, 10, 2),
    "stop": _Habit(6, 4, 5, 3),
    "text": _Habit(6, 4, 5, 2),
    "echo": _Habit(3, 7, 3, 1),
    "change": _Habit(2, 8, 4, 1),
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
        self._draft_s = 0.0
        self._seen = dict(_PRIOR)

    def expected(self, kind: Kind, n: int) -> float:
        """How many of `n` drafted tokens will be right."""
        return self._seen[kind].expected(n)

    def lengths(self, n_other: int, n_most: int) -> dict[Kind, int]:
        """For each kind of guess that pays, how many tokens, at most `n_most`, are worth adding to a pass of
        `n_other` that has to be made."""
        one = self._costs.one
        if n_most <= 0 or (one is None and n_other == 1 and self._costs.slope):
            return {}  # the latter to learn what such a pass costs
        if one is not None and one < _SHORT_S:
            return {}
        extra = self._draft_s / one if one else 0.0
        costs = [(k, self.cost(n_other + k) + extra) for k in self._lengths(n_other, n_most)]
        least = 1 / self.cost(n_other)
        found: dict[Kind, int] = {}
        for kind, habit in self._seen.items():
            if kind == "model":
                continue
            rate, k = max(((1 + habit.expected(k)) / cost, k) for k, cost in costs)
            if rate > _MARGIN * least:
                found[kind] = k
            else:
                self._fade(kind)
        return found

    @staticmethod
    def _lengths(n_other: int, n_most: int) -> list[int]:
        """How much to choose from: what fills a pass up to a size whose cost is kept."""
        return [*(size - n_other for size in _SIZES if 0 < size - n_other < n_most), n_most]

    def _fade(self, kind: Kind) -> None:
        """What was learned fades, so that it is tried again some time."""
        pairs = zip(self._seen[kind], _PRIOR[kind], strict=True)
        self._seen[kind] = _Habit(*(seen + _FADING * (prior - seen) for seen, prior in pairs))

    def n_from_model(
        self, n_other: int, n_most: int, n_behind: int, model: Costs, rival: tuple[Kind, int] | None
    ) -> int:
        """How many tokens, at most `n_most`, a draft model should guess, which has to read `n_behind` before;
        0 where it does not pay, or where the guess that there is, `rival`, with its number of tokens, is
        expected to save more."""
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
        if rival is not None:
            kind, n_rival = rival
            least = (1 + self.expected(kind, n_rival)) / self.cost(n_other + n_rival)
        return n if rate > _MARGIN * least else 0

    def cost(self, n: int) -> float:
        """What a pass of `n` tokens costs, in passes of one."""
        return self._costs.relative(n)

    def learn_pass(self, n: int, seconds: float) -> None:
        """A pass of `n` tokens took `seconds`."""
        self._costs.learn(n, seconds)

    def learn_drafting(self, seconds: float) -> None:
        """Finding a draft took so long."""
        self._draft_s += _FRESH * (seconds - self._draft_s)

    def learn_draft(self, kind: Kind, n_drafted: int, n_right: int) -> None:
        """Of so many drafted tokens so many were right, in a row."""
        old = self._seen[kind]
        first = n_right > 0
        self._seen[kind] = _Habit(
            _MEMORY * old.first_right + first,
            _MEMORY * old.first_wrong + (not first),
            _MEMORY * old.right + max(0, n_right - 1),
            _MEMORY * old.wrong + (first and n_right < n_drafted),
        )


class Unlimited(Pace):
    """As if a larger pass cost nothing: for counting passes, and for tests of what a draft may not change."""

    def __init__(self) -> None:
        super().__init__(slope=0.0)

    def lengths(self, n_other: int, n_most: int) -> dict[Kind, int]:
        """See `Pace`."""
        kinds: list[Kind] = [kind for kind in self._seen if kind != "model"]
        return dict.fromkeys(kinds, n_most) if n_most > 0 else {}

    def n_from_model(
        self, n_other: int, n_most: int, n_behind: int, model: Costs, rival: tuple[Kind, int] | None
    ) -> int:
        """See `Pace`; the document's guesses cost nothing, so they come first."""
        return 0 if rival else max(0, n_most)


def _size(n: int) -> int:
    return next((size for size in _SIZES if size >= n), n)
