"""Folders of a benchmark's own, what runs for them, and a small model.

Nobody's engines and settings are touched.
"""

import asyncio
import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
from singlepass.cli import headless
from singlepass_backends.client import list_engines, stop_engine
from singlepass_backends.testing.random_model import Shape, write_random_model

headless._START_TIMEOUT_S = 300.0  # a machine that does something else meanwhile is no failure
ROOT = Path(__file__).parents[1]
NAMES = ("CONFIG", "RUNTIME", "CACHE", "STATE", "MODELS")
SOURCE = "".join(f"def value_{n}(a, b):\n    return a + {n} * b\n\n\n" for n in range(25))
SLOW = Shape(n_layer=4, n_embd=384, n_head=6, n_head_kv=2, n_ff=1024, n_ctx_train=16_384)
"""Large enough that there is a time to do something in."""


@contextlib.contextmanager
def own_folders() -> Iterator[Path]:
    """A folder for settings, sockets, caches and histories of this process and all that it starts."""
    folder = Path(tempfile.mkdtemp(prefix="sp-"))
    own = {f"SINGLEPASS_{name}_DIR": str(folder / name.lower()) for name in NAMES}
    before = {name: os.environ.get(name) for name in own}
    os.environ.update(own)
    try:
        yield folder
    finally:
        for process in processes(folder):
            with contextlib.suppress(psutil.Error):
                process.kill()
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
        shutil.rmtree(folder, ignore_errors=True)


def processes(folder: Path) -> list[psutil.Process]:
    """What runs for these folders, whoever started it, but for this process."""
    found: list[psutil.Process] = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            is_own = process.environ().get("SINGLEPASS_RUNTIME_DIR") == str(folder / "runtime")
            if is_own and process.pid != os.getpid() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def is_engine(process: psutil.Process) -> bool:
    """Whether it is an engine; what ended meanwhile is none."""
    try:
        return "singlepass_backends.engine" in process.cmdline()
    except psutil.Error:
        return False


async def stop_engines() -> None:
    """End the engines of the folders in use, as `singlepass engine stop` does."""
    for paths in list_engines():
        await stop_engine(paths)


async def eventually(condition: Callable[[], bool], seconds: float = 60.0) -> bool:
    """Wait for something that no message tells of; whether it came."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(0.05)
    return True


def small_model(path: Path, shape: Shape | None = None) -> Path:
    """A model of random weights with a tokenizer of this repository's own sources."""
    files = sorted((ROOT / "server").rglob("*.py"))
    write_random_model(path, corpus=[file.read_text(encoding="utf-8") for file in files], shape=shape)
    return path
