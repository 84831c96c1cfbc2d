"""What `fit` chooses from, as values: the machine and the model. Sizes are in bytes."""

from typing import Literal

import msgspec

N_CTX_MOST = 32_768
"""Maximum context in tokens if the user sets none: more is rarely useful, and takes memory."""
N_RECURRENT_SEQUENCES = 5
"""Sequences that a model with recurrent layers keeps at once: each has its own state."""


class NvidiaCard(msgspec.Struct, frozen=True, kw_only=True):
    """A card as its driver sees it, whether or not a runtime can use it."""

    name: str
    total_bytes: int = 0
    """0 if the driver does not report it, as on unified memory."""
    free_bytes: int = 0
    compute_capability: tuple[int, int] | None = None
    is_unified: bool = False
    """The card shares the machine's memory, as Grace Blackwell's GB10 does."""


class AppleChip(msgspec.Struct, frozen=True, kw_only=True):
    """Apple Silicon: processor and GPU share the memory."""

    name: str
    """E.g. `Apple M2 Max`."""
    working_set_bytes: int
    """The most of the machine's memory that the GPU should use, as recommended by Metal."""


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """A GPU that the installed llama.cpp can use."""

    name: str
    """E.g. `NVIDIA GeForce RTX 3060`."""
    total_bytes: int
    free_bytes: int
    is_unified: bool = False
    """It shares the machine's memory; `total_bytes` is the most it may use."""


class LlamaBuild(msgspec.Struct, frozen=True, kw_only=True):
    """What the installed llama.cpp was built for, and the devices it found."""

    version: str
    """Version of llama-cpp-python."""
    cpu: str = ""
    """The processor, as ggml names it."""
    kinds: tuple[str, ...] = ("CPU",)
    """Backends it was built with, e.g. `CUDA`, `Metal`, `Vulkan`, `CPU`."""
    devices: tuple[Device, ...] = ()


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """One machine, as far as it matters for running models. Every field may be unknown."""

    system: str
    """`Linux`, `Darwin`, `Windows`."""
    architecture: str
    """`x86_64`, `arm64`, …, as the system names it."""
    python: tuple[int, int]
    n_cores: int
    """Physical cores this process may use; on Apple Silicon only performance cores. More threads make
    llama.cpp slower."""
    ram_bytes: int
    """Memory of the machine, or the container's limit."""
    ram_free_bytes: int
    """Memory available without swapping."""
    apple: AppleChip | None = None
    nvidia: tuple[NvidiaCard, ...] = ()
    cuda_driver: tuple[int, int] | None = None
    """The newest CUDA version that the NVIDIA driver supports."""
    llama: LlamaBuild | None = None
    """None if llama-cpp-python cannot be loaded."""
    mlx: str = ""
    """Version of mlx-lm; empty if it is not installed."""


class ModelFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The sizes of a model, from its file. Unknown numbers are 0."""

    format: Literal["gguf", "mlx"] = "gguf"
    architecture: str = ""
    size_bytes: int = 0
    """Total size of the model's files."""
    layer_bytes: tuple[int, ...] = ()
    """Size of each layer's weights, first layer first; empty if the file does not say."""
    input_bytes: int = 0
    """The token embedding, which llama.cpp keeps in the machine's memory."""
    output_bytes: int = 0
    """The output layer, which is a copy of the token embedding where the model ties them."""
    n_ctx_train: int = 0
    n_vocab: int = 0
    n_embd: int = 0
    n_ff: int = 0
    n_head: int = 0
    n_head_kv: int = 0
    """KV heads of a layer; the maximum if layers differ."""
    key_length: int = 0
    """Values of one key in the cache."""
    value_length: int = 0
    """Values of one value in the cache."""
    n_expert: int = 0
    n_weights: int = 0
    """Parameters."""
    n_active: int = 0
    """Active parameters per token: without the experts that are not selected, and without the input
    embedding, of which only one row is read."""
    active_bytes: int = 0
    """Size of the active parameters, which decoding one token reads."""
    layer_kv_values: tuple[int, ...] = ()
    """Values of the KV cache per token, for each layer: `n_head_kv · (key length + value length)`, and 0 for
    layers that keep none. See `kv_bytes`."""
    kv_block: int = 1
    """The largest divisor of both head sizes up to 32; a quantized KV cache needs blocks of 32 values."""
    sliding_window: int = 0
    """Length of the sliding attention window in tokens; 0 for models without one."""
    n_recurrent: int = 0
    """Number of layers with a recurrent state."""
    state_bytes: int = 0
    """Recurrent state of one sequence, over all layers."""

    @property
    def n_layer(self) -> int:
        return len(self.layer_bytes)


KVCacheType = Literal["f16", "q8_0", "q4_0"]

_KV_BITS = {"f16": 16.0, "q8_0": 8.5, "q4_0": 4.5}


def kv_bytes(n_values: int, n_tokens: int, kv_cache_type: str) -> int:
    """Bytes of a KV cache that holds `n_values` values for each of `n_tokens` tokens.

    A layer keeps a key and a value for each *KV head*, and with grouped-query attention several query heads
    share one (Ainslie et al. 2023, https://arxiv.org/abs/2305.13245), so per token and layer these are
    `n_head_kv · (n_embd_head_k + n_embd_head_v)` values, whatever the number of query heads. A value takes
    16 bits as f16; q8_0 and q4_0 store blocks of 32 values in 34 and 18 bytes, which is 8.5 and 4.5 bits
    (`block_q8_0`, `block_q4_0` in llama.cpp's ggml-common.h).

    Layers with a sliding window count with the whole context, because we keep their full cache: otherwise it
    could not be trimmed.
    """
    return int(n_values * n_tokens * _KV_BITS[kv_cache_type] / 8)
