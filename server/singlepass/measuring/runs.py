"""Runs of `singlepass bench` through the real engine, and the files with their results.

Prompts consist of singlepass's own sources after a line that is unique to the run, so that nothing is cached
except the beginning of the chat template. The result is saved after each run, so an interrupted benchmark can
be resumed.
"""

import asyncio
import datetime
import itertools
import platform
import secrets
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import aclosing
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from singlepass_backends.base import (
    Finished,
    GenerateRequest,
    ModelInfo,
    PrefillProgress,
    Segment,
    Target,
    TextChunk,
)

from singlepass.editor.workspace import UserError
from singlepass.measuring.rates import Result, Run, remaining
from singlepass.measuring.workload import Workload
from singlepass.stats.history import state_dir

if TYPE_CHECKING:
    from singlepass.jobs.session import Engine

_SYSTEM = "You are a careful programmer."
_TASK = "\nGo on with the file above: write the next functions, without an end."
_PACKAGES = ("singlepass", "llama-cpp-python", "mlx", "mlx-lm", "llguidance", "numpy")
_WARM_TOKENS = 64
_CLOSE = 32
"""Tokens by which a prompt may fall short of its depth."""
_TRIES = 40


OnProgress = Callable[[Result, int, float], None]
"""Called with the result so far, the current depth, and how much of its prompt was prefilled (0 to 1)."""


class Bench:
    """The runs of one benchmark."""

    def __init__(self, engine: "Engine", on_progress: OnProgress = lambda result, depth, share: None) -> None:
        self._engine = engine
        self._on_progress = on_progress
        self._lines = _own_lines()
        self._n_per_line = 0.0

    async def run(self, result: Result, save: Callable[[Result], object]) -> Result:
        """Make all runs that are left, saving after each. Raises BackendError."""
        if remaining(result):
            await self._calibrate()
            await self._once(result, _WARM_TOKENS)  # the first pass is slower because of allocations
        for depth in remaining(result):
            run = await self._once(result, depth)
            result = msgspec.structs.replace(result, runs=(*result.runs, run))
            save(result)
        return result

    async def _calibrate(self) -> None:
        sample = self._lines[:200]
        n_tokens = await self._count((Segment("sample", "".join(sample)),))
        self._n_per_line = max(1.0, n_tokens / len(sample))

    async def _count(self, segments: tuple[Segment, ...]) -> int:
        uses = await self._engine.inspect(segments, spawn=True)
        return sum(use.n_tokens for use in uses or ())

    async def _prompt(self, depth: int) -> tuple[Segment, ...]:
        """Segments of at most `depth` tokens, and few less, that were never seen before."""
        header, start = f"# {uuid.uuid4()}\n", secrets.randbelow(len(self._lines))

        def segments(n_lines: int) -> tuple[Segment, ...]:
            chosen = itertools.islice(itertools.cycle(self._lines), start, start + n_lines)
            document = Segment("document", header + "".join(chosen))
            return Segment("system", _SYSTEM, "system"), document, Segment("task", _TASK)

        most, too_many = 0, depth + 1  # a line has a token or more
        n_lines = int(depth / self._n_per_line)
        for i in range(_TRIES):
            n_tokens = await self._count(segments(n_lines))
            if n_tokens > depth:
                too_many = n_lines
            else:
                most = n_lines
                if n_tokens >= depth - _CLOSE:
                    break
            if too_many - most < 2:
                break
            # Extrapolate from the lines counted so far. Later lines may be far longer, so sometimes bisect.
            step = round((n_tokens - depth + _CLOSE / 2) * n_lines / max(1, n_tokens))
            n_lines = min(max(n_lines - step, most + 1), too_many - 1)
            if i % 3 == 2 and too_many <= depth:
                n_lines = (most + too_many) // 2
        return segments(most)

    async def _once(self, result: Result, depth: int) -> Run:
        segments = await self._prompt(depth)
        request = GenerateRequest(segments, max_tokens=result.n_reply)
        started = asyncio.get_running_loop().time()
        ttft_ms = 0.0
        async with aclosing(self._engine.generate(request)) as events:
            async for event in events:
                match event:
                    case PrefillProgress():
                        self._on_progress(result, depth, event.n_done / max(1, event.n_prompt))
                    case TextChunk():
                        ttft_ms = ttft_ms or (asyncio.get_running_loop().time() - started) * 1000
                    case Finished():
                        spent = event.timings
                        return Run(
                            depth=depth,
                            n_cached=spent.n_cached,
                            n_prefilled=spent.n_prefilled,
                            prefill_ms=spent.prefill_ms,
                            n_decoded=spent.n_decoded,
                            decode_ms=spent.decode_ms,
                            ttft_ms=ttft_ms,
                        )
                    case _:
                        pass
        raise AssertionError("a request ended without an end")


def _own_lines() -> list[str]:
    """Lines of our sources, the long ones in parts that have no more than `_CLOSE` tokens each."""
    room = files("singlepass") / "core"
    texts = (
        one.read_text(encoding="utf-8")
        for one in sorted(room.iterdir(), key=lambda one: one.name)
        if one.name.endswith(".py")
    )
    lines = (line for text in texts for line in text.splitlines(keepends=True))
    return [line[at : at + _CLOSE] for line in lines for at in range(0, len(line), _CLOSE)]


def new_result(
    target: Target,
    key: str,
    info: ModelInfo,
    machine: dict[str, str | int | float],
    *,
    depths: Sequence[int],
    n_runs: int,
    n_reply: int,
    notes: Sequence[str],
) -> Result:
    """An empty result, with all that figures depend on."""
    return Result(
        created=datetime.datetime.now().isoformat(timespec="seconds"),
        target=key,
        model={
            "name": info.name,
            "file": Path(target.model).name,
            "architecture": info.architecture,
            "n_params": info.n_params,
            "size_bytes": info.size_bytes,
            "random_weights": info.random_weights,
        },
        machine={**machine, "device": info.device},
        versions=versions(),
        settings={
            "backend": info.backend,
            "n_ctx": info.n_ctx,
            "n_batch": target.n_batch,
            "n_threads": target.n_threads,
            "n_gpu_layers": target.n_gpu_layers,
            "kv_cache_type": target.kv_cache_type,
            "flash_attention": target.flash_attention,
            "repack": target.repack,
        },
        depths=tuple(depths),
        n_runs=n_runs,
        n_reply=n_reply,
        notes=tuple(notes),
    )


def versions() -> dict[str, str]:
    """Of Python and of the packages that a figure depends on."""
    return {"python": platform.python_version(), **dict(_versions())}


def _versions() -> Iterator[tuple[str, str]]:
    for package in _PACKAGES:
        try:
            yield package, version(package)
        except PackageNotFoundError:
            continue


# Results on disk.


def results_dir() -> Path:
    """The folder of the results."""
    return state_dir() / "bench"


def result_path(result: Result | Workload) -> Path:
    """`20261122-095000-coder.json`, which sorts by time; those of workloads lie in a folder of their own."""
    if isinstance(result, Workload):
        return results_dir() / "workloads" / _file_name(result.created, Path(result.repository).name)
    return results_dir() / _file_name(result.created, result.target.lower())


def _file_name(created: str, what: str) -> str:
    when = "".join(letter for letter in created if letter.isdigit())
    name = "".join(letter if letter.isalnum() or letter in "-." else "-" for letter in what)
    return f"{when[:8]}-{when[8:]}-{name}.json"


def save(result: Result | Workload) -> None:
    """Write it, all at once. Raises OSError."""
    path = result_path(result)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = path.with_suffix(".new")
    temporary.write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=2) + b"\n")
    temporary.replace(path)


def load(path: Path) -> Result | Workload:
    """A saved result of either kind. Raises UserError."""
    try:
        values = msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
        return msgspec.convert(values, Workload if "requests" in values else Result)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from None
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is no result of `singlepass bench`: {error}.") from None


def saved() -> list[tuple[Path, Result]]:
    """All readable results of rates, the oldest first."""
    found = _readable(results_dir().glob("*.json"))
    return [(path, result) for path, result in found if isinstance(result, Result)]


def all_saved() -> list[tuple[Path, Result | Workload]]:
    """All readable results of both kinds, the oldest first."""
    return _readable([*results_dir().glob("*.json"), *(results_dir() / "workloads").glob("*.json")])


def _readable(paths: Iterable[Path]) -> list[tuple[Path, Result | Workload]]:
    found: list[tuple[Path, Result | Workload]] = []
    for path in sorted(paths, key=lambda path: path.name):
        try:
            found.append((path, load(path)))
        except UserError:
            continue
    return found


def newest(key: str) -> Result | None:
    """The latest result of a target that has runs."""
    return next((result for _, result in reversed(saved()) if result.target == key and result.runs), None)
