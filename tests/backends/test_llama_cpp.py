"""What is llama.cpp's own; what every runtime does is in `test_drivers.py`."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import gguf
import numpy as np
import pytest
from fake_driver import check_same_choices
from runtimes import LONG, REQUEST, Runtime, check_fails, check_reuse, never, run
from singlepass_backends.base import Finished, Target
from singlepass_backends.drivers.llama.driver import LlamaCppDriver, failure
from singlepass_backends.generation.driver import Interrupted
from singlepass_backends.stop_flag import StopFlag
from singlepass_backends.testing.random_model import SHAPE_0_5B, Shape, write_random_model_with_vocab


def test_a_pass_stops_when_the_flag_is_set(llama_cpp: Runtime) -> None:
    driver = llama_cpp.driver(llama_cpp.target(n_threads=2))
    tokens = driver.tokenize(LONG.text.encode()[:2000], special=False)[:128]
    driver.forward(tokens[:64], 0, n_logits=0)
    cold = np.array(driver.forward(tokens[64:], 64, n_logits=1))
    driver.trim(64)
    flag = StopFlag()
    assert driver.watch(flag)
    flag.set()
    for _ in range(3):
        with pytest.raises(Interrupted):
            driver.forward(tokens[64:], 64, n_logits=1)
    flag.clear()
    assert np.array_equal(cold, driver.forward(tokens[64:], 64, n_logits=1))
    # Another interrupt is not for llama.cpp to ask, and takes the flag's place.
    assert not driver.watch(never)
    flag.set()
    assert driver.trim(64)
    assert np.array_equal(cold, driver.forward(tokens[64:], 64, n_logits=1))
    driver.close()
    hybrid = llama_cpp.driver(llama_cpp.target("hybrid", n_ctx=256))
    assert not hybrid.watch(flag)  # its state would be left half-way
    assert hybrid.forward(tokens[:64], 0, n_logits=1) is not None
    hybrid.close()


@pytest.mark.parametrize("refused", range(4))
def test_every_sequence_is_trimmed_where_one_refuses(refused: int) -> None:
    asked: list[int] = []

    def remove(_memory: object, id: int, *_range: int) -> bool:
        asked.append(id)
        return id != refused

    driver = object.__new__(LlamaCppDriver)
    driver._lib = SimpleNamespace(llama_memory_seq_rm=remove)
    driver._memory, driver.n_sequences, driver._is_sliding = None, 1, True
    driver._are_joined, driver._branches = True, range(2, 4)
    assert not driver.trim(5)
    assert asked == [0, 1, 2, 3]


@pytest.mark.parametrize("n_before", range(9))
def test_a_request_after_a_stopped_one_is_as_if_cold(llama_cpp: Runtime, n_before: int) -> None:
    """Stopped inside any pass, of prefill or of decode."""
    target = llama_cpp.target(n_batch=256, n_ctx=4096)
    cold_driver, cold = llama_cpp.watched(target)
    expected, _ = run(cold, REQUEST)
    cold.close()
    driver, backend = llama_cpp.watched(target)
    flag = StopFlag()
    n_left = n_before
    forward = driver.forward

    def stop_within(tokens: Sequence[int], position: int, *, n_logits: int) -> object:
        nonlocal n_left
        n_left -= 1
        if n_left < 0:
            flag.set()
        return forward(tokens, position, n_logits=n_logits)

    driver.forward = stop_within  # type: ignore[method-assign]
    *_, finished = backend.generate(REQUEST, flag)
    assert isinstance(finished, Finished)
    assert finished.finish_reason == "cancelled"
    driver.forward = forward  # type: ignore[method-assign]
    driver.choices.clear()
    text, _ = run(backend, REQUEST)
    check_same_choices(driver.choices, cold_driver.choices)
    assert text == expected
    backend.close()


def test_replies_after_any_reuse_with_a_sliding_window(sliding_model: Path) -> None:
    check_reuse(Runtime("llama_cpp", sliding_model, sliding_model), "attention")


def test_a_sliding_window_forgets_nothing_that_is_kept(sliding_model: Path) -> None:
    """Sequences come, go and are trimmed far behind their windows, in a cache that is nearly full."""
    n_ctx = 1024
    runtime = Runtime("llama_cpp", sliding_model, sliding_model)
    driver, fresh = (runtime.driver(runtime.target(n_ctx=n_ctx, flash_attention=False)) for _ in range(2))
    assert driver.n_sequences > 2
    random = np.random.default_rng(1)
    tokens = driver.tokenize(LONG.text.encode(), special=False)
    texts = [tokens[n : n + 500] for n in (0, 500, 1000)]
    held: dict[int, list[tuple[int, int]]] = {0: []}
    """Sequences, as tokens each with the number of its cell."""
    numbers = itertools.count()

    def grow(chunk: list[int]) -> np.ndarray:
        logits = driver.forward(chunk, len(held[0]), n_logits=1)
        held[0] = held[0] + [(token, next(numbers)) for token in chunk]
        return np.array(logits)

    n_checked = 0
    for _ in range(300):
        n_free = n_ctx - len({cell for cells in held.values() for _, cell in cells})
        slot = int(random.integers(1, 4))
        kept = held.get(slot, [])
        match int(random.integers(4)):
            case 0 | 1 if n_free:  # go on
                text = texts[int(random.integers(3))]
                n = len(held[0])
                grow(text[n : n + min(64, n_free)] or text[: min(64, n_free)])
            case 2 if held[0]:  # keep the working sequence, and begin with a part of it
                driver.trim(0, slot)
                driver.copy(0, slot, len(held[0]))
                held[slot] = held[0]
                n = int(random.integers(len(held[0])))
                assert driver.trim(n)
                held[0] = held[0][:n]
            case 3 if kept:  # go back to a kept one
                n = int(random.integers(1, len(kept) + 1))
                driver.trim(0)
                driver.copy(slot, 0, n)
                held[0] = kept[:n]
            case _:
                pass
        if len(held[0]) > 1:
            *before, last = [token for token, _ in held[0]]
            assert driver.trim(len(before))
            held[0] = held[0][:-1]
            warm = grow([last])
            fresh.clear()
            for start in range(0, len(before), 64):
                fresh.forward(before[start : start + 64], start, n_logits=0)
            cold = fresh.forward([last], len(before), n_logits=1)
            assert np.allclose(warm, cold, atol=0.02)  # a lost cell moves them by 0.2
            n_checked += 1
    assert n_checked > 200
    assert driver.state_key == ""
    assert not driver.load(driver.save(0), len(held[0]))
    driver.close()
    fresh.close()


def test_without_flash_attention(llama_cpp: Runtime) -> None:
    backend = llama_cpp.open(llama_cpp.target(flash_attention=False))
    assert run(backend, REQUEST)[1].finish_reason in ("stop", "length")
    backend.close()


def test_missing_model(tmp_path: Path) -> None:
    check_fails(Target(model=str(tmp_path / "none.gguf")), "model_missing", "none.gguf")
    check_fails(Target(model=str(tmp_path)), "model_missing", "folder")


def test_not_a_model(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_text("hello")
    check_fails(Target(model=str(path)), "model_invalid", "not a GGUF file")


def test_unknown_architecture(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    writer = gguf.GGUFWriter(path, "madeup")
    writer.add_tensor("token_embd.weight", np.zeros((4, 32), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    check_fails(Target(model=str(path)), "model_unsupported", "'madeup'", "Update llama-cpp-python")


def test_a_model_without_its_tensors(tmp_path: Path, random_model: Path) -> None:
    path = tmp_path / "model.gguf"
    writer = gguf.GGUFWriter(path, "qwen2")
    writer.add_block_count(1)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    check_fails(Target(model=str(path)), "model_invalid", "llama.cpp cannot load")


@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        ("failed to initialize the context: std::bad_alloc", "out_of_memory", "`n_ctx`"),
        ("ggml_cuda: cudaMalloc failed: out of memory", "out_of_memory", "n_gpu_layers"),
        ("unable to allocate CPU buffer", "out_of_memory", "smaller model"),
        ("error loading model: missing tensor 'output_norm.weight'", "model_invalid", "output_norm"),
        ("K cache type q8_0 with block size 32 does not divide", "model_invalid", "q8_0"),
        ("error loading model: unknown model architecture: 'x'", "model_unsupported", "'x'"),
    ],
)
def test_what_the_log_of_llama_cpp_means(line: str, code: str, words: str) -> None:
    error = failure(Path("/models/m.gguf"), ["loading", line, "exiting"], "x")
    assert error.code == code
    assert words in error.message
    assert "/models/m.gguf" in error.message


def test_settings_that_do_not_go_together(random_model: Path) -> None:
    target = Target(model=str(random_model), kv_cache_type="q4_0", flash_attention=False)
    check_fails(target, "unsupported", "flash_attention")


def test_a_random_model_with_the_vocabulary_of_another(tmp_path: Path, random_model: Path) -> None:
    path = tmp_path / "model.gguf"
    shape = Shape(n_layer=1, n_embd=64, n_head=2, n_head_kv=1, n_ff=64)
    write_random_model_with_vocab(path, vocab=random_model, shape=shape, tensor_type="F32")
    backend = Runtime("llama_cpp", path, path).open()
    assert backend.info.n_vocab == 2048
    assert run(backend, REQUEST)[1].timings.n_decoded > 0
    backend.close()
    assert SHAPE_0_5B.n_layer == 24
