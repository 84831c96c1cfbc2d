"""Converts a small GGUF file into a model folder for MLX, with the same weights and tokenizer.

So the same model runs in both runtimes, and their replies can be compared. Supports only the architectures of
`random_model` and of our demo model. Does not need MLX.

File format: https://huggingface.co/docs/safetensors/index#format
"""

import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from singlepass_backends.base import BackendError

FloatType = Literal["F32", "F16"]

_CONTROL = 3  # a GGUF token type
_QWEN2_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
_BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
_PRE_TOKENIZERS: dict[str, dict[str, Any]] = {
    "gpt-2": {**_BYTES, "use_regex": True},
    "qwen2": {
        "type": "Sequence",
        "pretokenizers": [
            {
                "type": "Split",
                "pattern": {"Regex": _QWEN2_WORDS},
                "behavior": "Isolated",
                "invert": False,
            },
            _BYTES,
        ],
    },
}
"""By llama.cpp's name of the pre-tokenizer."""

_NAMES = {
    "token_embd": "embed_tokens",
    "output_norm": "norm",
    "token_embd_norm": "embedding_norm",
}
_QWEN2_NAMES = {
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_LFM2_NAMES = {
    "attn_norm": "operator_norm",
    "ffn_norm": "ffn_norm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.out_proj",
    "attn_q_norm": "self_attn.q_layernorm",
    "attn_k_norm": "self_attn.k_layernorm",
    "shortconv.conv": "conv.conv",
    "shortconv.in_proj": "conv.in_proj",
    "shortconv.out_proj": "conv.out_proj",
    "ffn_gate": "feed_forward.w1",
    "ffn_up": "feed_forward.w3",
    "ffn_down": "feed_forward.w2",
}


def write_mlx_model(folder: Path, source: Path, float_type: FloatType = "F32") -> None:
    """Write the model of the GGUF file `source`, as `random_model` writes them, as a new folder for MLX.

    MLX computes in the type of the weights: `F32` keeps their values exactly, `F16` is what real models have.
    Raises BackendError `unsupported` where the package `gguf` is missing, OSError for the paths.
    """
    try:
        gguf = importlib.import_module("gguf")
    except ImportError:
        raise BackendError(
            "unsupported",
            "Reading a GGUF file needs the package `gguf`: pip install 'singlepass[models]'",
        ) from None
    reader = gguf.GGUFReader(str(source))
    fields = {name: field.contents() for name, field in reader.fields.items()}
    folder.mkdir(parents=True)
    _write_json(folder / "config.json", _config(fields))
    _write_json(folder / "tokenizer.json", _tokenizer(fields))
    tokens = fields["tokenizer.ggml.tokens"]
    _write_json(
        folder / "tokenizer_config.json",
        {
            "add_bos_token": False,
            "chat_template": fields["tokenizer.chat_template"],
            "eos_token": tokens[fields["tokenizer.ggml.eos_token_id"]],
        },
    )
    is_hybrid = fields["general.architecture"] == "lfm2"
    weights: dict[str, NDArray[Any]] = {}
    for tensor in reader.tensors:
        values: NDArray[Any] = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        if tensor.name.endswith("conv.weight"):
            values = values.reshape(len(values), 1, -1)  # a kernel over time for each channel
        dtype = np.float32 if float_type == "F32" else np.float16
        weights[_name(tensor.name, is_hybrid=is_hybrid)] = values.astype(dtype)
    _write_safetensors(folder / "model.safetensors", weights, float_type)


def _config(fields: Mapping[str, Any]) -> dict[str, Any]:
    architecture = fields["general.architecture"]

    def number(name: str) -> Any:
        return fields[f"{architecture}.{name}"]

    config = {
        "model_type": architecture,
        "_name_or_path": fields["general.name"],
        "vocab_size": len(fields["tokenizer.ggml.tokens"]),
        "hidden_size": number("embedding_length"),
        "num_hidden_layers": number("block_count"),
        "num_attention_heads": number("attention.head_count"),
        "max_position_embeddings": number("context_length"),
        "rope_theta": number("rope.freq_base"),
        "eos_token_id": fields["tokenizer.ggml.eos_token_id"],
        "tie_word_embeddings": True,
    }
    n_kv = number("attention.head_count_kv")
    if architecture == "qwen2":
        return {
            **config,
            "num_key_value_heads": n_kv,
            "intermediate_size": number("feed_forward_length"),
            "rms_norm_eps": number("attention.layer_norm_rms_epsilon"),
        }
    return {
        **config,
        "num_key_value_heads": max(n_kv),
        "norm_eps": number("attention.layer_norm_rms_epsilon"),
        "conv_bias": False,
        "conv_L_cache": number("shortconv.l_cache"),
        "block_dim": number("embedding_length"),
        "block_ff_dim": number("feed_forward_length"),
        "block_multiple_of": 1,
        "block_ffn_dim_multiplier": 1.0,
        "block_auto_adjust_ff_dim": False,
        "full_attn_idxs": [layer for layer, n in enumerate(n_kv) if n],
    }


def _tokenizer(fields: Mapping[str, Any]) -> dict[str, Any]:
    tokens = fields["tokenizer.ggml.tokens"]
    pre = fields["tokenizer.ggml.pre"]
    if pre not in _PRE_TOKENIZERS:
        raise BackendError("unsupported", f"The tokenizer {pre!r} cannot be written for MLX.")
    added = [
        {
            "id": id,
            "content": token,
            "special": True,
            "normalized": False,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
        }
        for id, (token, kind) in enumerate(zip(tokens, fields["tokenizer.ggml.token_type"], strict=True))
        if kind == _CONTROL
    ]
    names = {token["content"] for token in added}
    return {
        "version": "1.0",
        "added_tokens": added,
        "pre_tokenizer": _PRE_TOKENIZERS[pre],
        "decoder": _BYTES,
        "model": {
            "type": "BPE",
            "vocab": {token: id for id, token in enumerate(tokens) if token not in names},
            "merges": fields["tokenizer.ggml.merges"],
        },
    }


def _name(name: str, *, is_hybrid: bool) -> str:
    """What mlx-lm calls the tensor that llama.cpp calls `name`."""
    stem, _, kind = name.rpartition(".")
    if stem in _NAMES:
        return f"model.{_NAMES[stem]}.{kind}"
    _, layer, part = stem.split(".", 2)
    return f"model.layers.{layer}.{(_LFM2_NAMES if is_hybrid else _QWEN2_NAMES)[part]}.{kind}"


def _write_json(path: Path, data: dict[str, Any]) -> None:
    path.write_text(json.dumps(data, ensure_ascii=False, indent=1), encoding="utf-8")


def _write_safetensors(path: Path, weights: Mapping[str, NDArray[Any]], float_type: FloatType) -> None:
    """The size of the header in 8 bytes, the header, the values of all tensors."""
    header: dict[str, Any] = {"__metadata__": {"format": "mlx"}}
    n_bytes = 0
    for name, values in weights.items():
        header[name] = {
            "dtype": float_type,
            "shape": values.shape,
            "data_offsets": [n_bytes, n_bytes + values.nbytes],
        }
        n_bytes += values.nbytes
    described = json.dumps(header).encode()
    described += b" " * (-len(described) % 8)
    with path.open("wb") as file:
        file.write(len(described).to_bytes(8, "little"))
        file.write(described)
        for values in weights.values():
            file.write(values.tobytes())
