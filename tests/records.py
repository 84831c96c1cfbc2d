"""Records of requests, made with the fields that a test is about."""

from typing import Any

import msgspec
from singlepass.stats.record import NOTHING_SPENT, Record
from singlepass_backends.base import Timings


def record(id: object = 1, **fields: Any) -> Record:
    """A request; the engine's counters stand among the fields."""
    spent = {
        name: fields.pop(name) for name in Timings.__struct_fields__ if name in fields and name != "total_ms"
    }
    timings = msgspec.structs.replace(NOTHING_SPENT, **spent)
    values: dict[str, Any] = {"id": str(id), "day": "2026-11-22", "at": 0.0, "outcome": "done"}
    return Record(**{**values, "timings": timings, **fields})


def sample(
    rates_key: str, n_prefilled: int, prefill_ms: float, n_decoded: int, decode_ms: float, **fields: Any
) -> Record:
    """A request that the engine finished, so that estimates follow it."""
    spent = {
        "n_prefilled": n_prefilled,
        "prefill_ms": prefill_ms,
        "n_decoded": n_decoded,
        "decode_ms": decode_ms,
    }
    return record(**{"finish_reason": "stop", "rates_key": rates_key, **spent, **fields})


def spent(one: Record, **counters: Any) -> Record:
    """The same with other counters of the engine."""
    return msgspec.structs.replace(one, timings=msgspec.structs.replace(one.timings, **counters))
