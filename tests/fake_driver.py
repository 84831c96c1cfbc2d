"""A model without a model: byte tokens, and logits that depend on every token in its cache.

It checks what the loop believes about the cache, and keeps a record of each forward pass. As the next token
is a function of all tokens before it, a wrong cache gives another reply.
"""

import hashlib
from collections.abc import Callable, Sequence

import numpy as np
from singlepass_backends.base import ModelInfo

END, START, N_VOCAB = 256, 257, 258
CONTROL = {b"<|im_end|>": END, b"<|im_start|>": START}


class FakeDriver:
    def __init__(
        self,
        *,
        reply: bytes | None = None,
        n_ctx: int = 4096,
        n_batch: int = 16,
        can_trim: bool = True,
        on_forward: Callable[[], None] = lambda: None,
    ) -> None:
        """`reply` is what the model wants to say after any prompt; None gives pseudo-random bytes."""
        self.info = ModelInfo(backend="fake", name="fake", n_ctx=n_ctx, n_vocab=N_VOCAB, can_trim=can_trim)
        self.n_ctx, self.n_batch, self.n_vocab = n_ctx, n_batch, N_VOCAB
        self.eog_tokens = frozenset({END})
        self.control_tokens = frozenset({END, START})
        self.bos_tokens: tuple[int, ...] = ()
        self.chat_template: str | None = None
        self.special_texts: dict[str, str] = {}
        self.reply = reply
        self.cells: list[int] = []
        self.passes: list[tuple[int, bool]] = []
        """Tokens of each forward pass, and whether logits were asked for."""
        self.error: Exception | None = None
        self.is_closed = False
        self._on_forward = on_forward

    def tokenize(self, text: bytes, *, special: bool) -> list[int]:
        tokens: list[int] = []
        while text:
            name = next((name for name in CONTROL if special and text.startswith(name)), None)
            tokens.append(CONTROL[name] if name else text[0])
            text = text[len(name) if name else 1 :]
        return tokens

    def piece(self, token: int) -> bytes:
        return bytes([token]) if token < 256 else b""

    def forward(self, tokens: Sequence[int], position: int, *, logits: bool) -> np.ndarray | None:
        assert 0 < len(tokens) <= self.n_batch
        assert position == len(self.cells)
        assert position + len(tokens) <= self.n_ctx
        self._on_forward()
        self.cells += tokens
        self.passes.append((len(tokens), logits))
        if self.error is not None:
            raise self.error
        if not logits:
            return None
        values = np.zeros(N_VOCAB, dtype=np.float32)
        values[self._next()] = 1.0
        return values

    def _next(self) -> int:
        if self.reply is not None:
            assistant = list(b"assistant\n")
            start = next(
                at
                for at in range(len(self.cells), 0, -1)
                if self.cells[at - len(assistant) - 1 : at] == [START, *assistant]
            )
            said = len(self.cells) - start
            return self.reply[said] if said < len(self.reply) else END
        digest = hashlib.sha256(np.array(self.cells, dtype=np.int32).tobytes()).digest()
        return 97 + digest[0] % 26

    def trim(self, n_keep: int) -> bool:
        if n_keep and n_keep < len(self.cells) and not self.info.can_trim:
            return False
        del self.cells[n_keep:]
        return True

    def close(self) -> None:
        self.is_closed = True
