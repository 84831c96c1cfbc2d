"""From a target to a loaded backend: the only place that names drivers. Imports them only when asked to."""

from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from singlepass_backends.base import Backend, BackendError, Target

_TINY_BYTES = 64_000_000


def check_target(target: Target) -> None:
    """A quick look, without loading anything. Raises BackendError `no_model`, `model_missing`, `unsupported`
    or `unauthorized`."""
    if target.backend == "openai_compatible":
        _check_url(target)
        return
    if not target.model:
        raise BackendError(
            "no_model",
            "No model is set. Set `model` to a GGUF file, or try `singlepass demo`, which needs none.",
        )
    path = Path(target.model)
    if path.is_dir():
        raise BackendError("model_missing", f"{path} is a folder. Name the GGUF file inside it.")
    if not path.exists():
        raise BackendError("model_missing", f"There is no model file at {path}. Check the setting `model`.")


def _check_url(target: Target) -> None:
    if not target.url:
        raise BackendError(
            "no_model",
            "No server is set. Set `url` in `[target]`, e.g. http://localhost:11434 for Ollama.",
        )
    try:
        parts = urlsplit(target.url)
        is_usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_usable, parts = False, urlsplit("")
    if parts.username or parts.password:
        # Not quoted: it holds a secret.
        raise BackendError(
            "unsupported",
            "The setting `url` holds a user or a password. Take them out, put the key into an environment "
            "variable and name that in `api_key_env`.",
        )
    if not is_usable or parts.query or parts.fragment:
        raise BackendError(
            "unsupported",
            f"The setting `url` is {target.url!r}, which is not the address of a server. It looks like "
            "http://localhost:11434 or https://api.example.com/v1.",
        )
    name = target.api_key_env
    if name and not name.replace("_", "").isalnum():
        # Not quoted: somebody may have put the key itself there.
        raise BackendError(
            "unsupported",
            "The setting `api_key_env` is not the name of an environment variable. It takes the name, such "
            "as OPENAI_API_KEY, and never the key.",
        )


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
    if target.backend == "openai_compatible":
        from singlepass_backends.drivers.openai_compatible import OpenAICompatibleBackend

        return OpenAICompatibleBackend(target, on_progress)

    from singlepass_backends.drivers.llama_cpp import LlamaCppDriver
    from singlepass_backends.generation.loop import InProcessBackend
    from singlepass_backends.generation.store import Store, cache_dir
    from singlepass_backends.hardware import physical_cores

    if target.n_threads == 0:
        target = msgspec.structs.replace(target, n_threads=_n_threads(target, physical_cores()))
    driver = LlamaCppDriver(target, on_progress)
    store = Store(cache_dir() / "prefixes", driver.state_key) if driver.state_key else None
    backend = InProcessBackend(driver, store)
    backend.warm()
    return backend
