"""What a choice is made from, as values: the machine and the model. Sizes are in bytes."""

from typing import Literal

import msgspec

N_CTX_MOST = 32_768
"""Tokens of context where the user sets none: more is seldom of use, and takes memory."""
N_RECURRENT_SEQUENCES = 5
"""Sequences that a model with recurrent layers keeps at once: each has a state of its own."""


class NvidiaCard(msgspec.Struct, frozen=True, kw_only=True):
    """A card as its driver sees it, whether or not a runtime can use it."""

    name: str
    total_bytes: int = 0
    """0 where the driver does not say, as on unified memory."""
    free_bytes: int = 0
    compute_capability: tuple[int, int] | None = None
    is_unified: bool = False
    """The card has no memory of its own and uses the machine's, as Grace Blackwell's GB10 does."""


class AppleChip(msgspec.Struct, frozen=True, kw_only=True):
    """Apple Silicon: processor and GPU on the same memory."""

    name: str
    """E.g. `Apple M2 Max`."""
    working_set_bytes: int
    """What Metal recommends that the GPU use at most of the machine's memory."""


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """A GPU that the installed llama.cpp can use."""

    name: str
    """E.g. `NVIDIA GeForce RTX 3060`."""
    total_bytes: int
    free_bytes: int
    is_unified: bool = False
    """It uses the machine's own memory, of which `total_bytes` is the most it may have."""


class LlamaBuild(msgspec.Struct, frozen=True, kw_only=True):
    """What the installed llama.cpp was built for, and what it found."""

    version: str
    """Of llama-cpp-python."""
    cpu: str = ""
    """The processor, as ggml names it."""
    kinds: tuple[str, ...] = ("CPU",)
    """Backends in it, e.g. `CUDA`, `Metal`, `Vulkan`, `CPU`."""
    devices: tuple[Device, ...] = ()


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """One machine, as far as it matters to where a model runs. Every part may be unknown."""

    system: str
    """`Linux`, `Darwin`, `Windows`."""
    architecture: str
    """`x86_64`, `arm64`, …, as the system names it."""
    python: tuple[int, int]
    n_cores: int
    """Physical cores this process may use, performance cores where Apple tells them apart: more threads than
    that make llama.cpp slower."""
    ram_bytes: int
    """Of the machine, or the limit of the container."""
    ram_free_bytes: int
    """What can be had without swapping."""
    apple: AppleChip | None = None
    nvidia: tuple[NvidiaCard, ...] = ()
    cuda_driver: tuple[int, int] | None = None
    """The newest CUDA that the NVIDIA driver can run."""
    llama: LlamaBuild | None = None
    """None where llama-cpp-python cannot be loaded."""
    mlx: str = ""
    """Version of mlx-lm; empty where it is not installed."""


class ModelFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What a model file says of its sizes. Where it does not say, a number is 0."""

    format: Literal["gguf", "mlx"] = "gguf"
    architecture: str = ""
    size_bytes: int = 0
    """Of all files of the model."""
    layer_bytes: tuple[int, ...] = ()
    """Weights of each layer, the first layer first; empty where the file does not tell."""
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
    """KV heads of a layer, the most of them where layers differ."""
    key_length: int = 0
    """Values of one key, as it lies in the cache."""
    value_length: int = 0
    """Values of one value, as it lies in the cache."""
    n_expert: int = 0
    n_weights: int = 0
    """Parameters."""
    n_active: int = 0
    """Parameters that work on one token: without the experts that are not chosen, and without an input
    embedding, of which one row is looked up."""
    active_bytes: int = 0
    """Bytes of those, which decoding one token reads."""
    layer_kv_values: tuple[int, ...] = ()
    """Values of the KV cache per token, for each layer: `n_head_kv · (key length + value length)`, and 0 for
    layers that keep none. See `kv_bytes`."""
    kv_block: int = 1
    """The largest divisor of both head sizes up to 32; a quantized KV cache needs blocks of 32 values."""
    sliding_window: int = 0
    """Tokens that a layer with a sliding window looks back; 0 for models without."""
    n_recurrent: int = 0
    """Layers with a recurrent state."""
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

    Layers with a sliding window count in full, because we keep their cache in full: else it cannot be
    trimmed.
    """
    return int(n_values * n_tokens * _KV_BITS[kv_cache_type] / 8)
