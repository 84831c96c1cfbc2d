"""Drafts for a model's replies; acceptance rates are learned from what the model accepts.

Theory of operation. For each pass a tree of probable tokens is grown (`draft`, `tree`), as large as is
expected to save time (`pace`). After the pass, the tokens that the model would have chosen itself are kept,
and the acceptance rate of each kind of guess is updated.
"""

import math
import time
from collections.abc import Sequence

from singlepass_backends.base import Draft
from singlepass_backends.generation.drafting.draft import Drafter
from singlepass_backends.generation.drafting.pace import Pace
from singlepass_backends.generation.drafting.tree import ROOT, Continuations, Guesser, Places, Tree
from singlepass_backends.generation.driver import Driver
from singlepass_backends.generation.reply import Reply

_MAX_CORPORA = 4
"""Number of draft corpora whose index is kept."""
_SLOPE_CPU, _SLOPE_GPU = 0.5, 0.05
"""Initial estimate of the cost of a further token in a pass, relative to a pass of one token: on two cores a
pass of 8 tokens cost as much as 4.6 passes of one."""


class Drafting:
    """The drafts of one model; kept across requests."""

    def __init__(self, driver: Driver, pace: Pace | None = None) -> None:
        """`pace` decides how much is drafted; None creates one that learns."""
        self._driver = driver
        self._pace = pace or Pace(_slope(driver))
        self._corpora: dict[tuple[str, ...], Places] = {}

    def index_corpus(self, corpus: tuple[str, ...]) -> None:
        """Index a draft corpus in advance: takes a fifth of a second for 60,000 tokens."""
        if not corpus:
            return
        places = self._corpora.pop(corpus, None)
        if places is None:
            texts = (self._driver.tokenize(text.encode(), special=False) for text in corpus)
            places = Places([token for tokens in texts for token in tokens])
        self._corpora[corpus] = places
        if len(self._corpora) > _MAX_CORPORA:
            del self._corpora[next(iter(self._corpora))]

    def guesser(self, draft: Draft | None, prompt: Sequence[int]) -> Guesser | None:
        """The guesser for one reply to `prompt`; None without a `draft`, and for models that cannot trim."""
        driver = self._driver
        if draft is None or not driver.info.can_trim:
            return None
        corpus = self._corpora.get(draft.corpus)
        continuations = Continuations(Places(prompt), (corpus,) if corpus else ())
        continuations.begin(prompt)
        return Guesser(
            Drafter(draft), continuations, lambda text: driver.tokenize(text, special=False), driver.piece
        )

    def grow(self, reply: Reply, said: Sequence[int], n_other: int, n_most: int) -> Tree:
        """Tokens to verify in the next pass, at most `n_most`, as many as are expected to save time. `said`
        are the latest tokens of the reply, `n_other` is the number of tokens that the pass has without a
        draft."""
        guesser, pace = reply.guesser, self._pace
        if guesser is None:
            return Tree()
        guesser.append(said)
        n_most = pace.limit(n_other, n_most)
        if n_most <= 0:
            return Tree()
        start = time.perf_counter()
        tree = guesser.grow(
            n_most,
            self._driver.n_branches,
            pace.acceptance,
            reply.forced_after,
            lambda tree: pace.is_saturated(n_other, tree.probabilities, tree.forced),
        )
        pace.learn_drafting(len(tree), time.perf_counter() - start)
        return tree.first(pace.best_size(n_other, tree.probabilities, tree.forced))

    def learn(self, drafted: Tree, accepted: Sequence[int], n_sampled: int, n_forced: int) -> None:
        """Learn from a draft: `accepted` are the nodes that the model chose too; the pass produced
        `n_sampled` and `n_forced` tokens."""
        self._learn_acceptance(drafted, accepted)
        self._pace.learn_output(n_sampled, n_forced)

    def learn_pass(self, n_tokens: int, seconds: float) -> None:
        """Learn from a pass of `n_tokens` tokens, including drafted ones, that took `seconds`."""
        self._pace.learn_pass(n_tokens, seconds)

    def _learn_acceptance(self, drafted: Tree, accepted: Sequence[int]) -> None:
        """Learn acceptance rates, from the nodes whose parent was accepted: the others were not tested."""
        reached = {ROOT, *accepted}
        chosen_by = {drafted.parents[at]: drafted.guessed[at] for at in accepted}
        n_expected = 0.0
        n_right = 0
        for at, guessed in enumerate(drafted.guessed):
            parent = drafted.parents[at]
            if parent not in reached or drafted.forced[at]:
                continue  # a forced token is always right
            best_rank = min((one.rank for one in chosen_by.get(parent, ())), default=math.inf)
            for kind, place, rank in guessed:
                if rank <= best_rank or at in reached:
                    self._pace.learn_guess(kind, place, is_accepted=at in reached)
            if not guessed:
                above = drafted.probabilities[parent] if parent != ROOT else 1.0
                n_expected += drafted.probabilities[at] / above
                n_right += at in reached
        if n_expected:
            self._pace.learn_text(n_expected / self._pace.acceptance("text", "first"), n_right)


def _slope(driver: Driver) -> float:
    return _SLOPE_CPU if driver.info.device == "CPU" else _SLOPE_GPU
