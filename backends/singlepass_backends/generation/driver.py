"""The interface that a runtime must implement for the generation loop to run its models."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from singlepass_backends.base import Interrupt, ModelInfo

Logits = NDArray[np.float32]
State = bytes | memoryview
"""A serialized state: up to gigabytes, so copied as little as possible."""


class Interrupted(Exception):
    """A forward pass was stopped. The cache is unchanged."""


class Driver(Protocol):
    """One model with one KV cache. Called from one thread only.

    The cache holds `n_sequences` sequences in `n_ctx` cells; a copy shares the cells of its original.
    `forward` continues sequence 0; the last one is a scratch sequence for saving. Models with
    `info.can_trim` False copy only whole sequences, and return to an earlier position only with a checkpoint.

    Drivers need not import this (structural typing).
    """

    info: ModelInfo
    n_ctx: int
    """Tokens the KV cache holds, over all sequences."""
    n_sequences: int
    n_batch: int
    """Maximum tokens of one `forward`."""
    n_branches: int
    """Maximum number of leaves of a draft tree for `branch`; 1 if it must not be called."""
    n_vocab: int
    eog_tokens: frozenset[int]
    """Tokens that end the assistant's turn."""
    bos_tokens: tuple[int, ...]
    """Tokens that the model expects in front of every prompt (BOS); usually none."""
    control_tokens: frozenset[int]
    """Tokens that are not text, such as `<|im_start|>`; never generated under a grammar."""
    chat_template: str | None
    """The Jinja template of the model's metadata. Untrusted."""
    special_texts: dict[str, str]
    """`bos_token` and `eos_token` as text, for the template."""

    state_key: str
    """Key of saved states: a hash of the model file's content and of the parameters that affect the state.
    Empty if states cannot be saved."""

    def tokenize(self, text: bytes, *, special: bool) -> list[int]:
        """Tokens of UTF-8 `text`. With `special`, control tokens are parsed; without, `<|im_end|>` stays
        text."""
        ...

    def piece(self, token: int) -> bytes:
        """The bytes a token stands for; may split a character. Empty for control tokens."""
        ...

    def forward(self, tokens: Sequence[int], position: int, *, n_logits: int) -> Logits | None:
        """Put `tokens` into sequence 0 at `position` (its current length) in one forward pass.

        Returns the logits of the last `n_logits` tokens, [n_logits, n_vocab], or None for 0. The array is
        valid until the next call.
        Raises `Interrupted` if the interrupt of `watch` becomes true.
        """
        ...

    def branch(self, tokens: Sequence[int], position: int, parents: Sequence[int]) -> Logits:
        """Like `forward`, but the last `len(parents)` tokens are a draft tree (tree attention): each attends
        to the tokens before the tree and to its own ancestors. `parents` has the index of each token's parent
        in the tree, -1 for none; parents come before their children.

        Returns the logits after the last token before the tree, and after each token in it. The next call
        that concerns sequence 0 must be `keep`.
        """
        ...

    def keep(self, position: int, nodes: Sequence[int]) -> None:
        """Keep only these nodes, a path from the root, of the tree that begins at `position`."""
        ...

    def watch(self, interrupt: Interrupt) -> bool:
        """From now on stop forward passes when `interrupt` is true. Returns False if the runtime cannot stop
        within a pass."""
        ...

    def clear(self) -> None:
        """Remove all sequences."""
        ...

    def trim(self, n_keep: int, sequence: int = 0) -> bool:
        """Truncate `sequence` to its first `n_keep` tokens. Returns False and changes nothing if the model
        cannot; `trim(0)` always works."""
        ...

    def copy(self, source: int, destination: int, n: int) -> None:
        """Copy the first `n` tokens of `source` to the empty sequence `destination`; all of them if the model
        cannot trim."""
        ...

    def checkpoint(self) -> State:
        """The state at the end of sequence 0, without the parts that `trim` could restore."""
        ...

    def restore(self, checkpoint: State, n_keep: int, sequence: int = 0) -> bool:
        """Restore a checkpoint that was taken after the first `n_keep` tokens of `sequence`. Returns False on
        failure; the sequence is then unusable."""
        ...

    def save(self, sequence: int) -> State:
        """The whole state of `sequence`."""
        ...

    def load(self, state: State, n_tokens: int) -> bool:
        """Load a saved state of `n_tokens` tokens into the empty sequence 0. Returns False on failure; the
        whole cache is then empty."""
        ...

    def close(self) -> None:
        """Free the model."""
        ...
