"""Chooses the tokens of one reply, with its sampler and grammar."""

from collections.abc import Callable

from singlepass_backends.generation.constraint import Constraint
from singlepass_backends.generation.drafting.tree import Guesser
from singlepass_backends.generation.driver import Driver, Logits
from singlepass_backends.generation.sampling import Sampler


class Reply:
    """One reply: its sampler, its grammar and its drafts."""

    def __init__(
        self, sampler: Sampler, constraint: Constraint | None, guesser: Guesser | None, driver: Driver
    ) -> None:
        self.guesser = guesser
        self._sampler = sampler
        self._constraint = constraint
        self._eog_tokens = driver.eog_tokens
        self._control_tokens = driver.control_tokens | driver.eog_tokens
        self._has_begun = False

    @property
    def stopped(self) -> bool:
        """Whether the grammar admits nothing more."""
        return self._constraint is not None and self._constraint.stopped

    def choose(
        self, logits: Logits, is_expected: Callable[[int], bool], n_most: int
    ) -> tuple[list[int], int]:
        """The next token and those that the grammar forces after it, at most `n_most` in total, and how many
        of them were forced; no tokens at the end of the turn. `is_expected` is true for tokens that were
        drafted here, which the grammar is known to admit."""
        constraint = self._constraint
        if constraint and not self._has_begun:
            # Only at the very start can the grammar force tokens before one is sampled.
            self._has_begun = True
            if forced := constraint.take_forced(n_most):
                return forced, len(forced)
        token = self._pick(logits, is_expected)
        if token in self._eog_tokens:
            return [], 0
        if constraint is None:
            return [token], 0
        constraint.consume(token)
        forced = constraint.take_forced(n_most - 1)
        return [token, *forced], len(forced)

    def _pick(self, logits: Logits, is_expected: Callable[[int], bool]) -> int:
        """The next token. Usually the grammar admits the most likely one, so its mask need not be computed.

        A draft has no probability distribution: its tokens have probability 1. The acceptance rule of
        speculative sampling (accept with the model's probability, else sample from the rest) is then
        equivalent to sampling normally and comparing, however many tokens were drafted here.
        """
        constraint, sampler = self._constraint, self._sampler
        if constraint is None:
            return sampler.pick(logits, None)
        if sampler.is_greedy:
            best = sampler.pick(logits, None)
            if is_expected(best) or constraint.admits(best):
                return best
        return sampler.pick(logits, constraint.allowed())

    def forced_after(self, tokens: list[int]) -> list[int] | None:
        """The tokens that the grammar forces after `tokens`; None if it does not admit `tokens`."""
        if not self._control_tokens.isdisjoint(tokens):
            return None
        return [] if self._constraint is None else self._constraint.forced_after(tokens)
