"""The recommended models, as data (`catalogue.toml`), and estimates of their sizes before a download."""

import datetime
import difflib
import math
import tomllib
from functools import cache
from importlib import resources
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from singlepass_backends.machine.facts import ModelFacts

Format = Literal["gguf", "mlx"]
_Positive = Annotated[int, Meta(gt=0)]


class GgufFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A GGUF file on the hub."""

    repo: str
    file: str
    """File name; for a split file the name before splitting, from which the names of the parts follow."""
    bits: Annotated[float, Meta(gt=0, le=16)]
    """Average bits per weight, to estimate its size."""


class MlxRepo(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A repository on the hub that is a model folder for MLX."""

    repo: str
    bits: Annotated[float, Meta(gt=0, le=16)]


class Entry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One model. Its shape comes from its config.json, with the field names of `ModelFacts`."""

    name: str
    """The name on the command line."""
    title: str
    licence: str
    commercial: bool
    """Whether the licence allows commercial use."""
    good_for: str
    measured: str = ""
    """How often its edits were right, in which form of answer, when, and with which command; empty if not
    measured."""
    parameters: Annotated[float, Meta(gt=0)]
    """Parameters in billions."""
    active: float = 0.0
    """Active parameters per token in billions, if not all are active."""
    n_layer: _Positive
    n_embd: _Positive
    n_ff: _Positive
    n_head: _Positive
    n_head_kv: _Positive
    key_length: _Positive
    value_length: _Positive
    n_vocab: _Positive
    is_tied: bool = False
    """Input and output embeddings are the same weights."""
    n_ctx: _Positive
    sliding_window: int = 0
    n_expert: int = 0
    gguf: GgufFile
    mlx: MlxRepo | None = None
    source: str
    """URL of the source for shape and licence."""

    def size_bytes(self, format: Format) -> int:
        """Estimated size of the weights in a format."""
        return int(self.parameters * 1e9 * self._bits(format) / 8)

    def facts(self, format: Format) -> ModelFacts:
        """Estimated facts for `fit`. All layers are assumed to be of equal size."""
        size_bytes = self.size_bytes(format)
        # As in `drivers/mlx/sizes.py`: an MLX model is in one memory, so the sizes of its parts do not
        # matter.
        embedding = int(self.n_vocab * self.n_embd * self._bits(format) / 8) if format == "gguf" else 0
        layers = size_bytes - (embedding if self.is_tied else 2 * embedding)
        return ModelFacts(
            format=format,
            size_bytes=size_bytes,
            layer_bytes=(layers // self.n_layer,) * self.n_layer,
            input_bytes=embedding,
            output_bytes=embedding,
            n_ctx_train=self.n_ctx,
            n_vocab=self.n_vocab,
            n_embd=self.n_embd,
            n_ff=self.n_ff,
            n_head=self.n_head,
            n_head_kv=self.n_head_kv,
            key_length=self.key_length,
            value_length=self.value_length,
            n_expert=self.n_expert,
            n_weights=int(self.parameters * 1e9),
            n_active=int((self.active or self.parameters) * 1e9),
            active_bytes=int((self.active or self.parameters) * 1e9 * self._bits(format) / 8),
            layer_kv_values=(self.n_head_kv * (self.key_length + self.value_length),) * self.n_layer,
            kv_block=math.gcd(32, self.key_length, self.value_length),
            sliding_window=self.sliding_window,
        )

    def _bits(self, format: Format) -> float:
        return self.mlx.bits if format == "mlx" and self.mlx else self.gguf.bits


class Catalogue(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All entries, from small to large, and the date when they were last compared with their sources."""

    checked: datetime.date
    models: tuple[Entry, ...]

    def find(self, name: str) -> Entry | None:
        """The entry with a name, ignoring case."""
        return next((entry for entry in self.models if entry.name == name.lower()), None)

    def similar(self, name: str) -> list[str]:
        """Names that the user may have meant."""
        names = [entry.name for entry in self.models]
        close = difflib.get_close_matches(name.lower(), names, n=3)
        return close or [known for known in names if name.lower() in known][:3]


@cache
def catalogue() -> Catalogue:
    """The catalogue in this package."""
    text = (
        resources.files("singlepass_backends.models").joinpath("catalogue.toml").read_text(encoding="utf-8")
    )
    return msgspec.convert(tomllib.loads(text), Catalogue)
