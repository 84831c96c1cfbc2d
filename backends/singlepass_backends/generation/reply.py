"""What is said in answer to one request: which token comes next, and what is known of those after it."""

from singlepass_backends.generation.constraint import Constraint
from singlepass_backends.generation.draft import Drafter, Kind
from singlepass_backends.generation.driver import Driver, Logits
from singlepass_backends.generation.sampling import Sampler


class Reply:
    """One reply: its sampler, its grammar and its drafts."""

    def __init__(
        self, sampler: Sampler, constraint: Constraint | None, drafter: Drafter | None, driver: Driver
    ) -> None:
        self.drafter = drafter
        self.drafted_as: Kind = "text"
        """What kind of guess the last draft was."""
        self._sampler = sampler
        self._constraint = constraint
        self._eog_tokens = driver.eog_tokens
        self._control_tokens = driver.control_tokens | driver.eog_tokens
        self._has_begun = False

    @property
    def stopped(self) -> bool:
        """Whether the grammar admits nothing more."""
        return self._constraint is not None and self._constraint.stopped

    def choose(self, logits: Logits, expected: int | None, n_most: int) -> tuple[list[int], int]:
        """The next token and those the grammar then forces, at most `n_most` together, and how many of them
        were forced. None at the end of the turn. `expected` is what was drafted here, which the grammar
        admits."""
        constraint = self._constraint
        if constraint and not self._has_begun:
            # Only at the very start can the grammar force tokens before any is sampled.
            self._has_begun = True
            if forced := constraint.take_forced(n_most):
                return forced, len(forced)
        token = self._pick(logits, expected)
        if token in self._eog_tokens:
            return [], 0
        if constraint is None:
            return [token], 0
        constraint.consume(token)
        forced = constraint.take_forced(n_most - 1)
        return [token, *forced], len(forced)

    def _pick(self, logits: Logits, expected: int | None) -> int:
        """The next token. Most often the grammar admits the likeliest one, and then the others need no look.

        A draft is one token with certainty, so the rule of speculative sampling (take it with the model's
        probability, else draw from the others) comes to drawing as always and comparing.
        """
        constraint, sampler = self._constraint, self._sampler
        if constraint is None:
            return sampler.pick(logits, None)
        if sampler.is_greedy:
            best = sampler.pick(logits, None)
            if best == expected or constraint.admits(best):
                return best
        return sampler.pick(logits, constraint.allowed())

    def n_valid(self, tokens: list[int]) -> int:
        """How many of `tokens`, in a row, may come next."""
        n = next((at for at, token in enumerate(tokens) if token in self._control_tokens), len(tokens))
        return n if self._constraint is None else self._constraint.n_valid(tokens[:n])
