"""A model without a model: byte tokens, and logits that depend on every token in its cache.

It checks what the loop believes about the cache, and keeps a record of each forward pass. As the next token
is a function of all tokens before it, a wrong cache gives another reply. Like a real cache it holds several
sequences that share cells, has a limited number of them, and, where it cannot trim, a state that is lost
unless a checkpoint of it was taken.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from singlepass_backends.base import Interrupt, ModelInfo
from singlepass_backends.generation.drafting.tree import ROOT

END, START, N_VOCAB = 256, 257, 258
CONTROL = {b"<|im_end|>": END, b"<|im_start|>": START}


class Cell:
    """A place for one token, in one or more sequences. Compared by identity."""

    def __init__(self, token: int) -> None:
        self.token = token


class FakeDriver:
    def __init__(
        self,
        *,
        reply: bytes | None = None,
        n_ctx: int = 4096,
        n_batch: int = 16,
        can_trim: bool = True,
        n_sequences: int = 9,
        n_branches: int = 4,
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
        self.n_sequences = n_sequences
        self.n_branches = n_branches
        self.tree: list[int] | None = None
        """The tokens of a tree that waits for `keep`."""
        self.state_key = "fake"
        self.sequences: list[list[Cell]] = [[] for _ in range(n_sequences)]
        self.state_of: list[int] = [0] * n_sequences
        """For each sequence, after how many tokens its recurrent state is."""
        self.refuses_load = False
        self.seen: set[int] = set()
        """Tokens of all forward passes."""
        self.passes: list[tuple[int, bool]] = []
        """Tokens of each forward pass, and whether logits were asked for."""
        self.error: Exception | None = None
        self.is_closed = False
        self._on_forward = on_forward

    @property
    def cells(self) -> list[int]:
        """The tokens of the working sequence."""
        return [cell.token for cell in self.sequences[0]]

    @property
    def n_used(self) -> int:
        return len({id(cell) for sequence in self.sequences for cell in sequence})

    def tokenize(self, text: bytes, *, special: bool) -> list[int]:
        tokens: list[int] = []
        while text:
            name = next((name for name in CONTROL if special and text.startswith(name)), None)
            tokens.append(CONTROL[name] if name else text[0])
            text = text[len(name) if name else 1 :]
        return tokens

    def watch(self, interrupt: Interrupt) -> bool:
        return False

    def piece(self, token: int) -> bytes:
        return bytes([token]) if token < 256 else b""

    def forward(self, tokens: Sequence[int], position: int, *, n_logits: int) -> np.ndarray | None:
        assert 0 < len(tokens) <= self.n_batch
        assert self.tree is None
        working = self.sequences[0]
        assert position == len(working) == self.state_of[0]
        assert self.n_used + len(tokens) <= self.n_ctx
        assert not self.sequences[-1], "the scratch sequence is left empty"
        self._on_forward()
        working += map(Cell, tokens)
        self.state_of[0] = len(working)
        self.passes.append((len(tokens), bool(n_logits)))
        self.seen.update(tokens)
        if self.error is not None:
            raise self.error
        if not n_logits:
            return None
        values = np.zeros((n_logits, N_VOCAB), dtype=np.float32)
        for row in range(n_logits):
            values[row] = self.logits_after(self.cells[: len(working) - n_logits + 1 + row])
        return values

    def branch(self, tokens: Sequence[int], position: int, parents: Sequence[int]) -> np.ndarray:
        assert len(tokens) <= self.n_batch
        assert len({*range(len(parents))} - {*parents}) <= self.n_branches, "so many ends"
        assert self.n_used + len(tokens) <= self.n_ctx
        n = len(tokens) - len(parents)
        first = self.forward(tokens[:n], position, n_logits=1)
        assert first is not None
        self.passes[-1] = len(tokens), True
        self.tree = list(tokens[n:])
        paths = [self.cells]
        for token, parent in zip(self.tree, parents, strict=True):
            assert ROOT <= parent < len(paths) - 1, "parents come first"
            paths.append([*paths[parent + 1], token])
        values = np.zeros((len(paths), N_VOCAB), dtype=np.float32)
        for row, path in enumerate(paths):
            values[row] = self.logits_after(path)
        return values

    def keep(self, position: int, nodes: Sequence[int]) -> None:
        assert self.tree is not None
        assert position == len(self.sequences[0])
        self.sequences[0] += (Cell(self.tree[node]) for node in nodes)
        self.state_of[0] = len(self.sequences[0])
        self.tree = None

    def logits_after(self, cells: list[int]) -> np.ndarray:
        values = np.zeros(N_VOCAB, dtype=np.float32)
        values[self._next(cells)] = 1.0
        return values

    def _next(self, cells: list[int]) -> int:
        if self.reply is not None:
            assistant = list(b"assistant\n")
            start = next(
                at
                for at in range(len(cells), 0, -1)
                if cells[at - len(assistant) - 1 : at] == [START, *assistant]
            )
            said = len(cells) - start
            return self.reply[said] if said < len(self.reply) else END
        digest = hashlib.sha256(np.array(cells, dtype=np.int32).tobytes()).digest()
        return 97 + digest[0] % 26

    def clear(self) -> None:
        for sequence in range(self.n_sequences):
            assert self.trim(0, sequence)

    def trim(self, n_keep: int, sequence: int = 0) -> bool:
        cells = self.sequences[sequence]
        assert n_keep <= len(cells)
        assert self.tree is None or sequence
        if 0 < n_keep < self.state_of[sequence] and not self.info.can_trim:
            return False
        del cells[n_keep:]
        self.state_of[sequence] = n_keep
        return True

    def copy(self, source: int, destination: int, n: int) -> None:
        assert source != destination
        assert not self.sequences[destination]
        assert 0 < n <= len(self.sequences[source])
        if not self.info.can_trim:
            n = len(self.sequences[source])
        self.sequences[destination] = self.sequences[source][:n]
        self.state_of[destination] = n

    def checkpoint(self) -> bytes:
        return json.dumps(self.cells).encode()

    def restore(self, checkpoint: bytes, n_keep: int, sequence: int = 0) -> bool:
        cells = self.sequences[sequence]
        assert json.loads(bytes(checkpoint)) == [cell.token for cell in cells[:n_keep]]
        del cells[n_keep:]
        self.state_of[sequence] = n_keep
        return True

    def save(self, sequence: int) -> bytes:
        cells = self.sequences[sequence]
        assert self.state_of[sequence] == len(cells) > 0
        return json.dumps([cell.token for cell in cells]).encode()

    def load(self, state: bytes, n_tokens: int) -> bool:
        assert not self.sequences[0]
        if self.refuses_load:
            self.clear()
            return False
        tokens = json.loads(bytes(state))
        assert len(tokens) == n_tokens
        assert self.n_used + n_tokens <= self.n_ctx
        self.sequences[0] = list(map(Cell, tokens))
        self.state_of[0] = n_tokens
        return True

    def close(self) -> None:
        self.is_closed = True


class WatchedDriver:
    """A real driver, and for each pass with logits the best token with its lead over the second.

    Batches of another size, or cells in another order, round sums differently; so where the lead is within
    that noise another token may win, and only there.
    """

    NOISE = 0.2
    """Seen in a random model: up to 0.09 between reading the last token alone and in a batch."""

    def __init__(self, driver: Any) -> None:
        self._driver = driver
        self.n_trees = 0
        """Passes over a tree."""
        self._tree: list[tuple[int, float]] = []
        self.choices: list[tuple[int, float]] = []
        self._rows: dict[int, tuple[int, float]] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._driver, name)

    def forward(self, tokens: Sequence[int], position: int, *, n_logits: int) -> np.ndarray | None:
        values = self._driver.forward(tokens, position, n_logits=n_logits)
        for at, row in enumerate(() if values is None else values, position + len(tokens) - n_logits):
            second, best = np.partition(row, -2)[-2:]
            self._rows[at] = int(row.argmax()), float(best - second)
            self.choices.append(self._rows[at])
        return values

    def branch(self, tokens: Sequence[int], position: int, parents: Sequence[int]) -> np.ndarray:
        values = self._driver.branch(tokens, position, parents)
        self.n_trees += 1
        self._tree = []
        for row in values:
            second, best = np.partition(row, -2)[-2:]
            self._tree.append((int(row.argmax()), float(best - second)))
        self._rows[position + len(tokens) - len(parents) - 1] = self._tree[0]
        return values

    def keep(self, position: int, nodes: Sequence[int]) -> None:
        self._driver.keep(position, nodes)
        self._rows.update((position + at, self._tree[node + 1]) for at, node in enumerate(nodes))

    def trim(self, n_keep: int, sequence: int = 0) -> bool:
        if sequence == 0:
            self._rows = {at: choice for at, choice in self._rows.items() if at < n_keep}
        return self._driver.trim(n_keep, sequence)

    @property
    def said(self) -> list[tuple[int, float]]:
        """The choices after the tokens that are in sequence 0: without those after wrong drafts."""
        return [self._rows[at] for at in sorted(self._rows)]


def check_same_choices(warm: list[tuple[int, float]], cold: list[tuple[int, float]]) -> None:
    """Fails where greedy decoding parted by more than noise."""
    for (token, _), (cold_token, lead) in zip(warm, cold, strict=False):
        if token != cold_token:
            assert lead < WatchedDriver.NOISE
            return
    assert len(warm) == len(cold)
