"""Reads and checks a model folder for MLX: config, tokenizer, chat template, weights.

Loads no runtime and downloads nothing. Its errors distinguish an incomplete copy from a model that is not
supported.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import msgspec

from singlepass_backends.base import BackendError

_INDEX = "model.safetensors.index.json"


@dataclass(frozen=True)
class ModelFolder:
    """The contents of a model folder's configuration files."""

    path: Path
    config: Mapping[str, Any]
    tokenizer_config: Mapping[str, Any]
    chat_template: str | None
    eos_ids: tuple[int, ...]
    """Tokens that end a reply, as the config names them."""
    weights: tuple[Path, ...]

    @property
    def name(self) -> str:
        """The name in the config; else the folder's, or the repository's for a folder in a Hugging Face
        cache."""
        given = self.config.get("_name_or_path")
        if isinstance(given, str) and given:
            return given.rstrip("/").rpartition("/")[2]
        path = self.path.absolute()
        if path.parent.name == "snapshots":
            return path.parent.parent.name.rpartition("--")[2]
        return path.name

    @property
    def architecture(self) -> str:
        """The `model_type` that mlx-lm uses, e.g. `qwen2`."""
        return str(self.config["model_type"])

    @property
    def size_bytes(self) -> int:
        """Size of all weight files."""
        return sum(path.stat().st_size for path in self.weights)

    @property
    def n_ctx_train(self) -> int:
        """Context length of the training, in tokens; 0 if the config does not say."""
        text = self.config.get("text_config")
        for config in (self.config, text):
            if isinstance(config, dict):
                found = cast("dict[str, Any]", config).get("max_position_embeddings")
                if isinstance(found, int):
                    return found
        return 0


def read_folder(path: Path) -> ModelFolder:
    """Read the model folder `path`.

    Raises BackendError: `model_missing`, `model_invalid` (a file is missing or broken), `model_unsupported`
    (the model needs code from its folder, which is never run).
    """
    if path.is_file():
        raise BackendError(
            "model_missing",
            f"{path} is a file. MLX takes a folder with config.json, tokenizer.json and *.safetensors; for a "
            'GGUF file set `backend = "llama_cpp"`.',
        )
    if not path.is_dir():
        raise BackendError(
            "model_missing",
            f"There is no model folder at {path}. Check the setting `model`: it is a path, and nothing is "
            "downloaded.",
        )
    config = read_object(path / "config.json")
    if not isinstance(config.get("model_type"), str):
        raise BackendError("model_invalid", f"{path / 'config.json'} names no `model_type`.")
    if config.get("model_file") is not None:
        raise BackendError(
            "model_unsupported",
            f"The model in {path} brings a Python program ({config['model_file']!r}) that would have to run "
            "here. singlepass runs no code of a model; choose one that mlx-lm supports by itself.",
        )
    if not (path / "tokenizer.json").is_file():
        raise _missing(path, "tokenizer.json")
    tokenizer_config: Mapping[str, Any] = {}
    if (path / "tokenizer_config.json").is_file():
        tokenizer_config = read_object(path / "tokenizer_config.json")
    return ModelFolder(
        path,
        config,
        tokenizer_config,
        _chat_template(path, tokenizer_config),
        _eos_ids(path, config),
        _weights(path),
    )


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file. Raises BackendError `model_invalid` if it cannot be read."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
    except FileNotFoundError:
        raise _missing(path.parent, path.name) from None
    except (OSError, ValueError, RecursionError) as error:
        raise BackendError("model_invalid", f"{path} cannot be read: {error}") from None


def _missing(path: Path, name: str) -> BackendError:
    return BackendError(
        "model_invalid",
        f"The model folder {path} has no {name}. It may be incomplete, or a format MLX does not take: get it "
        "again, or convert the model with `mlx_lm.convert`.",
    )


def _weights(path: Path) -> tuple[Path, ...]:
    found = tuple(sorted(path.glob("model*.safetensors")))  # as mlx-lm looks for them
    if (path / _INDEX).is_file():
        parts = read_object(path / _INDEX).get("weight_map")
        names = cast("dict[str, Any]", parts).values() if isinstance(parts, dict) else ()
        for name in sorted({str(name) for name in names}):
            if not (path / name).is_file():
                raise _missing(path, name)
    if not found:
        raise _missing(path, "model*.safetensors")
    return found


def _eos_ids(path: Path, config: Mapping[str, Any]) -> tuple[int, ...]:
    given = config.get("eos_token_id")
    if (path / "generation_config.json").is_file():
        given = read_object(path / "generation_config.json").get("eos_token_id") or given
    ids = cast("list[Any]", given) if isinstance(given, list) else [given]
    return tuple(id for id in ids if isinstance(id, int))


def _chat_template(path: Path, tokenizer_config: Mapping[str, Any]) -> str | None:
    """The chat template: from its own file, as in newer models, or from the tokenizer's config."""
    try:
        return (path / "chat_template.jinja").read_text(encoding="utf-8")
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as error:
        raise BackendError(
            "model_invalid", f"{path / 'chat_template.jinja'} cannot be read: {error}"
        ) from None
    found = tokenizer_config.get("chat_template")
    if isinstance(found, list):  # several templates, by name
        named = {
            item.get("name"): item.get("template")
            for item in cast("list[dict[str, Any]]", found)
            if isinstance(item, dict)  # pyright: ignore[reportUnnecessaryIsInstance]
        }
        found = named.get("default")
    return found if isinstance(found, str) else None
