"""A plan as values: the question and the parts of the answer (sans-IO). `cli/plan.py` fills it in."""

import msgspec

from singlepass.measuring.calculator import KVCacheType, Phases, Shape
from singlepass.measuring.hardware_choice import LoopAdvice, Option, Recommendation


class PlanError(Exception):
    """What was asked for cannot be computed; the message says what to change."""


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """The command line. Numbers are 0 where they were left out."""

    hardware: tuple[str, ...] = ()
    memory_gib: float = 0.0
    model: str = ""
    """A file, a folder, or a name of the catalogue."""
    shape: str = ""
    """`LAYERSxHEADSxHEAD`, with `xKV_HEADS` perhaps."""
    kv_cache_type: KVCacheType = "f16"
    n_ctx: int = 0
    n_prompt: int = 0
    n_output: int = 500
    n_new: int = 200
    prefill_rate: float = 0.0
    decode_rate: float = 0.0
    n_steps: int = 1
    n_added: int = 0
    n_iterations: int = 0


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """Several steps, without and with a prefix cache."""

    n_steps: int
    plain: Phases
    cached: Phases


class Cache(msgspec.Struct, frozen=True, kw_only=True):
    """The KV cache of a model, by its real heads and by the textbook. Bytes."""

    kv_cache_type: KVCacheType
    n_ctx: int
    per_token: float
    textbook_per_token: float

    @property
    def total(self) -> float:
        return self.per_token * self.n_ctx

    @property
    def textbook_total(self) -> float:
        return self.textbook_per_token * self.n_ctx


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """All answers. What was not asked for is None or empty."""

    n_ctx: int
    n_prompt: int
    n_output: int
    shape: Shape | None = None
    is_estimate: bool = False
    """The model's sizes are those of the catalogue, until it is downloaded."""
    cache: Cache | None = None
    times: Phases | None = None
    """By the rates that were given."""
    session: Session | None = None
    loop: LoopAdvice | None = None
    options: tuple[Option, ...] = ()
    choice: Recommendation | None = None
    remarks: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
