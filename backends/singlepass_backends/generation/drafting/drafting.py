"""What is drafted for a model's replies, and what is learned from what it accepted.

Theory of operation. For each pass a tree of probable tokens is grown (`draft`, `tree`) as large as pays
(`pace`), or a draft model is asked where that promises more. After the pass, the tokens that the model would
have chosen itself are kept; how often each kind of guess was right goes into the next choice.
"""

import math
import time
from collections.abc import Sequence

from singlepass_backends.base import Draft, Interrupt
from singlepass_backends.generation.drafting.draft import Drafter
from singlepass_backends.generation.drafting.draft_model import DraftModel
from singlepass_backends.generation.drafting.pace import Pace
from singlepass_backends.generation.drafting.tree import ROOT, Continuations, Guesser, Places, Tree
from singlepass_backends.generation.driver import Driver
from singlepass_backends.generation.reply import Reply

_MAX_CORPORA = 4
"""Draft corpora that are kept indexed."""
_SLOPE_CPU, _SLOPE_GPU = 0.5, 0.05
"""What a further token of a pass costs, in passes of one, before it was measured: on two cores a pass of 8
cost as much as 4.6 of one."""


class Drafting:
    """The drafts of one model; kept across requests."""

    def __init__(self, driver: Driver, pace: Pace | None = None, draft: Driver | None = None) -> None:
        """`pace` decides how much is drafted; None learns it. `draft` is of a smaller model with the same
        tokens (`check_pair`)."""
        self._driver = driver
        self._pace = pace or Pace(_slope(driver))
        self._model = DraftModel(draft, _slope(draft), driver.n_vocab) if draft else None
        self._corpora: dict[tuple[str, ...], Places] = {}

    def warm(self) -> None:
        """Touch the draft model's weights."""
        if self._model:
            self._model.warm()

    def watch(self, interrupt: Interrupt) -> None:
        """Stop the draft model's passes when `interrupt` is true."""
        if self._model:
            self._model.watch(interrupt)

    def close(self) -> None:
        """Free the draft model."""
        if self._model:
            self._model.close()

    def read_ahead(self, corpus: tuple[str, ...]) -> None:
        """Index texts beside the prompt, to be drafted from: a fifth of a second for 60,000 tokens."""
        if not corpus:
            return
        places = self._corpora.pop(corpus, None)
        if places is None:
            texts = (self._driver.tokenize(text.encode(), special=False) for text in corpus)
            places = Places([token for tokens in texts for token in tokens])
        self._corpora[corpus] = places
        if len(self._corpora) > _MAX_CORPORA:
            del self._corpora[next(iter(self._corpora))]

    def have_read(self, tokens: Sequence[int], interrupt: Interrupt, chunk_s: float) -> None:
        """Have the draft model read a prompt ahead."""
        if self._model:
            self._model.read(tokens, interrupt, chunk_s)

    def guesser(self, draft: Draft | None, prompt: Sequence[int]) -> Guesser | None:
        """The guesses for one reply to `prompt`; None where there is nothing to expect, or where a wrong
        guess could not be taken back."""
        driver = self._driver
        if draft is None or not driver.info.can_trim:
            return None
        corpus = self._corpora.get(draft.sources)
        continuations = Continuations(Places(prompt), (corpus,) if corpus else ())
        continuations.begin(prompt)
        return Guesser(
            Drafter(draft), continuations, lambda text: driver.tokenize(text, special=False), driver.piece
        )

    def grow(self, reply: Reply, said: Sequence[int], n_other: int, n_most: int) -> Tree:
        """Tokens to verify in the next pass, at most `n_most`, as many as pay. `said` are the latest tokens
        of the reply, `n_other` is how many the pass has anyway."""
        guesser, pace = reply.guesser, self._pace
        if guesser is None:
            return Tree()
        guesser.append(said)
        n_most = pace.n_most(n_other, n_most)
        if n_most <= 0:
            return Tree()
        start = time.perf_counter()
        tree = guesser.grow(
            n_most,
            self._driver.n_branches,
            pace.right,
            reply.forced_after,
            lambda tree: pace.is_enough(n_other, tree.gains, tree.forced),
        )
        pace.learn_looking(len(tree), time.perf_counter() - start)
        return tree.first(pace.n_worth(n_other, tree.gains, tree.forced))

    def or_ask_model(
        self,
        found: Tree,
        reply: Reply,
        held: Sequence[int],
        new: Sequence[int],
        n_most: int,
        interrupt: Interrupt,
    ) -> Tree:
        """`found`, or what the draft model says after the tokens that are `held` and the `new` ones, where
        that is expected to save more."""
        model, pace = self._model, self._pace
        if model is None or reply.guesser is None:
            return found
        tokens = [*held, *new]
        n_behind = model.n_behind(tokens)
        if n_behind is None:
            return found
        n = pace.n_from_model(len(new), n_most, n_behind, model.costs, found.gains)
        if n <= 0:
            return found
        said = model.guess(tokens, n, lambda guess: reply.n_valid(guess) == len(guess), interrupt)
        if not said:
            if not interrupt():
                pace.learn_guess("model", "first", False)
            return found
        return Tree.path("model", said)

    def learn(self, drafted: Tree, right: Sequence[int], n_sampled: int, n_forced: int) -> None:
        """What became of a tree: `right` are its nodes that the model agreed with, and the pass brought so
        many tokens, sampled ones and forced ones."""
        self._learn_guesses(drafted, right)
        self._pace.learn_said(n_sampled, n_forced)

    def learn_pass(self, n_tokens: int, seconds: float) -> None:
        """A pass of so many tokens, the drafted ones included, took so long."""
        self._pace.learn_pass(n_tokens, seconds)

    def _learn_guesses(self, drafted: Tree, right: Sequence[int]) -> None:
        """How often each guess was right that was tried where the reply came."""
        known = {ROOT, *right}
        expected = 0.0
        n_right = 0
        came = {drafted.parents[at]: drafted.guessed[at] for at in right}
        for at, guessed in enumerate(drafted.guessed):
            parent = drafted.parents[at]
            if parent not in known or drafted.forced[at]:
                continue  # what is forced is right whatever is guessed
            first = min((one.rank for one in came.get(parent, ())), default=math.inf)
            for kind, place, rank in guessed:
                if rank <= first or at in known:
                    self._pace.learn_guess(kind, place, at in known)
            if not guessed:
                expected += drafted.gains[at] / (drafted.gains[parent] if parent != ROOT else 1.0)
                n_right += at in known
        if expected:
            self._pace.learn_text(expected / self._pace.right("text", "first"), n_right)


def _slope(driver: Driver) -> float:
    return _SLOPE_CPU if driver.info.device == "CPU" else _SLOPE_GPU
