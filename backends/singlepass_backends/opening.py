"""Opens the backend of a target: the only module that names drivers. Imports them lazily, because the server
uses this module to check targets.

Settings that the user left open are chosen by `machine/fit.py`; here the machine is probed and the choice
applied.
"""

import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from singlepass_backends.base import Backend, BackendError, Target

if TYPE_CHECKING:
    from singlepass_backends.generation.driver import Driver
    from singlepass_backends.machine.facts import ModelFacts
    from singlepass_backends.machine.fit import Choice

_KEY_NAME = re.compile(r"[A-Z_][A-Z0-9_]*")

_log = logging.getLogger(__name__)


def check_target(target: Target) -> None:
    """A quick check without loading anything. Raises BackendError `no_model`, `model_missing`, `unsupported`
    or `unauthorized`, and for MLX those of `read_folder`."""
    if target.fault:
        raise BackendError("unsupported" if target.is_set else "no_model", target.fault)
    if target.backend == "openai_compatible":
        _check_key_name(target)
        return
    path = Path(target.model)
    from singlepass_backends.drivers.mlx import model_folder, sizes

    if target.backend == "mlx" or sizes.is_model_folder(path):
        model_folder.read_folder(path)
        return
    if path.is_dir():
        raise BackendError(
            "model_missing",
            f'{path} is a folder. Name the GGUF file inside it; for a folder of MLX set `backend = "mlx"`.',
        )
    if not path.exists():
        hint = ', or set `backend = "openai_compatible"` for the server at `url`' if target.url else ""
        raise BackendError(
            "model_missing", f"There is no model file at {path}. Check the setting `model`{hint}."
        )


def _check_key_name(target: Target) -> None:
    name = target.api_key_env
    if name and not _KEY_NAME.fullmatch(name):
        # The value is neither quoted nor put on a command line: it may be the key itself.
        raise BackendError(
            "unsupported",
            "The setting `api_key_env` is not the name of an environment variable in capital letters. It "
            "takes the name, such as OPENAI_API_KEY, and never the key.",
        )


def choose_for_this_machine(target: Target) -> "Choice":
    """How to run the model of `target` on this machine. Loads llama.cpp, but no model.

    Raises BackendError for a file that cannot be read, and `out_of_memory` for a model that cannot fit.
    """
    from singlepass_backends.drivers.llama.driver import load_library
    from singlepass_backends.machine.fit import choose
    from singlepass_backends.machine.hardware import machine

    path = Path(target.model)
    model = read_model_facts(path)
    if not path.is_dir():
        load_library()  # before the probes, so that its output goes to the log
    return choose(machine(), model, target)


def read_model_facts(path: Path) -> "ModelFacts":
    """The sizes of the model at `path`, a GGUF file or a folder with an MLX model. Raises BackendError."""
    from singlepass_backends.drivers.llama import gguf_header
    from singlepass_backends.drivers.mlx import sizes

    return sizes.read_facts(path) if sizes.is_model_folder(path) else gguf_header.read_facts(path)


def open_backend(target: Target, on_progress: Callable[[float], bool]) -> Backend:
    """Load `target`, calling `on_progress` with fractions from 0 to 1; returning False stops the load.

    Raises BackendError: those of `check_target`, `choose_for_this_machine` and the driver.
    """
    check_target(target)
    if target.backend == "scripted":
        from singlepass_backends.drivers.scripted import ScriptedBackend

        return ScriptedBackend(target, on_progress)
    if target.backend == "openai_compatible":
        from singlepass_backends.drivers.remote.backend import OpenAICompatibleBackend

        return OpenAICompatibleBackend(target, on_progress)

    from singlepass_backends.generation.cache.store import Store, cache_dir
    from singlepass_backends.generation.loop import InProcessBackend

    choice = choose_for_this_machine(target)
    chosen = choice.target
    _log.info(
        "chosen: %s, n_gpu_layers=%d, n_ctx=%d, kv_cache_type=%s, n_threads=%d",
        *(choice.backend, chosen.n_gpu_layers, chosen.n_ctx, chosen.kv_cache_type, chosen.n_threads),
    )
    for line in choice.why:
        _log.info("%s", line)
    for line in choice.todo:
        _log.warning("%s", line)
    driver = _open_driver(choice.backend, chosen, on_progress)
    store = Store(cache_dir() / "prefixes", driver.state_key) if driver.state_key else None
    backend = InProcessBackend(driver, store)
    backend.warm()
    return backend


def _open_driver(
    backend: Literal["llama_cpp", "mlx"], target: Target, on_progress: Callable[[float], bool]
) -> "Driver":
    if backend == "mlx":
        from singlepass_backends.drivers.mlx.driver import MlxDriver

        return MlxDriver(target, on_progress)

    from singlepass_backends.drivers.llama.driver import LlamaCppDriver

    return LlamaCppDriver(target, on_progress)
