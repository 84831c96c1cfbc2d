"""Reads and checks GGUF headers, for clear errors before llama.cpp opens the file.

llama.cpp reports a truncated file only by the name of a tensor, and some damaged files abort the process.
Reading the header takes milliseconds and gives an error in the user's terms. Nothing in the file is trusted:
every length is checked against the file's size. Format:
https://github.com/ggml-org/ggml/blob/master/docs/gguf.md

`read_facts` computes from the headers how much memory a model needs. The keys are those of llama.cpp's
`src/llama-arch.cpp`; recurrent layers are recognized by the names of their tensors.
"""

import itertools
import math
import mmap
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from singlepass_backends.base import BackendError
from singlepass_backends.machine.facts import ModelFacts

Value = int | float | bool | str

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_MAX_DIMENSIONS = 4
_MAX_KEPT_ITEMS = 2048  # longer arrays are skipped; those with an item for each layer are shorter
_MAX_LAYERS = 512
_MAX_NUMBER = 1 << 24  # larger numbers occur in damaged headers only
_MAX_KV_VALUES = 1 << 20
_MAX_STATE_VALUES = 1 << 30

# Values and bytes per block of each tensor type, from ggml's type traits; other types are not checked.
_BLOCKS = {
    **{0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 9: (32, 36)},
    **{10: (256, 84), 11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 15: (256, 292)},
    **{16: (256, 66), 17: (256, 74), 18: (256, 98), 19: (256, 50), 20: (32, 18), 21: (256, 110)},
    **{22: (256, 82), 23: (256, 136), 24: (1, 1), 25: (1, 2), 26: (1, 4), 27: (1, 8), 28: (1, 8)},
    **{29: (256, 56), 30: (1, 2), 34: (256, 54), 35: (256, 66), 39: (32, 17)},
}


@dataclass(frozen=True)
class Tensor:
    """One tensor's entry in the header."""

    name: str
    shape: tuple[int, ...]
    """Dimensions, the contiguous one first."""
    n_bytes: int


@dataclass(frozen=True)
class GGUFHeader:
    """The metadata and the tensors' entries of a GGUF file."""

    version: int
    n_tensors: int
    size_bytes: int
    """Actual size of the file."""
    needed_bytes: int
    """Size that the file should have according to its header."""
    metadata: dict[str, Value] = field(repr=False)
    """Scalars and strings."""
    arrays: dict[str, tuple[Value, ...]] = field(repr=False)
    """Short arrays of numbers. Long ones (the tokenizer's) and arrays of strings are skipped."""
    tensors: tuple[Tensor, ...] = field(repr=False)

    @property
    def architecture(self) -> str:
        """E.g. `qwen2`; empty if the file does not say."""
        return str(self.metadata.get("general.architecture", ""))


def read_header(path: Path) -> GGUFHeader:
    """Read and check the header of the GGUF file `path`.

    Raises BackendError: `model_missing` (also for folders and unreadable files), `model_invalid` for a file
    that is not GGUF, is damaged, or is shorter than its header says.
    """
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            if file.read(4) != b"GGUF":
                raise BackendError(
                    "model_invalid",
                    f"{path} is not a GGUF file. singlepass runs models in GGUF format; look for a file "
                    "named *.gguf on the model's page.",
                )
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                header = _Reader(data, size).header()
    except IsADirectoryError:
        raise BackendError("model_missing", f"{path} is a folder. Name the GGUF file inside it.") from None
    except FileNotFoundError:
        raise BackendError(
            "model_missing", f"There is no model file at {path}. Check the setting `model`."
        ) from None
    except OSError as error:
        raise BackendError("model_missing", f"{path} cannot be read: {error.strerror}.") from None
    except (ValueError, struct.error, OverflowError) as error:
        raise BackendError(
            "model_invalid",
            f"{path} is damaged: its GGUF header cannot be read ({error}). Download it again.",
        ) from None
    if header.needed_bytes > header.size_bytes:
        raise BackendError(
            "model_invalid",
            f"{path} is incomplete: it has {_size(header.size_bytes)} of {_size(header.needed_bytes)}. "
            "Download it again.",
            {"size_bytes": header.size_bytes, "needed_bytes": header.needed_bytes},
        )
    return header


def read_facts(path: Path, header: GGUFHeader | None = None) -> ModelFacts:
    """The sizes of the model in the GGUF file `path`; `header` saves reading it again.

    For a split model all parts are read. Raises BackendError as `read_header` does, `model_missing` also for
    a missing part.
    """
    header = header or read_header(path)
    headers = [header, *(read_header(part) for part in _other_parts(path, header))]
    return facts(headers)


def facts(headers: Sequence[GGUFHeader]) -> ModelFacts:
    """The sizes of the model whose parts have these headers; the first has the metadata. Never raises:
    invalid values count as missing."""
    sizes = _Sizes(headers[0])
    tensors = {tensor.name: tensor for header in headers for tensor in header.tensors}
    n_layer = min(sizes.number("block_count"), _MAX_LAYERS)
    layer_bytes, kinds = [0] * n_layer, [set[str]() for _ in range(n_layer)]
    for tensor in tensors.values():
        match = _LAYER.match(tensor.name)
        if match and int(match[1]) < n_layer:
            layer_bytes[int(match[1])] += tensor.n_bytes
            kinds[int(match[1])].add(match[2])
    is_recurrent = [any(kind.startswith(_RECURRENT) for kind in layer) for layer in kinds]
    # A few models have both in one layer; Qwen3-Next has a projection attn_qkv in its recurrent layers.
    is_attentive = [
        not recurrent or bool(layer & {"attn_k", "attn_kv_a_mqa"})
        for recurrent, layer in zip(is_recurrent, kinds, strict=True)
    ]
    n_head = sizes.number("attention.head_count")
    n_embd = sizes.number("embedding_length")
    key, value = sizes.heads(n_embd, n_head)
    n_own = max(
        0, n_layer - sizes.number("attention.shared_kv_layers")
    )  # the last ones share an earlier one's
    heads = sizes.per_layer("attention.head_count_kv", n_layer, n_head)
    embedding = tensors.get("token_embd.weight")
    output = [tensor for tensor in tensors.values() if tensor.name.startswith("output")]
    is_tied = not any(tensor.name == "output.weight" for tensor in output)
    input_bytes = embedding.n_bytes if embedding else 0
    n_recurrent = sum(is_recurrent)
    working = [(tensor, sizes.working_share(tensor.name, is_tied=is_tied)) for tensor in tensors.values()]
    return ModelFacts(
        architecture=headers[0].architecture,
        size_bytes=sum(header.size_bytes for header in headers),
        layer_bytes=tuple(layer_bytes),
        input_bytes=input_bytes,
        output_bytes=sum(tensor.n_bytes for tensor in output) + (input_bytes if is_tied else 0),
        n_ctx_train=sizes.number("context_length"),
        n_vocab=embedding.shape[1] if embedding and len(embedding.shape) == 2 else sizes.number("vocab_size"),
        n_embd=n_embd,
        n_ff=max(sizes.per_layer("feed_forward_length", n_layer, 0), default=0),
        n_head=n_head,
        n_head_kv=max(heads, default=0),
        key_length=key,
        value_length=value,
        n_expert=sizes.number("expert_count"),
        n_weights=sum(math.prod(tensor.shape) for tensor in tensors.values()),
        n_active=int(sum(math.prod(tensor.shape) * share for tensor, share in working)),
        active_bytes=int(sum(tensor.n_bytes * share for tensor, share in working)),
        layer_kv_values=tuple(
            min(heads[layer] * (key + value), _MAX_KV_VALUES) if is_attentive[layer] and layer < n_own else 0
            for layer in range(n_layer)
        ),
        kv_block=math.gcd(32, key, value),
        sliding_window=sizes.number("attention.sliding_window"),
        n_recurrent=n_recurrent,
        state_bytes=n_recurrent * sizes.state_values(n_embd) * 4,
    )


_LAYER = re.compile(r"blk\.(\d{1,6})\.([^.]+)")
_RECURRENT = ("ssm_", "shortconv", "time_mix", "channel_mix")
_PART = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$")


def _other_parts(path: Path, header: GGUFHeader) -> list[Path]:
    """The other parts of a split model: `model-00001-of-00003.gguf` and so on, as named by llama.cpp's
    `gguf-split`."""
    n_parts, match = header.metadata.get("split.count", 1), _PART.search(path.name)
    if not isinstance(n_parts, int) or n_parts < 2 or not match or int(match[2]) != n_parts:
        return []
    stem = path.name[: match.start()]
    parts = [path.with_name(f"{stem}-{number:05d}-of-{n_parts:05d}.gguf") for number in range(1, n_parts + 1)]
    return [part for part in parts if part.name != path.name]


class _Sizes:
    """Numbers in a header's metadata, by key without the architecture's prefix; 0 for invalid values."""

    def __init__(self, header: GGUFHeader) -> None:
        self._header = header

    def number(self, key: str) -> int:
        return self._checked(self._header.metadata.get(f"{self._header.architecture}.{key}"))

    def per_layer(self, key: str, n_layer: int, default: int) -> list[int]:
        """A number for each layer; the file has one for all layers, or an array."""
        name = f"{self._header.architecture}.{key}"
        if items := self._header.arrays.get(name):
            numbers = [self._checked(item) for item in items[:n_layer]]
            return numbers + [numbers[-1]] * (n_layer - len(numbers))
        return [self.number(key) if name in self._header.metadata else default] * n_layer

    def working_share(self, name: str, *, is_tied: bool) -> float:
        """The active fraction of a tensor for one token: one row of an input embedding, counted as none
        unless it is also the output layer; the selected share of the experts."""
        if name == "token_embd.weight":
            return 1.0 if is_tied else 0.0
        n_expert, n_used = self.number("expert_count"), self.number("expert_used_count")
        return min(1.0, n_used / n_expert) if "_exps." in name and n_expert and n_used else 1.0

    def heads(self, n_embd: int, n_head: int) -> tuple[int, int]:
        """Key and value length of a head. With multi-head latent attention (DeepSeek) the cache holds only
        the compressed keys, from which the values are computed."""
        usual = n_embd // n_head if n_head else 0
        key = self.number("attention.key_length") or usual
        value = self.number("attention.value_length") or usual
        return (key, 0) if self.number("attention.key_length_mla") else (key, value)

    def state_values(self, n_embd: int) -> int:
        """Number of 32-bit values of one layer's recurrent state per sequence: the convolution's state and
        the recurrent state. From `llama_hparams::n_embd_r` and `n_embd_s` of llama.cpp."""
        if l_cache := self.number("shortconv.l_cache"):
            return n_embd * (l_cache - 1)
        if wkv := self.number("wkv.head_size"):
            return n_embd * ((self.number("token_shift_count") or 2) + wkv)
        inner, state = self.number("ssm.inner_size"), self.number("ssm.state_size")
        convolved = inner + 2 * self.number("ssm.group_count") * state
        n_values = max(0, self.number("ssm.conv_kernel") - 1) * convolved + state * inner
        return min(n_values, _MAX_STATE_VALUES)

    @staticmethod
    def _checked(value: Value | None) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            return 0
        return value if 0 <= value <= _MAX_NUMBER else 0


def _size(n_bytes: int) -> str:
    return f"{n_bytes / 1e9:,.2f} GB" if n_bytes >= 1e8 else f"{n_bytes:,} bytes"


class _Reader:
    def __init__(self, data: mmap.mmap, size: int) -> None:
        self._data = data
        self._size = size
        self._at = 4

    def header(self) -> GGUFHeader:
        version = self._scalar("I")
        if version not in (2, 3):
            raise ValueError(f"version {version} is unknown")
        n_tensors, n_values = self._scalar("Q"), self._scalar("Q")
        if max(n_tensors, n_values) > self._size // 12:
            raise ValueError("more entries than the file has room for")
        metadata: dict[str, Value] = {}
        arrays: dict[str, tuple[Value, ...]] = {}
        for _ in range(n_values):
            key = self._string()
            value = self._value(self._scalar("I"))
            if isinstance(value, tuple):
                arrays[key] = value
            elif value is not None:
                metadata[key] = value
        extents = [self._tensor() for _ in range(n_tensors)]
        alignment = metadata.get("general.alignment", 32)
        if not isinstance(alignment, int) or alignment <= 0:
            raise ValueError("the alignment is not a positive number")
        start = -(-self._at // alignment) * alignment
        needed = max((start + offset + (size or 0) for _, _, offset, size in extents), default=self._at)
        # A tensor of an unknown type extends to the next tensor.
        ends = sorted({offset for _, _, offset, _ in extents} | {max(0, self._size - start)})
        following = dict(itertools.pairwise(ends))
        tensors = tuple(
            Tensor(name, shape, following.get(offset, offset) - offset if size is None else size)
            for name, shape, offset, size in extents
        )
        return GGUFHeader(version, n_tensors, self._size, needed, metadata, arrays, tensors)

    def _tensor(self) -> tuple[str, tuple[int, ...], int, int | None]:
        """Name, shape, offset and size in bytes of one tensor; the size is None for an unknown type."""
        name = self._string()
        n_dimensions = self._scalar("I")
        if n_dimensions > _MAX_DIMENSIONS:
            raise ValueError(f"a tensor has {n_dimensions} dimensions")
        shape = tuple(self._scalar("Q") for _ in range(n_dimensions))
        block = _BLOCKS.get(self._scalar("I"))
        size = math.prod(shape) // block[0] * block[1] if block else None
        return name, shape, self._scalar("Q"), size

    def _value(self, kind: int) -> Value | tuple[Value, ...] | None:
        if kind in _SCALARS:
            return self._scalar(_SCALARS[kind])
        if kind == _STRING:
            return self._string()
        if kind != _ARRAY:
            raise ValueError(f"a value has the unknown type {kind}")
        item, n_items = self._scalar("I"), self._scalar("Q")
        if item in _SCALARS:
            start, code = self._at, _SCALARS[item]
            self._skip(n_items * struct.calcsize("<" + code))
            if n_items <= _MAX_KEPT_ITEMS:
                return struct.unpack_from(f"<{n_items}{code}", self._data, start)
        elif item == _STRING:
            self._skip_strings(n_items)
        else:
            raise ValueError(f"an array has items of the type {item}")
        return None

    def _scalar(self, code: str) -> int:
        (value,) = struct.unpack_from("<" + code, self._data, self._at)
        self._at += struct.calcsize("<" + code)
        return value

    def _string(self) -> str:
        size = self._scalar("Q")
        start = self._at
        self._skip(size)
        return self._data[start : self._at].decode("utf-8", "replace")

    def _skip(self, n_bytes: int) -> None:
        self._at += n_bytes
        if self._at > self._size:
            raise ValueError("a length points past the end of the file")

    def _skip_strings(self, n_items: int) -> None:
        at, size, data = self._at, self._size, self._data
        unpack = struct.Struct("<Q").unpack_from
        for _ in range(n_items):
            at += 8 + unpack(data, at)[0]
            if at > size:
                raise ValueError("a length points past the end of the file")
        self._at = at
