"""The runtimes that share one loop, each with the same two small random models.

A test that takes the fixture `runtime` holds for all of them.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest
from fake_driver import WatchedDriver, check_same_choices
from singlepass_backends.base import (
    BackendError,
    Finished,
    GenerateRequest,
    Segment,
    Target,
    TextChunk,
)
from singlepass_backends.drivers.llama.driver import LlamaCppDriver
from singlepass_backends.drivers.mlx.driver import MlxDriver
from singlepass_backends.generation.cache.store import Store
from singlepass_backends.generation.loop import InProcessBackend
from singlepass_backends.opening import open_backend

Kind = Literal["attention", "hybrid"]


@dataclass(frozen=True)
class Runtime:
    """A runtime, and its models: one that can trim, and one with recurrent layers, which cannot."""

    backend: Literal["llama_cpp", "mlx"]
    attention: Path
    hybrid: Path

    def model(self, kind: Kind) -> Path:
        return self.hybrid if kind == "hybrid" else self.attention

    def target(
        self, kind: Kind = "attention", n_batch: int = 64, n_ctx: int = 1024, **settings: object
    ) -> Target:
        values = {"backend": self.backend, "model": str(self.model(kind)), "n_threads": 1, **settings}
        return Target(n_batch=n_batch, n_ctx=n_ctx, **values)

    def driver(self, target: Target | None = None) -> LlamaCppDriver | MlxDriver:
        kind = MlxDriver if self.backend == "mlx" else LlamaCppDriver
        return kind(target or self.target(), lambda _: True)

    def open(self, target: Target | None = None) -> InProcessBackend:
        return InProcessBackend(self.driver(target))

    def watched(self, target: Target, store: Path | None = None) -> tuple[WatchedDriver, InProcessBackend]:
        """With a record of the choices, and what it saves in the folder `store`."""
        driver = WatchedDriver(self.driver(target))
        return driver, InProcessBackend(driver, Store(store, driver.state_key) if store else None)


SYSTEM = Segment("rules", "You edit code. Answer with edits only.\n", "system")
FILE = Segment("a.py", "def value(a, b):\n    return a + b  # naïve 🙂\n" * 8)
LONG = Segment("long.py", "".join(f"def function_{n}(value):\n    return value + {n}\n" for n in range(120)))
TASK = Segment("task", "Rename value to total.")
REQUEST = GenerateRequest((SYSTEM, FILE, TASK), max_tokens=24)


def never() -> bool:
    return False


def run(backend: InProcessBackend, request: GenerateRequest) -> tuple[str, Finished]:
    """A request to its end: its text and its last event."""
    events = list(backend.generate(request, never))
    finished = events[-1]
    assert isinstance(finished, Finished)
    return "".join(event.text for event in events if isinstance(event, TextChunk)), finished


def check_fails(target: Target, code: str, *words: str) -> None:
    """The target cannot be opened, and the message has all `words`."""
    with pytest.raises(BackendError) as caught:
        open_backend(target, lambda _: True)
    assert caught.value.code == code
    for word in words:
        assert word in caught.value.message


def check_reuse(runtime: Runtime, kind: Kind) -> None:
    """Going back and forth between files and versions reads little, and replies are those of a cold start."""
    edited = Segment("long.py", LONG.text.replace("value + 90", "value - 90"))
    other = Segment("b.py", "x = 1\n" * 200)
    repeat, explain = Segment("task", "Rename it."), Segment("task", "Explain it.")
    asked = [(LONG, repeat), (LONG, repeat), (LONG, explain), (other, repeat), (LONG, repeat)]
    asked += [(edited, repeat), (other, explain), (edited, explain), (LONG, explain)]
    target = runtime.target(kind, n_batch=256, n_ctx=4096)
    driver, backend = runtime.watched(target)
    n_read: list[int] = []
    for file, task in asked:
        request = GenerateRequest((SYSTEM, file, task), max_tokens=16)
        driver.choices.clear()
        _, finished = run(backend, request)
        n_read.append(finished.timings.n_prefilled)
        cold_driver, cold_backend = runtime.watched(target)
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
