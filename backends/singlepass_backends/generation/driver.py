"""What a runtime must offer for the shared loop to run a model; nothing else is asked of it."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from singlepass_backends.base import Interrupt, ModelInfo

Logits = NDArray[np.float32]
State = bytes | memoryview
"""Up to gigabytes, so copied as little as possible."""


class Interrupted(Exception):
    """A forward pass was stopped. The cache is as it was before."""


class Driver(Protocol):
    """One model with one KV cache. Called from one thread only.

    The cache holds `n_sequences` sequences in `n_ctx` cells; a copy shares the cells of its original.
    Sequence 0 is the one that `forward` continues, the last one is scratch for saving. Models whose
    `info.can_trim` is False copy sequences as a whole, and go back to an earlier position only with a
    checkpoint.

    Drivers need not import this: any object of this shape is one.
    """

    info: ModelInfo
    n_ctx: int
    """Tokens the KV cache holds, over all sequences."""
    n_sequences: int
    n_batch: int
    """Most tokens of one `forward`."""
    n_branches: int
    """Most leaves of a draft tree that `branch` takes; 1 where it is never called."""
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

    state_key: str
    """What saved states depend on: the model file's content, wherever it lies, and the parameters that shape
    or change its state. Empty where a state cannot be saved."""

    def tokenize(self, text: bytes, *, special: bool) -> list[int]:
        """Tokens of UTF-8 `text`. `special` parses control tokens; without it `<|im_end|>` stays text."""
        ...

    def piece(self, token: int) -> bytes:
        """The bytes a token stands for; may split a character. Empty for control tokens."""
        ...

    def forward(self, tokens: Sequence[int], position: int, *, n_logits: int) -> Logits | None:
        """Put `tokens` into sequence 0 at `position` (its current length) in one forward pass.

        Returns the logits of the last `n_logits` tokens, [n_logits, n_vocab], or None for 0. The array is
        valid until the next call.
        Raises `Interrupted` where what `watch` was given asks for it.
        """
        ...

    def branch(self, tokens: Sequence[int], position: int, parents: Sequence[int]) -> Logits:
        """Like `forward`, but the last `len(parents)` tokens are a draft tree (tree attention): each sees the
        tokens before the tree and its own ancestors. `parents` has the number of each one's predecessor
        within the tree, -1 for none; parents come before their children.

        Returns the logits after the last token before the tree, and after each token of it. `keep` is called
        before anything else that concerns sequence 0.
        """
        ...

    def keep(self, position: int, nodes: Sequence[int]) -> None:
        """Of the tree that begins at `position`, keep these nodes, a path from its root, and forget the
        others."""
        ...

    def watch(self, interrupt: Interrupt) -> bool:
        """Stop forward passes from now on when `interrupt` is true. False where the runtime cannot: then a
        pass takes as long as it takes."""
        ...

    def clear(self) -> None:
        """Forget all sequences."""
        ...

    def trim(self, n_keep: int, sequence: int = 0) -> bool:
        """Forget all but the first `n_keep` tokens of `sequence`. False, with nothing changed, where the
        model cannot; `trim(0)` always works."""
        ...

    def copy(self, source: int, target: int, n: int) -> None:
        """Make the empty sequence `target` the first `n` tokens of `source`: all, where the model cannot
        trim."""
        ...

    def checkpoint(self) -> State:
        """The state of sequence 0 at its end, without what `trim` could restore."""
        ...

    def restore(self, checkpoint: State, n_keep: int, sequence: int = 0) -> bool:
        """Go back to a checkpoint that was taken after `n_keep` tokens, which `sequence` begins with. False
        where that fails; the sequence is then of no use."""
        ...

    def save(self, sequence: int) -> State:
        """The whole state of `sequence`."""
        ...

    def load(self, state: State, n_tokens: int) -> bool:
        """Make the empty sequence 0 what was saved, of `n_tokens`. False where that fails; the whole cache is
        then empty."""
        ...

    def close(self) -> None:
        """Free the model."""
        ...
