"""The sizes of an MLX model, from its folder: `config.json` and weights in safetensors.

Reads only numbers, and runs no code from the folder. The keys are those of Hugging Face's configurations,
which mlx-lm reads too: https://huggingface.co/docs/transformers/main_classes/configuration
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

from singlepass_backends.base import BackendError
from singlepass_backends.machine.facts import ModelFacts

_MAX_CONFIG_BYTES = 1 << 20
_MAX_NUMBER = 1 << 24
_MAX_LAYERS = 512
_FULL = ("full_attention", "attention", "sliding_attention", "chunked_attention")
_IN_FULL = ("deepseek_v2", "minicpm3", "youtu_llm")
"""Architectures with multi-head latent attention for which mlx-lm 0.32 caches uncompressed keys and values of
every head. For all others it caches the compressed latent vectors."""
_UNQUANTIZED_BITS = 16
_SCALE_AND_BIAS_BITS = 32
"""Of each group of quantized weights: https://ml-explore.github.io/mlx/build/html/python/_autosummary/mlx.core.quantize.html"""


def is_model_folder(path: Path) -> bool:
    """Whether `path` is a folder with a configuration and weights in safetensors."""
    return (path / "config.json").is_file() and any(path.glob("*.safetensors"))


def read_facts(path: Path) -> ModelFacts:
    """The sizes of the model in the folder `path`. All layers are assumed to be of equal size.

    Raises BackendError `model_invalid` for a configuration that cannot be read.
    """
    try:
        with (path / "config.json").open("rb") as file:
            config: Any = json.loads(file.read(_MAX_CONFIG_BYTES))
        size_bytes = sum(part.stat().st_size for part in path.glob("*.safetensors"))
    except (OSError, ValueError, RecursionError) as error:
        raise BackendError("model_invalid", f"{path / 'config.json'} cannot be read: {error}.") from None
    numbers = _numbers(config)
    n_layer = min(numbers.get("num_hidden_layers", 0), _MAX_LAYERS)
    architecture = str(cast("Mapping[str, Any]", config).get("model_type", "")) if numbers else ""
    heads = _heads(architecture, numbers)
    values = heads.n * (heads.key_length + heads.value_length)
    n_weights = int(size_bytes * 8 / _bits(config))
    n_idle = _n_idle_weights(numbers, n_layer)
    kinds = _layer_kinds(config, n_layer, numbers.get("full_attention_interval", 0))
    return ModelFacts(
        format="mlx",
        architecture=architecture,
        size_bytes=size_bytes,
        layer_bytes=(size_bytes // max(1, n_layer),) * n_layer,
        n_ctx_train=numbers.get("max_position_embeddings", 0),
        n_vocab=numbers.get("vocab_size", 0),
        n_embd=numbers.get("hidden_size", 0),
        n_ff=numbers.get("intermediate_size", 0),
        n_head=numbers.get("num_attention_heads", 0),
        n_head_kv=heads.n,
        key_length=heads.key_length,
        value_length=heads.value_length,
        n_expert=_first(numbers, _N_EXPERT),
        n_weights=n_weights,
        n_active=max(0, n_weights - n_idle),
        active_bytes=max(0, size_bytes - int(n_idle * _bits(config) / 8)),
        layer_kv_values=tuple(values if is_attentive else 0 for is_attentive in kinds),
        sliding_window=numbers.get("sliding_window", 0),
        n_recurrent=kinds.count(False),
    )


class _Heads(NamedTuple):
    """What the KV cache of one layer holds for each token."""

    n: int
    key_length: int
    value_length: int


def _heads(architecture: str, numbers: Mapping[str, int]) -> _Heads:
    """Number of KV heads and their sizes, as mlx-lm caches them.

    With multi-head latent attention (DeepSeek-V2, https://arxiv.org/abs/2405.04434) a key has a part with
    rotary position embedding and one without, and is wider than a value. The cache holds either full keys and
    values, or the latent vector that they are computed from: `kv_lora_rank` values, and the rotary part of
    the key, shared by all heads.
    """
    n_head = numbers.get("num_attention_heads", 0)
    usual = numbers.get("head_dim") or (numbers.get("hidden_size", 0) // n_head if n_head else 0)
    rank, positional = numbers.get("kv_lora_rank", 0), numbers.get("qk_rope_head_dim", 0)
    if not rank:
        return _Heads(numbers.get("num_key_value_heads", n_head), usual, usual)
    if architecture not in _IN_FULL:
        return _Heads(1, rank, positional)
    return _Heads(n_head, numbers.get("qk_nope_head_dim", 0) + positional, numbers.get("v_head_dim", usual))


_N_EXPERT = ("num_experts", "num_local_experts", "n_routed_experts")


def _n_idle_weights(numbers: Mapping[str, int], n_layer: int) -> int:
    """Weights of the experts that are not active for a token: three matrices each, in all layers but the
    dense ones at the beginning."""
    n_experts = _first(numbers, _N_EXPERT)
    n_idle = n_experts - numbers.get("num_experts_per_tok", n_experts)
    width = numbers.get("moe_intermediate_size") or numbers.get("intermediate_size", 0)
    n_layers = max(0, n_layer - numbers.get("first_k_dense_replace", 0))
    return max(0, n_idle) * n_layers * 3 * width * numbers.get("hidden_size", 0)


def _first(numbers: Mapping[str, int], names: Sequence[str]) -> int:
    return next((numbers[name] for name in names if numbers.get(name)), 0)


def _bits(config: Any) -> float:
    """Average bits per weight."""
    fields: Any = cast("dict[str, Any]", config).get("quantization") if isinstance(config, dict) else None
    numbers = _numbers(fields)
    bits, group_size = numbers.get("bits", 0), numbers.get("group_size", 0)
    return bits + _SCALE_AND_BIAS_BITS / group_size if bits and group_size else _UNQUANTIZED_BITS


def _numbers(config: Any) -> dict[str, int]:
    """The numbers in a configuration; those of its `text_config`, if any, take precedence."""
    if not isinstance(config, dict):
        return {}
    fields = cast("dict[str, Any]", config)
    own = {
        key: value
        for key, value in fields.items()
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MAX_NUMBER
    }
    return {**own, **_numbers(fields.get("text_config"))}


def _layer_kinds(config: Any, n_layer: int, interval: int) -> list[bool]:
    """For each layer, whether it keeps keys and values."""
    if interval > 0:  # one layer in `interval` has attention, the others are recurrent
        return [(layer + 1) % interval == 0 for layer in range(n_layer)]
    fields = cast("dict[str, Any]", config) if isinstance(config, dict) else {}
    text: Any = fields.get("text_config")
    fields = cast("dict[str, Any]", text) if isinstance(text, dict) else fields
    types: Any = fields.get("layer_types")
    if isinstance(types, list) and len(cast("list[Any]", types)) == n_layer:
        return [kind in _FULL for kind in cast("list[Any]", types)]
    attentive: Any = fields.get("full_attn_idxs")  # LFM2, where it has no `layer_types`
    if isinstance(attentive, list):
        return [layer in attentive for layer in range(n_layer)]
    return [True] * n_layer
