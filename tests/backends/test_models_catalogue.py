"""The catalogue: that its numbers agree with each other and with known files, and what fits where."""

from pathlib import Path

import machines
import msgspec
import pytest
from machines import GIB
from singlepass_backends.base import Target
from singlepass_backends.machine.facts import Machine, ModelFacts
from singlepass_backends.machine.fit import choose
from singlepass_backends.models.catalogue import Entry, Format, GgufFile, catalogue
from singlepass_backends.models.offer import Place, format_for, machine_from, offer, offer_of
from singlepass_backends.opening import read_model_facts

MODELS = catalogue().models
DENSE = [entry for entry in MODELS if not entry.n_expert]


def entry(name: str) -> Entry:
    found = catalogue().find(name)
    assert found is not None
    return found


def test_it_goes_from_small_to_large_and_names_each_once() -> None:
    assert 10 <= len(MODELS) <= 14
    sizes = [one.parameters for one in MODELS]
    assert sizes == sorted(sizes)
    assert sizes[0] < 1
    assert sizes[-1] > 30
    for values in ([one.name for one in MODELS], [one.gguf.repo for one in MODELS]):
        assert len(set(values)) == len(values)


@pytest.mark.parametrize("one", MODELS, ids=lambda one: one.name)
def test_every_entry_can_be_pulled_and_says_where_its_facts_come_from(one: Entry) -> None:
    assert one.name == one.name.lower()
    assert one.licence
    assert one.good_for
    assert not one.measured or "benchmarks/quality.py" in one.measured
    assert "config.json" in one.source or "whose shape is that of" in one.source
    for repo in (one.gguf.repo, *([one.mlx.repo] if one.mlx else [])):
        assert repo.count("/") == 1
    assert one.gguf.file.endswith(".gguf")
    assert one.n_head % one.n_head_kv == 0
    assert one.active < one.parameters
    assert bool(one.active) == bool(one.n_expert)


@pytest.mark.parametrize("one", DENSE, ids=lambda one: one.name)
def test_the_shape_has_as_many_weights_as_the_model(one: Entry) -> None:
    """Attention, feed-forward (gate, up, down) and embeddings; norms and biases are too few to count. A wrong
    number in the shape would show here."""
    query, key, value = (
        heads * length
        for heads, length in (
            (one.n_head, one.key_length),
            (one.n_head_kv, one.key_length),
            (one.n_head_kv, one.value_length),
        )
    )
    layer = one.n_embd * (query + key + value) + one.n_head * one.value_length * one.n_embd
    layer += 3 * one.n_embd * one.n_ff
    embeddings = one.n_vocab * one.n_embd * (1 if one.is_tied else 2)
    assert (one.n_layer * layer + embeddings) / 1e9 == pytest.approx(one.parameters, rel=0.005)


def test_only_what_may_be_used_at_work_is_marked_so() -> None:
    assert [one.name for one in MODELS if not one.commercial] == ["codestral-22b"]
    assert "Non-Production" in entry("codestral-22b").licence


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("qwen2.5-coder-0.5b", machines.QWEN_05B_Q8),
        ("qwen2.5-coder-7b", machines.QWEN_7B),
        ("qwen2.5-coder-14b", machines.QWEN_14B),
        ("qwen2.5-coder-32b", machines.QWEN_32B),
        ("qwen3-coder-30b-a3b", machines.QWEN_30B_A3B),
    ],
)
def test_estimates_are_near_the_files_that_are_known(name: str, known: ModelFacts) -> None:
    estimated = entry(name).facts("gguf")
    assert estimated.size_bytes == pytest.approx(known.size_bytes, rel=0.02)
    assert estimated.layer_kv_values == known.layer_kv_values
    assert estimated.n_layer == known.n_layer
    assert estimated.n_embd == known.n_embd
    for machine in (machines.RTX_3060, machines.PC_16, machines.LAPTOP_4, machines.M2_MAX_64):
        if known.size_bytes <= machine.ram_bytes:
            wishes = Target(n_ctx=8192)
            expected = choose(machine, known, wishes)
            got = choose(machine, estimated, wishes)
            assert got.fits == expected.fits
            assert got.target.n_gpu_layers == pytest.approx(expected.target.n_gpu_layers, abs=2)


@pytest.mark.parametrize(
    ("name", "kib"),
    [
        # layers · KV heads · (key + value length) · 2 bytes, by hand
        ("qwen2.5-coder-0.5b", 12),
        ("qwen2.5-coder-7b", 56),
        ("qwen2.5-coder-32b", 256),
        ("qwen3-coder-30b-a3b", 96),
        ("gpt-oss-20b", 48),
        ("gemma-3-12b", 384),
        ("deepseek-coder-v2-lite", 270),
    ],
)
def test_the_cache_of_a_token_follows_from_the_kv_heads(name: str, kib: int) -> None:
    one = offer(entry(name), None, 1024, "gguf")
    assert one.cache_bytes == 1024 * kib * 1024
    assert one.memory_bytes == one.size_bytes + one.cache_bytes
    assert one.place == "unknown"


@pytest.mark.parametrize(
    ("name", "machine", "n_ctx", "place"),
    [
        ("qwen2.5-coder-0.5b", machines.TINY_VM, 4096, "cpu"),
        ("qwen2.5-coder-7b", machines.TINY_VM, 4096, "none"),
        ("qwen2.5-coder-7b", machines.PC_16, 16_384, "cpu"),
        ("qwen2.5-coder-7b", machines.RTX_3060, 16_384, "gpu"),
        ("qwen2.5-coder-7b", machines.LAPTOP_4, 16_384, "part"),
        ("qwen3-coder-30b-a3b", machines.RTX_3060, 16_384, "part"),
        ("qwen3-coder-30b-a3b", machines.RTX_4090, 16_384, "gpu"),
        ("qwen3-coder-30b-a3b", machines.M1_PRO_16, 16_384, "none"),
        ("qwen2.5-coder-32b", machines.M2_MAX_64, 32_768, "gpu"),
        ("granite-3.3-8b", machines.RTX_3060, 131_072, "part"),
    ],
)
def test_where_it_runs(name: str, machine: Machine, n_ctx: int, place: Place) -> None:
    one = offer(entry(name), machine, n_ctx, format_for(machine))
    assert one.place == place
    assert bool(one.why_not) == (place == "none")
    if place == "part":
        assert 0 < one.n_gpu_layers < one.entry.n_layer


def test_a_context_beyond_what_the_model_knows_is_cut() -> None:
    assert offer(entry("qwen2.5-coder-7b"), None, 100_000, "gguf").n_ctx == 32_768
    assert offer(entry("qwen3-4b"), None, 100_000, "gguf").n_ctx == 100_000


@pytest.mark.parametrize(
    "machine", [machines.M1_8, machines.RTX_3060, machines.PC_8], ids=["m1", "3060", "pc"]
)
def test_a_longer_context_never_takes_less_or_fits_better(machine: Machine) -> None:
    order: list[Place] = ["gpu", "part", "cpu", "none"]
    for one in MODELS:
        offers = [offer(one, machine, n_ctx, "gguf") for n_ctx in (2048, 8192, 16_384, 32_768)]
        assert [o.memory_bytes for o in offers] == sorted(o.memory_bytes for o in offers)
        places = [order.index(o.place) for o in offers]
        assert places == sorted(places)


@pytest.mark.parametrize(
    ("machine", "format"),
    [
        (None, "gguf"),
        (machines.RTX_3060, "gguf"),
        (machines.M2_MAX_64, "gguf"),  # without mlx-lm
        (machines.M2_MAX_MLX, "mlx"),
    ],
)
def test_the_format_for_a_machine(machine: Machine | None, format: Format) -> None:
    assert format_for(machine) == format
    assert offer(entry("qwen2.5-coder-7b"), machine, 4096, format_for(machine)).format == format


def test_without_a_conversion_for_mlx_it_is_offered_as_gguf() -> None:
    assert entry("seed-coder-8b").mlx is None
    one = offer(entry("seed-coder-8b"), machines.M2_MAX_MLX, 4096, "mlx")
    assert one.format == "gguf"
    assert one.place == "gpu"
    assert offer(entry("qwen3-4b"), machines.M2_MAX_MLX, 4096, "mlx").size_bytes < 2.3 * GIB


def test_what_is_downloaded_is_told_by_its_own_numbers(random_model: Path) -> None:
    facts = read_model_facts(random_model)
    one = offer_of(entry("qwen3-4b"), facts, machines.PC_16, 1024)
    assert not one.is_estimate
    assert one.size_bytes == random_model.stat().st_size
    assert one.place == "cpu"


def test_the_machine_is_read_from_the_probes_answer() -> None:
    assert machine_from(msgspec.to_builtins(machines.M2_MAX_MLX)) == machines.M2_MAX_MLX
    assert machine_from(None) is None
    assert machine_from({}) is None


@pytest.mark.parametrize(
    ("typed", "found", "similar"),
    [
        ("qwen3-4b", "qwen3-4b", None),
        ("Qwen3-4B", "qwen3-4b", None),
        ("qwen-2.5-coder-7b", "", "qwen2.5-coder-7b"),
        ("devstral", "", "devstral-small"),
        ("zzzz", "", ""),
    ],
)
def test_names(typed: str, found: str, similar: str | None) -> None:
    one = catalogue().find(typed)
    assert (one.name if one else "") == found
    if similar is not None:
        assert (catalogue().similar(typed) or [""])[0] == similar


def test_a_typing_error_in_the_data_is_told() -> None:
    values = {**msgspec.to_builtins(MODELS[0]), "n_layers": 3}
    with pytest.raises(msgspec.ValidationError, match="n_layers"):
        msgspec.convert(values, Entry)
    with pytest.raises(msgspec.ValidationError, match="bits"):
        msgspec.convert({"repo": "a/b", "file": "c.gguf", "bits": 0}, GgufFile)
