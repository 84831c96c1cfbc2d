"""What a folder with an MLX model says of its sizes: `config.json` beside weights in safetensors.

Only numbers are read, and no code that the folder may name is run. The keys are those of Hugging Face's
configurations, which mlx-lm reads too: https://huggingface.co/docs/transformers/main_classes/configuration
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from singlepass_backends.base import BackendError
from singlepass_backends.facts import ModelFacts

_MAX_CONFIG_BYTES = 1 << 20
_MAX_NUMBER = 1 << 24
_MAX_LAYERS = 512
_FULL = ("full_attention", "attention", "sliding_attention", "chunked_attention")


def is_model_folder(path: Path) -> bool:
    """Whether `path` is a folder with a configuration and weights in safetensors."""
    return (path / "config.json").is_file() and any(path.glob("*.safetensors"))


def read_facts(path: Path) -> ModelFacts:
    """The sizes of the model in the folder `path`. Layers count as equal parts of its weights.

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
    n_embd, n_head = numbers.get("hidden_size", 0), numbers.get("num_attention_heads", 0)
    head = numbers.get("head_dim") or (n_embd // n_head if n_head else 0)
    values = 2 * head * numbers.get("num_key_value_heads", n_head)
    kinds = _layer_kinds(config, n_layer, numbers.get("full_attention_interval", 0))
    return ModelFacts(
        format="mlx",
        architecture=str(cast("Mapping[str, Any]", config).get("model_type", "")) if numbers else "",
        size_bytes=size_bytes,
        layer_bytes=(size_bytes // max(1, n_layer),) * n_layer,
        n_ctx_train=numbers.get("max_position_embeddings", 0),
        n_vocab=numbers.get("vocab_size", 0),
        n_embd=n_embd,
        n_ff=numbers.get("intermediate_size", 0),
        n_head=n_head,
        n_expert=numbers.get("num_experts") or numbers.get("num_local_experts", 0),
        layer_kv_values=tuple(values if is_attentive else 0 for is_attentive in kinds),
        sliding_window=numbers.get("sliding_window", 0),
        n_recurrent=kinds.count(False),
    )


def _numbers(config: Any) -> dict[str, int]:
    """The numbers of a configuration; those of its part about text, where it has one, go first."""
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
    if interval > 0:  # every so many layers one attends, the others are recurrent
        return [(layer + 1) % interval == 0 for layer in range(n_layer)]
    fields = cast("dict[str, Any]", config) if isinstance(config, dict) else {}
    text: Any = fields.get("text_config")
    types: Any = (cast("dict[str, Any]", text) if isinstance(text, dict) else fields).get("layer_types")
    if isinstance(types, list) and len(cast("list[Any]", types)) == n_layer:
        return [kind in _FULL for kind in cast("list[Any]", types)]
    return [True] * n_layer
