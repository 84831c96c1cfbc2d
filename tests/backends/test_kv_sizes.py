"""The size of the KV cache as computed from a model's heads, against what runtimes really allocate."""

import importlib
import json
import logging
import re
from pathlib import Path
from typing import Any

import pytest
from singlepass_backends.base import Target
from singlepass_backends.drivers.llama.driver import LlamaCppDriver
from singlepass_backends.machine.facts import kv_bytes
from singlepass_backends.opening import read_model_facts
from singlepass_backends.testing.gguf_to_mlx import write_mlx_model
from singlepass_backends.testing.random_model import Shape, write_random_model

WITHIN = 0.02
N_CTX = 4096
"""Of llama.cpp, which allocates all of it at once, and tells hundredths of a MiB."""
N_TOKENS = 512
"""For MLX, which allocates as tokens come, in steps of 256."""
SHAPES = {
    "grouped": Shape(n_layer=3, n_embd=256, n_head=8, n_head_kv=2, n_ff=256),
    "hybrid": Shape(n_layer=4, n_embd=128, n_head=4, n_head_kv=2, lfm2=True),
    "window": Shape(n_layer=6, n_embd=128, n_head=2, n_head_kv=1, n_window=64),
}
DEEPSEEK: dict[str, Any] = {
    "model_type": "deepseek_v2",
    "vocab_size": 100,
    "hidden_size": 64,
    "intermediate_size": 64,
    "moe_intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "q_lora_rank": None,
    "kv_lora_rank": 32,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "v_head_dim": 128,
    "first_k_dense_replace": 2,
    "rope_scaling": {
        "factor": 40,
        "original_max_position_embeddings": 4096,
        "beta_fast": 32,
        "beta_slow": 1,
        "mscale": 0.707,
        "mscale_all_dim": 0.707,
    },
}
"""The heads of DeepSeek-Coder-V2-Lite, of which everything else is smaller."""


def write(path: Path, name: str) -> Path:
    write_random_model(path, corpus=["a few words of text " * 20], n_vocab=300, shape=SHAPES[name])
    return path


@pytest.mark.parametrize("kv_cache_type", ["f16", "q8_0"])
@pytest.mark.parametrize("name", SHAPES)
def test_llama_cpp(name: str, kv_cache_type: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path / "model.gguf", name)
    target = Target(model=str(path), n_ctx=N_CTX, n_threads=1, kv_cache_type=kv_cache_type)
    with caplog.at_level(logging.DEBUG):
        LlamaCppDriver(target, lambda _: True).close()
    said = re.findall(r"KV buffer size =\s+([\d.]+) MiB", caplog.text)
    assert said
    computed = kv_bytes(sum(read_model_facts(path).layer_kv_values), N_CTX, kv_cache_type)
    assert sum(map(float, said)) * 2**20 == pytest.approx(computed, rel=WITHIN)


def allocated(model: Any) -> int:
    """Bytes of the keys and values that mlx-lm holds after `N_TOKENS` tokens."""
    mx = importlib.import_module("mlx.core")
    caches = importlib.import_module("mlx_lm.models.cache").make_prompt_cache(model)
    mx.eval(model(mx.zeros((1, N_TOKENS), dtype=mx.uint32), cache=caches))
    held = [cache for cache in caches if hasattr(cache, "keys")]
    assert held
    return sum(cache.keys.nbytes + cache.values.nbytes for cache in held)


@pytest.mark.parametrize("name", ["grouped", "hybrid"])
def test_mlx(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    write_mlx_model(folder, write(tmp_path / "model.gguf", name), "F16")
    model, _ = importlib.import_module("mlx_lm.utils").load_model(folder)
    computed = kv_bytes(sum(read_model_facts(folder).layer_kv_values), N_TOKENS, "f16")
    assert allocated(model) == pytest.approx(computed, rel=WITHIN)


@pytest.mark.parametrize("architecture", ["deepseek_v2", "deepseek_v3"])
def test_mlx_with_latent_attention(architecture: str, tmp_path: Path) -> None:
    """Two ways to keep the same attention: in full, and compressed."""
    config = {**DEEPSEEK, "model_type": architecture}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.safetensors").write_bytes(b"")
    module = importlib.import_module(f"mlx_lm.models.{architecture}")
    model = module.Model(module.ModelArgs.from_dict(config))
    model.set_dtype(importlib.import_module("mlx.core").float16)
    facts = read_model_facts(tmp_path)
    heads = (4, 192, 128) if architecture == "deepseek_v2" else (1, 32, 64)
    assert (facts.n_head_kv, facts.key_length, facts.value_length) == heads
    computed = kv_bytes(sum(facts.layer_kv_values), N_TOKENS, "f16")
    assert allocated(model) == pytest.approx(computed, rel=WITHIN)
