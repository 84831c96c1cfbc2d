"""Sequences of tokens in the caches of mlx-lm: stored, truncated, continued, and serialized.

Theory of operation. A model has a cache for each layer. They hold the *working* sequence, in the form that
the model needs: one growing array per layer, written in place. Stored sequences (`Held`) are immutable values
that share memory for the tokens they have in common:

- *Plain* caches (full attention) hold a key and a value for each token, so they can be truncated anywhere. A
  stored sequence holds them as immutable blocks of `BLOCK` tokens. Storing the working sequence copies only
  the blocks that it was not restored from; truncating a stored sequence frees whole blocks.
- *Other* caches (recurrent states, sliding windows) are a single state, valid only at the end of the
  sequence. A stored sequence references it: MLX arrays behave as values as long as each owner has its own
  array object.

So `n` distinct tokens over all sequences need at most: memory for `n` tokens in blocks, for the working
sequence again in the model's caches, and for less than one block per sequence, since last blocks are copied.
"""

import copy
import importlib
import math
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import msgspec
import numpy as np

BLOCK = 512
"""Tokens per block."""
_STEP = 256  # what mlx-lm's caches grow by
_MAGIC = b"sp-mlx\x00\x01"  # the last byte is the version
_SIZE = struct.Struct(">I")

Block = list[list[Any]]
"""The arrays of each plain cache, such as keys and values; tokens are the second to last axis."""


@dataclass(frozen=True)
class Held:
    """A stored sequence of `n` tokens. All blocks but the last are full."""

    n: int = 0
    blocks: tuple[Block, ...] = ()
    states: tuple[Any, ...] = ()
    """The states of the other caches after the last token."""

    def beginning(self, n: int) -> "Held":
        """The first `n` tokens, without keeping the rest in memory. The states stay as they are."""
        blocks = self.blocks[: -(-n // BLOCK)]
        if n % BLOCK and n < self.n:
            blocks = (*blocks[:-1], _copied(blocks[-1], 0, n % BLOCK))
        return Held(n, blocks, self.states)


class Working:
    """The sequence that the model continues, in the model's own caches."""

    def __init__(self, make: Callable[[], list[Any]]) -> None:
        """`make` creates the caches of an empty sequence, as mlx-lm's `make_prompt_cache` does."""
        self._make = make
        self._outline: Block = []
        self._structure: Any = None
        self.clear()
        self.can_trim = not self._others

    def clear(self) -> None:
        """Empty it."""
        self.n = 0
        self.caches: list[Any] = self._make()
        """The caches to pass to the model."""
        leaves = list(_leaves(self.caches))
        self._plain = [leaf for leaf in leaves if _is_plain(leaf)]
        self._others = [leaf for leaf in leaves if not _is_plain(leaf)]
        self._blocks: tuple[Block, ...] = ()  # full blocks with its first tokens

    def learn(self) -> None:
        """Record types and shapes of the caches, which exist once they hold a token."""
        self._outline = [_parts(leaf) for leaf in self._plain]
        self._structure = _structure([leaf.state for leaf in self._others])

    @property
    def arrays(self) -> list[Any]:
        """All arrays that a forward pass updates, for `mx.eval`."""
        return [leaf.state for leaf in (*self._plain, *self._others)]

    @property
    def states(self) -> tuple[Any, ...]:
        """Copies of the other caches' states."""
        return tuple(_own(leaf.state) for leaf in self._others)

    def cut(self, n: int) -> None:
        """Truncate the plain caches to the first `n` tokens."""
        for leaf in self._plain:
            leaf.trim(self.n - n)
        self.n = n
        self._blocks = self._blocks[: n // BLOCK]

    def set_states(self, states: Sequence[Any]) -> None:
        """Set the other caches to `states`."""
        for leaf, state in zip(self._others, states, strict=True):
            leaf.state = _own(state)

    def held(self, n: int) -> Held:
        """The first `n` tokens as a stored sequence, with the states at the end."""
        mine = [_parts(leaf) for leaf in self._plain]
        known = self._blocks[: n // BLOCK]
        starts = range(len(known) * BLOCK, n, BLOCK)
        blocks = (*known, *(_copied(mine, start, min(start + BLOCK, n)) for start in starts))
        if n // BLOCK > len(self._blocks):
            self._blocks = blocks[: n // BLOCK]
        return Held(n, blocks, self.states)

    def become(self, held: Held, n: int) -> None:
        """Replace the working sequence by the first `n` tokens of `held`, with its states."""
        mx = importlib.import_module("mlx.core")
        self.clear()
        blocks = held.blocks[: -(-n // BLOCK)]
        n_cells = (n // _STEP + 1) * _STEP
        for index, leaf in enumerate(self._plain):
            joined: list[Any] = []
            for parts in zip(*(block[index] for block in blocks), strict=True):
                *shape, _, width = parts[0].shape
                n_in_blocks = sum(part.shape[-2] for part in parts)
                room = mx.zeros((*shape, max(0, n_cells - n_in_blocks), width), dtype=parts[0].dtype)
                joined.append(mx.concatenate([*parts, room], axis=-2))
            if joined:
                _set_parts(leaf, joined, n)
        self.set_states(held.states)
        mx.eval(self.arrays)
        self.n = n
        self._blocks = held.blocks[: n // BLOCK]

    def fits(self, held: Held) -> bool:
        """Whether `held`, read from a file, matches these caches: number, types and shapes of all arrays."""
        sizes = [min(BLOCK, held.n - start) for start in range(0, held.n, BLOCK)]
        return (
            len(sizes) == len(held.blocks)
            and all(
                _outline(block) == _outline(self._outline, size)
                for size, block in zip(sizes, held.blocks, strict=True)
            )
            and self.fit(held.states)
        )

    def fit(self, states: Sequence[Any]) -> bool:
        """Whether the states match these caches; the arrays of a sliding window may have any length."""
        return _structure(list(states)) == self._structure


def quantized(caches: list[Any], bits: int, group_size: int) -> list[Any]:
    """The caches of an empty sequence, with the plain ones quantized."""
    cache = importlib.import_module("mlx_lm.models.cache")

    def convert(leaf: Any) -> Any:
        if type(leaf) is cache.CacheList:
            return cache.CacheList(*map(convert, leaf.caches))
        return cache.QuantizedKVCache(group_size, bits) if type(leaf) is cache.KVCache else leaf

    return [convert(leaf) for leaf in caches]


def _leaves(caches: Sequence[Any]) -> Iterator[Any]:
    """The caches, flattened: some layers have several, in a list."""
    for cache in caches:
        if type(cache).__name__ == "CacheList":
            yield from _leaves(cache.caches)
        else:
            yield cache


def _is_plain(leaf: Any) -> bool:
    return type(leaf).__name__ in ("KVCache", "QuantizedKVCache")


def _parts(leaf: Any) -> list[Any]:
    """The arrays of a plain cache; none where the model does not use it."""
    if leaf.keys is None:
        return []
    is_quantized = type(leaf).__name__ == "QuantizedKVCache"
    return [*leaf.keys, *leaf.values] if is_quantized else [leaf.keys, leaf.values]


def _set_parts(leaf: Any, parts: list[Any], n: int) -> None:
    if len(parts) == 2:
        leaf.keys, leaf.values = parts
    else:
        half = len(parts) // 2
        leaf.keys, leaf.values = tuple(parts[:half]), tuple(parts[half:])
    leaf.offset = n


def _copied(block: Block, start: int, end: int) -> Block:
    """A copy of the tokens from `start` to `end`."""
    mx = importlib.import_module("mlx.core")
    copied = [[mx.contiguous(part[..., start:end, :]) for part in parts] for parts in block]
    mx.eval(copied)
    return copied


def _own(state: Any) -> Any:
    """`state` with new array objects, which share memory with the old ones until either is changed."""
    mx = importlib.import_module("mlx.core")

    def own(leaf: Any) -> Any:
        return copy.copy(leaf) if isinstance(leaf, mx.array) else leaf

    return importlib.import_module("mlx.utils").tree_map(own, state)


def _outline(block: Block, n: int | None = None) -> Any:
    """Types and shapes of a block's arrays, as if they held `n` tokens."""

    def shape(part: Any) -> tuple[int, ...]:
        return (*part.shape[:-2], part.shape[-2] if n is None else n, part.shape[-1])

    return [[(part.dtype, part.ndim == 4 and shape(part)) for part in parts] for parts in block]


def _structure(tree: Any) -> Any:
    """The structure of a state: types and ranks of its arrays, and the types of other values."""
    if isinstance(tree, (list, tuple)):
        return [_structure(item) for item in cast("Sequence[Any]", tree)]
    if isinstance(tree, dict):
        return {key: _structure(value) for key, value in cast("dict[str, Any]", tree).items()}
    return (tree.dtype, tree.ndim) if hasattr(tree, "dtype") else type(tree).__name__


# Serialized form: magic, size of the header, header, and the arrays one after another.


class _Array(msgspec.Struct, tag=True):
    dtype: str
    shape: tuple[int, ...]


class _Items(msgspec.Struct, tag=True):
    items: list["_Node"]
    is_tuple: bool


class _Fields(msgspec.Struct, tag=True):
    fields: dict[str, "_Node"]


class _Value(msgspec.Struct, tag=True):
    value: int | float | str | bool | None


_Node = _Array | _Items | _Fields | _Value


def pack(tree: Any) -> memoryview:
    """`tree`, of lists, tuples, dictionaries, arrays and plain values, as bytes."""
    mx = importlib.import_module("mlx.core")
    arrays: list[Any] = []

    def describe(item: Any) -> _Node:
        if isinstance(item, (list, tuple)):
            items = cast("Sequence[Any]", item)
            return _Items([describe(item) for item in items], isinstance(item, tuple))
        if isinstance(item, dict):
            return _Fields({key: describe(value) for key, value in cast("dict[str, Any]", item).items()})
        if isinstance(item, mx.array):
            arrays.append(item)
            return _Array(str(item.dtype).rpartition(".")[2], tuple(item.shape))
        return _Value(item)

    header = msgspec.msgpack.encode(describe(tree))
    header = _MAGIC + _SIZE.pack(len(header)) + header
    data = np.empty(len(header) + sum(array.nbytes for array in arrays), dtype=np.uint8)
    end = len(header)
    data[:end] = np.frombuffer(header, dtype=np.uint8)
    for array in arrays:
        start, end = end, end + array.nbytes
        data[start:end] = np.asarray(array.reshape(-1).view(mx.uint8))
    return data.data


def unpack(data: bytes | memoryview) -> Any:
    """The inverse of `pack`. Raises ValueError for bytes that `pack` did not write."""
    mx = importlib.import_module("mlx.core")
    view = memoryview(data)
    at = len(_MAGIC) + _SIZE.size
    if bytes(view[: len(_MAGIC)]) != _MAGIC or len(view) < at:
        raise ValueError("not a state of this version")
    end = at + int(_SIZE.unpack_from(view, len(_MAGIC))[0])
    description = msgspec.msgpack.decode(view[at:end], type=_Node)

    def build(node: _Node) -> Any:
        match node:
            case _Array():
                return array(node)
            case _Items():
                items = [build(item) for item in node.items]
                return tuple(items) if node.is_tuple else items
            case _Fields():
                return {key: build(value) for key, value in node.fields.items()}
            case _Value():
                return node.value

    def array(node: _Array) -> Any:
        nonlocal end
        dtype: Any = getattr(mx, node.dtype, None)
        if not isinstance(dtype, mx.Dtype) or min(node.shape, default=0) < 0:
            raise ValueError("not an array")
        start, end = end, end + math.prod(node.shape) * dtype.size
        if end > len(view):
            raise ValueError("too short")
        return mx.array(np.frombuffer(view[start:end], dtype=np.uint8)).view(dtype).reshape(node.shape)

    tree = build(description)
    if end != len(view):
        raise ValueError("too long")
    return tree
