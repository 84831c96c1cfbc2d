"""What a runtime must offer for the shared loop to run a model: tokenize, forward, trim; nothing else."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from singlepass_backends.base import ModelInfo

Logits = NDArray[np.float32]


class Driver(Protocol):
    """One model with one KV cache, which holds one sequence. Called from one thread only.

    Drivers need not import this: any object of this shape is one.
    """

    info: ModelInfo
    n_ctx: int
    """Tokens the KV cache holds."""
    n_batch: int
    """Most tokens of one `forward`."""
    n_vocab: int
    eog_tokens: frozenset[int]
    """Tokens that end the assistant's turn."""
    bos_tokens: tuple[int, ...]
    """What the model wants in front of every prompt; usually nothing."""
    control_tokens: frozenset[int]
    """Tokens that are no text, such as `<|im_start|>`; never generated under a grammar."""
    chat_template: str | None
    """The Jinja template of the model's metadata. Untrusted."""
    special_texts: dict[str, str]
    """`bos_token` and `eos_token` as text, for the template."""

    def tokenize(self, text: bytes, *, special: bool) -> list[int]:
        """Tokens of UTF-8 `text`. `special` parses control tokens; without it `<|im_end|>` stays text."""
        ...

    def piece(self, token: int) -> bytes:
        """The bytes a token stands for; may split a character. Empty for control tokens."""
        ...

    def forward(self, tokens: Sequence[int], position: int, *, logits: bool) -> Logits | None:
        """Put `tokens` into the cache at `position` (its current length) in one forward pass.

        Returns the last token's logits, or None unless `logits`. The array is valid until the next call.
        """
        ...

    def trim(self, n_keep: int) -> bool:
        """Forget all but the first `n_keep` tokens. False, with nothing changed, where the model cannot;
        `trim(0)` always works."""
        ...

    def close(self) -> None:
        """Free the model."""
        ...
