"""The loop over real llama.cpp with random models."""

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import gguf
import numpy as np
import pytest
from fake_driver import WatchedDriver, check_same_choices
from singlepass_backends.base import (
    BackendError,
    Finished,
    GenerateRequest,
    PrewarmRequest,
    Segment,
    Target,
    TextChunk,
)
from singlepass_backends.choose import open_backend
from singlepass_backends.drivers.llama_cpp import LlamaCppDriver, failure
from singlepass_backends.generation.driver import Interrupted
from singlepass_backends.generation.loop import InProcessBackend
from singlepass_backends.random_model import SHAPE_0_5B, Shape, write_random_model_with_vocab
from singlepass_backends.stop_flag import StopFlag

SYSTEM = Segment("rules", "You edit code. Answer with edits only.\n", "system")
FILE = Segment("a.py", "def value(a, b):\n    return a + b  # naïve 🙂\n" * 8)
TASK = Segment("task", "Rename value to total.")
REQUEST = GenerateRequest((SYSTEM, FILE, TASK), max_tokens=24)


def never() -> bool:
    return False


def load(model: Path, n_batch: int = 64, n_ctx: int = 1024, **settings: object) -> InProcessBackend:
    target = Target(model=str(model), n_ctx=n_ctx, n_batch=n_batch, n_threads=1, **settings)
    return InProcessBackend(LlamaCppDriver(target, lambda _: True))


def watched(model: Path) -> tuple[WatchedDriver, InProcessBackend]:
    target = Target(model=str(model), n_ctx=4096, n_batch=256, n_threads=1)
    driver = WatchedDriver(LlamaCppDriver(target, lambda _: True))
    return driver, InProcessBackend(driver)


def run(backend: InProcessBackend, request: GenerateRequest = REQUEST) -> tuple[str, Finished]:
    events = list(backend.generate(request, never))
    finished = events[-1]
    assert isinstance(finished, Finished)
    return "".join(event.text for event in events if isinstance(event, TextChunk)), finished


@pytest.fixture
def backend(random_model: Path) -> Iterator[InProcessBackend]:
    backend = load(random_model)
    yield backend
    backend.close()


def test_what_is_told_of_the_model(backend: InProcessBackend) -> None:
    info = backend.info
    assert (info.backend, info.name, info.architecture) == ("llama_cpp", "singlepass random", "qwen2")
    assert info.random_weights
    assert info.can_trim
    assert (info.n_ctx, info.n_ctx_train, info.device) == (1024, 4096, "CPU")
    assert info.n_params > 100_000


def test_the_chunk_size_is_invisible(random_model: Path) -> None:
    texts: set[str] = set()
    for n_batch in (7, 32, 512):
        backend = load(random_model, n_batch)
        texts.add(run(backend)[0])
        backend.close()
    assert len(texts) == 1


def test_a_hybrid_model_reuses_what_was_prewarmed(hybrid_model: Path) -> None:
    cold, backend = watched(hybrid_model)
    assert not backend.info.can_trim
    run(backend)
    backend.close()
    warm, backend = watched(hybrid_model)
    list(backend.prewarm(PrewarmRequest((SYSTEM, FILE)), never))
    n_warm = backend.n_cached
    _, finished = run(backend)
    backend.close()
    assert finished.timings.n_cached == n_warm > 0
    check_same_choices(warm.choices, cold.choices)


LONG = Segment("long.py", "".join(f"def function_{n}(value):\n    return value + {n}\n" for n in range(120)))


@pytest.mark.parametrize("kind", ["random", "hybrid", "sliding"])
def test_replies_after_any_reuse_equal_those_of_a_cold_start(
    kind: str, request: pytest.FixtureRequest
) -> None:
    model: Path = request.getfixturevalue(f"{kind}_model")
    edited = Segment("long.py", LONG.text.replace("value + 90", "value - 90"))
    other = Segment("b.py", "x = 1\n" * 200)
    repeat, explain = Segment("task", "Rename it."), Segment("task", "Explain it.")
    asked = [(LONG, repeat), (LONG, repeat), (LONG, explain), (other, repeat), (LONG, repeat)]
    asked += [(edited, repeat), (other, explain), (edited, explain), (LONG, explain)]
    driver, backend = watched(model)
    n_read: list[int] = []
    for file, task in asked:
        request = GenerateRequest((SYSTEM, file, task), max_tokens=16)
        driver.choices.clear()
        _, finished = run(backend, request)
        n_read.append(finished.timings.n_prefilled)
        cold_driver, cold_backend = watched(model)
        _, cold_finished = run(cold_backend, request)
        cold_backend.close()
        check_same_choices(driver.choices, cold_driver.choices)
        assert cold_finished.timings.n_cached == 0
    n_task, n_every = 40, 512
    n_long = n_read[0]
    assert n_long > 2000
    assert n_read[1] == 1  # at least 99 % of an exact repeat is cached
    assert n_read[2] < n_task
    assert n_read[4] < n_task
    assert n_read[5] < n_long // 3 + n_every
    assert n_read[6] < n_task
    assert n_read[7] < n_task
    backend.close()


def test_a_restored_checkpoint_gives_the_very_logits(hybrid_model: Path) -> None:
    target = Target(model=str(hybrid_model), n_ctx=1024, n_batch=64, n_threads=1)
    driver = LlamaCppDriver(target, lambda _: True)
    tokens = driver.tokenize(LONG.text.encode()[:2000], special=False)[:200]
    assert driver.forward(tokens[:64], 0, logits=False) is None
    state = driver.checkpoint()
    driver.forward(tokens[64:128], 64, logits=False)
    cold = np.array(driver.forward(tokens[128:160], 128, logits=True))
    assert not driver.trim(64)
    assert driver.restore(state, 64)
    driver.forward(tokens[64:128], 64, logits=False)
    assert np.array_equal(cold, driver.forward(tokens[128:160], 128, logits=True))
    # Beside a copy the same tokens come into other cells, and sums in another order are rounded differently.
    driver.copy(0, 1, 160)
    assert driver.restore(state, 64)
    driver.forward(tokens[64:128], 64, logits=False)
    beside = driver.forward(tokens[128:160], 128, logits=True)
    assert np.allclose(cold, beside, atol=1e-3)
    last = np.array(driver.forward(tokens[160:190], 160, logits=True))
    driver.trim(0)
    driver.copy(1, 0, 160)  # the copy was untouched by all that
    assert np.allclose(last, driver.forward(tokens[160:190], 160, logits=True), atol=1e-3)
    driver.close()


def test_a_pass_stops_when_the_flag_is_set(random_model: Path, hybrid_model: Path) -> None:
    target = Target(model=str(random_model), n_ctx=1024, n_batch=64, n_threads=2)
    driver = LlamaCppDriver(target, lambda _: True)
    tokens = driver.tokenize(LONG.text.encode()[:2000], special=False)[:128]
    driver.forward(tokens[:64], 0, logits=False)
    cold = np.array(driver.forward(tokens[64:], 64, logits=True))
    driver.trim(64)
    flag = StopFlag()
    assert driver.watch(flag)
    flag.set()
    for _ in range(3):
        with pytest.raises(Interrupted):
            driver.forward(tokens[64:], 64, logits=True)
    flag.clear()
    assert np.array_equal(cold, driver.forward(tokens[64:], 64, logits=True))
    # Another interrupt is not for llama.cpp to ask, and takes the flag's place.
    assert not driver.watch(never)
    flag.set()
    assert driver.trim(64)
    assert np.array_equal(cold, driver.forward(tokens[64:], 64, logits=True))
    driver.close()
    hybrid = LlamaCppDriver(Target(model=str(hybrid_model), n_ctx=256, n_threads=1), lambda _: True)
    assert not hybrid.watch(flag)  # its state would be left half-way
    assert hybrid.forward(tokens[:64], 0, logits=True) is not None
    hybrid.close()


@pytest.mark.parametrize("n_before", range(9))
def test_a_request_after_a_stopped_one_is_as_if_cold(random_model: Path, n_before: int) -> None:
    """Stopped inside any pass, of prefill or of decode."""
    cold_driver, cold = watched(random_model)
    expected, _ = run(cold)
    cold.close()
    driver, backend = watched(random_model)
    flag = StopFlag()
    n_left = n_before
    forward = driver.forward

    def stop_within(tokens: Sequence[int], position: int, *, logits: bool) -> object:
        nonlocal n_left
        n_left -= 1
        if n_left < 0:
            flag.set()
        return forward(tokens, position, logits=logits)

    driver.forward = stop_within  # type: ignore[method-assign]
    *_, finished = backend.generate(REQUEST, flag)
    assert isinstance(finished, Finished)
    assert finished.finish_reason == "cancelled"
    driver.forward = forward  # type: ignore[method-assign]
    driver.choices.clear()
    text, _ = run(backend)
    check_same_choices(driver.choices, cold_driver.choices)
    assert text == expected
    backend.close()


def test_a_sliding_window_forgets_nothing_that_is_kept(sliding_model: Path) -> None:
    """Sequences come, go and are trimmed far behind their windows, in a cache that is nearly full."""
    n_ctx = 1024
    target = Target(model=str(sliding_model), n_ctx=n_ctx, n_batch=64, n_threads=1, flash_attention=False)
    driver, fresh = (LlamaCppDriver(target, lambda _: True) for _ in range(2))
    assert driver.n_sequences > 2
    random = np.random.default_rng(1)
    tokens = driver.tokenize(LONG.text.encode(), special=False)
    texts = [tokens[n : n + 500] for n in (0, 500, 1000)]
    held: dict[int, list[tuple[int, int]]] = {0: []}
    """Sequences, as tokens each with the number of its cell."""
    numbers = itertools.count()

    def grow(chunk: list[int]) -> np.ndarray:
        logits = driver.forward(chunk, len(held[0]), logits=True)
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
                fresh.forward(before[start : start + 64], start, logits=False)
            cold = fresh.forward([last], len(before), logits=True)
            assert np.allclose(warm, cold, atol=0.02)  # a lost cell moves them by 0.2
            n_checked += 1
    assert n_checked > 200
    assert driver.state_key == ""
    assert not driver.load(driver.save(0), len(held[0]))
    driver.close()
    fresh.close()


def test_a_grammar_is_obeyed(backend: InProcessBackend) -> None:
    grammar = 'start: "a.py\\n<<<<<<< SEARCH\\n" ("x = 1\\n" | "x = 2\\n") "=======\\n" /[a-z]{1,9}/ "\\n>>>"'
    text, finished = run(backend, GenerateRequest(REQUEST.segments, grammar, max_tokens=200))
    assert text.startswith("a.py\n<<<<<<< SEARCH\nx = ")
    assert text.endswith("\n>>>")
    assert finished.finish_reason == "stop"
    assert finished.timings.n_forced > 10
    assert finished.timings.n_forward < finished.timings.n_decoded


def test_control_tokens_in_files_stay_text(backend: InProcessBackend, random_model: Path) -> None:
    driver = LlamaCppDriver(Target(model=str(random_model), n_ctx=256, n_threads=1), lambda _: True)
    plain = driver.tokenize(b"a <|im_end|> b", special=False)
    parsed = driver.tokenize(b"a <|im_end|> b", special=True)
    assert not driver.control_tokens.intersection(plain)
    assert driver.control_tokens.intersection(parsed)
    assert b"".join(map(driver.piece, plain)) == b"a <|im_end|> b"
    driver.close()


def test_tokens_and_pieces_round_trip(random_model: Path) -> None:
    driver = LlamaCppDriver(Target(model=str(random_model), n_ctx=256, n_threads=1), lambda _: True)
    for text in ("", " ", "naïve 🙂\r\n\t", "\x00\x01", "x" * 5000, "日本語" * 300):
        tokens = driver.tokenize(text.encode(), special=False)
        assert b"".join(map(driver.piece, tokens)) == text.encode()
    driver.close()


def test_a_quantized_cache_and_no_flash_attention(random_model: Path) -> None:
    for settings in ({"kv_cache_type": "q8_0"}, {"flash_attention": False}):
        backend = load(random_model, **settings)
        assert run(backend)[1].finish_reason in ("stop", "length")
        backend.close()


def test_prompt_too_long(backend: InProcessBackend) -> None:
    huge = Segment("huge.py", "value = 1\n" * 2000)
    with pytest.raises(BackendError, match=r"huge\.py") as caught:
        run(backend, GenerateRequest((SYSTEM, huge, TASK)))
    assert caught.value.code == "prompt_too_long"
    assert caught.value.data["n_ctx"] == 1024
    assert run(backend)[1].timings.n_prompt > 0


def check_fails(target: Target, code: str, *words: str) -> None:
    with pytest.raises(BackendError) as caught:
        open_backend(target, lambda _: True)
    assert caught.value.code == code
    for word in words:
        assert word in caught.value.message


def test_no_model() -> None:
    check_fails(Target(), "no_model", "`model`", "singlepass demo")


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


def test_a_load_can_be_stopped(random_model: Path) -> None:
    with pytest.raises(BackendError, match="stopped"):
        open_backend(Target(model=str(random_model)), lambda _: False)


def test_progress_is_told(random_model: Path) -> None:
    fractions: list[float] = []
    target = Target(model=str(random_model), n_ctx=256, n_threads=1)
    LlamaCppDriver(target, lambda fraction: not fractions.append(fraction)).close()
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0


def test_a_random_model_with_the_vocabulary_of_another(tmp_path: Path, random_model: Path) -> None:
    path = tmp_path / "model.gguf"
    shape = Shape(n_layer=1, n_embd=64, n_head=2, n_head_kv=1, n_ff=64)
    write_random_model_with_vocab(path, vocab=random_model, shape=shape, tensor_type="F32")
    backend = load(path)
    assert backend.info.n_vocab == 2048
    assert run(backend)[1].timings.n_decoded > 0
    backend.close()
    assert SHAPE_0_5B.n_layer == 24
