"""What is installed and what a model file says, as data for `singlepass doctor`.

Runs in a process of its own, because it loads runtimes, and a broken one may take the process with it.
"""

import ctypes
import importlib
from pathlib import Path
from typing import Any

import msgspec

from singlepass_backends.base import BackendError
from singlepass_backends.drivers.gguf_header import read_header
from singlepass_backends.drivers.llama_cpp import load_library
from singlepass_backends.hardware import hardware


class ProbedModel(msgspec.Struct, kw_only=True):
    """What a model file says of itself."""

    path: str
    size_bytes: int = 0
    architecture: str = ""
    metadata: dict[str, Any] = {}
    """Scalars and strings of the GGUF header, without the tokenizer and the chat template."""
    error_code: str = ""
    error: str = ""
    """Why the file cannot be used; empty when its header is sound."""


class Probe(msgspec.Struct, kw_only=True):
    """What was found."""

    llama_cpp: str = ""
    """Version of llama-cpp-python; empty when it cannot be loaded."""
    gpu_offload: bool = False
    devices: list[str] = []
    system_info: str = ""
    llguidance: str = ""
    n_cores: int = 0
    ram_bytes: int = 0
    ram_free_bytes: int = 0
    errors: list[str] = []
    model: ProbedModel | None = None


def probe(model: str = "") -> Probe:
    """Look at this machine and, where given, at the model file. Never raises for what it finds missing."""
    machine = hardware()
    found = Probe(n_cores=machine.n_cores, ram_bytes=machine.ram_bytes, ram_free_bytes=machine.ram_free_bytes)
    try:
        library = load_library()
        found.llama_cpp = library.__version__
        found.gpu_offload = bool(library.llama_supports_gpu_offload())
        found.system_info = library.llama_print_system_info().decode("utf-8", "replace").strip(" |")
        found.devices = _devices()
    except BackendError as error:
        found.errors.append(error.message)
    try:
        found.llguidance = importlib.import_module("importlib.metadata").version("llguidance")
        importlib.import_module("llguidance")
    except ImportError as error:
        found.errors.append(f"llguidance cannot be loaded: {error}. Reinstall it: pip install llguidance")
    if model:
        found.model = _model(Path(model).expanduser().absolute())
    return found


def _devices() -> list[str]:
    try:
        ggml = importlib.import_module("llama_cpp._ggml").libggml
        count, get = ggml.ggml_backend_dev_count, ggml.ggml_backend_dev_get
        describe = ggml.ggml_backend_dev_description
    except (ImportError, AttributeError):
        return []
    count.restype, get.restype, get.argtypes = ctypes.c_size_t, ctypes.c_void_p, [ctypes.c_size_t]
    describe.restype, describe.argtypes = ctypes.c_char_p, [ctypes.c_void_p]
    return [describe(get(index)).decode("utf-8", "replace") for index in range(count())]


def _model(path: Path) -> ProbedModel:
    found = ProbedModel(path=str(path))
    try:
        found.size_bytes = path.stat().st_size
        header = read_header(path)
    except OSError:
        found.error_code, found.error = "model_missing", f"There is no model file at {path}."
        return found
    except BackendError as error:
        found.error_code, found.error = error.code, error.message
        return found
    found.architecture = header.architecture
    found.metadata = {
        key: value for key, value in header.metadata.items() if not key.startswith("tokenizer.")
    }
    return found
