"""A draft model: the same replies in fewer passes, both models' passes counted, and when it is asked."""

from collections.abc import Callable
from pathlib import Path

import machines as m
import msgspec
import pytest
from fake_driver import FakeDriver, WatchedDriver, check_same_choices
from hypothesis import given
from hypothesis import strategies as st
from runtimes import Runtime, check_fails
from singlepass_backends.base import (
    BackendError,
    Draft,
    Finished,
    GenerateRequest,
    PrewarmRequest,
    Sampling,
    Segment,
    Target,
    TextChunk,
)
from singlepass_backends.generation.drafting.draft_model import check_pair
from singlepass_backends.generation.drafting.pace import Costs, Pace, Unlimited
from singlepass_backends.generation.loop import InProcessBackend
from singlepass_backends.machine.fit import choose
from singlepass_backends.opening import check_target, open_backend
from singlepass_backends.testing.random_model import Shape, write_random_model

FILE, TASK = Segment("a.py", "value = 1\n"), Segment("task", "Fix.")
NOTHING = Draft("", "<", "=", ">")
REPLY = bytes(range(1, 21))
"""Nothing of it stands in the prompt, so the document gives no guess."""


def request(**more: object) -> GenerateRequest:
    return GenerateRequest(**{"segments": (FILE, TASK), "draft": NOTHING, "max_tokens": 60, **more})


def run(
    backend: InProcessBackend, asked: GenerateRequest, interrupt: Callable[[], bool] = lambda: False
) -> tuple[str, Finished]:
    *events, finished = backend.generate(asked, interrupt)
    assert isinstance(finished, Finished)
    return "".join(event.text for event in events if isinstance(event, TextChunk)), finished


def pair(main: FakeDriver, draft: FakeDriver, pace: Pace | None = None) -> InProcessBackend:
    return InProcessBackend(main, pace=pace or Unlimited(), draft=draft)


def test_the_passes_of_both_models_are_counted() -> None:
    main, draft = FakeDriver(reply=REPLY, n_batch=64), FakeDriver(reply=REPLY, n_batch=64)
    text, finished = run(pair(main, draft), request())
    timings = finished.timings
    assert text == REPLY.decode()
    # The prompt gives the first token; one pass verifies the 19 others, and the end after them.
    assert (timings.n_decoded, timings.n_forward) == (20, 1)
    assert timings.n_accepted == 19
    assert main.passes[-1] == (20, True)
    # The draft model reads the prompt and the first token, then each token that it guessed.
    n_read = timings.n_prompt + 1
    chunks = [64] * (n_read // 64) + [n_read % 64]
    assert [n for n, _ in draft.passes] == [*chunks, *[1] * 19]
    assert draft.cells == main.cells


def test_what_is_in_step_is_not_read_again_and_what_was_wrong_is_forgotten() -> None:
    main, draft = (
        FakeDriver(reply=REPLY, n_batch=96),
        FakeDriver(reply=REPLY[:9] + b"\xf0\xf1" * 9, n_batch=96),
    )
    backend = pair(main, draft)
    assert run(backend, request())[0] == REPLY.decode()
    n_read = sum(n for n, _ in draft.passes)
    other = request(segments=(FILE, Segment("task", "Why?")))
    n_prompt = run(backend, other)[1].timings.n_prompt
    n_again = sum(n for n, _ in draft.passes) - n_read
    assert n_again <= len("Why?#\n#assistant\n") + n_read - n_prompt + 8, "the file is not read again"
    assert draft.cells[:n_prompt] == main.cells[:n_prompt]


def test_a_prewarm_is_read_by_the_draft_model_too() -> None:
    main, draft = FakeDriver(reply=REPLY, n_batch=96), FakeDriver(reply=REPLY, n_batch=96)
    backend = pair(main, draft)
    list(backend.prewarm(PrewarmRequest((FILE,)), lambda: False))
    assert draft.cells == main.cells
    n_ahead = len(draft.passes)
    run(backend, request())
    n_new = len(TASK.text + "#\n#assistant\n") + 1
    assert draft.passes[n_ahead][0] <= n_new


def test_an_interrupted_prewarm_leaves_the_draft_model_behind() -> None:
    main, draft = FakeDriver(n_batch=96), FakeDriver(n_batch=96)
    backend = pair(main, draft)
    list(backend.prewarm(PrewarmRequest((FILE,)), lambda: len(main.passes) > 0))
    assert draft.passes == []
    assert run(backend, request())[0] == run(InProcessBackend(FakeDriver()), request(draft=None))[0]


@given(
    reply=st.binary(max_size=30),
    guess=st.binary(max_size=30),
    n_right=st.integers(0, 30),
    max_tokens=st.integers(1, 30),
    n_batch=st.integers(2, 40),
    n_ctx=st.sampled_from([80, 4096]),
)
def test_a_draft_model_changes_no_reply(
    reply: bytes, guess: bytes, n_right: int, max_tokens: int, n_batch: int, n_ctx: int
) -> None:
    """Right at first and then wrong, and wherever a limit cuts the reply, or the draft model's cache, off."""
    asked = request(max_tokens=max_tokens)
    plain, one = run(InProcessBackend(FakeDriver(reply=reply)), request(draft=None, max_tokens=max_tokens))
    main = FakeDriver(reply=reply, n_batch=n_batch)
    draft = FakeDriver(reply=reply[:n_right] + guess, n_batch=n_batch, n_ctx=n_ctx)
    backend = pair(main, draft)
    for _ in range(2):
        text, finished = run(backend, asked)
        assert text == plain
        assert finished.finish_reason == one.finish_reason
        assert finished.timings.n_decoded == one.timings.n_decoded
        assert finished.timings.n_forward <= one.timings.n_forward
        said = main.cells[finished.timings.n_prompt :]
        assert bytes(said) == reply[: len(said)], "nothing wrong stays in the cache"


@given(st.integers(0, 1000), st.booleans())
def test_a_draft_model_changes_no_sampled_reply(seed: int, constrained: bool) -> None:
    grammar = "start: /([a-k][a-k])*/ /[l-z]{20}/" if constrained else None
    more = {"sampling": Sampling(temperature=1.0, seed=seed), "grammar": grammar, "max_tokens": 30}
    plain = run(InProcessBackend(FakeDriver()), request(draft=None, **more))[0]
    assert run(pair(FakeDriver(), FakeDriver()), request(**more))[0] == plain


@pytest.mark.parametrize("n", range(9))
def test_a_reply_with_a_draft_model_is_cancelled_at_any_point(n: int) -> None:
    backend = pair(FakeDriver(reply=REPLY, n_batch=96), FakeDriver(reply=REPLY[:7], n_batch=96))
    answers = iter([False] * n)
    cut, _ = run(backend, request(), lambda: next(answers, True))
    assert REPLY.decode().startswith(cut)
    assert run(backend, request())[0] == REPLY.decode()


def test_only_what_the_grammar_admits_is_guessed() -> None:
    main, draft = FakeDriver(reply=b"\x01\x02\x01", n_batch=96), FakeDriver(reply=b"\x01\x02\x03", n_batch=96)
    text, _ = run(pair(main, draft), request(grammar=r"start: /[\x01\x02]{3}/"))
    assert text == "\x01\x02\x01"
    assert 3 not in main.seen


def test_what_the_document_says_comes_first() -> None:
    main, draft = FakeDriver(reply=b"value = 1\n", n_batch=96), FakeDriver(reply=b"value = 1\n", n_batch=96)
    text, finished = run(pair(main, draft), request(draft=Draft("value = 1\n", "<", "=", ">")))
    assert text == "value = 1\n"
    assert finished.timings.n_forward == 0, "all of it came with the prompt"
    assert draft.passes == []


def test_without_a_request_for_drafts_the_model_is_not_asked() -> None:
    draft = FakeDriver(reply=REPLY, n_batch=64)
    assert run(pair(FakeDriver(reply=REPLY), draft), request(draft=None))[0] == REPLY.decode()
    assert draft.passes == []


def test_a_draft_model_that_fails_costs_only_its_guesses() -> None:
    main, draft = FakeDriver(reply=REPLY, n_batch=64), FakeDriver(reply=REPLY, n_batch=64)
    draft.error = BackendError("out_of_memory", "the device is full")
    backend = pair(main, draft)
    for _ in range(2):
        assert run(backend, request())[0] == REPLY.decode()
    assert len(draft.passes) == 1


def test_closing_frees_both() -> None:
    main, draft = FakeDriver(), FakeDriver()
    pair(main, draft).close()
    assert main.is_closed
    assert draft.is_closed


# When it pays.


def costs(one: float) -> Costs:
    """Passes that take a tenth more for each further token."""
    known = Costs(0.1)
    for n in (1, 2, 4, 8, 16, 32, 64):
        known.learn(n, one * (1 + 0.1 * (n - 1)))
    return known


def pace() -> Pace:
    known = Pace(0.1)
    for n in (1, 2, 4, 8, 16, 32, 64):
        known.learn_pass(n, 0.1 * (1 + 0.1 * (n - 1)))
    return known


def test_a_draft_model_is_asked_where_its_own_passes_are_short() -> None:
    assert pace().n_from_model(1, 30, 1, costs(0.002), ()) > 3
    assert pace().n_from_model(1, 30, 1, costs(0.02), ()) <= pace().n_from_model(1, 30, 1, costs(0.002), ())
    assert pace().n_from_model(1, 30, 1, costs(0.1), ()) == 0


def test_what_it_has_to_read_before_counts() -> None:
    assert pace().n_from_model(1, 30, 500, costs(0.002), ()) > 0
    assert pace().n_from_model(1, 30, 50_000, costs(0.002), ()) == 0


def test_a_better_guess_from_the_document_is_kept() -> None:
    assert pace().n_from_model(1, 30, 1, costs(0.004), [0.98**n for n in range(20)]) == 0
    assert pace().n_from_model(1, 30, 1, costs(0.004), [0.1, 0.05]) > 0


def test_a_draft_model_that_is_wrong_is_asked_no_more_and_again_some_time() -> None:
    known = pace()
    for _ in range(300):
        known.learn_guess("model", "first", False)
    asked = [known.n_from_model(1, 30, 1, costs(0.004), ()) for _ in range(3000)]
    assert asked[0] == 0
    assert any(asked)


# Which two go together, and with real runtimes.


class Other(FakeDriver):
    def piece(self, token: int) -> bytes:
        return b"?" if token == 65 else super().piece(token)


class Padded(FakeDriver):
    def __init__(self) -> None:
        super().__init__()
        self.n_vocab += 64


def test_a_pair_has_the_same_tokens() -> None:
    check_pair(FakeDriver(), FakeDriver())
    check_pair(FakeDriver(), Padded())
    check_pair(Padded(), FakeDriver())
    for main, draft, words in (
        (FakeDriver(), Other(), "another vocabulary than fake .they part at token 65"),
        (FakeDriver(), FakeDriver(can_trim=False), "draft model fake is hybrid"),
        (FakeDriver(can_trim=False), FakeDriver(), "fake is hybrid or recurrent"),
    ):
        with pytest.raises(BackendError, match=words) as caught:
            check_pair(main, draft)
        assert caught.value.code == "unsupported"


@pytest.fixture(scope="session")
def other_words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "words.gguf"
    write_random_model(path, corpus=["other words than those of the model " * 9], shape=Shape(n_layer=1))
    return path


def test_a_pair_that_does_not_match_is_an_error_when_loading(random_model: Path, other_words: Path) -> None:
    target = Target(model=str(random_model), draft_model=str(other_words), n_ctx=512)
    check_fails(target, "unsupported", str(other_words), "another vocabulary", "`draft_model`")
    missing = Target(model=str(random_model), draft_model="/nowhere/draft.gguf")
    check_fails(missing, "model_missing", "/nowhere/draft.gguf", "`draft_model`")
    with pytest.raises(BackendError, match="`draft_model` is for models that run here"):
        check_target(Target(backend="openai_compatible", url="http://localhost", draft_model="a"))


def test_a_pair_is_loaded(random_model: Path) -> None:
    fractions: list[float] = []
    target = Target(model=str(random_model), draft_model=str(random_model), n_ctx=512)
    backend = open_backend(target, lambda fraction: not fractions.append(fraction))
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert run(backend, request(max_tokens=4))[1].timings.n_decoded == 4
    backend.close()


def test_a_real_pair_says_what_the_model_alone_says(runtime: Runtime) -> None:
    """The model drafts for itself: all but near-ties is right."""
    said: list[list[tuple[int, float]]] = []
    for with_draft in (False, True):
        driver = WatchedDriver(runtime.driver(runtime.target(n_batch=512)))
        draft = runtime.driver(runtime.target(n_batch=512)) if with_draft else None
        backend = InProcessBackend(driver, pace=Unlimited(), draft=draft)
        _, finished = run(backend, request(draft=NOTHING if with_draft else None))
        if with_draft:
            # How often random weights come near a tie follows from their vocabulary.
            assert finished.timings.n_accepted > 20
            assert finished.timings.n_forward < finished.timings.n_decoded - 20
        said.append(driver.said)
        backend.close()
    check_same_choices(said[1][:60], said[0][:60])


# Memory.


def test_the_draft_models_memory_is_counted() -> None:
    alone = choose(m.RTX_3060, m.QWEN_14B, Target())
    both = choose(m.RTX_3060, m.QWEN_14B, Target(draft_model="small.gguf"), m.QWEN_7B)
    assert both.target.n_gpu_layers < alone.target.n_gpu_layers
    assert both.fits
    assert both.gpu_bytes <= both.gpu_budget
    assert both.draft is not None
    backend, target = both.draft
    assert (backend, target.model, target.draft_model) == ("llama_cpp", "small.gguf", "")
    assert (target.n_ctx, target.n_gpu_layers) == (both.target.n_ctx, -1)
    assert any("the draft model takes about" in line for line in both.why)
    assert 0.5 < both.model_share < 1
    on_cpu = [choose(m.PC_64, m.QWEN_14B, Target(n_ctx=4096), draft) for draft in (None, m.QWEN_7B)]
    assert on_cpu[1].ram_bytes > on_cpu[0].ram_bytes + m.QWEN_7B.size_bytes
    large = msgspec.structs.replace(m.QWEN_7B, size_bytes=m.PC_64.ram_bytes - 10**9)
    with pytest.raises(BackendError, match="with its draft model"):
        choose(m.PC_64, m.QWEN_7B, Target(draft_model="large.gguf"), large)
