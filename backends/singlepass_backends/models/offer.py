"""What a model of the catalogue needs on a machine: weights, KV cache, and where it would run (sans-IO).

Uses `fit.choose`, as for a model file, with facts from the catalogue's entry: after the download only the
exact sizes of the weights differ.
"""

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from singlepass_backends.base import BackendError, Target
from singlepass_backends.machine.facts import Machine, ModelFacts, kv_bytes
from singlepass_backends.machine.fit import Choice, choose
from singlepass_backends.models.catalogue import Entry, Format

Place = Literal["gpu", "part", "cpu", "none", "unknown"]
"""Where it would run: on a GPU, partly on one, on the processor, nowhere; or unknown, if the machine is."""


class Offer(msgspec.Struct, frozen=True, kw_only=True):
    """One model on one machine, with one context."""

    entry: Entry
    format: Format
    n_ctx: int
    """The requested context, or the one the model was trained with if that is less."""
    size_bytes: int
    """Size of the weights."""
    is_estimate: bool = True
    """False if the sizes come from downloaded files."""
    cache_bytes: int
    """Size of the KV cache of `n_ctx` tokens, with 16 bits per value."""
    place: Place = "unknown"
    n_gpu_layers: int = 0
    """Layers on the GPU, if it runs partly there."""
    kv_cache_type: str = ""
    """KV cache type that the engine would choose for this context."""
    why_not: str = ""
    """Where it does not fit."""

    @property
    def memory_bytes(self) -> int:
        return self.size_bytes + self.cache_bytes


def format_for(machine: Machine | None) -> Format:
    """MLX on Apple Silicon with mlx-lm installed, GGUF everywhere else."""
    return "mlx" if machine and machine.apple and machine.mlx else "gguf"


def machine_from(values: Mapping[str, Any] | None) -> Machine | None:
    """The machine, from the answer of the probe process."""
    return msgspec.convert(values, Machine) if values else None


def offer(entry: Entry, machine: Machine | None, n_ctx: int, format: Format) -> Offer:
    """What `entry` needs on `machine` (None if unknown). A model without an MLX conversion is offered as
    GGUF."""
    format = format if entry.mlx else "gguf"
    return _offer(entry, entry.facts(format), machine, n_ctx, is_estimate=True)


def offer_of(entry: Entry, facts: ModelFacts, machine: Machine | None, n_ctx: int) -> Offer:
    """Like `offer`, with the facts from the model's files."""
    return _offer(entry, facts, machine, n_ctx, is_estimate=False)


def _offer(
    entry: Entry, facts: ModelFacts, machine: Machine | None, n_ctx: int, *, is_estimate: bool
) -> Offer:
    n_ctx = min(n_ctx, facts.n_ctx_train or n_ctx)
    found = Offer(
        entry=entry,
        format=facts.format,
        n_ctx=n_ctx,
        size_bytes=facts.size_bytes,
        is_estimate=is_estimate,
        cache_bytes=sum(kv_bytes(values, n_ctx, "f16") for values in facts.layer_kv_values),
    )
    if machine is None:
        return found
    try:
        choice = choose(machine, facts, Target(model=entry.name, n_ctx=n_ctx))
    except BackendError as error:
        return msgspec.structs.replace(found, place="none", why_not=error.message)
    if not choice.fits:
        return msgspec.structs.replace(found, place="none", why_not=choice.todo[0] if choice.todo else "")
    n_gpu_layers = choice.target.n_gpu_layers
    return msgspec.structs.replace(
        found,
        place=_place(choice, facts.n_layer),
        n_gpu_layers=min(max(0, n_gpu_layers - 1), facts.n_layer),
        kv_cache_type=choice.target.kv_cache_type,
    )


def _place(choice: Choice, n_layer: int) -> Place:
    """Where it would run. llama.cpp also counts the output layer, so all layers are `n_layer + 1`."""
    n_gpu_layers = choice.target.n_gpu_layers
    if n_gpu_layers <= 0 or choice.gpu_bytes == 0:
        return "cpu"
    return "gpu" if n_gpu_layers > n_layer else "part"
