"""The folders of downloaded models: one for each, with a note of where its files came from.

    MODELS/qwen2.5-coder-7b/          a complete model
        qwen2.5-coder-7b-instruct-q4_k_m.gguf
        singlepass.json               its note: repository, commit, files with their hashes
    MODELS/qwen3-4b-mlx.part/         an unfinished download
        config.json                   complete and verified
        model.safetensors.part        incomplete
        singlepass.json

A folder is renamed without `.part` when all its files are complete and verified, so a name without `.part`
means that the model can be used.
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
    """$SINGLEPASS_MODELS_DIR, or `models` in the platform's data folder."""
    if given := os.environ.get(ENVIRONMENT_VARIABLE):
        return Path(given).expanduser().absolute()
    import platformdirs

    return platformdirs.user_data_path("singlepass") / "models"


def folder_of(entry: Entry, format: Format, root: Path | None = None) -> Path:
    """The folder of a model, whether or not it was downloaded."""
    return (root or models_dir()) / (entry.name if format == "gguf" else f"{entry.name}-mlx")


def pulled(entry: Entry, format: Format, root: Path | None = None) -> Path | None:
    """The path for `model` in the settings: the (first) GGUF file or the folder. None if the model was not
    downloaded, or files are missing."""
    folder = folder_of(entry, format, root)
    note = read_note(folder)
    if note is None or not is_complete(folder, note):
        return None
    return model_path(folder, note, format)


def pulled_facts(path: Path) -> ModelFacts | None:
    """The sizes of a downloaded model; None if its files cannot be read."""
    from singlepass_backends.opening import read_model_facts

    try:
        return read_model_facts(path)
    except BackendError:
        return None


def model_path(folder: Path, note: Listing, format: Format) -> Path:
    """The path for `model` in the settings, for a folder that is known to be complete."""
    if format == "mlx":
        return folder
    return folder / next(file.path for file in note.files if file.path.endswith(".gguf"))


def is_complete(folder: Path, note: Listing) -> bool:
    """Whether all files exist with the right size; their content was verified when they were downloaded."""
    try:
        return all((folder / file.path).stat().st_size == file.size_bytes for file in note.files)
    except OSError:
        return False


def read_note(folder: Path) -> Listing | None:
    """Read the note in a folder; None if there is none."""
    try:
        return msgspec.json.decode((folder / _NOTE).read_bytes(), type=Listing)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def write_note(folder: Path, note: Listing) -> None:
    """Write the note into a folder."""
    temporary = folder / f"{_NOTE}.new"
    temporary.write_bytes(msgspec.json.format(msgspec.json.encode(note), indent=2) + b"\n")
    temporary.replace(folder / _NOTE)
