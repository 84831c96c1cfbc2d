"""Where downloaded models lie: a folder for each, with a note of where its files came from.

    MODELS/qwen2.5-coder-7b/          a model that is complete
        qwen2.5-coder-7b-instruct-q4_k_m.gguf
        singlepass.json               its note: repository, commit, files with their hashes
    MODELS/qwen3-4b-mlx.part/         one whose download was not finished
        config.json                   complete and checked
        model.safetensors.part        what there is of it
        singlepass.json

A folder loses its `.part` when every file in it is complete and checked, so what has no `.part` can be used.
"""

import os
from pathlib import Path

import msgspec

from singlepass_backends.base import BackendError
from singlepass_backends.machine.facts import ModelFacts
from singlepass_backends.models.catalogue import Entry, Format
from singlepass_backends.models.files import Listing

ENVIRONMENT_VARIABLE = "SINGLEPASS_MODELS_DIR"
_NOTE = "singlepass.json"


def models_dir() -> Path:
    """$SINGLEPASS_MODELS_DIR, or `models` in the platform's folder for data."""
    if given := os.environ.get(ENVIRONMENT_VARIABLE):
        return Path(given).expanduser().absolute()
    import platformdirs

    return platformdirs.user_data_path("singlepass") / "models"


def folder_of(entry: Entry, format: Format, root: Path | None = None) -> Path:
    """Where a model lies, or would lie."""
    return (root or models_dir()) / (entry.name if format == "gguf" else f"{entry.name}-mlx")


def pulled(entry: Entry, format: Format, root: Path | None = None) -> Path | None:
    """What to name as `model` in the settings: the (first) GGUF file or the folder. None where the model was
    not downloaded, or is not all there any more."""
    folder = folder_of(entry, format, root)
    note = read_note(folder)
    if note is None or not is_complete(folder, note):
        return None
    return model_path(folder, note, format)


def pulled_facts(path: Path) -> ModelFacts | None:
    """The sizes of a downloaded model; None where its files cannot be read."""
    from singlepass_backends.opening import read_model_facts

    try:
        return read_model_facts(path)
    except BackendError:
        return None


def model_path(folder: Path, note: Listing, format: Format) -> Path:
    """The same for a folder that is known to be complete."""
    if format == "mlx":
        return folder
    return folder / next(file.path for file in note.files if file.path.endswith(".gguf"))


def is_complete(folder: Path, note: Listing) -> bool:
    """Whether all files are there with their size; their content was checked when they came."""
    try:
        return all((folder / file.path).stat().st_size == file.size_bytes for file in note.files)
    except OSError:
        return False


def read_note(folder: Path) -> Listing | None:
    """What the files in a folder are; None where it does not say."""
    try:
        return msgspec.json.decode((folder / _NOTE).read_bytes(), type=Listing)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def write_note(folder: Path, note: Listing) -> None:
    """Say what the files in a folder are to be."""
    temporary = folder / f"{_NOTE}.new"
    temporary.write_bytes(msgspec.json.format(msgspec.json.encode(note), indent=2) + b"\n")
    temporary.replace(folder / _NOTE)
