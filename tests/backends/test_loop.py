"""The generation loop over a fake driver: what is evaluated is counted exactly."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_driver import FakeDriver
from hypothesis import given, settings
from hypothesis import strategies as st
from singlepass_backends.base import (
    BackendError,
    Draft,
    Event,
    Finished,
    GenerateRequest,
    Miss,
    PrefillProgress,
    PrewarmRequest,
    Sampling,
    Segment,
    TextChunk,
)
from singlepass_backends.generation.cache.store import Store
from singlepass_backends.generation.loop import InProcessBackend
from unlimited import Unlimited

SYSTEM = Segment("rules", "Edit files.", "system")
FILE = Segment("a.py", "value = 1\nother = 2\n")
TASK = Segment("task", "Fix.")
REQUEST = GenerateRequest((SYSTEM, FILE, TASK), max_tokens=20)


def never() -> bool:
    return False


def after(n: int) -> Iterator[bool]:
    yield from [False] * n
    while True:
        yield True


def run(
    backend: InProcessBackend, request: GenerateRequest = REQUEST, interrupt_after: int | None = None
) -> tuple[str, Finished, list[Event]]:
    """The text, the last event and all events of `request`."""
    answers = after(interrupt_after) if interrupt_after is not None else None
    events = list(backend.generate(request, (lambda: next(answers)) if answers else never))
    finished = events[-1]
    assert isinstance(finished, Finished)
    return "".join(event.text for event in events if isinstance(event, TextChunk)), finished, events


def n_prompt_of(request: GenerateRequest) -> int:
    _, finished, _ = run(InProcessBackend(FakeDriver(reply=b"x")), request)
    return finished.timings.n_prompt


def test_a_cold_request_counted() -> None:
    driver = FakeDriver(reply=b"done", n_batch=16)
    text, finished, events = run(InProcessBackend(driver))
    timings = finished.timings
    n = timings.n_prompt
    assert text == "done"
    assert finished.finish_reason == "stop"
    assert (timings.n_cached, timings.n_prefilled, timings.n_decoded, timings.n_forward) == (0, n, 4, 4)
    n_last = n % 16 or 16
    assert driver.passes == [(16, False)] * ((n - n_last) // 16) + [(n_last, True)] + [(1, True)] * 4
    done = [event.n_done for event in events if isinstance(event, PrefillProgress)]
    assert done == [0, *range(16, n, 16), n]
    assert 0 < timings.first_text_ms <= timings.total_ms
    assert timings.prefill_ms + timings.decode_ms <= timings.total_ms


def test_a_second_request_prefills_only_what_changed() -> None:
    driver = FakeDriver(reply=b"done")
    backend = InProcessBackend(driver)
    _, first, _ = run(backend)
    changed = GenerateRequest((SYSTEM, FILE, Segment("task", "Explain.")))
    _, second, _ = run(backend, changed)
    n_shared = first.timings.n_prompt - len("Fix.") - len("#\n#assistant\n")
    assert second.timings.n_cached == n_shared
    assert second.timings.n_prefilled == second.timings.n_prompt - n_shared


def test_the_same_request_again_evaluates_one_prompt_token() -> None:
    backend = InProcessBackend(FakeDriver())
    cold, _, _ = run(backend)
    again, finished, _ = run(backend)
    assert again == cold
    assert finished.timings.n_prefilled == 1


@given(st.lists(st.text("ab", max_size=12), min_size=1, max_size=4), st.booleans(), st.integers(1, 40))
def test_reuse_and_chunking_are_invisible(tasks: list[str], can_trim: bool, n_batch: int) -> None:
    warm = InProcessBackend(FakeDriver(can_trim=can_trim, n_batch=n_batch))
    for task in tasks:
        request = GenerateRequest((SYSTEM, Segment("task", task)), max_tokens=5)
        warm_text, finished, _ = run(warm, request)
        cold_text, _, _ = run(InProcessBackend(FakeDriver()), request)
        assert warm_text == cold_text
        assert finished.timings.n_cached + finished.timings.n_prefilled == finished.timings.n_prompt


@given(st.lists(st.integers(0, 12), max_size=5))
def test_an_interrupt_at_any_point_loses_nothing(points: list[int]) -> None:
    backend = InProcessBackend(FakeDriver())
    n_kept = 0
    for point in points:
        _, finished, _ = run(backend, interrupt_after=point)
        assert finished.finish_reason in ("cancelled", "length")
        assert finished.timings.n_cached >= min(n_kept, finished.timings.n_prompt - 1)
        n_kept = backend.n_cached
    text, _, _ = run(backend)
    cold, _, _ = run(InProcessBackend(FakeDriver()))
    assert text == cold


def test_cancelled_between_chunks() -> None:
    driver = FakeDriver(n_batch=16)
    backend = InProcessBackend(driver)
    text, finished, _ = run(backend, interrupt_after=2)
    assert text == ""
    assert finished.finish_reason == "cancelled"
    assert driver.passes == [(16, False), (16, False)]
    assert backend.n_cached == finished.timings.n_prefilled == 32
    assert finished.timings.first_text_ms == 0


def test_cancelled_between_tokens() -> None:
    n_chunks = -(-n_prompt_of(REQUEST) // 16)
    text, finished, _ = run(InProcessBackend(FakeDriver(reply=b"abcdefgh")), interrupt_after=n_chunks + 3)
    assert text == "abc"
    assert finished.finish_reason == "cancelled"


def test_finish_reason_length() -> None:
    request = GenerateRequest(REQUEST.segments, max_tokens=3)
    text, finished, _ = run(InProcessBackend(FakeDriver(reply=b"abcdef")), request)
    assert (text, finished.finish_reason) == ("abc", "length")


def test_finish_reason_context() -> None:
    n = n_prompt_of(REQUEST)
    backend = InProcessBackend(FakeDriver(reply=b"abcdef", n_ctx=n + 3))
    text, finished, _ = run(backend)
    assert (text, finished.finish_reason) == ("abc", "context")
    with pytest.raises(BackendError) as caught:
        run(InProcessBackend(FakeDriver(n_ctx=n)))
    assert caught.value.code == "prompt_too_long"


def test_text_never_splits_a_character() -> None:
    reply = "naïve 🙂 é".encode()
    text, _, events = run(InProcessBackend(FakeDriver(reply=reply)))
    assert text == "naïve 🙂 é"
    assert all("�" not in event.text for event in events if isinstance(event, TextChunk))


def test_invalid_bytes_become_replacement_characters() -> None:
    assert run(InProcessBackend(FakeDriver(reply=b"a\xffb\xf0\x9f")))[0] == "a�b�"


GRAMMAR = 'start: "path/of/file.py\\n" /[xyz]{2}/ "END"'


def test_forced_tokens_are_not_sampled() -> None:
    driver = FakeDriver(n_batch=64)
    text, finished, _ = run(InProcessBackend(driver), GenerateRequest(REQUEST.segments, GRAMMAR))
    head, tail = len("path/of/file.py\n"), len("END")
    assert text.startswith("path/of/file.py\n")
    assert text.endswith("END")
    assert len(text) == head + 2 + tail
    assert finished.finish_reason == "stop"
    timings = finished.timings
    assert (timings.n_decoded, timings.n_forced) == (head + 2 + tail, head + tail)
    # One pass for the forced head, one for the first free token; the second free token comes with the forced
    # tail and completes the grammar, so nothing need be evaluated after it.
    assert timings.n_forward == 2
    assert driver.passes[-2:] == [(head, True), (1, True)]


def test_forced_tokens_stop_at_the_limit() -> None:
    request = GenerateRequest(REQUEST.segments, GRAMMAR, max_tokens=5)
    text, finished, _ = run(InProcessBackend(FakeDriver()), request)
    assert (text, finished.finish_reason) == ("path/", "length")


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(1.0, 0.9, 3)])
def test_a_grammar_is_obeyed(sampling: Sampling) -> None:
    request = GenerateRequest(REQUEST.segments, 'start: ("yes" | "no") " " /[0-9]{3}/', 50, sampling)
    backend = InProcessBackend(FakeDriver())
    text, finished, _ = run(backend, request)
    answer, number = text.split(" ")
    assert answer in ("yes", "no")
    assert number.isdigit()
    assert finished.finish_reason == "stop"
    assert run(backend, request)[0] == text  # from the cache of compiled grammars


@pytest.mark.parametrize("grammar", ["", "start: missing", "start: /(/", "nonsense ===", 'start: "a'])
def test_an_invalid_grammar(grammar: str) -> None:
    driver = FakeDriver()
    with pytest.raises(BackendError, match="grammar") as caught:
        run(InProcessBackend(driver), GenerateRequest(REQUEST.segments, grammar))
    assert caught.value.code == "grammar_invalid"
    assert driver.passes == []  # known before anything is evaluated


# Drafts.

DRAFT = Draft("say: ", "OLD", "NEW", "END")


def drafting(draft: Draft | None, **more: Any) -> GenerateRequest:
    return GenerateRequest((SYSTEM, FILE, TASK), draft=draft, **more)


def test_drafted_tokens_are_counted_and_take_no_pass_of_their_own() -> None:
    reply = b"OLD\nvalue = 1\nNEW\nvalue = 1\nSTOP\n"
    opening = Draft("OLD\nvalue = 1\nNEW\nvalue = 1\n", "OLD", "NEW", "STOP")
    driver = FakeDriver(reply=reply, n_batch=96)
    text, finished, _ = run(InProcessBackend(driver, pace=Unlimited()), drafting(opening, max_tokens=99))
    timings = finished.timings
    assert text == reply.decode()
    # The opening comes with the prompt, and one token after it; then one pass for the end of the block.
    assert (timings.n_decoded, timings.n_forward) == (len(reply), 1)
    assert timings.n_drafted >= timings.n_accepted == len(reply) - 1
    assert driver.cells[timings.n_prompt :] == list(reply)


@given(st.binary(max_size=40), st.binary(max_size=40), st.integers(1, 30), st.integers(2, 40))
def test_a_draft_changes_no_reply(reply: bytes, opening: bytes, max_tokens: int, n_batch: int) -> None:
    """Right or wrong, and wherever a limit cuts the reply off."""
    plain = run(InProcessBackend(FakeDriver(reply=reply)), drafting(None, max_tokens=max_tokens))
    driver = FakeDriver(reply=reply, n_batch=n_batch)
    draft = Draft(opening.decode("latin-1"), "a", "b", "c")
    backend = InProcessBackend(driver, pace=Unlimited())
    for _ in range(2):
        text, finished, _ = run(backend, drafting(draft, max_tokens=max_tokens))
        assert text == plain[0]
        assert finished.finish_reason == plain[1].finish_reason
        assert finished.timings.n_decoded == plain[1].timings.n_decoded
        said = driver.cells[finished.timings.n_prompt :]
        assert bytes(said) == reply[: len(said)], "nothing wrong stays in the cache"
        assert finished.timings.n_forward <= plain[1].timings.n_forward


@given(st.integers(0, 1000), st.sampled_from(["", "abc", "k" * 30]), st.booleans())
def test_a_draft_changes_no_sampled_reply(seed: int, opening: str, constrained: bool) -> None:
    """Drawing as always and comparing keeps the distribution: with the same seed even the reply."""
    grammar = "start: /([a-k][a-k])*/ /[l-z]{40}/" if constrained else None
    more = {"sampling": Sampling(temperature=1.0, seed=seed), "grammar": grammar, "max_tokens": 60}
    texts = [
        run(InProcessBackend(FakeDriver(), pace=Unlimited()), drafting(draft, **more))[0]
        for draft in (None, Draft(opening, "a", "b", "c"))
    ]
    assert texts[0] == texts[1]


@pytest.mark.parametrize("n", range(12))
def test_a_reply_with_drafts_is_cancelled_at_any_point(n: int) -> None:
    driver = FakeDriver(reply=b"value = 1\nvalue = 2\nvalue = 3\n", n_batch=64)
    backend = InProcessBackend(driver, pace=Unlimited())
    cut, _, _ = run(backend, drafting(DRAFT, max_tokens=99), interrupt_after=n)
    whole, _, _ = run(backend, drafting(DRAFT, max_tokens=99))
    assert whole == "value = 1\nvalue = 2\nvalue = 3\n"
    assert whole.startswith(cut)


def test_the_context_is_filled_to_its_end_with_drafts() -> None:
    n = n_prompt_of(REQUEST) + 12
    drivers = [FakeDriver(reply=b"ab" * 50, n_ctx=n) for _ in range(2)]
    plain, drafted = (
        run(InProcessBackend(driver, pace=Unlimited()), drafting(draft, max_tokens=99))
        for driver, draft in zip(drivers, (None, DRAFT), strict=True)
    )
    assert plain[0] == drafted[0]
    assert plain[1].finish_reason == drafted[1].finish_reason == "context"
    assert drafted[1].timings.n_accepted > 0


def test_a_draft_is_held_to_the_grammar() -> None:
    driver = FakeDriver(reply=b"xyxyxyxyxyxy", n_batch=64)
    request = drafting(Draft("xyxyzzzz", "a", "b", "c"), grammar="start: /(xy)*q?/", max_tokens=12)
    text, finished, _ = run(InProcessBackend(driver, pace=Unlimited()), request)
    assert text == "xyxyxyxyxyxy"
    assert finished.timings.n_accepted >= 3
    assert ord("z") not in driver.seen


def test_a_model_that_cannot_trim_gets_no_drafts() -> None:
    driver = FakeDriver(reply=b"say: say: say:", can_trim=False)
    text, finished, _ = run(InProcessBackend(driver, pace=Unlimited()), drafting(DRAFT, max_tokens=99))
    assert text == "say: say: say:"
    assert finished.timings.n_drafted == 0


def test_prewarm_evaluates_what_the_request_then_finds() -> None:
    driver = FakeDriver(n_batch=16)
    backend = InProcessBackend(driver)
    events = list(backend.prewarm(PrewarmRequest((SYSTEM, FILE)), never))
    finished = events[-1]
    assert isinstance(finished, Finished)
    assert finished.finish_reason == "stop"
    assert not any(wanted for _, wanted in driver.passes)
    n_warm = finished.timings.n_prefilled
    _, requested, _ = run(backend)
    assert requested.timings.n_cached == n_warm
    n_passes = len(driver.passes)
    again = list(backend.prewarm(PrewarmRequest((SYSTEM, FILE)), never))[-1]
    assert isinstance(again, Finished)
    assert again.timings.n_prefilled == 0
    assert len(driver.passes) == n_passes


def test_a_prewarm_that_is_done_forgets_nothing() -> None:
    backend = InProcessBackend(FakeDriver())
    run(backend)
    n_cached = backend.n_cached
    list(backend.prewarm(PrewarmRequest((SYSTEM,)), never))
    assert backend.n_cached == n_cached


def test_a_model_that_cannot_trim_goes_back_to_its_checkpoints() -> None:
    driver = FakeDriver(can_trim=False)
    backend = InProcessBackend(driver)
    text, first, _ = run(backend)
    n_passes = len(driver.passes)
    list(backend.prewarm(PrewarmRequest((SYSTEM, FILE)), never))
    assert len(driver.passes) == n_passes
    again, second, _ = run(backend)
    assert again == text
    assert second.timings.n_prefilled == 1
    _, other, _ = run(backend, GenerateRequest((SYSTEM, FILE, Segment("task", "Explain."))))
    assert other.timings.n_cached == first.timings.n_prompt - len("Fix.") - len("#\n#assistant\n")


def files(name: str, text: str, task: str = "Fix.") -> GenerateRequest:
    return GenerateRequest((MAP, Segment(name, text), Segment("task", task)), max_tokens=8)


MAP = Segment("map", "def f(x): ...\n" * 10, "system", shared=True)


@pytest.mark.parametrize("can_trim", [True, False])
def test_going_back_and_forth_between_files_reads_them_once(can_trim: bool) -> None:
    backend = InProcessBackend(FakeDriver(can_trim=can_trim))
    texts = {name: run(backend, files(name, f"{name} = 1\n" * 20))[0] for name in ("a", "b", "c")}
    for name in ("a", "c", "b", "a"):
        list(backend.prewarm(PrewarmRequest(files(name, f"{name} = 1\n" * 20).segments[:2]), never))
        text, finished, _ = run(backend, files(name, f"{name} = 1\n" * 20))
        assert text == texts[name]
        assert finished.timings.n_prefilled <= len("Fix.") + len("#\n#assistant\n")
        assert finished.miss is None


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.integers(0, 3), st.sampled_from(["x", "yy"]), st.booleans())
    ),
    st.booleans(),
    st.sampled_from([450, 600, 4096]),
)
def test_whatever_came_before_the_reply_is_that_of_a_cold_start(
    asked: list[tuple[str, int, str, bool]], can_trim: bool, n_ctx: int
) -> None:
    driver = FakeDriver(can_trim=can_trim, n_ctx=n_ctx, n_sequences=4)
    backend = InProcessBackend(driver)
    for name, version, task, is_prewarm in asked:
        request = files(name, f"{name} = 1\n" * 20 + f"{version}\n" * 9, task)
        if is_prewarm:
            list(backend.prewarm(PrewarmRequest(request.segments[:2]), never))
            continue
        text, finished, _ = run(backend, request)
        assert text == run(InProcessBackend(FakeDriver()), request)[0]
        assert backend.n_cached == driver.n_used <= n_ctx
        timings = finished.timings
        assert sum(use.n_tokens for use in finished.segments) == timings.n_prompt
        assert sum(use.n_cached for use in finished.segments) == timings.n_cached


def test_inspecting_computes_nothing() -> None:
    driver = FakeDriver()
    backend = InProcessBackend(driver)
    request = files("a", "a = 1\n")
    assert [use.n_cached for use in backend.inspect(request.segments)] == [0, 0, 0]
    list(backend.prewarm(PrewarmRequest(request.segments[:2]), never))
    n_passes = len(driver.passes)
    found = backend.inspect(request.segments)
    assert [(use.name, use.n_tokens == use.n_cached) for use in found] == [
        ("map", True),
        ("a", True),
        ("task", False),
    ]
    assert len(driver.passes) == n_passes
    _, finished, _ = run(backend, request)
    assert finished.segments == found


def test_a_saved_edit_is_named_with_what_it_costs() -> None:
    backend = InProcessBackend(FakeDriver())
    run(backend, files("a", "a = 1\nb = 2\n"))
    _, finished, _ = run(backend, files("a", "a = 1\nb = 3\n"))
    assert finished.miss == Miss("a", len("3\n"), "changed")
    _, finished, _ = run(backend, files("a", "a = 1\nb = 3\n", "Explain."))
    assert finished.miss is None


def test_a_click_into_a_prewarm_finds_it_unfinished() -> None:
    backend = InProcessBackend(FakeDriver(n_batch=16))
    request = files("a", "a = 1\n" * 40)
    answers = after(16)
    events = list(backend.prewarm(PrewarmRequest(request.segments[:2]), lambda: next(answers)))
    reached = max(event.n_done for event in events if isinstance(event, PrefillProgress))
    _, finished, _ = run(backend, request)
    assert finished.timings.n_cached == reached
    assert finished.miss is not None
    assert (finished.miss.segment, finished.miss.reason) == ("a", "unfinished")
    assert 0 < finished.miss.n_tokens < len("a = 1\n" * 40)


def test_a_driver_that_refuses_a_step_costs_a_prefill(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = FakeDriver(can_trim=False)
    backend = InProcessBackend(driver)
    text = run(backend)[0]

    def refuse(_checkpoint: bytes, _n_keep: int, _sequence: int = 0) -> bool:
        return False

    monkeypatch.setattr(driver, "restore", refuse)
    again, finished, _ = run(backend)
    assert again == text
    assert finished.timings.n_cached == 0


def test_the_shared_prefix_is_saved_when_resting_and_loaded_by_the_next(tmp_path: Path) -> None:
    shared = Segment("map", "def f(x): ...\n" * 30, "system", shared=True)
    request = GenerateRequest((shared, FILE, TASK), max_tokens=8)
    for can_trim in (True, False):
        folder = tmp_path / str(can_trim)
        backend = InProcessBackend(FakeDriver(can_trim=can_trim), Store(folder, "fake"))
        text = run(backend, request)[0]
        assert not list(folder.iterdir())
        backend.rest()
        backend.rest()  # nothing new to save
        assert run(backend, request)[1].timings.n_prefilled == 1
        backend.close()
        assert len(list(folder.iterdir())) == 1
        driver = FakeDriver(can_trim=can_trim)
        backend = InProcessBackend(driver, Store(folder, "fake"))
        run(backend, REQUEST)  # something else is there already
        again, finished, _ = run(backend, request)
        assert again == text
        assert finished.segments[0].n_cached == finished.segments[0].n_tokens
        backend.close()
        driver = FakeDriver(can_trim=can_trim)
        driver.refuses_load = True
        backend = InProcessBackend(driver, Store(folder, "fake"))
        again, finished, _ = run(backend, request)
        assert (again, finished.timings.n_cached) == (text, 0)
        assert not list(folder.iterdir())


def test_a_failing_forward_pass_leaves_a_usable_backend() -> None:
    driver = FakeDriver(reply=b"ok")
    backend = InProcessBackend(driver)
    driver.error = BackendError("internal", "the device is gone")
    with pytest.raises(BackendError, match="the device is gone"):
        run(backend)
    assert backend.n_cached == 0
    driver.error = None
    assert run(backend)[0] == "ok"


def test_closing_frees_the_driver() -> None:
    driver = FakeDriver()
    InProcessBackend(driver).close()
    assert driver.is_closed
