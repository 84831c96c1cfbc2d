"""The runs of a benchmark on an engine in memory, and results on disk."""

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
from server.fakes import FakeEngine
from singlepass.editor.workspace import UserError
from singlepass.measuring import runs
from singlepass.measuring.rates import Result
from singlepass.measuring.runs import Bench, load, new_result, newest, result_path, save, saved
from singlepass_backends.base import (
    BackendError,
    Event,
    Finished,
    GenerateRequest,
    ModelInfo,
    PrefillProgress,
    Segment,
    SegmentUse,
    Target,
    TextChunk,
    Timings,
)

pytestmark = pytest.mark.anyio

SOURCES = Path(runs.__file__).parent
INFO = ModelInfo(backend="llama_cpp", name="m", n_ctx=4096)


class MeasuredEngine(FakeEngine):
    """A token a character; fails at the run that it is told."""

    def __init__(self, fails_at: int = -1) -> None:
        super().__init__()
        self._fails_at = fails_at
        self.texts: list[str] = []

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[Event, None]:
        if len(self.texts) == self._fails_at:
            raise BackendError("engine_lost", "The engine ended.")
        text = "".join(segment.text for segment in request.segments)
        self.texts.append(text)
        n = len(text)
        yield PrefillProgress(n_prompt=n, n_cached=0, n_done=n // 2, elapsed_ms=1, eta_ms=None)
        yield TextChunk("a", 1, 1.0)
        yield Finished(
            "length",
            Timings(
                n_prompt=n,
                n_cached=0,
                n_prefilled=n,
                n_decoded=request.max_tokens,
                prefill_ms=n / 10,
                decode_ms=100.0,
            ),
        )


def result(depths: tuple[int, ...] = (2000, 4000), n_runs: int = 2, **target: Any) -> Result:
    return new_result(
        *(Target(model="/models/m.gguf", **target), "llama_cpp m.gguf", INFO, {"cpu": "a"}),
        depths=depths,
        n_runs=n_runs,
        n_reply=8,
        notes=("a note",),
    )


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SINGLEPASS_STATE_DIR", str(tmp_path))
    return tmp_path


async def test_runs_of_all_depths_alternate() -> None:
    engine, kept = MeasuredEngine(), list[Result]()
    told: list[tuple[int, float]] = []
    made = await Bench(engine, lambda _, depth, share: told.append((depth, share))).run(result(), kept.append)
    assert [run.depth for run in made.runs] == [2000, 4000, 2000, 4000]
    assert [len(one.runs) for one in kept] == [1, 2, 3, 4]
    assert made.is_complete
    for run in made.runs:
        assert run.depth - 100 <= run.n_prefilled <= run.depth
        assert run.prefill_rate == pytest.approx(10_000)
        assert run.decode_rate == pytest.approx(70)
        assert run.ttft_ms > 0
    assert (4000, pytest.approx(0.5, abs=0.01)) in told


class UnevenEngine(MeasuredEngine):
    """The lines of half of our sources have four times the tokens of the others."""

    def __init__(self) -> None:
        super().__init__()
        lines = [line for path in sorted(SOURCES.glob("*.py")) for line in path.read_text().splitlines()]
        self._heavy = set(lines[: len(lines) // 2])

    async def inspect(
        self, segments: tuple[Segment, ...], *, spawn: bool = False
    ) -> tuple[SegmentUse, ...] | None:
        lines = [line for segment in segments for line in segment.text.splitlines()]
        n_tokens = sum(len(line) // (1 if line in self._heavy else 4) + 1 for line in lines)
        return (SegmentUse("all", n_tokens, 0),)


@pytest.mark.parametrize("n", range(20))
async def test_a_prompt_is_as_long_as_asked_for_wherever_it_begins(n: int) -> None:
    engine, depth = UnevenEngine(), 500 * (n + 1)
    made = await Bench(engine).run(result((depth,), 1), lambda _: None)
    found = await engine.inspect(tuple(Segment("", text) for text in engine.texts[1:]))
    assert found is not None
    longest = 110  # a line may be left out
    assert depth - longest - 50 <= found[0].n_tokens <= depth + len(engine.texts[1].splitlines())
    assert made.is_complete


async def test_nothing_of_a_prompt_was_seen_before() -> None:
    engine = MeasuredEngine()
    await Bench(engine).run(result(n_runs=3), lambda _: None)
    beginnings = [text[: len("You are a careful programmer.") + 20] for text in engine.texts]
    assert len(set(beginnings)) == len(engine.texts) == 7  # the first only warms


async def test_a_benchmark_that_was_stopped_goes_on() -> None:
    with pytest.raises(BackendError):
        await Bench(MeasuredEngine(fails_at=3)).run(result(), save)
    ((path, kept),) = saved()
    assert len(kept.runs) == 2
    assert not kept.is_complete
    made = await Bench(MeasuredEngine()).run(kept, save)
    assert made.runs[:2] == kept.runs
    assert made.is_complete
    assert load(path) == made
    engine = MeasuredEngine()
    assert await Bench(engine).run(made, save) == made
    assert not engine.texts


def test_results_on_disk(state: Path) -> None:
    first = result()
    save(first)
    path = result_path(first)
    assert path.parent == state / "bench" == runs.results_dir()
    assert path.stem.endswith("llama-cpp-m.gguf")
    assert load(path) == first
    assert newest("llama_cpp m.gguf") is None  # it has no runs
    (path.parent / "broken.json").write_text("{")
    assert [one for one, _ in saved()] == [path]
    with pytest.raises(UserError, match="is no result"):
        load(path.parent / "broken.json")
    with pytest.raises(UserError, match="cannot be read"):
        load(path.parent / "none.json")


def test_what_figures_depend_on_is_kept() -> None:
    made = result(n_batch=256)
    assert made.model["file"] == "m.gguf"
    assert made.settings["n_batch"] == 256
    assert made.versions["singlepass"]
    assert made.machine == {"cpu": "a", "device": "CPU"}
    assert made.notes == ("a note",)
