"""A careful reader of GGUF headers, for good errors before llama.cpp gets to see the file.

llama.cpp reports a truncated file with a line about a tensor, and some damaged files abort the process.
Reading the header takes milliseconds, and says what is wrong in the user's terms. Nothing in the file is
trusted: every length is checked against the file's size. Format:
https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import mmap
import struct
from dataclasses import dataclass, field
from pathlib import Path

from singlepass_backends.base import BackendError

Value = int | float | bool | str

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_MAX_DIMENSIONS = 4

# Values and bytes of one block of each tensor type, from ggml's type traits; others are not checked.
_BLOCKS = {
    **{0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 9: (32, 36)},
    **{10: (256, 84), 11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 15: (256, 292)},
    **{16: (256, 66), 17: (256, 74), 18: (256, 98), 19: (256, 50), 20: (32, 18), 21: (256, 110)},
    **{22: (256, 82), 23: (256, 136), 24: (1, 1), 25: (1, 2), 26: (1, 4), 27: (1, 8), 28: (1, 8)},
    **{29: (256, 56), 30: (1, 2), 34: (256, 54), 35: (256, 66), 39: (32, 17)},
}


@dataclass(frozen=True)
class GGUFHeader:
    """The scalars and strings of the metadata (arrays are skipped), and what the tensors need."""

    version: int
    n_tensors: int
    size_bytes: int
    """Of the file, as it is."""
    needed_bytes: int
    """Of the file, as its header says."""
    metadata: dict[str, Value] = field(repr=False)

    @property
    def architecture(self) -> str:
        """E.g. `qwen2`; empty when the file does not say."""
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
        for _ in range(n_values):
            key = self._string()
            value = self._value(self._scalar("I"))
            if value is not None:
                metadata[key] = value
        extents = [self._tensor() for _ in range(n_tensors)]
        alignment = metadata.get("general.alignment", 32)
        if not isinstance(alignment, int) or alignment <= 0:
            raise ValueError("the alignment is not a positive number")
        start = -(-self._at // alignment) * alignment
        needed = max((start + offset + size for offset, size in extents), default=self._at)
        return GGUFHeader(version, n_tensors, self._size, needed, metadata)

    def _tensor(self) -> tuple[int, int]:
        """Offset and bytes of one tensor."""
        self._string()
        n_dimensions = self._scalar("I")
        if n_dimensions > _MAX_DIMENSIONS:
            raise ValueError(f"a tensor has {n_dimensions} dimensions")
        n_values = 1
        for _ in range(n_dimensions):
            n_values *= self._scalar("Q")
        block_values, block_bytes = _BLOCKS.get(self._scalar("I"), (1, 0))
        return self._scalar("Q"), n_values // block_values * block_bytes

    def _value(self, kind: int) -> Value | None:
        if kind in _SCALARS:
            return self._scalar(_SCALARS[kind])
        if kind == _STRING:
            return self._string()
        if kind != _ARRAY:
            raise ValueError(f"a value has the unknown type {kind}")
        item, n_items = self._scalar("I"), self._scalar("Q")
        if item in _SCALARS:
            self._skip(n_items * struct.calcsize("<" + _SCALARS[item]))
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
