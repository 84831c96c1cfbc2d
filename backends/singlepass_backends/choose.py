"""From a target to a loaded backend: the only place that names drivers. Imports them only when asked to."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from singlepass_backends.base import Backend, BackendError, Target

if TYPE_CHECKING:
    from singlepass_backends.generation.driver import Driver

_TINY_BYTES = 64_000_000


def check_target(target: Target) -> None:
    """A quick look, without loading anything. Raises BackendError `no_model`, `model_missing`, and for MLX
    those of a folder that cannot be used."""
    if not target.model:
        raise BackendError(
            "no_model",
            "No model is set. Set `model` to a GGUF file, or try `singlepass demo`, which needs none.",
        )
    path = Path(target.model)
    if target.backend == "mlx":
        from singlepass_backends.drivers.model_folder import read_folder

        read_folder(path)
        return
    if path.is_dir():
        raise BackendError(
            "model_missing",
            f'{path} is a folder. Name the GGUF file inside it; for a folder of MLX set `backend = "mlx"`.',
        )
    if not path.exists():
        raise BackendError("model_missing", f"There is no model file at {path}. Check the setting `model`.")


def _n_threads(target: Target, n_cores: int) -> int:
    """One thread for tiny models: their passes take 0.2 ms, of which a second one saves a fifth, and it spins
    while it waits, which a busy machine pays for."""
    return 1 if Path(target.model).stat().st_size < _TINY_BYTES else n_cores


def open_backend(target: Target, on_progress: Callable[[float], bool]) -> Backend:
    """Load `target`, calling `on_progress` with fractions from 0 to 1; returning False stops the load.

    Raises BackendError: those of `check_target` and of the driver.
    """
    check_target(target)
    if target.backend == "scripted":
        from singlepass_backends.drivers.scripted import ScriptedBackend

        return ScriptedBackend(target, on_progress)

    from singlepass_backends.generation.loop import InProcessBackend
    from singlepass_backends.generation.store import Store, cache_dir

    driver = _open_driver(target, on_progress)
    store = Store(cache_dir() / "prefixes", driver.state_key) if driver.state_key else None
    backend = InProcessBackend(driver, store)
    backend.warm()
    return backend


def _open_driver(target: Target, on_progress: Callable[[float], bool]) -> "Driver":
    if target.backend == "mlx":
        from singlepass_backends.drivers.mlx import MlxDriver

        return MlxDriver(target, on_progress)

    from singlepass_backends.drivers.llama_cpp import LlamaCppDriver
    from singlepass_backends.hardware import physical_cores

    if target.n_threads == 0:
        target = msgspec.structs.replace(target, n_threads=_n_threads(target, physical_cores()))
    return LlamaCppDriver(target, on_progress)
