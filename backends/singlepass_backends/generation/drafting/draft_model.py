"""A small model that guesses what a large one will say, where the document tells nothing better.

Theory of operation. Both have the same tokens (`check_pair`), so what one says the other can verify. The
small one has a cache of its own with one sequence, which is kept in step with what the large one has read
and said: the common beginning stays, the rest is cut off, and what is new is read before the next guess. It
takes the likeliest token each time. Its guesses are verified like those from the document (`loop`), so it
changes how long a reply takes and never what it says. Whether that pays is decided in `pace`, by what its
passes take.
"""

import logging
import time
from collections.abc import Callable, Sequence

from singlepass_backends.base import BackendError, Interrupt
from singlepass_backends.generation.cache.prefix import common_prefix
from singlepass_backends.generation.chunks import ChunkSize
from singlepass_backends.generation.drafting.pace import Costs
from singlepass_backends.generation.driver import Driver, Interrupted, Logits

_log = logging.getLogger(__name__)


class DraftModel:
    """The small model's driver, and what its cache holds. Called from the model thread only."""

    def __init__(self, driver: Driver, slope: float, n_vocab: int) -> None:
        """`slope` is what a further token of a pass costs, in passes of one token, until it was measured.
        `n_vocab` is the large model's: no token beyond is guessed."""
        self.costs = Costs(slope)
        """What its passes take."""
        self._driver = driver
        self._n_vocab = n_vocab
        self._chunks = ChunkSize(driver.n_batch)
        self._held: list[int] = []
        self._has_failed = False
        driver.clear()

    def warm(self) -> None:
        """Touch all weights, and then learn what a pass takes."""
        self._driver.forward([0], 0, n_logits=1)
        self._clear()
        self._forward([0], n_logits=1)
        self._clear()

    def watch(self, interrupt: Interrupt) -> None:
        """See `Driver`."""
        self._driver.watch(interrupt)

    def n_behind(self, tokens: Sequence[int]) -> int | None:
        """Tokens to read before it can say what follows `tokens`; None where it cannot."""
        if self._has_failed or not tokens or len(tokens) >= self._driver.n_ctx:
            return None
        return len(tokens) - self._n_common(tokens)

    def read(self, tokens: Sequence[int], interrupt: Interrupt, seconds: float) -> None:
        """Read ahead: bring the cache to `tokens`, in chunks of about so many seconds, until interrupted."""
        if (self.n_behind(tokens) or 0) > 1:
            self._catch_up(tokens, interrupt, seconds, n_logits=0)

    def guess(
        self, tokens: Sequence[int], n: int, admits: Callable[[list[int]], bool], interrupt: Interrupt
    ) -> list[int]:
        """Up to `n` tokens that may follow `tokens`, as far as the grammar `admits` them."""
        found: list[int] = []
        logits = self._catch_up(tokens, interrupt, None, n_logits=1)
        while logits is not None:
            found.append(int(logits[-1][: self._n_vocab].argmax()))
            if not admits(found):
                found.pop()
                break
            if len(found) == n or len(self._held) + 1 >= self._driver.n_ctx:
                break
            _, logits = self._try([found[-1]], n_logits=1)
        return found

    def close(self) -> None:
        """Free the model."""
        self._driver.close()

    def _n_common(self, tokens: Sequence[int]) -> int:
        """What can stay of the cache. One token at least is read, for the logits after it."""
        return min(common_prefix(self._held, tokens), len(tokens) - 1)

    def _catch_up(
        self, tokens: Sequence[int], interrupt: Interrupt, seconds: float | None, *, n_logits: int
    ) -> Logits | None:
        """The logits after `tokens`; None where none are wanted, or it was interrupted, or failed."""
        n_done = self._n_common(tokens)
        if n_done < len(self._held):
            if not self._driver.trim(n_done):
                self._clear()
                n_done = 0
            del self._held[n_done:]
        logits: Logits | None = None
        while n_done < len(tokens):
            if interrupt():
                return None
            n = min(len(tokens) - n_done, self._driver.n_batch)
            chunk = tokens[n_done : n_done + (n if seconds is None else self._chunks.next(n, seconds))]
            n_done += len(chunk)
            is_done, logits = self._try(chunk, n_logits=n_logits if n_done == len(tokens) else 0)
            if not is_done:
                return None
        return logits

    def _try(self, tokens: Sequence[int], *, n_logits: int) -> tuple[bool, Logits | None]:
        """A pass, and whether it was done: where it was interrupted, or failed, the reply goes on without."""
        try:
            return True, self._forward(tokens, n_logits=n_logits)
        except Interrupted:
            return False, None
        except BackendError as error:
            _log.warning("the draft model fails, so it is used no more: %s", error.message)
            self._has_failed = True
            return False, None

    def _forward(self, tokens: Sequence[int], *, n_logits: int) -> Logits | None:
        start = time.perf_counter()
        logits = self._driver.forward(tokens, len(self._held), n_logits=n_logits)
        seconds = time.perf_counter() - start
        self._held += tokens
        self.costs.learn(len(tokens), seconds)
        self._chunks.learn(len(tokens), seconds)
        return logits

    def _clear(self) -> None:
        self._driver.clear()
        self._held = []


def check_pair(driver: Driver, draft: Driver) -> None:
    """Raises BackendError `unsupported` where `draft` cannot guess for `driver`: each token has to be the
    same text in both. Vocabularies may be filled up with tokens without text, and may differ in what is a
    control token, which is never drafted."""
    names = f"the draft model {draft.info.path or draft.info.name}", driver.info.path or driver.info.name
    if not driver.info.can_trim or not draft.info.can_trim:
        which = names[1] if draft.info.can_trim else names[0]
        raise BackendError(
            "unsupported",
            f"{which} is hybrid or recurrent and cannot take tokens back, so a draft model is of no use with "
            "it. Take the setting `draft_model` out, or choose another model.",
        )
    n_both = min(driver.n_vocab, draft.n_vocab)
    control = driver.control_tokens | draft.control_tokens
    other = next(
        (
            token
            for token in range(n_both)
            if token not in control and driver.piece(token) != draft.piece(token)
        ),
        None,
    )
    if other is None:
        longer = driver if driver.n_vocab > n_both else draft
        other = next((token for token in range(n_both, longer.n_vocab) if longer.piece(token)), None)
    if other is not None:
        raise BackendError(
            "unsupported",
            f"{names[0]} has another vocabulary than {names[1]} (they part at token {other:,}), so it cannot "
            "draft for it. Choose a smaller model of the same family, or take the setting `draft_model` out.",
        )
