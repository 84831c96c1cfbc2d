"""The remote backend's contract with servers that other projects ship: each test holds for all of them.

llama-server is one of them where `SINGLEPASS_LLAMA_SERVER` is the path of one; `benchmarks/llama_server.py`
builds it, runs this file, and prints what the tests record.
"""

import itertools
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import made_up
import pytest
from fake_driver import WatchedDriver
from real_servers import COUNTING, INFERRED, N_CTX, NAMES, RealServer, started
from remote import FILE, SYSTEM, TASK, close_all, connect, last, never, run, text_of
from runtimes import Runtime
from singlepass_backends.base import (
    BackendError,
    Event,
    GenerateRequest,
    PrefillProgress,
    PrewarmRequest,
    Sampling,
    Segment,
    TextChunk,
)
from singlepass_backends.stop_flag import StopFlag
from singlepass_backends.testing.gguf_to_mlx import write_mlx_model
from singlepass_backends.testing.random_model import write_random_model

Record = Callable[[str, object], None]

LINES = Path(__file__).read_text(encoding="utf-8").splitlines()


def lines(at: int, n: int) -> str:
    """Some lines of this file, over and over."""
    return "\n".join(itertools.islice(itertools.cycle(LINES), at, at + n)) + "\n"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The same random model for llama.cpp and for MLX, with words that all who read it cut the same way."""
    folder = tmp_path_factory.mktemp("models")
    gguf, mlx = folder / "qwen2.gguf", folder / "qwen2"
    write_random_model(gguf, corpus=made_up.sources(), words="qwen2")
    write_mlx_model(mlx, gguf)
    return gguf, mlx


@pytest.fixture(scope="module", params=NAMES)
def server(
    request: pytest.FixtureRequest, models: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RealServer]:
    """Each server in turn."""
    gguf, mlx = models
    is_mlx = request.param == "mlx_lm.server"
    runtime = Runtime("mlx", mlx, mlx) if is_mlx else Runtime("llama_cpp", gguf, gguf)
    with started(request.param, runtime, tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    close_all()


def wait_released(server: RealServer, seconds: float = 5.0) -> float:
    """Wait until nobody is connected to the server; ms that this took."""
    began = time.monotonic()
    while server.n_connections() and time.monotonic() < began + seconds:
        time.sleep(0.005)
    assert not server.n_connections()
    return (time.monotonic() - began) * 1e3


def test_it_is_recognized(server: RealServer, record_property: Record) -> None:
    info = connect(server.url).info
    assert info.device.startswith(server.name)
    assert not info.constrains
    assert (info.n_ctx == N_CTX) == (server.name == "llama-server")
    record_property("device", info.device.partition(" at ")[0])


def test_it_says_what_its_runtime_says_in_this_process(server: RealServer, record_property: Record) -> None:
    """The same greedy text for at least 95 of 100 prompts, and near-ties explain the others."""
    remote = connect(server.url)
    driver, local = server.runtime.watched(server.runtime.target(n_batch=512))
    n_same, parted = 0, []
    for at in range(100):
        task = Segment("task", "Explain this:\n" + lines(5 * at, 6))
        request = GenerateRequest((SYSTEM, task), max_tokens=12)
        theirs, finished = run(remote, request)
        assert finished.finish_reason in ("length", "stop")
        driver.choices.clear()
        events = list(local.generate(request, never))
        if theirs.strip() == text_of(events).strip():
            n_same += 1
        else:
            parted.append(lead_where_parted(events, theirs, driver.choices))
    local.close()
    n_near = sum(lead < WatchedDriver.NOISE for lead in parted)
    record_property("same", n_same)
    record_property("near_ties", n_near)
    record_property("parted", len(parted) - n_near)
    assert n_same >= 95
    assert n_near == len(parted), parted


def lead_where_parted(events: list[Event], theirs: str, choices: list[tuple[int, float]]) -> float:
    """The lead of the best token over the second where our text leaves theirs; of the last few tokens, as a
    character may take several."""
    text = ""
    for one in events:
        if isinstance(one, TextChunk):
            text += one.text
            if not theirs.startswith(text):
                return min(lead for _, lead in choices[max(0, one.n_decoded - 4) : one.n_decoded])
    return choices[-1][1]


def test_it_is_measured(server: RealServer, record_property: Record) -> None:
    """A reply as long as allowed, and every number of its timings, reported or named as inferred."""
    _, finished = run(connect(server.url), GenerateRequest((SYSTEM, FILE, TASK), max_tokens=9))
    timings = finished.timings
    assert finished.finish_reason == "length"
    assert timings.n_decoded == 9
    assert 0 < timings.first_text_ms <= timings.total_ms
    assert timings.prefill_ms + timings.decode_ms <= timings.total_ms + 5
    assert all(map(math.isfinite, (timings.prefill_ms, timings.decode_ms, timings.queue_ms)))
    assert set(timings.inferred) == set(INFERRED[server.name])
    record_property("inferred", ", ".join(timings.inferred))


def test_it_prewarms(server: RealServer, record_property: Record) -> None:
    backend = connect(server.url)
    file = Segment("a.py", lines(3, 30))
    ahead = last(list(backend.prewarm(PrewarmRequest((SYSTEM, file)), never)))
    assert ahead.finish_reason == "stop"
    assert ahead.timings.n_decoded <= 1
    timings = run(backend, GenerateRequest((SYSTEM, file, TASK), max_tokens=4))[1].timings
    assert timings.n_cached > 0.9 * ahead.timings.n_prompt
    assert timings.n_prefilled < 0.2 * timings.n_prompt
    record_property("prewarm_decoded", f"{ahead.timings.n_decoded}, {ahead.timings.decode_ms:.3f} ms")
    if server.counts:
        record_property("cached", f"{timings.n_cached} of {ahead.timings.n_prompt}")


@pytest.mark.parametrize("server", COUNTING, indirect=True)
def test_it_tells_its_prefill(server: RealServer, record_property: Record) -> None:
    """The reports grow, and count like the timings."""
    backend = connect(server.url)
    file = Segment("a.py", lines(40, 40))
    run(backend, GenerateRequest((SYSTEM, file), max_tokens=1))
    tasks = Segment("b.py", lines(90, 20))
    events = list(backend.generate(GenerateRequest((SYSTEM, file, tasks), max_tokens=2), never))
    found = [one for one in events if isinstance(one, PrefillProgress)]
    timings = last(events).timings
    told = found[1:-1]
    assert len(told) >= 3
    assert [one.n_done for one in told] == sorted(one.n_done for one in told)
    assert all(one.n_cached <= one.n_done <= one.n_prompt for one in told)
    assert told[-1].n_prompt == pytest.approx(timings.n_prompt, rel=0.1)
    assert told[-1].n_cached == pytest.approx(timings.n_cached, rel=0.1)
    assert found[-1].n_done == found[-1].n_prompt
    record_property("progress", len(told))


def test_cancelling_a_reply_closes_the_connection(server: RealServer) -> None:
    backend = connect(server.url)
    stop = StopFlag()
    events: list[Event] = []
    for one in backend.generate(GenerateRequest((SYSTEM, FILE, TASK), max_tokens=500), stop):
        events.append(one)
        if isinstance(one, TextChunk):
            stop.set()
    assert last(events).finish_reason == "cancelled"
    wait_released(server)
    timings = run(connect(server.url), GenerateRequest((SYSTEM, TASK), max_tokens=4))[1].timings
    assert timings.n_decoded == 4


@pytest.mark.parametrize("server", COUNTING, indirect=True)
def test_cancelling_a_prefill_closes_the_connection(server: RealServer, record_property: Record) -> None:
    backend = connect(server.url)
    stop = StopFlag()
    file = Segment("a.py", lines(7, 45))
    events: list[Event] = []
    began = 0.0
    for one in backend.generate(GenerateRequest((SYSTEM, file, TASK), max_tokens=100), stop):
        events.append(one)
        if len(events) == 2:  # the server's first word of it
            stop.set()
            began = time.monotonic()
    cancel_ms = (time.monotonic() - began) * 1e3
    assert last(events).finish_reason == "cancelled"
    assert not text_of(events)
    assert cancel_ms < 500
    record_property("cancel_ms", f"{cancel_ms:.1f}")
    record_property("released_ms", f"{wait_released(server):.0f}")
    assert run(connect(server.url), GenerateRequest((SYSTEM, TASK), max_tokens=4))[0]


def test_the_seed_counts(server: RealServer) -> None:
    backend = connect(server.url)

    def said(seed: int) -> str:
        sampling = Sampling(temperature=1.0, top_p=0.9, seed=seed)
        return run(backend, GenerateRequest((SYSTEM, TASK), max_tokens=8, sampling=sampling))[0]

    first = said(1)
    assert said(1) == first
    assert any(said(seed) != first for seed in (2, 3, 4))


LONG = GenerateRequest(
    (SYSTEM, Segment("big.py", FILE.text * 15), TASK), max_tokens=64, min_reply=16
)  # of about 2,600 tokens


def test_a_prompt_that_is_too_long_for_the_settings(server: RealServer) -> None:
    with pytest.raises(BackendError, match=r"big\.py") as caught:
        run(connect(server.url, n_ctx=N_CTX), LONG)
    assert caught.value.code == "prompt_too_long"
    assert caught.value.data["n_ctx"] == N_CTX
    assert caught.value.data["n_excess"] > 0


def test_a_prompt_that_is_too_long_for_the_server(server: RealServer) -> None:
    backend = connect(server.url)
    if server.name == "mlx_lm.server":  # reads it whatever its length
        assert run(backend, LONG)[1].timings.n_prompt > 2 * N_CTX
        return
    # llama_cpp.server closes the connection, so the settings must say how long its context is.
    says = {"llama_cpp.server": "setting `n_ctx` to it helps", "llama-server": r"big\.py"}
    with pytest.raises(BackendError, match=says[server.name]) as caught:
        run(backend, LONG)
    if server.counts:
        assert caught.value.code == "prompt_too_long"
        assert caught.value.data["n_ctx"] == N_CTX
        assert caught.value.data["n_prompt"] > 2 * N_CTX


def test_a_reply_ends_where_the_context_does(server: RealServer) -> None:
    file = Segment("a.py", FILE.text * 3)  # of about 800 tokens
    backend = connect(server.url, n_ctx=N_CTX)
    finished = run(backend, GenerateRequest((SYSTEM, file), max_tokens=400))[1]
    if server.name == "mlx_lm.server":  # it has no end
        assert (finished.finish_reason, finished.timings.n_decoded) == ("length", 400)
    else:
        assert finished.timings.n_decoded < 400
        # From outside, tokens are only estimated.
        assert finished.finish_reason in (("context",) if server.counts else ("context", "length"))


@pytest.mark.parametrize("server", ["mlx_lm.server"], indirect=True)
def test_mlx_lm_where_nothing_was_ever_downloaded(server: RealServer) -> None:
    """Its list of models is then an empty body."""
    (server.home / "hub").rmdir()
    try:
        backend = connect(server.url)
        assert backend.info.name == "default_model"
        assert run(backend, GenerateRequest((SYSTEM, TASK), max_tokens=4))[1].timings.n_decoded == 4
    finally:
        (server.home / "hub").mkdir()


@pytest.mark.parametrize("server", ["mlx_lm.server"], indirect=True)
def test_mlx_lm_and_a_model_that_it_cannot_load(server: RealServer) -> None:
    with pytest.raises(BackendError, match="Set `model` to one that it has") as caught:
        run(connect(server.url, model="someone/else"), GenerateRequest((SYSTEM, TASK), max_tokens=4))
    assert caught.value.code == "model_missing"
