"""What is chosen for a machine and a model: a table of described machines, and what must hold for all."""

import logging
import re
from pathlib import Path
from typing import Any

import machines as m
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from machines import GIB
from singlepass_backends.base import BackendError, Target
from singlepass_backends.drivers.llama.driver import LlamaCppDriver
from singlepass_backends.drivers.llama.gguf_header import read_facts
from singlepass_backends.machine.facts import Device, Machine, ModelFacts, kv_bytes
from singlepass_backends.machine.fit import (
    Choice,
    build_todo,
    choose,
    compute_bytes,
    cuda_command,
    gpu_margin,
    ram_margin,
)
from singlepass_backends.opening import check_target, choose_for_this_machine
from singlepass_backends.testing.random_model import Shape, write_random_model

ALL, NONE = 10_000, 0


def check(
    machine: Machine,
    model: ModelFacts,
    layers: int,
    n_ctx: int,
    kv_cache_type: str,
    reason: str,
    *,
    backend: str = "llama_cpp",
    fits: bool = True,
    **wishes: Any,
) -> None:
    """`layers` counts as llama.cpp does, the output layer included."""
    choice = choose(machine, model, Target(**wishes))
    target = choice.target
    layers = min(layers, model.n_layer + 1)
    assert (target.n_gpu_layers, target.n_ctx, target.kv_cache_type) == (layers, n_ctx, kv_cache_type)
    assert target.n_threads == machine.n_cores
    assert (choice.backend, choice.fits) == (backend, fits)
    told = " | ".join((*choice.why, *choice.todo))
    assert reason in told, told


@pytest.mark.parametrize(
    ("machine", "model", "layers", "n_ctx", "kv", "reason"),
    [
        (m.M1_8, m.QWEN_05B_Q8, ALL, 32_768, "f16", "all 24 layers and the context fit into the 5.3"),
        (m.M1_PRO_16, m.QWEN_7B, ALL, 32_768, "f16", "the 10.7 GiB that the Apple M1 Pro has for its GPU"),
        (m.M2_MAX_64, m.QWEN_32B, ALL, 32_768, "f16", "all 64 layers"),
        (m.M2_MAX_64, m.LLAMA_70B, ALL, 32_768, "q8_0", "q8_0 so that it fits into the 50.0 GiB"),
        (m.M2_MAX_64, m.HYBRID_80B, ALL, 8192, "q8_0", "the context was cut from 32,768 to 8,192 tokens"),
        (m.M3_ULTRA_512, m.LLAMA_405B, ALL, 32_768, "f16", "all 126 layers"),
        (m.M4_16, m.QWEN_7B, ALL, 32_768, "f16", "Apple M4"),
        (m.RTX_3060, m.QWEN_7B, ALL, 32_768, "f16", "all 28 layers and the context fit into the 11.2"),
        (m.RTX_3060, m.QWEN_14B, ALL, 24_576, "q8_0", "24,576 tokens and the KV cache is q8_0"),
        (m.RTX_3060, m.QWEN_32B, 33, 8192, "q8_0", "32 of 64 layers fit into the 11.2 GiB that are"),
        (m.RTX_3060, m.QWEN_30B_A3B, 28, 8192, "q8_0", "more layers fit on the GPU; `n_ctx` sets it"),
        (m.RTX_3060_BUSY, m.QWEN_7B, ALL, 32_768, "f16", "the 7.4 GiB that are free on the NVIDIA"),
        (m.RTX_4090, m.QWEN_14B, ALL, 32_768, "f16", "all 48 layers"),
        (m.RTX_4090, m.QWEN_30B_A3B, ALL, 32_768, "f16", "all 48 layers"),
        (m.RTX_4090_WINDOWS, m.QWEN_7B, ALL, 32_768, "f16", "the 22.0 GiB that are free"),
        (m.LAPTOP_4, m.QWEN_05B_Q8, ALL, 32_768, "f16", "all 24 layers"),
        (m.FULL_CARD, m.QWEN_7B, NONE, 8192, "f16", "none of the 28 layers fits into the 410 MiB"),
        (m.TWO_A100, m.LLAMA_70B, ALL, 32_768, "f16", "158.0 GiB that are free on the 2 × NVIDIA A100"),
        (m.TWO_UNEQUAL, m.QWEN_32B, ALL, 32_768, "f16", "RTX 4090 and the NVIDIA GeForce RTX 3060"),
        (m.H100, m.LLAMA_70B, ALL, 32_768, "f16", "all 80 layers"),
        (m.H100, m.HYBRID_80B, ALL, 32_768, "f16", "all 48 layers"),
        (m.PC_8, m.QWEN_05B_Q8, NONE, 32_768, "f16", "the processor does the work, on 4 threads"),
        (m.PC_8, m.SHORT_2K, NONE, 2048, "f16", "there is no GPU that it can use"),
        (m.PC_16, m.QWEN_7B, NONE, 32_768, "f16", "on 6 threads"),
        (m.PC_32, m.QWEN_14B, NONE, 32_768, "f16", "on 8 threads"),
        (m.PC_32, m.QWEN_30B_A3B, NONE, 32_768, "f16", "on 8 threads"),
        (m.PC_64, m.LLAMA_70B, NONE, 32_768, "f16", "on 16 threads"),
        (m.NO_CUDA_BUILD, m.QWEN_7B, NONE, 32_768, "f16", "(12.0 GiB), but this llama.cpp was"),
        (m.NO_CUDA_BUILD, m.QWEN_7B, NONE, 32_768, "f16", "without CUDA: pip install"),
        (m.AMD_VULKAN, m.QWEN_14B, ALL, 32_768, "f16", "AMD Radeon RX 7800 XT"),
        (m.AMD_APU, m.QWEN_7B, ALL, 32_768, "f16", "the 15.8 GiB that the AMD Radeon 780M has"),
        (m.GB10, m.LLAMA_70B, ALL, 32_768, "f16", "the 115.0 GiB that the NVIDIA GB10 has for its GPU"),
        (m.RASPBERRY_PI, m.QWEN_05B_Q8, NONE, 32_768, "f16", "on 4 threads"),
        (m.RASPBERRY_PI, m.QWEN_7B, NONE, 32_768, "q8_0", "q8_0 so that it fits into the 6.8 GiB"),
        (m.TINY_VM, m.QWEN_05B_Q8, NONE, 32_768, "q8_0", "on 1 thread"),
        (m.JETSON, m.QWEN_05B_Q8, ALL, 32_768, "f16", "the 5.6 GiB that the Orin has for its GPU"),
        (m.CONTAINER_3, m.QWEN_05B_Q8, NONE, 32_768, "f16", "on 2 threads"),
        (m.M2_METAL_MISSING, m.QWEN_7B, NONE, 32_768, "f16", "built without Metal, Apple's GPU: pip install"),
    ],
)  # fmt: skip
def test_machines(machine: Machine, model: ModelFacts, layers: int, n_ctx: int, kv: str, reason: str) -> None:
    check(machine, model, layers, n_ctx, kv, reason)


def test_a_small_card_takes_the_layers_it_can() -> None:
    choice = choose(m.LAPTOP_4, m.QWEN_7B, Target())
    assert 1 < choice.target.n_gpu_layers <= m.QWEN_7B.n_layer
    assert choice.target.n_ctx == 8192
    assert f"{choice.target.n_gpu_layers - 1} of 28 layers fit into the 3.6 GiB" in choice.why[0]


@pytest.mark.parametrize(
    ("machine", "model", "layers", "reason"),
    [
        (m.M1_8, m.QWEN_7B, ALL, "4.8 GiB of memory. 4.5 GiB of 8.0 GiB are free, of which 3.5 GiB"),
        (m.M1_PRO_16, m.QWEN_14B, ALL, "so that it takes as little memory as it can"),
        (m.RTX_3060, m.LLAMA_70B, 19, "Close some, or choose a smaller model or quantization."),
        (m.PC_8, m.QWEN_7B, NONE, "it may be very slow, or fail"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_said(machine: Machine, model: ModelFacts, layers: int, reason: str) -> None:
    check(machine, model, layers, 4096, "q8_0", reason, fits=False)


@pytest.mark.parametrize(
    ("machine", "model", "words"),
    [
        (m.TINY_VM, m.QWEN_7B, ("4.4 GiB of weights", "2.0 GiB of memory:")),
        (m.CONTAINER_3, m.QWEN_14B, ("8.4 GiB", "3.0 GiB")),
        (m.M1_PRO_16, m.QWEN_32B, ("18.5 GiB", "16.0 GiB of memory: it cannot run here")),
        (m.RTX_3060, m.HYBRID_80B, ("45.2 GiB", "32.0 GiB", "and 12.0 GiB on the NVIDIA GeForce RTX 3060")),
        (m.JETSON, m.QWEN_14B, ("7.4 GiB of memory: it",)),  # unified memory counts once
    ],
)  # fmt: skip
def test_what_can_never_fit_is_an_error(machine: Machine, model: ModelFacts, words: tuple[str, ...]) -> None:
    with pytest.raises(BackendError) as caught:
        choose(machine, model, Target(model="/models/big.gguf"))
    assert caught.value.code == "out_of_memory"
    assert caught.value.data["size_bytes"] == model.size_bytes
    for word in ("/models/big.gguf", "Choose a smaller model", *words):
        assert word in caught.value.message


def test_the_gpu_counts_only_where_it_may_be_used() -> None:
    machine = m.cuda(40, 38, m.gpu("card", 24, 23))
    assert choose(machine, m.HYBRID_80B, Target()).target.n_gpu_layers > 0
    with pytest.raises(BackendError):
        choose(machine, m.HYBRID_80B, Target(n_gpu_layers=0))


def test_mlx_models() -> None:
    check(m.M2_MAX_MLX, m.MLX_7B, ALL, 32_768, "f16", "MLX uses the 48.0 GiB", backend="mlx")
    check(m.M2_MAX_64, m.MLX_7B, ALL, 32_768, "f16", "pip install 'mlx-lm>=0.32'", backend="mlx")
    check(m.PC_32, m.MLX_7B, NONE, 32_768, "f16", "'mlx[cpu]', which is slow", backend="mlx")
    on_linux = msgspec.structs.replace(m.PC_32, mlx="0.32.1")
    check(on_linux, m.MLX_7B, NONE, 32_768, "f16", "MLX is slow without Apple Silicon", backend="mlx")
    # A GGUF file runs on llama.cpp, whatever else is installed.
    check(m.M2_MAX_MLX, m.QWEN_7B, ALL, 32_768, "f16", "all 28 layers")


def test_what_the_user_set_is_kept_and_told() -> None:
    check(m.RTX_3060, m.QWEN_32B, 10, 32_768, "q8_0", "puts 10 of 65 layers on the NVIDIA", n_gpu_layers=10)
    check(m.RTX_3060, m.QWEN_7B, NONE, 32_768, "f16", "`n_gpu_layers` is 0", n_gpu_layers=0)
    longer = choose(m.RTX_3060, m.QWEN_14B, Target(n_ctx=32_768))
    assert longer.target.n_ctx == 32_768
    assert 40 < longer.target.n_gpu_layers < 49
    assert longer.fits
    exact = choose(m.RTX_3060, m.QWEN_14B, Target(kv_cache_type="f16")).target
    assert (exact.n_gpu_layers, exact.n_ctx, exact.kv_cache_type) == (49, 12_288, "f16")
    too_much = Target(n_gpu_layers=65, kv_cache_type="f16", n_ctx=32_768)
    choice = choose(m.RTX_3060, m.QWEN_32B, too_much)
    assert not choice.fits
    assert choice.target == msgspec.structs.replace(too_much, n_threads=8)
    reason = "of the NVIDIA GeForce RTX 3060, where 10.7 GiB can be used. Set `n_gpu_layers` to -1"
    assert reason in choice.todo[0]
    assert choose(m.PC_64, m.QWEN_7B, Target(n_threads=3)).target.n_threads == 3
    without_flash = choose(m.RTX_3060, m.QWEN_14B, Target(flash_attention=False)).target
    assert without_flash.kv_cache_type == "f16"  # llama.cpp quantizes the cache with flash attention only


def test_no_advice_on_cuda_where_the_processor_was_asked_for() -> None:
    assert choose(m.NO_CUDA_BUILD, m.QWEN_7B, Target(n_gpu_layers=0)).todo == ()
    assert "without CUDA" in build_todo(m.NO_CUDA_BUILD)[0]
    assert build_todo(m.RTX_3060) == ()


def test_a_driver_that_is_too_old_for_the_build() -> None:
    machine = m.cuda(32, 24)
    machine = msgspec.structs.replace(machine, nvidia=(m.card("NVIDIA T4", 16, (7, 5)),))
    assert "update the driver" in build_todo(machine)[0]


@pytest.mark.parametrize(
    ("cuda_driver", "capability", "options", "expected"),
    [
        ((12, 4), (8, 6), {}, "whl/cu124"),
        ((12, 8), (12, 0), {}, "whl/cu125"),
        ((13, 2), (8, 9), {}, "whl/cu132"),
        ((13, 0), (9, 0), {}, "whl/cu130"),
        ((13, 0), (6, 1), {}, "whl/cu125"),  # CUDA 13 left Pascal behind
        ((11, 8), (8, 6), {}, "whl/cu118"),
        ((11, 8), (9, 0), {}, "CMAKE_ARGS="),
        ((11, 4), (8, 6), {}, "CMAKE_ARGS="),
        ((12, 4), (5, 2), {}, "CMAKE_ARGS="),
        (None, None, {}, "whl/cu124"),
        ((13, 0), (12, 1), {"architecture": "aarch64"}, 'CMAKE_ARGS="-DGGML_CUDA=on" pip install'),
        ((12, 4), (8, 6), {"python": (3, 13)}, "CMAKE_ARGS="),
        ((12, 4), (8, 6), {"system": "Windows", "architecture": "AMD64"}, "whl/cu124"),
        ((12, 4), (5, 2), {"system": "Windows", "architecture": "AMD64"}, '$env:CMAKE_ARGS = "'),
    ],
)  # fmt: skip
def test_how_to_get_cuda(
    cuda_driver: tuple[int, int] | None,
    capability: tuple[int, int] | None,
    options: dict[str, Any],
    expected: str,
) -> None:
    cards = (msgspec.structs.replace(m.card("card", 8, (7, 0)), compute_capability=capability),)
    command = cuda_command(m.machine(16, 8, nvidia=cards, cuda_driver=cuda_driver, **options))
    assert expected in command
    assert "'llama-cpp-python>=0.3.36,<0.4'" in command


def test_the_advice_asks_for_the_version_we_need() -> None:
    project = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    assert '"llama-cpp-python>=0.3.36,<0.4"' in project


def test_a_file_that_tells_nothing_is_run_as_it_is() -> None:
    choice = choose(m.RTX_3060, ModelFacts(size_bytes=10**9), Target())
    assert (choice.target.n_gpu_layers, choice.target.n_ctx) == (-1, 32_768)
    assert "does not tell its layers" in choice.why[0]


# What must hold for every machine and model.

MODELS = st.sampled_from(
    [m.QWEN_05B_Q8, m.QWEN_7B, m.QWEN_14B, m.QWEN_32B, m.QWEN_30B_A3B, m.LLAMA_70B, m.HYBRID_80B, m.SHORT_2K]
)
MEMORY = st.floats(0, 200)


@st.composite
def memories(draw: st.DrawFn) -> tuple[float, float, tuple[float, ...], bool]:
    """Free memory of the machine, whether the GPU shares it, and free memory of up to three GPUs."""
    unified = draw(st.booleans())
    n_gpus = st.just(1) if unified else st.integers(0, 3)
    return draw(MEMORY), 1000.0, tuple(draw(MEMORY) for _ in range(draw(n_gpus))), unified


def described(free: float, total: float, gpus: tuple[float, ...], unified: bool) -> Machine:
    devices = tuple(m.gpu("card", 200, one, unified=unified) for one in gpus)
    return m.machine(total, free, kinds=("CUDA", "CPU"), devices=devices)


WISHES = st.fixed_dictionaries(
    {},
    optional={
        "n_ctx": st.sampled_from([1024, 8192, 32_768, 100_000]),
        "n_gpu_layers": st.integers(0, 100),
        "kv_cache_type": st.sampled_from(["f16", "q8_0", "q4_0"]),
        "n_threads": st.integers(1, 64),
        "flash_attention": st.just(True),
        "n_batch": st.sampled_from([64, 512, 2048]),
    },
)


@given(memories(), MODELS, WISHES)
@settings(max_examples=300, deadline=None)
def test_no_more_than_there_is_and_nothing_overridden(
    memory: tuple[float, float, tuple[float, ...], bool], model: ModelFacts, wishes: dict[str, Any]
) -> None:
    machine = described(*memory)
    choice = choose(machine, model, Target(**wishes))
    for name, value in wishes.items():
        assert getattr(choice.target, name) == value
    if choice.fits:
        devices = machine.llama.devices if machine.llama else ()
        free = sum(device.free_bytes - gpu_margin(device) for device in devices)
        assert choice.gpu_bytes <= max(0, free)
        assert choice.ram_bytes <= max(0, machine.ram_free_bytes - ram_margin(machine))
        if len(devices) == 1 and devices[0].is_unified:
            assert choice.gpu_bytes <= choice.ram_bytes
    else:
        assert any("This takes about" in line for line in choice.todo)


@given(memories(), MODELS, WISHES, MEMORY, st.lists(MEMORY, min_size=3, max_size=3))
@settings(max_examples=300, deadline=None)
def test_more_memory_never_gives_less(
    memory: tuple[float, float, tuple[float, ...], bool],
    model: ModelFacts,
    wishes: dict[str, Any],
    more: float,
    more_gpu: list[float],
) -> None:
    free, total, gpus, unified = memory
    before = choose(described(*memory), model, Target(**wishes))
    richer = tuple(one + extra for one, extra in zip(gpus, more_gpu, strict=False))
    after = choose(described(free + more, total, richer, unified), model, Target(**wishes))
    assert after.target.n_gpu_layers >= before.target.n_gpu_layers
    assert after.target.n_ctx >= before.target.n_ctx
    assert after.fits or not before.fits


@given(st.floats(20, 80), st.lists(st.floats(1, 80), min_size=2, max_size=4), MODELS)
@settings(max_examples=200, deadline=None)
def test_over_several_gpus_each_holds_its_share(free: float, gpus: list[float], model: ModelFacts) -> None:
    """Shared out as llama.cpp does it, layer by layer in proportion to free memory, no GPU is overfull."""
    devices = tuple(m.gpu("card", 80, one) for one in gpus)
    machine = m.machine(1000, free + 500, kinds=("CUDA", "CPU"), devices=devices)
    choice = choose(machine, model, Target())
    n_on_gpu = choice.target.n_gpu_layers
    if n_on_gpu == 0:
        return
    held = shared_out(choice, model, devices)
    for device, n_bytes in zip(devices, held, strict=True):
        assert n_bytes <= device.free_bytes - gpu_margin(device)


def shared_out(choice: Choice, model: ModelFacts, devices: tuple[Device, ...]) -> list[float]:
    """Bytes on each GPU: `llama_model_base::load_tensors` puts layer i of n on the first GPU whose share of
    the free memory, summed up, is above i/n; the output is the last."""
    n, target = choice.target.n_gpu_layers, choice.target
    total = sum(device.free_bytes for device in devices)
    ends = [
        sum(device.free_bytes for device in devices[: index + 1]) / total for index in range(len(devices))
    ]
    costs = [
        weights + kv_bytes(values, target.n_ctx, target.kv_cache_type) + model.state_bytes * 5 / model.n_layer
        for weights, values in zip(model.layer_bytes, model.layer_kv_values, strict=True)
    ]
    items = [*costs[model.n_layer + 1 - n :], float(model.output_bytes)]
    compute = compute_bytes(model, target.n_ctx, 512, flash_attention=True)
    held = [float(compute)] * len(devices)
    for index, cost in enumerate(items):
        gpu = next((g for g, end in enumerate(ends) if end > index / len(items)), len(devices) - 1)
        held[gpu] += cost
    return held


# Against what llama.cpp itself says it takes.


@pytest.mark.parametrize("kv_cache_type", ["f16", "q8_0"])
@pytest.mark.parametrize(
    "shape",
    [
        Shape(n_layer=3, n_embd=256, n_head=8, n_head_kv=2, n_ff=1024),
        Shape(n_layer=2, n_embd=128, n_head=4, n_head_kv=4, n_ff=256),
        Shape(n_layer=4, n_embd=128, n_head=4, n_head_kv=2, lfm2=True),
    ],
    ids=["grouped", "plain", "hybrid"],
)
def test_estimates_agree_with_llama_cpp(
    shape: Shape, kv_cache_type: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "model.gguf"
    write_random_model(path, corpus=["a few words of text " * 20], n_vocab=300, shape=shape)
    model = read_facts(path)
    n_ctx = 4096
    with caplog.at_level(logging.DEBUG):
        wishes: dict[str, Any] = {"n_ctx": n_ctx, "n_threads": 1, "kv_cache_type": kv_cache_type}
        LlamaCppDriver(Target(model=str(path), **wishes), lambda _: True).close()
    said = caplog.text

    def mib(pattern: str) -> float:
        found = re.findall(pattern + r" =\s+([\d.]+) MiB", said)
        return sum(map(float, found)) * 2**20

    kv = kv_bytes(sum(model.layer_kv_values), n_ctx, kv_cache_type)
    assert mib(r"llama_kv_cache: size") == pytest.approx(kv, abs=2**14)
    compute = compute_bytes(model, n_ctx, 512, flash_attention=True)
    assert 0.5 * compute <= mib("CPU compute buffer size") <= 1.1 * compute
    if shape.lfm2:
        # llama.cpp rounds what it says to hundredths of a MiB.
        assert mib(r"llama_memory_recurrent: size") == pytest.approx(model.state_bytes * 5, abs=2**14)


def test_this_machine(random_model: Path) -> None:
    choice = choose_for_this_machine(Target(model=str(random_model)))
    assert choice.fits
    assert choice.target.n_ctx == 4096
    assert choice.target.n_threads == 1  # a tiny model
    assert 0 < choice.ram_bytes < GIB


def test_the_example_of_the_docs() -> None:
    page = " ".join((Path(__file__).parents[2] / "docs" / "settings.md").read_text(encoding="utf-8").split())
    choice = choose(m.RTX_3060, m.QWEN_32B, Target())
    for line in choice.why:
        assert line in page


@pytest.mark.parametrize(
    "fields",
    [
        {"api_key_env": "sk-canary"},
        {"api_key_env": "skcanary0123"},
        {"api_key_env": "0CANARY123"},
        {"url": "http://me:canary@127.0.0.1:9/v1"},
        {"url": "http://127.0.0.1:9/v1?key=canary"},
        {"url": "http://127.0.0.1:9/v1#canary"},
    ],
)
def test_a_key_in_the_wrong_place_is_refused_and_not_quoted(fields: dict[str, str]) -> None:
    with pytest.raises(BackendError) as caught:
        check_target(
            msgspec.convert({"backend": "openai_compatible", "url": "http://h/v1", **fields}, Target)
        )
    assert caught.value.code == "unsupported"
    assert "canary" not in caught.value.message.lower()
