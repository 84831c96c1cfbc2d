"""Probes the machine, the installed runtimes and a model file, as data for `singlepass doctor`.

Runs in its own process, because it loads runtimes, and a broken one may crash the process.
"""

import importlib
from pathlib import Path
from typing import Any

import msgspec

from singlepass_backends.base import BackendError, Target
from singlepass_backends.drivers.llama.driver import load_library
from singlepass_backends.drivers.llama.gguf_header import read_header
from singlepass_backends.drivers.mlx.sizes import is_model_folder
from singlepass_backends.machine.facts import Machine, ModelFacts
from singlepass_backends.machine.fit import Choice, build_todo, choose
from singlepass_backends.machine.hardware import machine
from singlepass_backends.opening import read_model_facts
from singlepass_backends.runtime_dir import absolute


class ProbedModel(msgspec.Struct, kw_only=True):
    """A model file, as its header describes it."""

    path: str
    size_bytes: int = 0
    """Total size of its parts."""
    architecture: str = ""
    n_ctx_train: int = 0
    metadata: dict[str, Any] = {}
    """Scalars and strings of the GGUF header, without the tokenizer and the chat template."""
    facts: ModelFacts | None = None
    """Its sizes; None if it cannot be used."""
    error_code: str = ""
    error: str = ""
    """Why the file cannot be used; empty if its header is valid."""


class Probe(msgspec.Struct, kw_only=True):
    """The results of a probe."""

    llama_cpp: str = ""
    """Version of llama-cpp-python; empty if it cannot be loaded."""
    system_info: str = ""
    llguidance: str = ""
    machine: Machine
    errors: list[str] = []
    model: ProbedModel | None = None
    choice: Choice | None = None
    """How the model would be run; None without a valid model, and if it cannot fit."""
    todo: tuple[str, ...] = ()
    """What the user could do to use the hardware better."""


def probe(target: Target) -> Probe:
    """Probe this machine and the model file of `target`, if it names one. Missing things are reported, not
    raised."""
    errors: list[str] = []
    version = system_info = ""
    try:
        library = load_library()
        version = str(library.__version__)
        system_info = library.llama_print_system_info().decode("utf-8", "replace").strip(" |")
    except BackendError as error:
        errors.append(error.message)
    found = Probe(llama_cpp=version, system_info=system_info, machine=machine(), errors=errors)
    try:
        found.llguidance = importlib.import_module("importlib.metadata").version("llguidance")
        importlib.import_module("llguidance")
    except ImportError as error:
        found.errors.append(f"llguidance cannot be loaded: {error}. Reinstall it: pip install llguidance")
    if target.model:
        target = absolute(target)
        path = Path(target.model).absolute()
        found.model = _model(path)
        if not found.model.error and target.backend in ("llama_cpp", "mlx"):
            try:
                facts = read_model_facts(path)
                found.model.architecture, found.model.size_bytes = facts.architecture, facts.size_bytes
                found.model.n_ctx_train, found.model.facts = facts.n_ctx_train, facts
                found.choice = choose(found.machine, facts, target)
            except BackendError as error:
                found.model.error_code, found.model.error = error.code, error.message
    found.todo = found.choice.todo if found.choice else build_todo(found.machine)
    return found


def _model(path: Path) -> ProbedModel:
    found = ProbedModel(path=str(path))
    if is_model_folder(path):
        return found
    try:
        header = read_header(path)
    except BackendError as error:
        found.error_code, found.error = error.code, error.message
        return found
    found.metadata = {
        key: value for key, value in header.metadata.items() if not key.startswith("tokenizer.")
    }
    return found
