"""The reference table of hardware (`hardware.toml`): published figures, each with its source and date."""

import datetime
import difflib
import tomllib
from functools import cache
from importlib import resources
from typing import Annotated

import msgspec
from msgspec import Meta

from singlepass.measuring.calculator import Measured, Shape

_GIB = 1 << 30
_Positive = Annotated[float, Meta(gt=0)]


class Figure(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One number that a maker states, or that somebody says one does."""

    value: _Positive
    source: str
    date: str


class MeasuredModel(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A model that published rates are of. Heads are 0 where the source does not name the model."""

    title: str
    size_gib: _Positive
    parameters: _Positive
    """In billions."""
    n_layer: int = 0
    n_head: int = 0
    n_head_kv: int = 0
    head_length: int = 0
    source: str

    @property
    def shape(self) -> Shape:
        """As the calculator takes it. All weights work on each token."""
        n_bytes = int(self.size_gib * _GIB)
        return Shape(
            name=self.title,
            size_bytes=n_bytes,
            n_active=int(self.parameters * 1e9),
            active_bytes=n_bytes,
            n_layer=self.n_layer,
            n_head=self.n_head,
            n_head_kv=self.n_head_kv,
            key_length=self.head_length,
            value_length=self.head_length,
        )


class Rates(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What somebody measured on a piece of hardware."""

    model: str
    """A name among the table's models."""
    software: str
    prefill: Annotated[tuple[Measured, ...], Meta(min_length=1)]
    decode: Annotated[tuple[Measured, ...], Meta(min_length=1)]
    source: str
    date: str


class Hardware(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A GPU, or a machine whose processor and GPU share one memory."""

    name: str
    """What the user types."""
    title: str
    is_unified: bool = False
    memory: Figure
    """GiB."""
    bandwidth: Figure
    """GB/s."""
    compute: Figure | None = None
    """TFLOPS of 16-bit floats without sparsity; None where no source was found."""
    rates: tuple[Rates, ...] = ()


class Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All of it, and when it was last compared with its sources."""

    checked: datetime.date
    models: dict[str, MeasuredModel]
    hardware: tuple[Hardware, ...]

    def find(self, name: str) -> Hardware | None:
        """By its name, however that is cased and spaced: `RTX 4090` is `rtx-4090`."""
        wanted = "-".join(name.lower().split())
        return next((one for one in self.hardware if one.name == wanted), None)

    def similar(self, name: str) -> list[str]:
        """Names that the user may have meant, or else all."""
        names = [one.name for one in self.hardware]
        return difflib.get_close_matches(name.lower(), names, n=3) or names


@cache
def hardware_table() -> Table:
    """The one in the package."""
    text = resources.files("singlepass.measuring").joinpath("hardware.toml").read_text(encoding="utf-8")
    return msgspec.convert(tomllib.loads(text), Table)
