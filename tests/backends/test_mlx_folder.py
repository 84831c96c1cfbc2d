"""What a folder with an MLX model says of its sizes."""

import json
from pathlib import Path
from typing import Any

import pytest
from singlepass_backends.base import BackendError, Target
from singlepass_backends.drivers.mlx.sizes import is_model_folder, read_facts
from singlepass_backends.machine.facts import Machine
from singlepass_backends.machine.fit import choose
from singlepass_backends.opening import read_model_facts

CONFIG: dict[str, Any] = {
    "model_type": "qwen2",
    "num_hidden_layers": 4,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 32_768,
    "vocab_size": 1000,
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in (1, 2):
        (tmp_path / f"model-0000{number}-of-00002.safetensors").write_bytes(bytes(500))
    return tmp_path


def write(folder: Path, config: object) -> Path:
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def test_facts(folder: Path) -> None:
    assert not is_model_folder(folder)
    found = read_model_facts(write(folder, CONFIG))
    assert is_model_folder(folder)
    assert (found.format, found.architecture, found.size_bytes, found.n_layer) == ("mlx", "qwen2", 1000, 4)
    assert found.layer_kv_values == (2 * 2 * 16,) * 4
    assert (found.n_ctx_train, found.n_vocab, found.n_ff) == (32_768, 1000, 128)


@pytest.mark.parametrize(
    ("changes", "kv_values"),
    [
        ({"head_dim": 32}, (128, 128, 128, 128)),
        ({"full_attention_interval": 2}, (0, 64, 0, 64)),
        ({"layer_types": ["conv", "full_attention", "mamba", "sliding_attention"]}, (0, 64, 0, 64)),
        ({"layer_types": ["conv"]}, (64, 64, 64, 64)),
        ({"full_attn_idxs": [1, 3]}, (0, 64, 0, 64)),
        ({"text_config": {"num_hidden_layers": 1, "layer_types": ["mamba"]}}, (0,)),
        ({"num_hidden_layers": -5}, ()),
        ({"num_hidden_layers": "many"}, ()),
        ({"num_attention_heads": 0, "num_key_value_heads": 0}, (0, 0, 0, 0)),
    ],
)  # fmt: skip
def test_layers(changes: dict[str, Any], kv_values: tuple[int, ...], folder: Path) -> None:
    assert read_facts(write(folder, {**CONFIG, **changes})).layer_kv_values == kv_values


@pytest.mark.parametrize(
    ("changes", "n_weights", "n_active"),
    [
        ({}, 500, 500),
        ({"quantization": {"group_size": 64, "bits": 4}}, 1777, 1777),
        # One of four experts idles in three of four layers: three matrices of 8 · 1 weights in each.
        (
            {"n_routed_experts": 4, "num_experts_per_tok": 3, "moe_intermediate_size": 1}
            | {"hidden_size": 8, "first_k_dense_replace": 1},
            500,
            500 - 3 * 3 * 8,
        ),
        ({"num_experts": 10**6, "num_experts_per_tok": 1}, 500, 0),
    ],
)
def test_weights_that_work_on_one_token(
    changes: dict[str, Any], n_weights: int, n_active: int, folder: Path
) -> None:
    found = read_facts(write(folder, {**CONFIG, **changes}))
    assert (found.n_weights, found.n_active) == (n_weights, n_active)


@pytest.mark.parametrize("config", [[], 5, None, "text", {"text_config": []}])
def test_a_configuration_that_says_nothing(config: object, folder: Path) -> None:
    found = read_facts(write(folder, config))
    assert found.n_layer == 0
    machine = Machine(
        system="Linux",
        architecture="x86_64",
        python=(3, 11),
        n_cores=1,
        ram_bytes=2**33,
        ram_free_bytes=2**32,
    )
    assert choose(machine, found, Target()).backend == "mlx"


def test_a_configuration_that_cannot_be_read(folder: Path) -> None:
    (folder / "config.json").write_text("{", encoding="utf-8")
    with pytest.raises(BackendError) as caught:
        read_facts(folder)
    assert caught.value.code == "model_invalid"
