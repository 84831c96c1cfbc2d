"""Decoding under a grammar: a small interface to llguidance's matcher.

The server writes the grammar (a Lark dialect,
https://github.com/guidance-ai/llguidance/blob/main/docs/syntax.md) and the engine treats it as opaque.
Compiling takes up to a few hundred ms for a large file, so compiled grammars are cached by their text and
copied for each request.
"""

import importlib
import logging
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from singlepass_backends.base import BackendError
from singlepass_backends.generation.driver import Driver

_KEPT_GRAMMARS = 8

# A file of thousands of lines gives thousands of alternatives; llguidance's default limit is 2,000.
_LIMITS = {
    "max_items_in_row": 50_000,
    "initial_lexer_fuel": 20_000_000,
    "step_lexer_fuel": 2_000_000,
    "step_max_items": 500_000,
    "max_grammar_size": 5_000_000,
    "verbose_errors": False,
}

_log = logging.getLogger(__name__)


class Constraint:
    """The state of one reply's matcher."""

    def __init__(self, matcher: Any, n_vocab: int) -> None:
        self._matcher = matcher
        self._n_vocab = n_vocab
        self._mask = np.zeros((n_vocab + 31) // 32, dtype=np.int32)
        self._is_current = False

    @property
    def stopped(self) -> bool:
        """True when the grammar is complete and admits nothing more."""
        return bool(self._matcher.is_stopped())

    def admits(self, token: int) -> bool:
        """Whether `token` may come next. Takes a twentieth of the time of `allowed` if many tokens are
        allowed."""
        self._compute()
        return bool(self._mask[token // 32] >> (token % 32) & 1)

    def allowed(self) -> NDArray[np.intp]:
        """The tokens that may come next; never empty. Raises BackendError `grammar_invalid`."""
        self._compute()
        bits = np.unpackbits(self._mask.view(np.uint8), bitorder="little", count=self._n_vocab)
        tokens = np.flatnonzero(bits)
        if tokens.size == 0:
            self._check()
            raise BackendError("grammar_invalid", "The grammar allows no token here, and is not complete.")
        return tokens

    def consume(self, token: int) -> None:
        """`token` was chosen. Raises BackendError `grammar_invalid` if the grammar forbids it."""
        self._is_current = False
        self._matcher.consume_token(token)
        self._check()

    def forced_after(self, tokens: list[int]) -> list[int] | None:
        """The tokens that would be forced after `tokens`; None if `tokens` may not come next. Consumes
        nothing."""
        if self.stopped:
            return None
        n = int(self._matcher.try_consume_tokens(tokens))
        forced: list[int] | None = self._matcher.compute_ff_tokens() if n == len(tokens) else None
        self._matcher.rollback(n)
        return forced

    def take_forced(self, n_most: int) -> list[int]:
        """Consume and return the tokens that are forced next, at most `n_most`."""
        if n_most <= 0 or self.stopped:
            return []
        forced: list[int] = self._matcher.compute_ff_tokens()[:n_most]
        if forced:
            self._is_current = False
            self._matcher.consume_tokens(forced)
        self._check()
        return forced

    def _compute(self) -> None:
        if not self._is_current:
            self._matcher.unsafe_compute_mask_ptr(self._mask.ctypes.data, self._mask.nbytes)
            self._is_current = True

    def _check(self) -> None:
        if self._matcher.is_error():
            raise BackendError(
                "grammar_invalid", f"The grammar failed: {_first_line(self._matcher.get_error())}"
            )


class Constraints:
    """Compiles grammars for one model's vocabulary."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._library: Any = None
        self._tokenizer: Any = None
        self._compiled: OrderedDict[str, Any] = OrderedDict()

    def open(self, grammar: str) -> Constraint:
        """A constraint at the start of `grammar`. Raises BackendError `grammar_invalid`."""
        pristine = self._compiled.pop(grammar, None) or self._compile(grammar)
        self._compiled[grammar] = pristine
        if len(self._compiled) > _KEPT_GRAMMARS:
            self._compiled.popitem(last=False)
        return Constraint(pristine.deep_copy(), self._driver.n_vocab)

    def warm(self) -> None:
        """Build the tokenizer's trie now (about a second for 150,000 tokens) instead of in the first
        request."""
        if self._tokenizer is None:
            self._library = importlib.import_module("llguidance")
            self._tokenizer = self._library.LLTokenizer(
                _Vocabulary(self._driver), eos_token=sorted(self._driver.eog_tokens)
            )

    def _compile(self, grammar: str) -> Any:
        self.warm()
        matcher = self._library.LLMatcher(
            self._tokenizer,
            self._library.LLMatcher.grammar_from_lark(grammar),
            log_level=0,
            limits=self._library.LLParserLimits(**_LIMITS),
        )
        if matcher.is_error():
            raise BackendError(
                "grammar_invalid", f"The grammar is invalid: {_first_line(matcher.get_error())}"
            )
        for warning in matcher.get_grammar_warnings():
            _log.warning("grammar: %s", _first_line(str(warning)))
        return matcher


class _Vocabulary:
    """The vocabulary in the form that llguidance's `LLTokenizer` expects."""

    is_tokenizer_wrapper = True

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        control = driver.control_tokens | driver.eog_tokens
        self.eos_token_id = min(driver.eog_tokens)
        self.bos_token_id = driver.bos_tokens[0] if driver.bos_tokens else None
        # A leading 0xFF marks tokens that are not text; the name after it only has to be unique.
        self.tokens = [
            b"\xff<%d>" % token if token in control else driver.piece(token)
            for token in range(driver.n_vocab)
        ]
        self.special_token_ids: Sequence[int] = sorted(control)

    def __call__(self, text: bytes | str) -> list[int]:
        data = text.encode() if isinstance(text, str) else text
        return self._driver.tokenize(data, special=False)


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0]
