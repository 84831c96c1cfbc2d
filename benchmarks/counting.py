"""A model that only counts: a real tokenizer, a cache that knows each of its cells, and no arithmetic.

It stands where a runtime stands (`generation.driver.Driver`), so the engine's own loop and cache policy run
on it, thousands of requests a minute. For each cell it knows the token in it, who had it read and whether a
request ever used it; so it can tell which tokens of a prewarm were worth reading. It says what it is told to.
"""

import ctypes
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from singlepass_backends.base import BackendError, Interrupt, ModelInfo
from singlepass_backends.drivers.llama.driver import load_library
from singlepass_backends.generation.driver import State

_REQUEST, _PREWARM = 1, 2


class Tokenizer:
    """The tokenizer and the chat template of a GGUF file; its weights, if it has any, are not read."""

    def __init__(self, path: Path) -> None:
        self._lib = lib = load_library()
        params = lib.llama_model_default_params()
        params.vocab_only = True
        self._model = lib.llama_model_load_from_file(str(path).encode(), params)
        if not self._model:
            raise BackendError("model_invalid", f"llama.cpp cannot read the vocabulary of {path}.")
        self._vocab = vocab = lib.llama_model_get_vocab(self._model)
        self.n_vocab = int(lib.llama_vocab_n_tokens(vocab))
        tokens = range(self.n_vocab)
        self.eog_tokens = frozenset(token for token in tokens if lib.llama_vocab_is_eog(vocab, token))
        bos = int(lib.llama_vocab_bos(vocab))
        self.bos_tokens = (bos,) if bos >= 0 and lib.llama_vocab_get_add_bos(vocab) else ()
        template = lib.llama_model_chat_template(self._model, None)
        self.chat_template = template.decode() if template else None
        self.remembered = lru_cache(maxsize=512)(self.tokenize)

    def tokenize(self, text: bytes, special: bool) -> tuple[int, ...]:
        """Tokens of UTF-8 `text`."""
        size = len(text) + 16
        tokens = (ctypes.c_int32 * size)()
        n = self._lib.llama_tokenize(self._vocab, text, len(text), tokens, size, False, special)
        assert n >= 0, "no text has more tokens than bytes"
        return tuple(tokens[:n])

    @cached_property
    def pieces(self) -> list[bytes]:
        """The bytes of each token; of those that are no text, none."""
        buffer = ctypes.create_string_buffer(1024)
        pieces: list[bytes] = []
        for token in range(self.n_vocab):
            n = self._lib.llama_token_to_piece(self._vocab, token, buffer, len(buffer), 0, False)
            assert n >= 0, "no token is longer"
            pieces.append(buffer.raw[:n])
        return pieces

    def close(self) -> None:
        """Free the vocabulary."""
        self._lib.llama_model_free(self._model)


class NothingSaved:
    """The part of a driver that trims and is never saved, so that the loop asks none of this of it."""

    def checkpoint(self) -> State:
        """See `Driver`."""
        raise NotImplementedError

    def restore(self, checkpoint: State, n_keep: int, sequence: int = 0) -> bool:
        """See `Driver`."""
        raise NotImplementedError

    def save(self, sequence: int) -> State:
        """See `Driver`."""
        raise NotImplementedError

    def load(self, state: State, n_tokens: int) -> bool:
        """See `Driver`."""
        raise NotImplementedError


class CountingDriver(NothingSaved):
    """See `generation.driver.Driver`. With one kept sequence and scratch (`n_sequences=2`) it is a plain
    prefix cache."""

    def __init__(self, tokenizer: Tokenizer, *, n_ctx: int, n_sequences: int = 9, n_batch: int = 512) -> None:
        self.info = ModelInfo(backend="counting", name="counting", n_ctx=n_ctx, n_vocab=tokenizer.n_vocab)
        self.n_ctx, self.n_batch, self.n_vocab = n_ctx, n_batch, tokenizer.n_vocab
        self.n_sequences = n_sequences
        self.eog_tokens, self.bos_tokens = tokenizer.eog_tokens, tokenizer.bos_tokens
        self.control_tokens: frozenset[int] = frozenset()
        self.chat_template = tokenizer.chat_template
        self.special_texts: dict[str, str] = {}
        self.state_key = "counting"
        self.n_read = 0
        """Tokens evaluated so far."""
        self.n_prewarmed = self.n_used = self.n_wasted = 0
        """Tokens that prewarms read; of them, those that some request then found in the cache, and those that
        went without."""
        self._tokenizer = tokenizer
        self._cells: list[NDArray[np.int32]] = [np.zeros(0, np.int32) for _ in range(n_sequences)]
        self._free = list(range(n_ctx))
        self._token = np.zeros(n_ctx, np.int32)
        self._n_holders = np.zeros(n_ctx, np.int32)
        self._reader = np.zeros(n_ctx, np.int8)
        self._is_used = np.zeros(n_ctx, np.bool_)
        self._reading = _REQUEST
        self._reply: Sequence[int] = ()
        self._reply_at = 0
        self._logits = np.zeros((n_batch, self.n_vocab), np.float32)
        self._said: list[int] = []

    # What the replay asks.

    @contextmanager
    def prewarming(self) -> Iterator[None]:
        """What is prefilled meanwhile counts as a prewarm."""
        self._reading = _PREWARM
        try:
            yield
        finally:
            self._reading = _REQUEST

    def steer(self, n_prompt: int, reply: Sequence[int]) -> None:
        """After a prompt of `n_prompt` tokens, say `reply`."""
        self._reply_at, self._reply = n_prompt, reply

    def use(self, n: int) -> None:
        """A request found the first `n` tokens of sequence 0."""
        cells = self._cells[0][:n]
        fresh = cells[(self._reader[cells] == _PREWARM) & ~self._is_used[cells]]
        self._is_used[fresh] = True
        self.n_used += len(fresh)

    def tokens(self, sequence: int) -> NDArray[np.int32]:
        """What is in a sequence."""
        return self._token[self._cells[sequence]]

    @property
    def n_unused(self) -> int:
        """Tokens that prewarms read, that are still there and that no request has used."""
        held = self._n_holders > 0
        return int(np.count_nonzero(held & (self._reader == _PREWARM) & ~self._is_used))

    # What the loop asks.

    def tokenize(self, text: bytes, *, special: bool) -> list[int]:
        """See `Driver`."""
        return list(self._tokenizer.remembered(text, special))

    def piece(self, token: int) -> bytes:
        """See `Driver`; nobody reads what it says."""
        return b""

    def forward(self, tokens: Sequence[int], position: int, *, n_logits: int) -> NDArray[np.float32] | None:
        """See `Driver`."""
        n, working = len(tokens), self._cells[0]
        assert 0 < n <= self.n_batch
        assert position == len(working), "the loop knows how long the sequence is"
        assert n <= len(self._free), "the loop found room"
        assert not len(self._cells[-1]), "the scratch sequence is left empty"
        cells = np.array(self._free[-n:], np.int32)
        del self._free[-n:]
        self._token[cells], self._n_holders[cells] = tokens, 1
        self._reader[cells], self._is_used[cells] = self._reading, False
        self._cells[0] = np.concatenate((working, cells))
        self.n_read += n
        if self._reading == _PREWARM:
            self.n_prewarmed += n
        if not n_logits:
            return None
        said = len(self._cells[0]) - self._reply_at - n_logits + 1
        assert said >= 0, "the reply begins after the prompt"
        self._logits[: len(self._said), self._said] = 0.0
        reply = [*self._reply[said : said + n_logits], *[min(self.eog_tokens)] * n_logits]
        self._said = reply[:n_logits]
        self._logits[range(n_logits), self._said] = 1.0
        return self._logits[:n_logits]

    def watch(self, interrupt: Interrupt) -> bool:
        """See `Driver`; a pass takes no time."""
        return False

    def clear(self) -> None:
        """See `Driver`."""
        for sequence in range(self.n_sequences):
            self.trim(0, sequence)

    def trim(self, n_keep: int, sequence: int = 0) -> bool:
        """See `Driver`."""
        cells = self._cells[sequence]
        assert n_keep <= len(cells)
        gone = cells[n_keep:]
        self._n_holders[gone] -= 1
        freed = gone[self._n_holders[gone] == 0]
        unused = (self._reader[freed] == _PREWARM) & ~self._is_used[freed]
        self.n_wasted += int(np.count_nonzero(unused))
        self._free += freed.tolist()
        self._cells[sequence] = cells[:n_keep].copy()
        return True

    def copy(self, source: int, destination: int, n: int) -> None:
        """See `Driver`."""
        assert source != destination
        assert not len(self._cells[destination])
        assert 0 < n <= len(self._cells[source])
        self._cells[destination] = self._cells[source][:n].copy()
        self._n_holders[self._cells[destination]] += 1

    def close(self) -> Any:
        """See `Driver`."""
