"""What every runtime does, through the one loop: with real llama.cpp and real MLX, on random models."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fake_driver import WatchedDriver, check_same_choices
from runtimes import FILE, LONG, REQUEST, SYSTEM, TASK, Kind, Runtime, check_fails, check_reuse, never, run
from singlepass_backends.base import BackendError, Draft, Finished, GenerateRequest, PrewarmRequest, Segment
from singlepass_backends.generation.loop import InProcessBackend
from singlepass_backends.opening import open_backend
from unlimited import Unlimited


@pytest.fixture
def backend(runtime: Runtime) -> Iterator[InProcessBackend]:
    backend = runtime.open()
    yield backend
    backend.close()


def test_what_is_told_of_the_model(backend: InProcessBackend, runtime: Runtime) -> None:
    info = backend.info
    assert (info.backend, info.name, info.architecture) == (runtime.backend, "singlepass random", "qwen2")
    assert info.random_weights
    assert info.can_trim
    assert (info.n_ctx, info.n_ctx_train, info.n_vocab, info.device) == (1024, 4096, 2048, "CPU")
    assert info.n_params > 100_000


def test_the_chunk_size_is_invisible(runtime: Runtime) -> None:
    texts: set[str] = set()
    for n_batch in (7, 32, 512):
        backend = runtime.open(runtime.target(n_batch=n_batch))
        texts.add(run(backend, REQUEST)[0])
        backend.close()
    assert len(texts) == 1


def test_a_hybrid_model_reuses_what_was_prewarmed(runtime: Runtime) -> None:
    target = runtime.target("hybrid")
    cold, backend = runtime.watched(target)
    assert not backend.info.can_trim
    run(backend, REQUEST)
    backend.close()
    warm, backend = runtime.watched(target)
    list(backend.prewarm(PrewarmRequest((SYSTEM, FILE)), never))
    n_warm = backend.n_cached
    _, finished = run(backend, REQUEST)
    backend.close()
    assert finished.timings.n_cached == n_warm > 0
    check_same_choices(warm.choices, cold.choices)


@pytest.mark.parametrize("kind", ["attention", "hybrid"])
def test_replies_after_any_reuse_equal_those_of_a_cold_start(runtime: Runtime, kind: Kind) -> None:
    check_reuse(runtime, kind)


def test_a_restored_checkpoint_gives_the_very_logits(runtime: Runtime) -> None:
    driver = runtime.driver(runtime.target("hybrid"))
    tokens = driver.tokenize(LONG.text.encode()[:2000], special=False)[:200]
    assert driver.forward(tokens[:64], 0, n_logits=0) is None
    state = driver.checkpoint()
    driver.forward(tokens[64:128], 64, n_logits=0)
    cold = np.array(driver.forward(tokens[128:160], 128, n_logits=1))
    assert not driver.trim(64)
    assert driver.restore(state, 64)
    driver.forward(tokens[64:128], 64, n_logits=0)
    assert np.array_equal(cold, driver.forward(tokens[128:160], 128, n_logits=1))
    # Beside a copy the same tokens may come into other cells, and sums in another order are rounded
    # differently.
    driver.copy(0, 1, 160)
    assert driver.restore(state, 64)
    driver.forward(tokens[64:128], 64, n_logits=0)
    beside = driver.forward(tokens[128:160], 128, n_logits=1)
    assert np.allclose(cold, beside, atol=1e-3)
    last = np.array(driver.forward(tokens[160:190], 160, n_logits=1))
    driver.trim(0)
    driver.copy(1, 0, 160)  # the copy was untouched by all that
    assert np.allclose(last, driver.forward(tokens[160:190], 160, n_logits=1), atol=1e-3)
    driver.close()


def test_each_row_of_logits_is_that_of_its_token(runtime: Runtime) -> None:
    driver = runtime.driver(runtime.target(n_batch=512))
    tokens = driver.tokenize(LONG.text.encode(), special=False)[:80]
    driver.forward(tokens[:40], 0, n_logits=0)
    singly = [np.array(driver.forward([token], 40 + n, n_logits=1))[0] for n, token in enumerate(tokens[40:])]
    for n_before, n_rows in ((0, 39), (3, 5), (30, 2), (39, 1)):
        assert driver.trim(40 + n_before)
        rows = driver.forward(tokens[40 + n_before :], 40 + n_before, n_logits=n_rows)
        assert rows is not None
        assert rows.shape == (n_rows, driver.n_vocab)
        assert np.allclose(rows, singly[-n_rows:], atol=0.1)
        assert not np.allclose(rows[0], singly[-n_rows - 1], atol=0.1), "rows differ by more than noise"
    driver.close()


DRAFTED = "".join(f"item_{n} = load('item_{n}')\n" for n in range(40))


def test_a_reply_with_drafts_is_that_without(runtime: Runtime) -> None:
    """But for ties within the noise between passes of one token and of several."""
    said: list[list[tuple[int, float]]] = []
    for draft in (None, Draft("item_0 = load", "a", "b", "c")):
        driver = WatchedDriver(runtime.driver(runtime.target(n_batch=512)))
        backend = InProcessBackend(driver, pace=Unlimited())
        request = GenerateRequest((Segment("f", DRAFTED),), max_tokens=60, draft=draft)
        *_, finished = backend.generate(request, lambda: False)
        assert isinstance(finished, Finished)
        assert (finished.timings.n_drafted > 0) == (draft is not None)
        said.append(driver.said)
        backend.close()
    check_same_choices(said[1][:60], said[0][:60])  # a drafted last token is in the cache, a sampled one not


TREE = (-1, 0, 0, 1, -1, 4, 2, 6, 5)
"""Parents: three levels, two roots, four ends."""


@pytest.mark.parametrize("right", [(), (0,), (0, 1, 3), (0, 2, 6, 7), (4, 5, 8)])
def test_each_way_down_a_tree_is_as_if_it_were_alone(runtime: Runtime, right: tuple[int, ...]) -> None:
    driver = runtime.driver(runtime.target(n_batch=512))
    if driver.n_branches == 1:
        pytest.skip("the runtime takes no trees")
    text = driver.tokenize(LONG.text.encode(), special=False)[:80]
    first, tree, after = text[60:63], text[63 : 63 + len(TREE)], text[75:80]

    def alone(tokens: list[int]) -> np.ndarray:
        driver.trim(60)
        rows = driver.forward(tokens, 60, n_logits=len(tokens))
        assert rows is not None
        return np.array(rows)

    def path(node: int) -> list[int]:
        return [] if node < 0 else [*path(TREE[node]), tree[node]]

    driver.forward(text[:60], 0, n_logits=0)
    expected = [alone([*first, *path(node)])[-1] for node in range(-1, len(TREE))]
    kept = [tree[node] for node in right]
    then = alone([*first, *kept, *after])[-len(after) :]
    for _ in range(2):  # a second tree on what the first left
        driver.trim(60)
        rows = np.array(driver.branch([*first, *tree], 60, TREE))
        assert np.allclose(rows, expected, atol=0.1)
        driver.keep(63, right)
        assert np.allclose(driver.forward(after, 63 + len(right), n_logits=len(after)), then, atol=0.1)
    driver.copy(0, 1, 60)
    driver.trim(0)
    driver.copy(1, 0, 60)
    driver.branch([*first, *tree], 60, TREE)
    driver.keep(63, right)
    assert np.allclose(driver.forward(after, 63 + len(right), n_logits=len(after)), then, atol=0.1)
    driver.close()


def test_kept_sequences_do_not_touch_each_other(runtime: Runtime) -> None:
    """Copied, cut and continued in any order, across the sizes of whatever the runtime allocates at once."""
    driver = runtime.driver(runtime.target(n_batch=512, n_ctx=4096))
    tokens = driver.tokenize(LONG.text.encode(), special=False)[:1400]
    turned = tokens[::-1]

    def put(tokens: list[int], start: int) -> None:
        for at in range(start, len(tokens), 512):
            driver.forward(tokens[at : at + 512], at, n_logits=0)

    def after(n: int) -> np.ndarray:
        logits = np.array(driver.forward(tokens[n : n + 8], n, n_logits=1))
        assert driver.trim(n)
        return logits

    cold: dict[int, np.ndarray] = {}
    for n in (300, 512, 700, 1024, 1300):
        driver.clear()
        put(tokens[:n], 0)
        cold[n] = after(n)
    driver.copy(0, 1, 1300)
    driver.copy(0, 2, 700)
    assert driver.trim(512)
    put([*tokens[:512], *turned[:700]], 512)  # other tokens in the place of those that were kept
    driver.copy(0, 3, 600)
    for source, n in ((1, 1300), (2, 700), (1, 1024), (3, 512), (2, 300), (1, 700)):
        driver.trim(0)
        driver.copy(source, 0, n)
        assert np.allclose(after(n), cold[n], atol=1e-3), (source, n)
        put([*tokens[:n], *turned[:40]], n)
    assert driver.trim(1024, 1)
    assert driver.trim(0, 2)
    state = bytes(driver.save(1))
    driver.trim(0)
    driver.trim(0, 1)
    assert driver.load(state, 1024)
    assert np.allclose(after(1024), cold[1024], atol=1e-3)
    driver.close()


def test_a_grammar_is_obeyed(backend: InProcessBackend) -> None:
    grammar = 'start: "a.py\\n<<<<<<< SEARCH\\n" ("x = 1\\n" | "x = 2\\n") "=======\\n" /[a-z]{1,9}/ "\\n>>>"'
    text, finished = run(backend, GenerateRequest(REQUEST.segments, grammar, max_tokens=200))
    assert text.startswith("a.py\n<<<<<<< SEARCH\nx = ")
    assert text.endswith("\n>>>")
    assert finished.finish_reason == "stop"
    assert finished.timings.n_forced > 10
    assert finished.timings.n_forward < finished.timings.n_decoded


def test_control_tokens_in_files_stay_text(runtime: Runtime) -> None:
    driver = runtime.driver()
    plain = driver.tokenize(b"a <|im_end|> b", special=False)
    parsed = driver.tokenize(b"a <|im_end|> b", special=True)
    assert not driver.control_tokens.intersection(plain)
    assert driver.control_tokens.intersection(parsed)
    assert b"".join(map(driver.piece, plain)) == b"a <|im_end|> b"
    assert {driver.piece(token) for token in driver.control_tokens} == {b""}
    driver.close()


def test_tokens_and_pieces_round_trip(runtime: Runtime) -> None:
    driver = runtime.driver()
    for text in ("", " ", "naïve e\u0301 🙂\r\n\t", "\x00\x01", "x" * 5000, "日本語" * 300):
        tokens = driver.tokenize(text.encode(), special=False)
        assert b"".join(map(driver.piece, tokens)) == text.encode()
    driver.close()


@pytest.mark.parametrize("kv_cache_type", ["q8_0", "q4_0"])
@pytest.mark.parametrize("kind", ["attention", "hybrid"])
def test_a_quantized_cache(runtime: Runtime, kind: Kind, kv_cache_type: str) -> None:
    driver, backend = runtime.watched(runtime.target(kind, kv_cache_type=kv_cache_type))
    run(backend, REQUEST)
    cold = list(driver.choices)
    driver.choices.clear()
    _, finished = run(backend, REQUEST)
    assert finished.timings.n_prefilled == 1
    assert len(driver.choices) == len(cold)
    run(backend, GenerateRequest((SYSTEM, Segment("b.py", "x = 1\n" * 90), TASK), max_tokens=4))
    assert run(backend, REQUEST)[1].timings.n_cached > 100  # from a kept sequence
    backend.close()


def test_prompt_too_long(backend: InProcessBackend) -> None:
    huge = Segment("huge.py", "value = 1\n" * 2000)
    with pytest.raises(BackendError, match=r"huge\.py") as caught:
        run(backend, GenerateRequest((SYSTEM, huge, TASK)))
    assert caught.value.code == "prompt_too_long"
    assert caught.value.data["n_ctx"] == 1024
    assert run(backend, REQUEST)[1].timings.n_prompt > 0


def test_no_model(runtime: Runtime) -> None:
    check_fails(runtime.target(model=""), "no_model", "`model`", "singlepass demo")


def test_a_load_can_be_stopped(runtime: Runtime) -> None:
    with pytest.raises(BackendError, match="stopped"):
        open_backend(runtime.target(), lambda _: False)


def test_progress_is_told(runtime: Runtime) -> None:
    fractions: list[float] = []
    open_backend(runtime.target(), lambda fraction: not fractions.append(fraction)).close()
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0


NEARLY_EQUAL = 0.01
"""The lead of the best token over the second, in logits: llama.cpp keeps keys and values in 16 bits, and
multiplies in other pieces."""


@pytest.mark.parametrize("kind", ["attention", "hybrid"])
def test_the_same_weights_say_the_same_in_both_runtimes(llama_cpp: Runtime, mlx: Runtime, kind: Kind) -> None:
    """Greedy; where the replies part, the two best tokens are nearly equal. How often that happens depends on
    the weights, whose vocabulary is that of our sources: 4 to 6 of 100 prompts were seen."""
    choices: dict[str, list[list[tuple[int, float]]]] = {}
    for runtime in (llama_cpp, mlx):
        driver, _ = runtime.watched(runtime.target(kind, n_batch=512))
        tokens = driver.tokenize(Path(__file__).read_bytes(), special=False)
        recorded = choices[runtime.backend] = []
        for n in range(100):
            prompt = tokens[7 * n : 8 * n + 40]
            driver.clear()
            driver.choices.clear()
            driver.forward(prompt, 0, n_logits=1)
            for position in range(len(prompt), len(prompt) + 15):
                driver.forward([driver.choices[-1][0]], position, n_logits=1)
            recorded.append(list(driver.choices))
        driver.close()
    n_equal = 0
    for ours, theirs in zip(choices["mlx"], choices["llama_cpp"], strict=True):
        pairs = zip(ours, theirs, strict=True)
        parting = next((lead for (token, lead), (other, _) in pairs if token != other), None)
        n_equal += parting is None
        assert parting is None or parting < NEARLY_EQUAL
    assert n_equal >= 90
    # The replies differ from each other, and few choices are as near as that.
    assert len({tuple(token for token, _ in one) for one in choices["mlx"]}) > 30
    assert np.quantile([lead for one in choices["mlx"] for _, lead in one], 0.05) > NEARLY_EQUAL
