"""Every bad model file has its own error, before llama.cpp sees it."""

import math
import random
import struct
from pathlib import Path

import pytest
from singlepass_backends.base import BackendError, Target
from singlepass_backends.drivers.llama.gguf_header import read_facts, read_header
from singlepass_backends.machine.facts import Machine, kv_bytes
from singlepass_backends.machine.fit import choose


def check(path: Path, code: str, *words: str) -> None:
    with pytest.raises(BackendError) as caught:
        read_header(path)
    assert caught.value.code == code
    for word in (str(path), *words):
        assert word in caught.value.message


def test_a_sound_file(random_model: Path) -> None:
    header = read_header(random_model)
    assert header.architecture == "qwen2"
    assert header.metadata["general.name"] == "singlepass random"
    assert header.metadata["qwen2.block_count"] == 2
    assert header.size_bytes == random_model.stat().st_size
    assert header.size_bytes - 32 <= header.needed_bytes <= header.size_bytes


def test_missing(tmp_path: Path) -> None:
    check(tmp_path / "none.gguf", "model_missing", "no model file", "setting `model`")


def test_folder(tmp_path: Path) -> None:
    check(tmp_path, "model_missing", "is a folder")


@pytest.mark.parametrize("content", [b"", b"GG", b"PK\x03\x04 something", b"<html>not found</html>"])
def test_not_a_gguf_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    check(path, "model_invalid", "not a GGUF file")


def test_truncated_in_the_tensors(tmp_path: Path, random_model: Path) -> None:
    path = tmp_path / "model.gguf"
    data = random_model.read_bytes()
    for n_bytes in (len(data) - 100, len(data) // 2):
        path.write_bytes(data[:n_bytes])
        check(path, "model_invalid", "incomplete", f"{n_bytes:,} bytes of", "Download it again")


def test_truncated_in_the_header(tmp_path: Path, random_model: Path) -> None:
    path = tmp_path / "model.gguf"
    data = random_model.read_bytes()
    for n_bytes in (4, 10, 24, 100, 5000, 20_000):
        path.write_bytes(data[:n_bytes])
        check(path, "model_invalid", "damaged")


@pytest.mark.parametrize(
    "tail",
    [
        struct.pack("<IQQ", 99, 0, 0),
        struct.pack("<IQQ", 3, 2**60, 0),
        struct.pack("<IQQ", 3, 0, 2**63),
        struct.pack("<IQQQ", 3, 0, 1, 2**63) + b"x" * 64,
        struct.pack("<IQQQ1sIIQ", 3, 0, 1, 1, b"k", 9, 0, 2**62) + b"x" * 64,
        struct.pack("<IQQQ1sIIQ", 3, 0, 1, 1, b"k", 9, 9, 3) + b"x" * 64,
    ],
)
def test_lengths_are_not_trusted(tmp_path: Path, tail: bytes) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"GGUF" + tail)
    check(path, "model_invalid", "damaged")


def test_mutated_headers_never_do_worse_than_an_error(tmp_path: Path, random_model: Path) -> None:
    data = random_model.read_bytes()
    path = tmp_path / "model.gguf"
    chance = random.Random(0)
    for _ in range(300):
        mutated = bytearray(data[:40_000])
        for _ in range(chance.randrange(1, 6)):
            mutated[chance.randrange(4, 1200)] = chance.randrange(256)
        path.write_bytes(mutated)
        try:
            read_facts(path)
        except BackendError as error:
            assert error.code == "model_invalid"  # noqa: PT017 - most mutations are errors, not all


# What a model will take, from its header.


def tensor(name: str, *shape: int, kind: int = 0) -> tuple[str, tuple[int, ...], int]:
    return name, shape, kind


def write_gguf(
    path: Path, metadata: dict[str, int | str | list[int]], tensors: list[tuple[str, tuple[int, ...], int]]
) -> Path:
    """A file with this header and zeros for weights: values of 32 bits (kind 0), or of an unknown kind (99)
    with 100 bytes each."""

    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value)) + value.encode()

    header = struct.pack("<QQ", len(tensors), len(metadata))
    for key, value in metadata.items():
        header += text(key)
        if isinstance(value, str):
            header += struct.pack("<I", 8) + text(value)
        elif isinstance(value, int):
            header += struct.pack("<II", 4, value)
        else:
            header += struct.pack(f"<IIQ{len(value)}I", 9, 4, len(value), *value)
    offset = 0
    for name, shape, kind in tensors:
        header += text(name) + struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
        header += struct.pack("<IQ", kind, offset)
        offset += 4 * math.prod(shape) if kind == 0 else 100
    data = b"GGUF" + struct.pack("<I", 3) + header
    path.write_bytes(data + bytes(-len(data) % 32) + bytes(offset))
    return path


def attention(layer: int) -> list[tuple[str, tuple[int, ...], int]]:
    return [tensor(f"blk.{layer}.attn_k.weight", 8, 4), tensor(f"blk.{layer}.ffn_up.weight", 8, 16)]


BASE: dict[str, int | str | list[int]] = {
    "general.architecture": "a",
    "a.block_count": 2,
    "a.context_length": 4096,
    "a.embedding_length": 128,
    "a.feed_forward_length": 16,
    "a.attention.head_count": 4,
    "a.attention.head_count_kv": 2,
}
EMBEDDING = tensor("token_embd.weight", 8, 100)


def test_the_facts_of_a_random_model(random_model: Path, hybrid_model: Path) -> None:
    found = read_facts(random_model)
    header = read_header(random_model)
    assert (found.n_layer, found.n_ctx_train, found.n_embd, found.n_ff) == (2, 4096, 64, 128)
    assert found.layer_kv_values == (2 * 32, 2 * 32)  # one KV head of 32, keys and values
    assert found.kv_block == 32
    assert (found.n_recurrent, found.state_bytes, found.sliding_window) == (0, 0, 0)
    weights = sum(found.layer_bytes) + found.output_bytes
    assert weights == sum(tensor.n_bytes for tensor in header.tensors)  # tied: the output is the embedding
    assert weights <= found.size_bytes == random_model.stat().st_size
    assert kv_bytes(sum(found.layer_kv_values), 4096, "f16") == 2**20

    hybrid = read_facts(hybrid_model)
    assert hybrid.layer_kv_values == (0, 64, 0, 64)
    assert hybrid.n_recurrent == 2
    assert hybrid.state_bytes == 2 * 64 * 2 * 4  # two tokens back, in two layers


@pytest.mark.parametrize(
    ("changes", "kv_values"),
    [
        ({}, (128, 128)),
        ({"a.attention.head_count_kv": [2, 1]}, (128, 64)),
        ({"a.attention.head_count_kv": [1]}, (64, 64)),  # the last one goes on
        ({"a.attention.key_length": 64, "a.attention.value_length": 16}, (160, 160)),
        ({"a.attention.shared_kv_layers": 1}, (128, 0)),
        ({"a.attention.key_length_mla": 24, "a.attention.key_length": 72}, (144, 144)),
        ({"a.attention.head_count_kv": 0}, (0, 0)),
        ({"a.attention.head_count": 0, "a.attention.head_count_kv": 9}, (0, 0)),
        ({"a.attention.head_count_kv": 2**31}, (0, 0)),
    ],
)
def test_values_of_the_kv_cache(
    changes: dict[str, int | list[int]], kv_values: tuple[int, ...], tmp_path: Path
) -> None:
    path = write_gguf(tmp_path / "m.gguf", {**BASE, **changes}, [EMBEDDING, *attention(0), *attention(1)])
    assert read_facts(path).layer_kv_values == kv_values


def test_without_kv_heads_each_head_has_its_own(tmp_path: Path) -> None:
    metadata = {key: value for key, value in BASE.items() if not key.endswith("head_count_kv")}
    path = write_gguf(tmp_path / "m.gguf", metadata, attention(0))
    assert read_facts(path).layer_kv_values == (256, 256)


def test_weights_by_layer(tmp_path: Path) -> None:
    output = [tensor("output.weight", 8, 100), tensor("output_norm.weight", 8)]
    path = write_gguf(tmp_path / "m.gguf", BASE, [EMBEDDING, *attention(0), *attention(1), *output])
    found = read_facts(path)
    assert found.layer_bytes == (640, 640)
    assert (found.input_bytes, found.output_bytes, found.n_vocab) == (3200, 3232, 100)


def test_weights_that_work_on_one_token(tmp_path: Path) -> None:
    """Not the experts that are not chosen, and not an input embedding beside an output layer."""
    experts = [tensor("blk.0.ffn_up_exps.weight", 8, 80), tensor("blk.0.ffn_up_shexp.weight", 8, 10)]
    chosen = {**BASE, "a.expert_count": 8, "a.expert_used_count": 2}
    tied = read_facts(write_gguf(tmp_path / "m.gguf", chosen, [EMBEDDING, *experts]))
    assert (tied.n_weights, tied.n_active) == (800 + 640 + 80, 800 + 160 + 80)
    assert tied.active_bytes == 4 * tied.n_active
    output = tensor("output.weight", 8, 100)
    found = read_facts(write_gguf(tmp_path / "m.gguf", chosen, [EMBEDDING, output, *experts]))
    assert (found.n_weights, found.n_active) == (2 * 800 + 640 + 80, 800 + 160 + 80)


def test_recurrent_layers_are_known_by_their_tensors(tmp_path: Path) -> None:
    """As in Qwen3-Next, which calls a projection of its recurrent layers attn_qkv, and Falcon-H1, which has
    both in one."""
    states = {"a.ssm.conv_kernel": 4, "a.ssm.inner_size": 32, "a.ssm.state_size": 16, "a.ssm.group_count": 2}
    recurrent = [tensor("blk.0.ssm_in.weight", 8), tensor("blk.0.attn_qkv.weight", 8)]
    path = write_gguf(tmp_path / "m.gguf", {**BASE, **states}, [EMBEDDING, *recurrent, *attention(1)])
    found = read_facts(path)
    assert found.layer_kv_values == (0, 128)
    assert found.n_recurrent == 1
    assert found.state_bytes == (3 * (32 + 2 * 2 * 16) + 16 * 32) * 4
    both = [*attention(0), *recurrent, *attention(1), tensor("blk.1.ssm_in.weight", 8)]
    found = read_facts(write_gguf(tmp_path / "n.gguf", {**BASE, **states}, both))
    assert found.layer_kv_values == (128, 128)
    assert found.n_recurrent == 2


def test_rwkv_and_sliding_windows(tmp_path: Path) -> None:
    layers = [tensor(f"blk.{layer}.time_mix_key.weight", 8) for layer in (0, 1)]
    found = read_facts(write_gguf(tmp_path / "m.gguf", {**BASE, "a.wkv.head_size": 64}, layers))
    assert found.layer_kv_values == (0, 0)
    assert found.state_bytes == 2 * 128 * (2 + 64) * 4
    window = {**BASE, "a.attention.sliding_window": 1024}
    found = read_facts(write_gguf(tmp_path / "m.gguf", window, attention(0)))
    assert found.sliding_window == 1024
    assert found.layer_kv_values == (128, 128)  # kept in full


def test_tensors_of_an_unknown_type_reach_to_the_next(tmp_path: Path) -> None:
    new = [tensor("blk.0.ffn_up.weight", 7, kind=99), tensor("blk.1.ffn_up.weight", 7, kind=99)]
    path = write_gguf(tmp_path / "m.gguf", BASE, [*new, EMBEDDING])
    assert read_facts(path).layer_bytes == (100, 100)


def test_a_model_in_several_files(tmp_path: Path) -> None:
    first, second = (tmp_path / f"m-0000{number}-of-00002.gguf" for number in (1, 2))
    write_gguf(first, {**BASE, "split.count": 2}, [EMBEDDING, *attention(0)])
    write_gguf(second, {"split.count": 2}, attention(1))
    found = read_facts(first)
    assert found.layer_bytes == (640, 640)
    assert found.size_bytes == first.stat().st_size + second.stat().st_size
    second.unlink()
    with pytest.raises(BackendError) as caught:
        read_facts(first)
    assert caught.value.code == "model_missing"
    assert str(second) in caught.value.message


def test_a_header_without_numbers(tmp_path: Path) -> None:
    found = read_facts(write_gguf(tmp_path / "m.gguf", {"general.architecture": "a"}, []))
    assert found.n_layer == 0
    huge = {key: value if isinstance(value, str) else 2**32 - 1 for key, value in BASE.items()}
    assert read_facts(write_gguf(tmp_path / "m.gguf", huge, [])).n_layer == 0
    most = {key: value if isinstance(value, str) else 2**24 for key, value in BASE.items()}
    found = read_facts(write_gguf(tmp_path / "m.gguf", most, []))
    choose(
        Machine(system="", architecture="", python=(3, 11), n_cores=1, ram_bytes=0, ram_free_bytes=0),
        found,
        Target(),
    )
